package sim

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

// poolSize leaves room for a few replicas with a ring of up to 4 KiB each.
const (
	poolSize     = 128 << 10
	poolReplicas = 6
)

// node is one daemon: a medium, and while it is up a pool on it.
type node struct {
	w           *world
	index       int
	poolID      format.ID
	medium      *pmemtest.Medium
	pool        *pmemlog.Pool // nil while it is down
	boot        int           // counts its starts
	incarnation uint64
	registered  bool // since it was started
	setBack     bool // its pool was set back
	refused     bool // and was refused: it is not started again
	wipes       int

	earlier []*pmemtest.Medium // what the medium was at its last starts

	// acked is the highest position that each replica has acknowledged or vouched
	// for; what it says must be backed by its medium.
	acked   map[format.ID]format.Position
	flushes map[format.ID]int    // of each replica, since its hint was up to date
	told    map[format.ID]uint64 // the version of the set that each replica has said it names in its seal
}

func newNode(w *world, index int) *node {
	n := &node{w: w, index: index}
	n.format()
	n.start()
	n.registered = true
	return n
}

// format gives the daemon a new, empty pool.
func (n *node) format() {
	n.poolID = n.w.id('p', n.index+100*n.wipes)
	n.wipes++
	n.medium, n.earlier = pmemtest.New(poolSize, n.w.media()), nil
	n.setBack, n.refused = false, false
	n.acked, n.flushes, n.told = map[format.ID]format.Position{}, map[format.ID]int{}, map[format.ID]uint64{}
	if _, err := pmemlog.Format(n.medium, pmemlog.FormatOptions{PoolID: n.poolID, ClusterID: n.w.id('c', 0), Replicas: poolReplicas}); err != nil {
		panic(fmt.Sprintf("sim: format a pool: %v", err))
	}
}

func (n *node) up() bool { return n.pool != nil }

// crash takes the power away. Sessions notice later.
func (n *node) crash() {
	if !n.up() {
		return
	}
	n.w.stats.Crashes++
	n.w.note("node %d crashes", n.index)
	n.pool, n.registered = nil, false
	n.medium = n.medium.Crash(n.w.rng)
}

// start opens the pool again, counts the incarnation, and registers.
func (n *node) start() {
	if n.up() || n.refused {
		return
	}
	n.boot++
	clear(n.flushes)
	if n.earlier = append(n.earlier, n.medium.Clone()); len(n.earlier) > 4 {
		n.earlier = n.earlier[1:]
	}
	pool, err := pmemlog.Open(n.medium)
	if err != nil {
		n.w.fail("I6", "node %d: its pool does not open after a crash: %v", n.index, err)
		return
	}
	n.w.note("node %d starts", n.index)
	n.pool = pool
	if err := n.powered(func() (err error) {
		n.incarnation, err = pool.NextIncarnation()
		return err
	}); err == nil {
		n.w.control.register(n)
	}
}

// refuse ends a daemon that the control plane will not have.
func (n *node) refuse() {
	n.pool, n.registered, n.refused = nil, false, true
	n.medium = n.medium.CrashKeepingUnsynced()
}

var (
	errMissing = errors.New("replica has been present here but its region can't be found")
	errOther   = errors.New("daemon has another pool")
	errBusy    = errors.New("daemon is not registered yet: it serves no new writer")
)

// hello is what an agent does when a writer says hello.
func (n *node) hello(m member, term format.Fence, mayMake bool) (*pmemlog.Session, error) {
	if n.poolID != m.pool {
		return nil, errOther
	}
	r, err := n.pool.Replica(m.id)
	promised := err == nil && r.Info().Slot.Fenced == term
	if !promised && !n.registered { // rule: no new writer before registration
		return nil, errBusy
	}
	if errors.Is(err, pmemlog.ErrNotFound) {
		if !mayMake { // rule: present is never made anew
			return nil, errMissing
		}
		r, err = n.pool.Create(pmemlog.Spec{Cluster: n.w.id('c', 0), Log: n.w.id('l', 0), Replica: m.id, Capacity: n.w.cfg.Capacity})
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

// hintInTime has what a flush has acknowledged hinted in time, as an agent does: as long
// as flushes come, each beat asks the next one to carry the hint along; where none
// came since the last beat, the hint is persisted by itself.
func (n *node) hintInTime(id format.ID) {
	n.flushes[id]++
	if n.flushes[id] == 1 {
		n.beat(id, 0, n.boot)
	}
}

func (n *node) beat(id format.ID, seen, boot int) {
	n.w.after(5*time.Millisecond, func() {
		if !n.up() || n.boot != boot {
			return
		}
		r, err := n.pool.Replica(id)
		flushes := n.flushes[id]
		switch {
		case err != nil:
			delete(n.flushes, id)
		case flushes != seen:
			r.HintNext()
			n.beat(id, flushes, boot)
		default:
			delete(n.flushes, id)
			_ = n.powered(r.PersistHint) // a replica that can't tells the next flush
		}
	})
}

// remove deletes a condemned region, as an agent does, and reports whether it is
// gone. A replica that is a member of a newer set than the control plane knew is
// kept.
func (n *node) remove(m member) bool {
	r, err := n.pool.Replica(m.id)
	if err == nil {
		if v, beyond := r.MemberBeyond(m.left); beyond { // rule: a member of a newer set is kept
			n.w.note("node %d keeps replica %v, a member of set version %d", n.index, m.id, v)
			return false
		}
	}
	err = n.powered(func() error { return n.pool.Delete(m.id) })
	if err == nil || errors.Is(err, pmemlog.ErrNotFound) {
		n.w.note("node %d has removed replica %v", n.index, m.id)
		return true
	}
	return false
}

// media says what the pools of a world lie on: most worlds have memory that is
// synced like a file, which loses most; some have a file's sectors, or persistent
// memory, driven by the product's own flushes and fences.
func (w *world) media() pmemtest.Options {
	switch w.cfg.Seed % 8 {
	case 3:
		return pmemtest.Options{Unit: pmemtest.Sector}
	case 6:
		return pmemtest.Options{Kind: pmemlog.KindPmem}
	default:
		return pmemtest.Options{}
	}
}

// view returns the pool as it is now, whether the daemon is up or not; nil if
// it can't be opened.
func (n *node) view() *pmemlog.Pool {
	if n.up() {
		return n.pool
	}
	pool, err := pmemlog.Open(n.medium.Clone())
	if err != nil {
		return nil
	}
	return pool
}

// holds says whether the region of a replica is still there.
func (n *node) holds(m member) bool { return n.poolID == m.pool && n.ring(m.id) >= 0 }

// sealedInVain says whether a replica holds the seal of an epoch above the given
// one that never opened.
func (n *node) sealedInVain(epoch uint64) bool {
	pool := n.view()
	if pool == nil {
		return false
	}
	for _, l := range pool.Replicas() {
		r, err := pool.Replica(l.Replica)
		if err != nil {
			continue
		}
		for _, seal := range r.Info().Slot.Seals {
			if seal.Epoch > epoch && !n.w.model.open[seal.Fence()] {
				return true
			}
		}
	}
	return false
}

// checkReport is I6: what a replica says that it holds it would hold after any
// crash, too.
func (n *node) checkReport(id format.ID, rep format.Report) {
	after, err := n.afterCrash(id, rep.Fenced)
	if err != nil || rep.Last.After(after.Last) {
		n.w.fail("I6", "replica %v reported %v, after a crash it would hold %v (%v)", id, rep.Last, after.Last, err)
	}
}

// afterCrash says what a replica would report if all unsynced were lost now.
func (n *node) afterCrash(id format.ID, term format.Fence) (format.Report, error) {
	pool, err := pmemlog.Open(n.medium.Clone().CrashClean())
	if err != nil {
		return format.Report{}, err
	}
	r, err := pool.Replica(id)
	if err != nil {
		return format.Report{}, err
	}
	return r.Attach(false).Fence(term)
}

// flushed takes note of what a replica acknowledges. Before it is sealed in, that
// counts for nothing, and a seal of an open that failed may still stand among
// the rewritten records.
func (n *node) flushed(id format.ID, epoch, durable uint64) {
	r, err := n.pool.Replica(id)
	if err != nil {
		return
	}
	slot := r.Info().Slot
	if !slices.ContainsFunc(slot.Seals, func(s format.Seal) bool { return s.Fence() == slot.Fenced }) {
		return
	}
	n.vouched(id, format.Position{Epoch: epoch, LSN: durable})
	if n.w.chance(0.05) && !n.w.damaged[id] { // a flip takes back what was persistent
		n.checkDurable(id, slot.Fenced, durable)
	}
}

// checkDurable is I6: what a replica acknowledges survives any crash.
func (n *node) checkDurable(id format.ID, term format.Fence, durable uint64) {
	after, err := n.afterCrash(id, term)
	if err != nil || after.Tail < durable {
		n.w.fail("I6", "replica %v acknowledged LSN %d, after a crash it would hold %d (%v)", id, durable, after.Tail, err)
	}
}

// checkSpace is I5: nothing at or above the persistent trim LSN is overwritten.
func (n *node) checkSpace(r *pmemlog.Replica, from, to uint64) {
	if trim := r.Info().Slot.Trim.LSN; to > trim+r.Capacity() {
		n.w.fail("I5", "replica %v, trimmed to LSN %d, took [%d, %d) into a ring of %d bytes", r.ID(), trim, from, to, r.Capacity())
	}
}

// names takes note of the version of the set that a replica's newest seal names,
// which it has acknowledged, and makes sure that it would after a crash, too.
func (n *node) names(id format.ID, term format.Fence) {
	r, err := n.pool.Replica(id)
	if err != nil {
		return
	}
	slot := r.Info().Slot
	i := slices.IndexFunc(slot.Seals, func(s format.Seal) bool { return s.Fence() == term })
	if i < 0 {
		return
	}
	n.told[id] = slot.Seals[i].SetVersion
	if !n.w.byHand && n.w.chance(0.8) {
		return
	}
	if after, err := n.afterCrash(id, slot.Fenced); err != nil || !slices.Contains(after.Seals, slot.Seals[i]) {
		n.w.fail("I6", "replica %v acknowledged the seal %+v, after a crash it would hold %+v (%v)", id, slot.Seals[i], after.Seals, err)
	}
}

func (n *node) vouched(id format.ID, p format.Position) { n.acked[id] = n.acked[id].Max(p) }

// ring returns where a replica's ring begins on the medium, or -1.
func (n *node) ring(id format.ID) int64 {
	if pool := n.view(); pool != nil {
		return ringIn(pool, id)
	}
	return -1
}

func ringIn(pool *pmemlog.Pool, id format.ID) int64 {
	for _, l := range pool.Replicas() {
		if l.Replica == id {
			return l.Offset + format.RingOffset
		}
	}
	return -1
}
