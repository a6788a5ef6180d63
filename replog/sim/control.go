package sim

import (
	"time"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog/core"
)

// control is the control plane: one register that is compared and swapped.
type control struct {
	w      *world
	epoch  uint64
	states []core.State
}

// open hands out the next epoch; whoever has the log open is taken over.
func (c *control) open() format.Fence {
	c.epoch++
	return format.Fence{Epoch: c.epoch, Nonce: c.w.rng.Uint64()}
}

// makePresent records a replica as present, if the writer is still the one. The
// answer may be lost after the change took effect; the writer asks again.
func (c *control) makePresent(x *writer, index int) {
	c.w.after(c.w.between(time.Millisecond, 40*time.Millisecond), func() {
		known := !c.w.faults || !c.w.chance(0.2)
		if c.epoch != x.term.Epoch {
			c.w.after(time.Millisecond, func() { x.event(func(k *core.Core) { k.Superseded(format.Fence{Epoch: c.epoch}) }) })
			return
		}
		c.states[index] = core.Present
		if !known {
			c.makePresent(x, index)
			return
		}
		c.w.after(c.w.between(0, 20*time.Millisecond), func() { x.event(func(k *core.Core) { k.MadePresent(index) }) })
	})
}
