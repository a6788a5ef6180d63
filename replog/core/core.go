package core

import (
	"errors"

	"github.com/gravenio/graven/pmemlog/format"
)

// Phase of a core's life.
type Phase uint8

// The phases, in their order.
const (
	Recovering Phase = iota
	Loading
	Aligning
	Open
	Over
)

// String names the phase.
func (p Phase) String() string {
	return [...]string{"recovering", "loading", "aligning", "open", "over"}[p]
}

// stage is how far one replica's session has come.
type stage uint8

const (
	away     stage = iota // no session
	fencing               // Fence is on its way
	reported              // it has answered; waits for the log to be chosen and loaded
	trimming              // Trim before it is aligned
	resetting
	aligning
	filling // gets [its position, T)
	sealing // Seal is on its way
	member  // holds the seal: gets all that is appended
)

// stageNames is read-only.
var stageNames = [...]string{
	"away", "fencing", "reported", "trimming", "resetting", "aligning", "filling", "sealing", "member",
}

type replica struct {
	Replica
	peer    Peer
	stage   stage
	reason  error // why it is away or does not count
	report  format.Report
	at      uint64   // where it agrees with the log, while it is prepared
	sent    uint64   // all below has been sent in this session
	pending []uint64 // the ends of the sends that wait for completion
	trimmed uint64   // its persisted trim LSN
	trims   bool     // a Trim of a member is on its way
	reseals bool     // a Reseal is on its way

	// What it has persisted in this term outlives the session.
	sealed     bool
	setVersion uint64 // in the seal
	durable    uint64

	voter   bool // in the set
	leaving bool // not in the set any more; its session lasts until it knows
	retired bool // takes no part any more; its place may be used anew
	made    bool // it has been sealed in this term, so its region is never made again

	repair *Repaired // what it lacked, or held, otherwise than the log; nil for nothing
}

// Core is the decisions of one writer in one term.
type Core struct {
	cfg      Config
	phase    Phase
	replicas []replica
	effects  []Effect

	chosen int
	trim   format.TrimPoint
	trims  []format.TrimPoint // the last ones, for replicas that lag behind the newest
	seal   format.Seal        // this term's
	seals  []format.Seal      // the log's, with this term's
	pairs  []format.Pair      // likewise
	tail   uint64
	commit uint64
	change *change // the replacement under way, or nil

	accepted   *Loss // what a person lets go, or nil
	forced     bool  // the log goes on because of that
	unrecorded bool  // and it is not on record yet
	told       bool  // what was repaired has been reported

	err error
}

// New returns a core that waits for its replicas to connect.
func New(cfg Config) (*Core, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	c := &Core{cfg: cfg, chosen: -1}
	for i, r := range cfg.Replicas {
		c.replicas = append(c.replicas, replica{Replica: r, peer: Peer{Index: i}, reason: errNotYet, voter: true})
	}
	if r := cfg.Replacing; r != nil {
		if _, err := c.Replace(*r); err != nil {
			return nil, err
		}
	}
	return c, nil
}

var errNotYet = errors.New("has not answered yet")

// Phase returns how far the core has come.
func (c *Core) Phase() Phase { return c.phase }

// Err returns why the core is over, or nil.
func (c *Core) Err() error { return c.err }

// Tail returns the LSN of the next record.
func (c *Core) Tail() uint64 { return c.tail }

// Commit returns the LSN below which all is committed. It is 0 until the log is
// open.
func (c *Core) Commit() uint64 { return c.commit }

// TrimPoint returns where the log begins.
func (c *Core) TrimPoint() format.TrimPoint { return c.trim }

// Free returns the bytes of the ring that may be appended, pads included.
func (c *Core) Free() uint64 { return c.cfg.Capacity - (c.tail - c.trim.LSN) }

// Effects appends the effects since the last call to dst and returns it.
func (c *Core) Effects(dst []Effect) []Effect {
	dst = append(dst, c.effects...)
	clear(c.effects) // let go of what they carry
	c.effects = c.effects[:0]
	return dst
}

func (c *Core) emit(e Effect) { c.effects = append(c.effects, e) }

// stop ends the core. The effects that have not been taken are dropped: an
// acknowledgement among them must not be given any more.
func (c *Core) stop(err error) {
	if c.phase == Over {
		return
	}
	c.phase, c.err = Over, err
	c.effects = c.effects[:0]
	c.emit(Effect{Kind: Stopped, Err: err})
}

// Close ends the core: nothing is committed any more.
func (c *Core) Close() { c.stop(ErrClosed) }

// Superseded says that the control plane has handed the log to another writer.
func (c *Core) Superseded(by format.Fence) { c.stop(&FencedError{By: by}) }

// current returns the replica if the event is of its session, else nil.
func (c *Core) current(p Peer) *replica {
	r := &c.replicas[p.Index]
	if c.phase == Over || r.stage == away || r.peer != p {
		return nil
	}
	return r
}

// Connected says that a new session with a replica exists. The driver has ended
// the one before.
func (c *Core) Connected(p Peer) {
	r := &c.replicas[p.Index]
	if c.phase == Over || p.Session <= r.peer.Session || r.retired {
		return
	}
	if r.stage != away { // and with it what was asked there, a load among others
		c.Disconnected(r.peer, errNotYet)
	}
	r.peer, r.stage, r.reason = p, fencing, errNotYet
	r.pending, r.trims, r.reseals = r.pending[:0], false, false
	c.emit(Effect{Kind: Fence, Peer: p})
}

// Disconnected says that a session is over, or could not be had. The log is
// none the worse for what the replica has acknowledged so far.
func (c *Core) Disconnected(p Peer, why error) {
	r := &c.replicas[p.Index]
	if c.phase == Over || r.peer.Session > p.Session {
		return
	}
	r.peer, r.stage, r.reason = p, away, why
	r.pending, r.trims, r.reseals = r.pending[:0], false, false
	if r.leaving {
		c.retire(r)
	}
	if c.phase == Loading && c.chosen == p.Index { // rule: the chosen one dies
		c.phase, c.chosen = Recovering, -1
		c.choose()
	}
	c.tellRecovery()
}

// cut ends a session from this side.
func (c *Core) cut(r *replica, why error) {
	p := r.peer
	c.emit(Effect{Kind: Cut, Peer: p, Err: why})
	c.Disconnected(p, why)
}

// Fenced says that a replica refused this writer's term for another one.
func (c *Core) Fenced(p Peer, by format.Fence) {
	if r := &c.replicas[p.Index]; c.phase != Over && p.Session >= r.peer.Session && !r.retired {
		c.stop(&FencedError{By: by})
	}
}
