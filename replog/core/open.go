package core

import (
	"fmt"

	"github.com/gravenio/graven/pmemlog/format"
)

// Reported says what a fenced replica holds.
func (c *Core) Reported(p Peer, rep format.Report) {
	r := c.current(p)
	if r == nil || r.stage != fencing {
		return
	}
	if err := c.plausible(&rep); err != nil {
		c.cut(r, err)
		return
	}
	if s, ok := rep.NewestSeal(); ok && s.SetVersion > c.cfg.SetVersion { // rule: set version
		c.stop(fmt.Errorf("%w: replica %s has version %d, the grant %d", ErrSetBehind, r.ID, s.SetVersion, c.cfg.SetVersion))
		return
	}
	r.stage, r.reason, r.report = reported, nil, rep
	switch c.phase {
	case Recovering:
		c.choose()
	case Aligning, Open:
		c.prepare(r)
	}
}

// plausible says what can't be in a report, or nil: the mirror is addressed by
// its LSNs, and what its pairs agree on counts as persistent.
func (c *Core) plausible(rep *format.Report) error {
	if rep.Trim.LSN%format.Align != 0 || rep.Tail%format.Align != 0 ||
		rep.Tail < rep.Trim.LSN || rep.Tail-rep.Trim.LSN > c.cfg.Capacity {
		return fmt.Errorf("says that it holds [%d, %d) in a ring of %d bytes", rep.Trim.LSN, rep.Tail, c.cfg.Capacity)
	}
	var first uint64
	for _, p := range rep.Pairs {
		if p.First < first || p.First > rep.Tail {
			return fmt.Errorf("says that epoch %d began at LSN %d of a log that ends at %d", p.Epoch, p.First, rep.Tail)
		}
		first = p.First
	}
	return nil
}

// choose picks the replica to go on from, if enough is known to be sure that
// nothing acknowledged is missing from it.
func (c *Core) choose() {
	best := c.best()
	if best == nil {
		return
	}
	missing := c.unknown(best.report.Last) >= c.cfg.AckQuorum // rule: count the unknown
	if missing && !c.covered(best) {
		return
	}
	trim := c.highestTrim()
	if trim.LSN > best.report.Tail {
		return // what was committed below the trim LSN is not here: wait for a replica that has it
	}
	c.forced = missing
	c.chosen, c.phase, c.trim, c.tail = best.peer.Index, Loading, trim, best.report.Tail
	c.emit(Effect{Kind: Load, Peer: best.peer, From: c.trim.LSN, To: c.tail, Trim: c.trim})
}

// best returns the replica with the highest last position among those that
// have answered.
func (c *Core) best() *replica {
	var best *replica
	for i := range c.replicas {
		r := &c.replicas[i]
		if !r.voter || r.stage != reported { // rule: a learner is not chosen
			continue
		}
		if best == nil || r.report.Last.After(best.report.Last) { // rule: choose the highest
			best = r
		}
	}
	return best
}

// unknown counts the replicas that may hold an acknowledged record which a log
// that ends at last does not have: those that have not answered, and those that
// have lost something beyond it. An acknowledged record is on an ack quorum of
// replicas; if it were missing, all of those would be counted here. Allocated
// ones count like present ones: the control plane may have been set back to
// before it recorded a promise.
func (c *Core) unknown(last format.Position) int {
	n := 0
	for i := range c.replicas {
		r := &c.replicas[i]
		switch {
		case !r.voter:
		case r.stage != reported: // rule: the silent are unknown
			n++
		case r.report.Suspect() && r.report.Evidence.After(last): // rule: suspects are unknown
			n++
		}
	}
	return n
}

func (c *Core) highestTrim() format.TrimPoint {
	var t format.TrimPoint
	for i := range c.replicas {
		r := &c.replicas[i]
		if r.voter && r.stage == reported && r.report.Trim.LSN >= t.LSN {
			t = r.report.Trim
		}
	}
	return t
}

// Loaded says that the chosen log is in the mirror, and what a scan of it with
// the chosen replica's seals found.
func (c *Core) Loaded(p Peer, res format.ScanResult) {
	r := c.current(p)
	if r == nil || c.phase != Loading || c.chosen != p.Index {
		return
	}
	if res.Chain.LSN != c.tail {
		c.LoadFailed(p, fmt.Errorf("its log ends at LSN %d, and a moment ago at %d", res.Chain.LSN, c.tail))
		return
	}
	if c.better(r) {
		c.phase, c.chosen = Recovering, -1
		c.choose()
		return
	}
	c.seal = format.Seal{
		Epoch: c.cfg.Term.Epoch, Nonce: c.cfg.Term.Nonce,
		T: c.tail, Prev: res.Chain.CRC, SetVersion: c.cfg.SetVersion,
	}
	c.seals = format.AddSeal(matching(r.report.Seals, c.trim.LSN, res.Pairs), c.seal)
	c.pairs = append(append([]format.Pair(nil), res.Pairs...), format.Pair{Fence: c.cfg.Term, First: c.tail, Known: true})
	c.trims = append(c.trims[:0], c.trim)
	c.phase = Aligning
	c.giveUp(r)
	for i := range c.replicas {
		if r := &c.replicas[i]; r.stage == reported {
			c.prepare(r)
		}
	}
}

// LoadFailed says that the chosen replica's bytes are not what its report said:
// it is asked anew.
func (c *Core) LoadFailed(p Peer, why error) {
	if r := c.current(p); r != nil && c.phase == Loading && c.chosen == p.Index {
		c.cut(r, why)
	}
}

// matching returns the seals that belong to the log: those that the scan found
// to match, and those below the trim LSN.
func matching(seals []format.Seal, trim uint64, pairs []format.Pair) []format.Seal {
	var out []format.Seal
	for _, s := range seals {
		keep := s.T < trim
		for _, p := range pairs {
			keep = keep || (p.Known && p.First == s.T && p.Fence == s.Fence())
		}
		if keep {
			out = append(out, s)
		}
	}
	return out
}
