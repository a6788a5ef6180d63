package core

import "github.com/gravenio/graven/pmemlog/format"

// Recovery is what an open has made agree, for people to read of.
type Recovery struct {
	T        uint64 // where the writer's epoch begins: the log ended there
	Repaired []Repaired
	Away     []format.ID // replicas of the set that took no part
}

// Repaired is a replica that was not as the log is below T, and is now.
type Repaired struct {
	ID       format.ID
	From     uint64 // what is at and beyond it was written anew
	Held     uint64 // where its own log ended
	Diverged bool   // what it held at and beyond From was not the log's
	Damaged  bool   // it had lost records that it once had
}

// noteRepair remembers what is to be done to a replica that earlier epochs have left
// otherwise than the log, which agrees with it up to at, or nowhere.
func (c *Core) noteRepair(r *replica, at uint64, ok bool) {
	if r.repair != nil || !r.voter || c.told {
		return
	}
	rep := &r.report
	x := Repaired{ID: r.ID, From: max(at, c.trim.LSN), Held: rep.Tail, Damaged: rep.Suspect()}
	if ok {
		x.Diverged = rep.Tail > at
	} else {
		x.From, x.Diverged = c.trim.LSN, rep.Tail > rep.Trim.LSN
	}
	if x.From < c.seal.T || x.Diverged || x.Damaged {
		r.repair = &x
	}
}

// Recovery returns which replicas were repaired so far, or nil: none were, or the
// log is not open.
func (c *Core) Recovery() *Recovery {
	if c.phase != Open {
		return nil
	}
	out := &Recovery{T: c.seal.T}
	for i := range c.replicas {
		switch r := &c.replicas[i]; {
		case !r.voter:
		case r.repair != nil && r.made:
			out.Repaired = append(out.Repaired, *r.repair)
		case !r.made:
			out.Away = append(out.Away, r.ID)
		}
	}
	if len(out.Repaired) == 0 {
		return nil
	}
	return out
}

// tellRecovery reports once what was repaired, when no replica of the set is being
// brought to agree any more. What comes back later is a replica's return.
func (c *Core) tellRecovery() {
	if c.phase != Open || c.told {
		return
	}
	for i := range c.replicas {
		r := &c.replicas[i]
		done := r.stage == member || r.stage == away && r.reason != errNotYet //nolint:errorlint // it is never wrapped
		if r.voter && !done {
			return
		}
	}
	c.told = true
	if r := c.Recovery(); r != nil {
		c.emit(Effect{Kind: Recovered, Recovery: r})
	}
}
