package replog

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
	"github.com/gravenio/graven/replog/core"
)

// VerifyReport says what every replica of a log holds, from its own bytes.
type VerifyReport struct {
	Log       string          `json:"name"`
	LogID     string          `json:"log_id"`
	CommitLSN uint64          `json:"commit_lsn"` // what the replicas were compared up to
	Live      bool            `json:"live"`       // a writer has the log open: CommitLSN is what could be proven, the true one may be higher
	Recovered bool            `json:"recovered"`  // the log was fenced and recovered in Epoch, which brought replicas up to date
	Epoch     uint64          `json:"epoch"`
	Agree     bool            `json:"agree"` // no damage was found, and all replicas hold the same up to CommitLSN
	Replicas  []ReplicaReport `json:"replicas"`
}

// ReplicaReport is one replica of a VerifyReport.
type ReplicaReport struct {
	ReplicaID string        `json:"replica_id"`
	DaemonID  string        `json:"daemon_id"`
	State     string        `json:"state"`           // in the control plane: present or allocated
	Media     string        `json:"media"`           // pmem, file or volatile
	Error     string        `json:"error,omitempty"` // why the replica could not be read
	Epochs    []EpochReport `json:"epochs"`
	TrimLSN   uint64        `json:"trim_lsn"`
	TailLSN   uint64        `json:"tail_lsn"` // LSN behind the last valid record
	Records   uint64        `json:"records"`  // valid data records
	Evidence  string        `json:"evidence"` // epoch/LSN that it must once have held
	Suspect   bool          `json:"suspect"`  // its evidence lies beyond what it holds
	Beyond    uint64        `json:"records_beyond_tail"`
	Bad       []BadRange    `json:"bad"`
	Lag       uint64        `json:"lag_bytes"` // missing at the end, below CommitLSN
	Agrees    bool          `json:"agrees"`    // when it was first looked at
	Repaired  bool          `json:"repaired"`  // did not agree at first, does after the recovery
}

// EpochReport is a stretch of a replica's log that one epoch wrote.
type EpochReport struct {
	Epoch    uint64 `json:"epoch"`
	Nonce    string `json:"nonce,omitempty"` // empty when the replica has forgotten it
	FirstLSN uint64 `json:"first_lsn"`
}

// BadRange is where a replica's bytes are not the log's.
type BadRange struct {
	FromLSN uint64 `json:"from_lsn"`
	ToLSN   uint64 `json:"to_lsn"`
	Why     string `json:"why"`
}

// maxBad bounds how many bad ranges of one replica are listed; the last one
// then stands for all that follow.
const maxBad = 64

// settleTime is how long a recovery is given to bring replicas up to date, for
// each second round of looking.
const settleTime = 30 * time.Second

// Verify reads the bytes of every replica and compares them up to the commit
// LSN. A log that no live writer has open is fenced and recovered first, to know
// its commit LSN, and looked at again afterwards; with takeover a live one is,
// too. Otherwise the comparison goes up to a commit LSN that the replicas prove;
// ErrNothingProven, beside the report, when they prove none.
func Verify(ctx context.Context, c Control, l Log, takeover bool, o Options) (*VerifyReport, error) {
	o = o.withDefaults()
	before := look(ctx, l, o)
	defer closeAll(before)
	scanAll(ctx, before)
	diffAll(ctx, before) // now: the recovery below rewrites what differs
	rep := &VerifyReport{Log: l.Name, LogID: l.ID.String(), Epoch: newestTerm(before).Epoch}

	w, err := Open(ctx, c, OpenRequest{Log: l.ID.String(), Takeover: takeover}, o)
	switch {
	case errors.Is(err, ErrInUse):
		rep.Live, err = true, nil
		proven := false
		if rep.CommitLSN, proven = provenCommit(l, before); !proven {
			err = fmt.Errorf("verify log %s beside its writer: %w", l.Name, ErrNothingProven)
		}
	case err != nil:
		return nil, err
	default:
		rep.Recovered, rep.Epoch, rep.CommitLSN = true, w.Grant().Term.Epoch, w.Commit()
	}
	rep.Replicas = compare(before, rep.CommitLSN, rep.Live)
	if w != nil {
		err = rep.lookAgain(ctx, l, w, o)
	}
	rep.Agree = err == nil && len(rep.Replicas) > 0
	for i := range rep.Replicas {
		r := &rep.Replicas[i]
		lagged := r.Repaired && len(r.Bad) == 0 && !r.Suspect
		rep.Agree = rep.Agree && (r.Agrees || lagged)
	}
	return rep, err
}

// lookAgain waits until the recovery has done what it can, and records which
// replicas agree now.
func (rep *VerifyReport) lookAgain(ctx context.Context, l Log, w *Writer, o Options) error {
	settle, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	if err := w.Settle(settle); err != nil && ctx.Err() == nil && settle.Err() == nil {
		return errors.Join(err, w.Close())
	}
	after := look(ctx, l, o)
	defer closeAll(after)
	scanAll(ctx, after)
	diffAll(ctx, after)
	for i, r := range compare(after, rep.CommitLSN, false) {
		rep.Replicas[i].Repaired = !rep.Replicas[i].Agrees && r.Agrees
	}
	return w.Close()
}

// diffAll finds where each view differs from the one with the highest last
// position.
func diffAll(ctx context.Context, views []*view) {
	best := bestView(views)
	for _, v := range views {
		if v.err == nil {
			v.diffs = v.differences(ctx, best)
		}
	}
}

// compare reports each view, and where it differs below commit from the one with
// the highest last position, as diffAll found it. While a writer is live, what a scan saw beyond
// commit is in motion and proves nothing.
func compare(views []*view, commit uint64, live bool) []ReplicaReport {
	best := bestView(views)
	out := make([]ReplicaReport, len(views))
	for i, v := range views {
		out[i] = v.describe()
		r := &out[i]
		if v.err != nil {
			// A replica that has promised nothing yet, and has no region, lacks nothing.
			r.Agrees = v.State == core.Allocated && errors.Is(v.err, rdmaio.ErrUnknownLog) && commit == 0
			continue
		}
		r.Bad, r.Lag = v.badBelow(best, commit)
		r.Suspect = v.scan.Suspect() && (!live || v.scan.Chain.LSN < commit)
		if r.Suspect && len(r.Bad) == 0 && r.Lag > 0 { // what lacks at the end was there once
			r.Bad = []BadRange{{FromLSN: v.scan.Chain.LSN, ToLSN: v.scan.Chain.LSN + r.Lag, Why: fmt.Sprintf("lost: %v", v.scan.Stop)}}
			r.Lag = 0
		}
		r.Agrees = len(r.Bad) == 0 && r.Lag == 0 && !r.Suspect
	}
	return out
}

func bestView(views []*view) *view {
	var best *view
	for _, v := range views {
		if v.err == nil && (best == nil || v.scan.Last.After(best.scan.Last)) {
			best = v
		}
	}
	return best
}

func (v *view) describe() ReplicaReport {
	r := ReplicaReport{
		ReplicaID: v.ID.String(), DaemonID: v.Daemon, State: v.State.String(), Media: v.welcome.Media,
		Epochs: []EpochReport{}, Bad: []BadRange{},
	}
	if v.err != nil {
		r.Error = v.err.Error()
		return r
	}
	for _, p := range v.scan.Pairs {
		if p.Epoch == 0 {
			continue // the empty log
		}
		e := EpochReport{Epoch: p.Epoch, FirstLSN: p.First}
		if p.Known {
			e.Nonce = fmt.Sprintf("%016x", p.Nonce)
		}
		r.Epochs = append(r.Epochs, e)
	}
	r.TrimLSN, r.TailLSN, r.Records = v.info.Slot.Trim.LSN, v.scan.Chain.LSN, v.scan.Records
	r.Evidence, r.Beyond = v.scan.Evidence.String(), v.scan.Beyond
	return r
}

// differences goes through the best log's records and returns where v has
// something else.
func (v *view) differences(ctx context.Context, best *view) []BadRange {
	var diffs []BadRange
	from := max(v.info.Slot.Trim.LSN, best.info.Slot.Trim.LSN)
	src := v.source(ctx)
	i := sort.Search(len(best.marks), func(i int) bool { return best.marks[i].lsn >= from })
	for _, m := range best.marks[i:] {
		if why := v.differs(src, m); why != nil {
			diffs = addBad(diffs, m, why.Error())
		}
	}
	return diffs
}

// badBelow returns the differences below commit, and how many bytes v lacks at
// the end.
func (v *view) badBelow(best *view, commit uint64) ([]BadRange, uint64) {
	bad := []BadRange{}
	for _, d := range v.diffs {
		if d.FromLSN < commit {
			d.ToLSN = min(d.ToLSN, commit)
			bad = append(bad, d)
		}
	}
	if best.scan.Chain.LSN < commit { // no replica holds all that was committed
		bad = addBad(bad, mark{lsn: best.scan.Chain.LSN, end: commit}, "missing on every replica that could be read")
	}
	return splitLag(bad, v.scan.Chain.LSN, commit)
}

// splitLag takes off the end of bad what is nothing but a log that ends early.
func splitLag(bad []BadRange, tail, commit uint64) ([]BadRange, uint64) {
	if n := len(bad); n > 0 {
		if last := bad[n-1]; last.FromLSN == tail && last.ToLSN >= commit {
			return bad[:n-1], last.ToLSN - last.FromLSN
		}
	}
	return bad, 0
}

func addBad(bad []BadRange, m mark, why string) []BadRange {
	if n := len(bad); n > 0 && (bad[n-1].ToLSN == m.lsn || n == maxBad) {
		bad[n-1].ToLSN = m.end
		return bad
	}
	return append(bad, BadRange{FromLSN: m.lsn, ToLSN: m.end, Why: why})
}

// differs says why the record at the mark is not the same here, or nil. What the
// scan found valid is known; behind the tail the bytes are looked at one by one.
func (v *view) differs(src *remote, m mark) error {
	i := sort.Search(len(v.marks), func(i int) bool { return v.marks[i].lsn >= m.lsn })
	if i < len(v.marks) && v.marks[i].lsn == m.lsn {
		if v.marks[i].crc != m.crc {
			return errOther
		}
		return nil
	}
	if m.lsn < v.scan.Chain.LSN {
		return errOther
	}
	rec, err := src.View(int64(m.lsn%src.capacity), int(m.end-m.lsn))
	if err != nil {
		return err
	}
	h, err := format.DecodeHeader(rec)
	switch {
	case err != nil:
		return err
	case h.LSN != m.lsn:
		return format.ErrLSN
	case !h.CheckCRC(rec):
		return format.ErrCRC
	case h.CRC != m.crc:
		return errOther
	}
	return nil
}

var errOther = errors.New("another record than on the other replicas")
