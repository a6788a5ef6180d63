package core

import "github.com/gravenio/graven/pmemlog/format"

// Loss is what a person gives up who lets a log go on although what was
// acknowledged may be missing.
type Loss struct {
	Chosen  format.ID       // the replica that the log goes on from
	Last    format.Position // its last position: records beyond it are given up
	Trim    uint64          // where the log begins
	Unknown []Unknown       // the replicas that may have held more
	Tried   bool            // all have answered, or could not be reached: waiting may still help, asking more won't
}

// Unknown is a replica that may hold an acknowledged record which the chosen
// log lacks.
type Unknown struct {
	ID       format.ID
	Evidence format.Position // what it must have held, as far as it has answered
	Reason   error           // why it has not answered; nil for one that has, and has lost something
}

// Loss returns what AcceptLoss would give up now, and false while no replica
// has answered or the log can be opened without loss.
func (c *Core) Loss() (Loss, bool) {
	if c.phase != Recovering {
		return Loss{}, false
	}
	best := c.best()
	if best == nil || c.unknown(best.report.Last) < c.cfg.AckQuorum {
		return Loss{}, false
	}
	return c.lossOf(best), true
}

func (c *Core) lossOf(best *replica) Loss {
	l := Loss{Chosen: best.ID, Last: best.report.Last, Trim: c.highestTrim().LSN, Tried: true}
	for i := range c.replicas {
		switch r := &c.replicas[i]; {
		case !r.voter:
		case r.stage == away || r.stage == fencing:
			reason := r.reason
			if reason == nil {
				reason = errNotYet
			}
			l.Tried = l.Tried && reason != errNotYet //nolint:errorlint // it is never wrapped
			l.Unknown = append(l.Unknown, Unknown{ID: r.ID, Reason: reason})
		case r.report.Suspect() && r.report.Evidence.After(best.report.Last):
			l.Unknown = append(l.Unknown, Unknown{ID: r.ID, Evidence: r.report.Evidence})
		}
	}
	return l
}

// AcceptLoss says that a person lets the log go on without what the replicas
// hold that do not answer: from the position that was offered, or a higher one. What the
// others alone hold is given up for good: they are rewritten when they return. It
// has no effect unless the core is recovering. If the replica that was offered is
// lost before it is loaded, and the best that is left is lower, the loss is
// another one and has to be accepted anew. A log of which fewer replicas than the
// ack quorum are left opens once enough of the lost ones are replaced.
func (c *Core) AcceptLoss(l Loss) {
	if c.phase != Recovering {
		return
	}
	c.accepted = &l
	c.choose()
}

// covered says whether a person has accepted to go on from there.
func (c *Core) covered(best *replica) bool {
	return c.accepted != nil && !c.accepted.Last.After(best.report.Last) // rule: no more is given up than was accepted
}

// Forced says whether the log goes on only because a person has accepted a loss.
func (c *Core) Forced() bool { return c.forced }

// better says whether a replica that holds more has answered while the chosen
// one was loaded, of a log that only goes on because a loss was accepted.
func (c *Core) better(chosen *replica) bool {
	best := c.best()
	return c.forced && best != nil && best.report.Last.After(chosen.report.Last)
}

// giveUp reports the loss, if there still is one, when the chosen log is loaded.
// No replica is sealed before the loss is on record.
func (c *Core) giveUp(chosen *replica) {
	if !c.forced {
		return
	}
	if c.unknown(chosen.report.Last) < c.cfg.AckQuorum {
		c.forced = false
		return
	}
	l := c.lossOf(chosen)
	c.unrecorded = true
	c.emit(Effect{Kind: GaveUp, Loss: &l})
}

// LossRecorded says that what was given up is on record for people.
func (c *Core) LossRecorded() {
	if c.phase == Over || !c.unrecorded {
		return
	}
	c.unrecorded = false
	for i := range c.replicas {
		c.sealIn(&c.replicas[i])
	}
}
