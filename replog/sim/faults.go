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
	w.newWriter()
	w.repeat(10*time.Millisecond, 400*time.Millisecond, func() { w.newWriter() })
	w.repeat(20*time.Millisecond, 900*time.Millisecond, func() {
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

// flip turns a bit over in a record, within the budget: one replica less than
// the ack quorum in a run, and only where the damage must be noticed, below the
// replica's persistent hint or below the commit LSN that a later record carries.
func (w *world) flip() {
	i := w.rng.IntN(len(w.nodes))
	n := w.nodes[i]
	if !n.up() || w.control.states[i] != core.Present || (!w.flipped[i] && len(w.flipped) >= w.cfg.Ack-1) {
		return
	}
	off := n.ring()
	r, err := n.pool.Replica(n.id)
	if err != nil || off < 0 {
		return
	}
	lsns := w.noticeable(n, r.Info(), off)
	if len(lsns) == 0 {
		return
	}
	lsn := lsns[w.rng.IntN(len(lsns))]
	w.flipped[i] = true
	w.stats.Flips++
	w.note("a bit flips on node %d in the record at LSN %d", i, lsn)
	n.medium.FlipBit(off+int64(lsn%w.cfg.Capacity)+int64(w.rng.IntN(format.HeaderSize)), uint(w.rng.IntN(8)))
}

// noticeable lists the records whose damage the replica must notice.
func (w *world) noticeable(n *node, info pmemlog.Info, off int64) []uint64 {
	ring := make(format.Ring, w.cfg.Capacity)
	if err := n.medium.ReadAt(ring, off); err != nil {
		return nil
	}
	below := uint64(0)
	if hint := n.persistentHint(); hint.Epoch > 0 {
		below = hint.LSN
	}
	var lsns []uint64
	marks := marksOf(ring, info.Slot.Trim.LSN, info.Durable)
	for i := len(marks) - 1; i >= 0; i-- {
		m := marks[i]
		if m.end <= below {
			lsns = append(lsns, m.lsn)
		}
		if n.medium.Persistent(off+int64(m.lsn%w.cfg.Capacity), int(m.end-m.lsn)) {
			below = max(below, m.commit)
		}
	}
	return lsns
}
