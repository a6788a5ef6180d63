package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog/core"
)

// Config of a world. Its zero value, but for the seed, is a log of three
// replicas with an ack quorum of two.
type Config struct {
	Seed     uint64
	Replicas int           // default 3
	Spares   int           // daemons without a replica at first; default 2
	Ack      int           // default majority
	Capacity uint64        // of the ring in bytes; default 2048
	Faults   time.Duration // virtual time with faults; default 4 s
	Trace    bool          // keep a line for each thing that happens
}

func (c Config) withDefaults() Config {
	if c.Replicas == 0 {
		c.Replicas = 3
	}
	if c.Ack == 0 {
		c.Ack = c.Replicas/2 + 1
	}
	if c.Spares == 0 {
		c.Spares = 2
	}
	if c.Capacity == 0 {
		c.Capacity = 2048
	}
	if c.Faults == 0 {
		c.Faults = 4 * time.Second
	}
	return c
}

// Stats counts what happened in a run.
type Stats struct {
	Events       int // things that took place on the virtual clock
	Opens        int // logs that a writer opened
	Takeovers    int // of them, those that ended a writer which was still there
	Appends      int // records appended
	Acks         int // records acknowledged
	Crashes      int // of daemons
	Cuts         int // of power, inside an operation
	Breaks       int // of sessions
	Flips        int // of bits
	Losses       int // of a daemon's pool or regions
	Trims        int
	Replacements int // of replicas, begun
	Promotions   int // of them, those that changed the set
	Abandoned    int // of them, those that were given up
	Restores     int // of the control plane from a backup
}

// Add adds another run's counts.
func (s *Stats) Add(o Stats) {
	s.Events += o.Events
	s.Opens += o.Opens
	s.Appends += o.Appends
	s.Acks += o.Acks
	s.Crashes += o.Crashes
	s.Cuts += o.Cuts
	s.Breaks += o.Breaks
	s.Flips += o.Flips
	s.Losses += o.Losses
	s.Trims += o.Trims
	s.Takeovers += o.Takeovers
	s.Replacements += o.Replacements
	s.Promotions += o.Promotions
	s.Abandoned += o.Abandoned
	s.Restores += o.Restores
}

// Violation is a broken promise.
type Violation struct {
	Seed      uint64
	Invariant string // I1 to I6, or liveness
	Detail    string
}

// Error names invariant and seed.
func (v *Violation) Error() string {
	return fmt.Sprintf("seed %d: %s violated: %s", v.Seed, v.Invariant, v.Detail)
}

// Result of a run.
type Result struct {
	Stats     Stats
	Violation *Violation // nil when all promises were kept
	Trace     []string
}

// Run runs one world to its end, or to the first violation.
func Run(cfg Config) Result {
	w := newWorld(cfg.withDefaults())
	w.run()
	return Result{Stats: w.stats, Violation: w.violation, Trace: w.trace}
}

// world is everything in one run.
type world struct {
	cfg       Config
	rng       *rand.Rand
	now       time.Duration
	seq       uint64
	agenda    agenda
	nodes     []*node
	writers   []*writer
	control   control
	model     model
	faults    bool               // things still go wrong
	byHand    bool               // writers append only what they are told to
	calm      time.Duration      // factor between faults
	sizes     int                // of records: few sizes make logs that differ line up
	far       float64            // how often a daemon is out of reach for a while
	brittle   float64            // how often a daemon crashes right after a request
	hasty     float64            // how often a writer dies right after an append
	batch     uint64             // largest send, in bytes
	damaged   map[format.ID]bool // replicas that have lost something, and have not been made good
	others    int                // replicas of other logs so far
	stats     Stats
	violation *Violation
	trace     []string
}

func newWorld(cfg Config) *world {
	w := &world{cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 0x67726176656e)), damaged: map[format.ID]bool{}}
	w.control.w = w // daemons register with it
	w.control.seen = map[format.ID]uint64{}
	w.model = model{w: w, open: map[format.Fence]bool{}}
	for i := range cfg.Replicas + cfg.Spares {
		w.nodes = append(w.nodes, newNode(w, i))
	}
	w.control = newControl(w)
	w.faults = true
	return w
}

func (w *world) id(kind byte, n int) format.ID {
	return format.ID{0: kind, 14: byte(n >> 8), 15: byte(n) + 1}
}

// after plans something d from now.
func (w *world) after(d time.Duration, do func()) {
	w.seq++
	w.agenda.push(event{at: w.now + d, seq: w.seq, do: do})
}

// between returns a random duration in [lo, hi).
func (w *world) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(w.rng.Int64N(int64(hi-lo)))
}

// chance is true with probability p.
func (w *world) chance(p float64) bool { return w.rng.Float64() < p }

// fail records the first violation; the run ends there.
func (w *world) fail(invariant, detail string, args ...any) {
	if w.violation == nil {
		w.violation = &Violation{Seed: w.cfg.Seed, Invariant: invariant, Detail: fmt.Sprintf(detail, args...)}
		w.note("VIOLATION %s: %s", invariant, w.violation.Detail)
	}
}

func (w *world) note(text string, args ...any) {
	if w.cfg.Trace {
		w.trace = append(w.trace, fmt.Sprintf("%12s  %s", w.now, fmt.Sprintf(text, args...)))
	}
}

// step lets the next thing take place.
func (w *world) step() bool {
	if len(w.agenda) == 0 || w.violation != nil {
		return false
	}
	e := w.agenda.pop()
	w.now = e.at
	w.stats.Events++
	e.do()
	return true
}

// maxEvents bounds a run whose writers never come to rest.
const maxEvents = 400_000

// run is the whole life: faults, then peace, in which an open must succeed and
// appends go through.
func (w *world) run() {
	w.planFaults()
	for w.now < w.cfg.Faults && w.stats.Events < maxEvents && w.step() {
	}
	if w.violation != nil {
		return
	}
	w.peace()
}

// peaceTime is how long a healthy log may take to open and to append.
const peaceTime = 20 * time.Second

func (w *world) peace() {
	w.note("peace")
	w.faults = false
	for _, x := range w.writers {
		x.die()
	}
	for _, n := range w.nodes {
		n.start()
	}
	// What a person does after a disaster: the control plane learns of the newest
	// set from the daemons' inventories.
	w.control.adopt(w.control.truth.version, idsOf(w.control.truth.set))
	if !w.enough() {
		return // nothing is promised but that nobody guesses
	}
	last := w.newWriter()
	end := w.now + peaceTime
	for !last.content() && w.now < end && w.step() {
		last = w.writers[len(w.writers)-1] // one that was refused asks for a higher epoch
	}
	if w.violation == nil && !last.content() {
		w.fail("liveness", "after peace, the last writer in epoch %d is %s with commit LSN %d: %s", last.term.Epoch, last.core.Phase(), last.core.Commit(), last.core.Waiting())
	}
}

// enough says whether an ack quorum of the set is not lost: a log can't go on
// with fewer.
func (w *world) enough() bool {
	there := 0
	for _, m := range w.control.set {
		n := w.nodes[m.node]
		if n.poolID == m.pool && !n.setBack && (m.state != core.Present || n.holds(m)) {
			there++
		}
	}
	return there >= w.cfg.Ack
}

func idsOf(ms []member) []format.ID {
	ids := make([]format.ID, len(ms))
	for i, m := range ms {
		ids[i] = m.id
	}
	return ids
}

// String renders a trace.
func (r Result) String() string {
	var b strings.Builder
	for _, line := range r.Trace {
		b.WriteString(line)
		b.WriteByte('\n')
	}
	return b.String()
}
