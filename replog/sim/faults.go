package sim

import (
	"time"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog/core"
)

// planFaults starts what goes wrong: writers that come and die, daemons that
// crash, sessions that break, bits that flip. Some worlds are calmer than others.
func (w *world) planFaults() {
	w.calm = time.Duration(1 + w.rng.IntN(4)*w.rng.IntN(4))
	w.sizes = 1 + w.rng.IntN(3)
	w.far = 0.1 + 0.1*float64(w.rng.IntN(5))
	w.brittle = []float64{0, 0.001, 0.01, 0.04}[w.rng.IntN(4)]
	w.hasty = []float64{0, 0.01, 0.1, 0.3}[w.rng.IntN(4)]
	w.batch = []uint64{256, 1024}[w.rng.IntN(2)]
	w.newWriter()
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
	w.repeat(5*time.Millisecond, 150*time.Millisecond, func() {
		if l := w.pickLink(); l != nil {
			l.broke()
		}
	})
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
	if l := x.links[w.rng.IntN(len(x.links))]; l != nil && l.open {
		return l
	}
	return nil
}

// flip turns a bit over in a record of a replica whose daemon is down, within
// the budget: one replica less than the ack quorum in a run, and only where the
// damage must be noticed in full: what is left testifies to all that the replica
// has acknowledged.
func (w *world) flip() {
	i := w.rng.IntN(len(w.nodes))
	n := w.nodes[i]
	if n.up() || w.control.states[i] != core.Present || (!w.flipped[i] && len(w.flipped) >= w.cfg.Ack-1) {
		return
	}
	off := n.ring()
	lsns := n.noticeable(off)
	if len(lsns) == 0 {
		return
	}
	lsn := lsns[w.rng.IntN(len(lsns))]
	if w.chance(0.5) {
		lsn = lsns[0] // the last one: its witnesses are few
	}
	w.flipped[i] = true
	w.stats.Flips++
	w.note("a bit flips on node %d in the record at LSN %d", i, lsn)
	n.medium.FlipBit(off+int64(lsn%w.cfg.Capacity)+int64(w.rng.IntN(format.HeaderSize)), uint(w.rng.IntN(8)))
}

// noticeable lists the records whose damage the replica must notice in full, the
// last one first.
func (n *node) noticeable(off int64) []uint64 {
	medium := n.medium.Clone()
	pool, err := pmemlog.Open(medium)
	if err != nil || off < 0 {
		return nil
	}
	r, err := pool.Replica(n.id)
	if err != nil {
		return nil
	}
	slot := r.Info().Slot
	rep, err := r.Attach(false).Fence(slot.Fenced)
	if err != nil {
		return nil
	}
	ring := make(format.Ring, n.w.cfg.Capacity)
	if err := medium.ReadAt(ring, off); err != nil {
		return nil
	}
	evidence := slot.Hint
	var lsns []uint64
	marks := marksOf(ring, rep.Trim.LSN, rep.Tail)
	for i := len(marks) - 1; i >= 0; i-- {
		if marks[i].end <= evidence.LSN && !n.acked.After(evidence) {
			lsns = append(lsns, marks[i].lsn)
		}
		evidence = evidence.Max(format.Position{Epoch: marks[i].epoch, LSN: marks[i].commit})
	}
	return lsns
}
