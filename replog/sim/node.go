package sim

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

// poolSize leaves room for one replica with a ring of up to 16 KiB.
const poolSize = 64 << 10

// node is one daemon: a medium, and while it is up a pool on it.
type node struct {
	w      *world
	index  int
	id     format.ID // of its replica
	medium *pmemtest.Medium
	pool   *pmemlog.Pool // nil while it is down
	boot   int           // counts its starts
	idle   int           // counts flushes, so that a quiet time can be noticed

	// acked is the highest position that the replica has acknowledged or vouched
	// for; what it says must be backed by its medium.
	acked format.Position
}

func newNode(w *world, index int) *node {
	n := &node{w: w, index: index, id: w.id('r', index), medium: pmemtest.New(poolSize, pmemtest.Options{})}
	pool, err := pmemlog.Format(n.medium, pmemlog.FormatOptions{PoolID: w.id('p', index), ClusterID: w.id('c', 0), Replicas: 1})
	if err != nil {
		panic(fmt.Sprintf("sim: format a pool: %v", err))
	}
	n.pool = pool
	return n
}

func (n *node) up() bool { return n.pool != nil }

// crash takes the power away. Sessions notice later.
func (n *node) crash() {
	if !n.up() {
		return
	}
	n.w.stats.Crashes++
	n.w.note("node %d crashes", n.index)
	n.pool = nil
	n.medium = n.medium.Crash(n.w.rng)
}

// start opens the pool again.
func (n *node) start() {
	if n.up() {
		return
	}
	n.boot++
	pool, err := pmemlog.Open(n.medium)
	if err != nil {
		n.w.fail("I6", "node %d: its pool does not open after a crash: %v", n.index, err)
		return
	}
	n.w.note("node %d starts", n.index)
	n.pool = pool
}

// hello is what an agent does when a writer says hello.
func (n *node) hello(create bool) (*pmemlog.Session, error) {
	r, err := n.pool.Replica(n.id)
	if errors.Is(err, pmemlog.ErrNotFound) && create {
		r, err = n.pool.Create(pmemlog.Spec{Cluster: n.w.id('c', 0), Log: n.w.id('l', 0), Replica: n.id, Capacity: n.w.cfg.Capacity})
	}
	if err != nil {
		return nil, err
	}
	return r.Attach(false), nil
}

// powered runs f and crashes the node if the power went meanwhile. Now and then
// it goes just then, before anything else can happen.
func (n *node) powered(f func() error) error {
	err := f()
	if n.up() && (n.medium.Dead() || n.w.faults && n.w.chance(n.w.brittle)) {
		n.w.stats.Cuts++
		n.crash()
		n.w.restartLater(n)
		return pmemtest.ErrPowerless
	}
	return err
}

// quiet persists the hint when no flush has come for 10 ms, as an agent does.
func (n *node) quiet() {
	n.idle++
	idle, boot := n.idle, n.boot
	n.w.after(10*time.Millisecond, func() {
		if n.up() && n.idle == idle && n.boot == boot {
			n.persistHint()
		}
	})
}

func (n *node) persistHint() {
	r, err := n.pool.Replica(n.id)
	if err != nil {
		return
	}
	_ = n.powered(r.PersistHint) // a replica that can't tells the next flush
}

// checkReport is I6: what a replica says that it holds it would hold after any
// crash, too.
func (n *node) checkReport(rep format.Report) {
	if n.w.flipped[n.index] {
		return
	}
	pool, err := pmemlog.Open(n.medium.Clone().CrashClean())
	if err != nil {
		n.w.fail("I6", "node %d reported %v, but its pool would not open: %v", n.index, rep.Last, err)
		return
	}
	r, err := pool.Replica(n.id)
	if err != nil {
		n.w.fail("I6", "node %d reported %v, but its replica would be gone: %v", n.index, rep.Last, err)
		return
	}
	after, err := r.Attach(false).Fence(rep.Fenced)
	if err != nil || rep.Last.After(after.Last) {
		n.w.fail("I6", "node %d reported %v, after a crash it would hold %v (%v)", n.index, rep.Last, after.Last, err)
	}
}

// flushed takes note of what a replica acknowledges. Before it is sealed in, that
// counts for nothing, and a seal of an open that failed may still stand among
// the rewritten records.
func (n *node) flushed(epoch, durable uint64) {
	r, err := n.pool.Replica(n.id)
	if err != nil {
		return
	}
	slot := r.Info().Slot
	if !slices.ContainsFunc(slot.Seals, func(s format.Seal) bool { return s.Fence() == slot.Fenced }) {
		return
	}
	n.acked = n.acked.Max(format.Position{Epoch: epoch, LSN: durable})
	if n.w.chance(0.05) && !n.w.flipped[n.index] { // a flip takes back what was persistent
		n.checkFlushed(slot.Fenced, durable)
	}
}

// checkFlushed is I6: what a replica acknowledges would survive any crash now.
func (n *node) checkFlushed(term format.Fence, durable uint64) {
	pool, err := pmemlog.Open(n.medium.Clone().CrashClean())
	if err != nil {
		n.w.fail("I6", "node %d acknowledged LSN %d, but its pool would not open: %v", n.index, durable, err)
		return
	}
	r, err := pool.Replica(n.id)
	if err != nil {
		n.w.fail("I6", "node %d acknowledged LSN %d, but its replica would be gone: %v", n.index, durable, err)
		return
	}
	rep, err := r.Attach(false).Fence(term)
	if err != nil || rep.Tail < durable {
		n.w.fail("I6", "node %d acknowledged LSN %d, after a crash it would hold %d (%v)", n.index, durable, rep.Tail, err)
	}
}

// ring returns where the replica's ring begins on the medium, or -1.
func (n *node) ring() int64 {
	magic := []byte("GRVNSLOT")
	image := n.medium.Image()
	for off := 0; off+format.RingOffset <= len(image); off += format.SlotSize {
		if bytes.HasPrefix(image[off:], magic) {
			return int64(off + format.RingOffset)
		}
	}
	return -1
}
