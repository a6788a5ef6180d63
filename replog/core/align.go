package core

import "github.com/gravenio/graven/pmemlog/format"

// prepare makes a replica that has answered agree with the log: it keeps what
// its epoch pairs prove to be the same bytes, and gets the rest from the mirror.
// Its tail alone proves nothing.
func (c *Core) prepare(r *replica) {
	rep := &r.report
	at, ok := format.Agreement(c.pairs, c.tail, rep.Pairs, rep.Tail) // rule: align by epoch pairs
	c.noteRepair(r, at, ok)
	r.trimmed = rep.Trim.LSN
	if !ok || at < c.trim.LSN {
		r.at, r.trimmed, r.sealed, r.durable = c.trim.LSN, c.trim.LSN, false, 0
		r.stage = resetting
		c.emit(Effect{Kind: Reset, Peer: r.peer, Trim: c.trim})
		return
	}
	r.at = at
	own := c.ownSeal(rep.Seals)
	if own == nil || at < c.seal.T {
		r.sealed = false // what it acknowledged in this term is gone
	} else {
		r.setVersion = own.SetVersion
	}
	r.durable = min(r.durable, at)
	if r.trimmed < c.trim.LSN {
		r.stage = trimming
		c.emit(Effect{Kind: Trim, Peer: r.peer, Trim: c.trim})
		return
	}
	c.alignAt(r)
}

// ownSeal returns this term's seal among a replica's, or nil. It may name the
// replica set of before a replacement.
func (c *Core) ownSeal(seals []format.Seal) *format.Seal {
	for i, s := range seals {
		if s.Fence() == c.seal.Fence() && s.T == c.seal.T && s.Prev == c.seal.Prev {
			return &seals[i]
		}
	}
	return nil
}

func (c *Core) alignAt(r *replica) {
	if r.at == r.report.Tail {
		c.fill(r)
		return
	}
	r.stage = aligning
	c.emit(Effect{Kind: Align, Peer: r.peer, From: r.at})
}

// Prepared says that a Reset or an Align has been carried out.
func (c *Core) Prepared(p Peer) {
	if r := c.current(p); r != nil && (r.stage == resetting || r.stage == aligning) {
		c.fill(r)
	}
}

// fill begins to send what the replica lacks.
func (c *Core) fill(r *replica) {
	r.sent, r.durable = r.at, r.at
	r.stage = filling
	if r.sealed {
		c.join(r)
		return
	}
	c.pump(r)
	c.sealIn(r)
}

// sealIn seals the replica once all below T is persistent there: bytes first,
// then one header write.
func (c *Core) sealIn(r *replica) {
	if c.unrecorded || r.stage != filling || r.durable < c.seal.T { // rule: bytes before the seal
		return
	}
	r.stage, r.setVersion = sealing, c.seal.SetVersion
	c.emit(Effect{Kind: Seal, Peer: r.peer, Seal: &Sealing{
		Seals: c.seals, Set: c.set(),
		Hint: format.Position{Epoch: c.cfg.Term.Epoch, LSN: r.durable}, Tail: r.durable,
	}})
}

// Sealed says that a replica has persisted the seal.
func (c *Core) Sealed(p Peer) {
	if r := c.current(p); r != nil && r.stage == sealing {
		r.sealed, r.made = true, true
		c.join(r)
	}
}

// join makes a sealed replica a member: from now on it gets what is appended.
func (c *Core) join(r *replica) {
	r.stage = member
	if r.State == Allocated { // rule: present before its first acknowledgement counts
		c.emit(Effect{Kind: MakePresent, Peer: r.peer})
	}
	c.reseal(r)      // the set may have changed since it was sealed
	c.trimReplica(r) // the log may have been trimmed since it was prepared
	c.pump(r)
	c.advance()
}

// MadePresent says that the control plane has recorded the replica as present.
func (c *Core) MadePresent(index int) {
	if c.phase == Over {
		return
	}
	c.replicas[index].State = Present
	c.advance()
}
