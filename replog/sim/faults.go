package sim

import (
	"time"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/pmemlog/pmemtest"
	"github.com/gravenio/graven/replog/core"
)

// planFaults starts what goes wrong. Some worlds are calmer than others, and not
// all know all faults.
func (w *world) planFaults() {
	w.calm = time.Duration(1 + w.rng.IntN(4)*w.rng.IntN(4))
	w.sizes = 1 + w.rng.IntN(3)
	w.far = 0.1 + 0.1*float64(w.rng.IntN(5))
	w.brittle = []float64{0, 0.001, 0.01, 0.04}[w.rng.IntN(4)]
	w.hasty = []float64{0, 0.01, 0.1, 0.3}[w.rng.IntN(4)]
	w.batch = []uint64{256, 1024}[w.rng.IntN(2)]
	w.newWriter()
	w.planWriters()
	w.planDaemons()
	w.planControl()
}

// planWriters lets writers come, die, sleep, and lose their sessions.
func (w *world) planWriters() {
	w.repeat(5*time.Millisecond, 400*time.Millisecond, func() {
		if w.hasty < 0.1 || w.pickWriter() == nil || w.chance(0.2) {
			w.newWriter()
		}
	})
	w.repeat(20*time.Millisecond, 600*time.Millisecond, func() {
		if x := w.pickWriter(); x != nil {
			w.note("writer of epoch %d dies", x.term.Epoch)
			x.die()
		}
	})
	w.repeat(20*time.Millisecond, 800*time.Millisecond, func() {
		if x := w.pickWriter(); x != nil {
			x.sleep(w.between(time.Millisecond, 400*time.Millisecond))
		}
	})
	w.repeat(5*time.Millisecond, 150*time.Millisecond, func() {
		if l := w.pickLink(); l != nil {
			l.broke()
		}
	})
}

// planDaemons lets daemons crash and lose what they hold.
func (w *world) planDaemons() {
	w.repeat(10*time.Millisecond, 300*time.Millisecond, func() {
		n := w.nodes[w.rng.IntN(len(w.nodes))]
		if !n.up() {
			return
		}
		if w.chance(0.5) {
			n.medium.CutAtSync(1 + w.rng.IntN(3)) // in the midst of whatever comes
			return
		}
		n.crash()
		w.restartLater(n)
	})
	w.repeat(300*time.Millisecond, 2500*time.Millisecond, func() {
		w.note("power cut everywhere")
		for _, n := range w.nodes {
			if n.up() {
				n.crash()
				w.restartLater(n)
			}
		}
	})
	w.repeat(5*time.Millisecond, 100*time.Millisecond, w.flip)
	if w.chance(0.5) {
		w.repeat(50*time.Millisecond, 1200*time.Millisecond, w.lose)
	}
}

// planControl lets replicas be replaced, and the control plane be set back.
func (w *world) planControl() {
	w.repeat(5*time.Millisecond, 100*time.Millisecond, w.control.clean)
	if w.chance(0.7) {
		w.repeat(20*time.Millisecond, 700*time.Millisecond, w.replace)
		w.repeat(50*time.Millisecond, 2500*time.Millisecond, w.control.abandon)
	}
	if w.chance(0.4) {
		w.repeat(50*time.Millisecond, 900*time.Millisecond, w.control.backUp)
		w.repeat(100*time.Millisecond, 1500*time.Millisecond, func() {
			if len(w.control.backups) > 0 {
				w.control.restore()
			}
		})
	}
}

// repeat lets do take place again and again, at random distances.
func (w *world) repeat(lo, hi time.Duration, do func()) {
	w.after(w.calm*w.between(lo, hi), func() {
		if w.faults {
			do()
			w.repeat(lo, hi, do)
		}
	})
}

func (w *world) restartLater(n *node) {
	d := w.between(time.Millisecond, 60*time.Millisecond)
	if w.faults && w.chance(0.3) {
		d = w.between(0, 900*time.Millisecond)
	}
	w.after(d, func() { n.start() })
}

func (w *world) pickWriter() *writer {
	var live []*writer
	for _, x := range w.writers {
		if !x.dead {
			live = append(live, x)
		}
	}
	if len(live) == 0 {
		return nil
	}
	return live[w.rng.IntN(len(live))]
}

func (w *world) pickLink() *link {
	x := w.pickWriter()
	if x == nil {
		return nil
	}
	if l := x.seats[w.rng.IntN(len(x.seats))].link; l != nil && l.open {
		return l
	}
	return nil
}

// replace has a replica's place taken by a new one on a daemon that has none:
// one that is damaged if there is one, else any.
func (w *world) replace() {
	set := w.control.set
	m := set[w.rng.IntN(len(set))]
	for _, other := range set {
		if w.damaged[other.id] {
			m = other
		}
	}
	if n := w.spare(); n != nil {
		w.control.replace(m.id, n)
	}
}

// spare picks a daemon without a replica of the set that is or was.
func (w *world) spare() *node {
	var free []*node
	for _, n := range w.nodes {
		used := n.setBack
		for _, set := range [][]member{w.control.set, w.control.truth.set} {
			for _, m := range set {
				used = used || m.node == n.index && m.pool == n.poolID
			}
		}
		if !used {
			free = append(free, n)
		}
	}
	if len(free) == 0 {
		return nil
	}
	return free[w.rng.IntN(len(free))]
}

// damageable says whether one more replica may be lost or damaged: in no set
// that is, that was when a backup was taken, that is about to be, or that may be
// taken from a seal, may as many as the ack quorum be.
func (w *world) damageable(id format.ID) bool {
	c := &w.control
	sets := [][]member{c.set, c.truth.set}
	for _, b := range c.backups {
		sets = append(sets, b.set)
	}
	for _, set := range sets {
		if !w.affordable(set, id) {
			return false
		}
	}
	for _, set := range c.beyond(c.version) {
		if indexOf(set, id) >= 0 && !w.damaged[id] && c.gone(set)+1 >= w.cfg.Ack {
			return false
		}
	}
	for _, r := range append([]record{c.record}, c.backups...) {
		if r.learner == nil {
			continue
		}
		next := append([]member{*r.learner}, r.set...)
		if i := indexOf(next, r.replaces); i >= 0 {
			next = append(next[:i], next[i+1:]...)
		}
		if !w.affordable(next, id) {
			return false
		}
	}
	return true
}

func (w *world) affordable(set []member, id format.ID) bool {
	n, concerned := 0, false
	for _, m := range set {
		concerned = concerned || m.id == id
		if m.id == id || w.damaged[m.id] {
			n++
		}
	}
	return !concerned || n < w.cfg.Ack
}

// lose takes away what a daemon holds: its pool is wiped, and it is another
// daemon from then on; its pool is set back, and it is refused; or one region
// vanishes.
func (w *world) lose() {
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	if n.up() {
		return
	}
	var held []format.ID
	for _, m := range w.control.made { // whether its region has been made yet or not
		if m.node == n.index && m.pool == n.poolID {
			held = append(held, m.id)
		}
	}
	noticed := true // the loss of a region that leaves no trace
	for _, id := range held {
		if !w.damageable(id) {
			return
		}
		noticed = noticed && (!w.control.joined[id] || !w.control.makeable(id))
	}
	for _, id := range held {
		w.damaged[id] = true
	}
	w.stats.Losses++
	switch kind := w.rng.IntN(3); {
	case kind == 1 && !n.setBack && n.setBackable() != nil:
		w.note("the pool of node %d is set back", n.index)
		n.medium, n.earlier, n.setBack = n.setBackable().CrashKeepingUnsynced(), nil, true
	case kind == 0 || n.setBack || !noticed:
		w.note("node %d is wiped", n.index)
		n.format()
	default:
		w.vanish(n, held)
	}
}

// setBackable returns what the medium was at an earlier start, if it can be told
// from what it is: a start after that one has been confirmed.
func (n *node) setBackable() *pmemtest.Medium {
	for _, m := range n.earlier {
		pool, err := pmemlog.Open(m.Clone())
		if err == nil && pool.Identity().Confirmed+1 < n.w.control.seen[n.poolID] {
			return m
		}
	}
	return nil
}

// vanish deletes a region behind everybody's back. Where a backup has the
// replica as one that may be made, its loss could not be noticed, nor where a
// control plane that was set back has one so that is promised more.
func (w *world) vanish(n *node, held []format.ID) {
	pool, err := pmemlog.Open(n.medium)
	if err != nil {
		return
	}
	for _, id := range held {
		w.note("the region of replica %v vanishes from node %d", id, n.index)
		_ = pool.Delete(id)
		w.reuse(pool)
		backups := w.control.backups[:0]
		for _, b := range w.control.backups {
			if !b.makeable(id) {
				backups = append(backups, b)
			}
		}
		w.control.backups = backups
	}
	n.medium = n.medium.CrashKeepingUnsynced()
}

// reuse has other replicas take the places of those that were removed, and go
// again, so that nothing in the pool tells of the removed ones any more.
func (w *world) reuse(pool *pmemlog.Pool) {
	var others []format.ID
	for err := error(nil); err == nil; {
		w.others++
		other := w.id('o', w.others)
		_, err = pool.Create(pmemlog.Spec{Cluster: w.id('c', 0), Log: other, Replica: other, Capacity: pmemlog.MinCapacity})
		others = append(others, other)
	}
	for _, other := range others {
		_ = pool.Delete(other)
	}
}

// flip turns a bit over in a record of a replica whose daemon is down, within
// the budget, and only where the damage must be noticed in full: what is left
// testifies to all that the replica has acknowledged.
func (w *world) flip() {
	set := w.control.set
	m := set[w.rng.IntN(len(set))]
	n := w.nodes[m.node]
	if n.up() || m.pool != n.poolID || m.state != core.Present || !w.damageable(m.id) {
		return
	}
	off, lsns := n.noticeable(m.id)
	if len(lsns) == 0 {
		return
	}
	lsn := lsns[w.rng.IntN(len(lsns))]
	if w.chance(0.5) {
		lsn = lsns[0] // the last one: its witnesses are few
	}
	w.damaged[m.id] = true
	w.stats.Flips++
	w.note("a bit flips in replica %v on node %d, in the record at LSN %d", m.id, n.index, lsn)
	n.medium.FlipBit(off+int64(lsn%w.cfg.Capacity)+int64(w.rng.IntN(format.HeaderSize)), uint(w.rng.IntN(8)))
}

// noticeable lists the records whose damage the replica must notice in full, the
// last one first, and says where its ring begins.
func (n *node) noticeable(id format.ID) (ring int64, lsns []uint64) {
	medium := n.medium.Clone()
	pool, err := pmemlog.Open(medium)
	if err != nil {
		return 0, nil
	}
	off := ringIn(pool, id)
	if off < 0 {
		return 0, nil
	}
	r, err := pool.Replica(id)
	if err != nil {
		return 0, nil
	}
	slot := r.Info().Slot
	rep, err := r.Attach(false).Fence(slot.Fenced)
	if err != nil {
		return 0, nil
	}
	bytes := make(format.Ring, n.w.cfg.Capacity)
	if err := medium.ReadAt(bytes, off); err != nil {
		return 0, nil
	}
	evidence := slot.Hint
	marks := marksOf(bytes, rep.Trim.LSN, rep.Tail)
	for i := len(marks) - 1; i >= 0; i-- {
		if marks[i].end <= evidence.LSN && !n.acked[id].After(evidence) {
			lsns = append(lsns, marks[i].lsn)
		}
		evidence = evidence.Max(format.Position{Epoch: marks[i].epoch, LSN: marks[i].commit})
	}
	return off, lsns
}
