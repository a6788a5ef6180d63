package core

import (
	"errors"
	"slices"

	"github.com/gravenio/graven/pmemlog/format"
)

var errOverrun = errors.New("fell behind by more than the ring holds")

// Admit makes room for n bytes at the tail, pad included. ErrFull when the ring
// has none. A session that still needs the bytes which will be overwritten is
// cut: its effect has to be carried out before the mirror is written.
func (c *Core) Admit(n uint64) error {
	switch {
	case c.phase == Over:
		return c.err
	case c.phase != Open:
		return ErrNotOpen
	case n > c.Free():
		return ErrFull
	}
	if c.tail+n <= c.cfg.Capacity {
		return nil
	}
	lost := c.tail + n - c.cfg.Capacity // all below will be overwritten in the mirror
	for i := range c.replicas {
		if r := &c.replicas[i]; r.stage > reported && r.needs() < lost {
			c.cut(r, errOverrun)
		}
	}
	return nil
}

// needs returns the lowest LSN that the replica's session may still read from
// the mirror.
func (r *replica) needs() uint64 {
	if r.stage < filling {
		return r.at
	}
	return r.durable
}

// Appended says that records up to end stand in the mirror; Admit has made room
// for them.
func (c *Core) Appended(end uint64) {
	if c.phase != Open {
		return
	}
	c.tail = end
	for i := range c.replicas {
		c.pump(&c.replicas[i])
	}
}

// pump sends what the replica lacks, as far as it may be sent: nothing at or
// beyond T before it holds the seal, nothing beyond its own persisted trim plus
// the capacity.
func (c *Core) pump(r *replica) {
	limit := c.tail
	switch {
	case r.stage == filling:
		limit = c.seal.T // rule: seal before append
	case r.stage != member:
		return
	}
	limit = c.cutAt(r.sent, min(limit, r.trimmed+c.cfg.Capacity)) // rule: space per replica
	for r.sent < limit && len(r.pending) < c.cfg.Window {
		to := limit
		if to-r.sent > c.cfg.MaxBatch {
			to = c.cfg.Cut(r.sent, limit, c.cfg.MaxBatch)
		}
		if to <= r.sent {
			return
		}
		c.emit(Effect{Kind: Send, Peer: r.peer, From: r.sent, To: to})
		r.sent = to
		r.pending = append(r.pending, to)
	}
}

// cutAt lowers a limit that is no record boundary to one.
func (c *Core) cutAt(from, limit uint64) uint64 {
	if limit <= from || limit == c.tail || limit == c.seal.T {
		return limit
	}
	return c.cfg.Cut(from, limit, limit-from)
}

// Flushed says that all below durable is persistent at the replica.
func (c *Core) Flushed(p Peer, durable uint64) {
	r := c.current(p)
	if r == nil || r.stage < filling || durable <= r.durable {
		return
	}
	if durable > r.sent {
		c.cut(r, errors.New("acknowledged what it was not sent"))
		return
	}
	r.durable = durable
	done := 0
	for done < len(r.pending) && r.pending[done] <= durable {
		done++
	}
	r.pending = slices.Delete(r.pending, 0, done)
	c.pump(r)
	c.sealIn(r)
	c.trimReplica(r)
	c.advance()
}

// advance opens the log when an ack quorum of present replicas holds the seal,
// raises the commit LSN to what an ack quorum has made durable, and lets a
// replacement go on.
func (c *Core) advance() {
	if quorum, ok := c.quorum(); ok {
		if c.phase == Aligning {
			c.phase, c.commit = Open, c.seal.T // rule: seal in before anything is committed
			c.emit(Effect{Kind: Opened, To: c.commit})
		}
		if c.phase == Open && quorum > c.commit {
			c.commit = quorum
			c.emit(Effect{Kind: Committed, To: c.commit})
		}
	}
	c.advanceChange()
	c.tellRecovery()
}

// quorum returns the LSN that an ack quorum has made durable, and false if
// fewer replicas count. While a replacement is joint, that is an ack quorum of
// the old set and one of the new.
func (c *Core) quorum() (uint64, bool) {
	lsn, ok := c.durableOf(c.inSet)
	if c.change == nil || c.change.stage == learning {
		return lsn, ok
	}
	next, nextOK := c.durableOf(c.inNewSet)
	return min(lsn, next), ok && nextOK // rule: joint
}

// durableOf returns the LSN that an ack quorum of the members has made durable,
// and false if fewer than that count.
func (c *Core) durableOf(member func(i int) bool) (uint64, bool) {
	var durable [format.MaxReplicas]uint64
	n := 0
	for i := range c.replicas {
		r := &c.replicas[i]
		if member(i) && r.sealed && r.State != Allocated && c.namesSet(r) { // rule: only sealed and present replicas count
			durable[n] = r.durable
			n++
		}
	}
	if n < c.cfg.AckQuorum {
		return 0, false
	}
	d := durable[:n]
	slices.Sort(d)
	return d[n-c.cfg.AckQuorum], true // rule: ack quorum
}
