package core

import "github.com/gravenio/graven/pmemlog/format"

// maxTrims bounds the trim points that are remembered for replicas which lag
// behind the newest. One that lags behind all of them runs out of space, is
// overrun, and is reset when it returns.
const maxTrims = 32

// Trim says that nothing below the point is needed any more. The point is that
// of a record boundary in the mirror.
func (c *Core) Trim(to format.TrimPoint) error {
	switch {
	case c.phase == Over:
		return c.err
	case c.phase != Open:
		return ErrNotOpen
	case to.LSN < c.trim.LSN || to.LSN > c.commit: // rule: trim only what is committed
		return ErrTrim
	case to.LSN == c.trim.LSN:
		return nil
	}
	c.trim = to
	if len(c.trims) == maxTrims {
		c.trims = append(c.trims[:0], c.trims[1:]...)
	}
	c.trims = append(c.trims, to)
	for i := range c.replicas {
		c.trimReplica(&c.replicas[i])
	}
	return nil
}

// trimReplica sends a member the highest trim point that it has the bytes for,
// one at a time.
func (c *Core) trimReplica(r *replica) {
	if r.stage != member || r.trims {
		return
	}
	for i := len(c.trims) - 1; i >= 0; i-- {
		t := c.trims[i]
		if t.LSN > r.durable {
			continue
		}
		if t.LSN > r.trimmed {
			r.trims = true
			c.emit(Effect{Kind: Trim, Peer: r.peer, Trim: t})
		}
		return
	}
}

// Trimmed says that a replica has persisted a trim LSN.
func (c *Core) Trimmed(p Peer, lsn uint64) {
	r := c.current(p)
	if r == nil {
		return
	}
	r.trimmed = max(r.trimmed, lsn) // rule: trim persisted before overwrite
	if r.stage == trimming {
		c.alignAt(r)
		return
	}
	r.trims = false
	c.trimReplica(r)
	c.pump(r)
}
