package core

import "github.com/gravenio/graven/pmemlog/format"

// Peer names one session of one replica. The driver numbers the sessions of a
// replica from 1 upwards.
type Peer struct {
	Index   int // of the replica: in Config.Replicas, behind them a learner's, later any that is free
	Session uint64
}

// Kind of an effect.
type Kind uint8

// The effects. Each names the event that answers it; a session that fails
// instead is answered by Disconnected.
const (
	// Fence the replica to the term: Reported.
	Fence Kind = iota + 1
	// Load [From, To) from the replica into the mirror and scan it: Loaded or
	// LoadFailed. The mirror's chain begins at Trim.
	Load
	// Reset the replica to Trim: Prepared.
	Reset
	// Trim the replica to Trim: Trimmed.
	Trim
	// Align the replica at From: Prepared.
	Align
	// Send [From, To) of the mirror with a flush: Flushed.
	Send
	// Seal the replica in, with Seal: Sealed.
	Seal
	// MakePresent has the control plane record that the replica is present:
	// MadePresent, Superseded, or again until known.
	MakePresent
	// Reseal has the replica name Seal.Set and SetVersion in the seal that it
	// holds: Resealed.
	Reseal
	// Promote has the control plane put the learner at Peer in the place of the
	// replica that it replaces, if epoch, nonce and SetVersion are still the log's:
	// Promoted, Abandoned, Superseded, or again until one of these is known.
	Promote
	// Retired says that the replica at Peer takes no part any more: no session is
	// to be opened with it.
	Retired
	// GaveUp says that the log goes on, as AcceptLoss has it, although what was
	// acknowledged may be missing: Loss has the particulars. LossRecorded once
	// that is on record; no replica is sealed before.
	GaveUp
	// Cut ends the session at once; when it has been carried out nothing reads
	// the mirror for it any more. The core has forgotten the session already.
	Cut
	// Opened says that the log is open: all below To is committed.
	Opened
	// Committed says that all below To is committed.
	Committed
	// Recovered says, once, that the open has made replicas agree: Recovery has the
	// particulars. There is none where all agreed.
	Recovered
	// Stopped says that the core is over, with Err. Stop acknowledging first.
	Stopped
)

// Sealing is what a Seal effect carries.
type Sealing struct {
	Seals []format.Seal
	Set   []format.ID
	Hint  format.Position
	Tail  uint64
}

// Effect is one thing for the driver to do.
type Effect struct {
	Kind Kind
	Peer Peer
	From uint64
	To   uint64
	Trim format.TrimPoint
	Seal *Sealing
	// SetVersion is the version of the replica set that a Reseal makes known and a
	// Promote has to find.
	SetVersion uint64
	Loss       *Loss
	Recovery   *Recovery
	Err        error
}
