package core

import (
	"errors"
	"slices"

	"github.com/gravenio/graven/pmemlog/format"
)

// changeStage is how far a replacement has come.
type changeStage uint8

const (
	// learning: the learner is being filled and counts for nothing.
	learning changeStage = iota
	// joint: the control plane has been asked to change the set, and the answer is
	// not known. A record needs an ack quorum of the old set and one of the new.
	joint
	// switched: the new set is the log's. It alone counts as soon as an ack quorum
	// of it names it in its seals; until then an opener that was granted the old
	// set would not notice.
	switched
)

// change is a replacement under way: the replica at to takes the place of the
// one at from.
type change struct {
	from, to int
	stage    changeStage
}

var (
	errReplaced  = errors.New("has been replaced")
	errAbandoned = errors.New("its replacement was abandoned")
)

// Replace begins to fill a learner that is to take the place of a replica of the
// set, and returns its index: the driver opens sessions with it as with the
// others. Repeated for the same learner it returns the same index. ErrReplacing
// while another replacement is under way, ErrNoReplica when the set has no such
// replica.
func (c *Core) Replace(r Replacement) (int, error) {
	if c.phase == Over {
		return 0, c.err
	}
	if ch := c.change; ch != nil {
		if c.replicas[ch.to].ID == r.Learner && c.replicas[ch.from].ID == r.Replaces {
			return ch.to, nil
		}
		return 0, ErrReplacing
	}
	from := c.find(r.Replaces)
	if from < 0 {
		return 0, ErrNoReplica
	}
	if c.find(r.Learner) >= 0 {
		return 0, ErrReplacing
	}
	to := c.place(Replica{ID: r.Learner, State: Learner})
	c.change = &change{from: from, to: to}
	return to, nil
}

// find returns the index of a replica of the set, or -1.
func (c *Core) find(id format.ID) int {
	for i := range c.replicas {
		if r := &c.replicas[i]; r.voter && r.ID == id {
			return i
		}
	}
	return -1
}

// place gives a new replica an index: that of one that has left, if there is
// one. Its sessions are numbered on from there.
func (c *Core) place(r Replica) int {
	for i := range c.replicas {
		if old := &c.replicas[i]; old.retired {
			*old = replica{Replica: r, peer: old.peer, reason: errNotYet}
			return i
		}
	}
	i := len(c.replicas)
	c.replicas = append(c.replicas, replica{Replica: r, peer: Peer{Index: i}, reason: errNotYet})
	return i
}

// Joint says whether the control plane has been asked to change the set and the
// answer is not known.
func (c *Core) Joint() bool { return c.change != nil && c.change.stage == joint }

// inSet says whether a replica is in the set that the log has, or had before a
// replacement that is not finished.
func (c *Core) inSet(i int) bool { return c.replicas[i].voter } // rule: a learner does not count

// inNewSet says whether a replica is in the set that the replacement leads to.
func (c *Core) inNewSet(i int) bool {
	return i == c.change.to || c.replicas[i].voter && i != c.change.from
}

// set returns the replicas that seals are to name: those of the set that the
// control plane is known to have.
func (c *Core) set() []format.ID {
	member := c.inSet
	if c.change != nil && c.change.stage == switched {
		member = c.inNewSet
	}
	var ids []format.ID
	for i := range c.replicas {
		if member(i) {
			ids = append(ids, c.replicas[i].ID)
		}
	}
	return ids
}

// advanceChange takes the next step of a replacement if its time has come.
func (c *Core) advanceChange() {
	ch := c.change
	switch {
	case ch == nil:
	case ch.stage == learning && c.readyForJoint():
		ch.stage = joint
		c.emit(Effect{Kind: Promote, Peer: c.replicas[ch.to].peer, SetVersion: c.cfg.SetVersion})
	case ch.stage == switched && (c.newSetKnown() || c.phase != Open):
		c.finishChange()
	}
}

// readyForJoint says whether an ack quorum of the new set holds all that is
// committed: from then on nothing commits without one. A log that can't open
// with the replicas that are left, and whose loss a person has accepted, needs
// no more than a learner that holds all there is.
func (c *Core) readyForJoint() bool {
	if c.replicas[c.change.to].stage != member { // rule: learner is sealed
		return false
	}
	if c.phase != Open {
		return c.phase == Aligning && c.forced
	}
	lsn, ok := c.durableOf(c.inNewSet)
	return ok && lsn >= c.commit // rule: caught up before joint
}

// namesSet says whether a replica's seal names the set that the control plane is
// known to have. What is acknowledged on replicas that all do can't be missed by
// an opener of an older set. Right after a change the old set's seals still do
// for its part of the joint quorum.
func (c *Core) namesSet(r *replica) bool {
	return r.setVersion == c.cfg.SetVersion || c.change != nil && c.change.stage == switched
}

// newSetKnown says whether an ack quorum of the new set names it in its seals.
func (c *Core) newSetKnown() bool {
	n := 0
	for i := range c.replicas {
		if r := &c.replicas[i]; c.inNewSet(i) && r.sealed && r.setVersion == c.cfg.SetVersion {
			n++
		}
	}
	return n >= c.cfg.AckQuorum // rule: seals name the new set
}

// Promoted says that the control plane has put the learner in its place, and
// under which version of the set.
func (c *Core) Promoted(learner format.ID, setVersion uint64) {
	ch := c.change
	if c.phase == Over || ch == nil || ch.stage == switched || c.replicas[ch.to].ID != learner {
		return
	}
	ch.stage = switched
	c.replicas[ch.to].State = Present
	c.cfg.SetVersion, c.seal.SetVersion = setVersion, setVersion
	c.seals = slices.Clone(c.seals) // those at hand may be on their way to a replica
	for i := range c.seals {
		if c.seals[i].Fence() == c.seal.Fence() {
			c.seals[i].SetVersion = setVersion
		}
	}
	for i := range c.replicas {
		c.reseal(&c.replicas[i])
	}
	c.advance()
}

// reseal has a member name the set that is the log's now.
func (c *Core) reseal(r *replica) {
	if r.stage != member || r.reseals || r.setVersion == c.cfg.SetVersion {
		return
	}
	r.reseals = true
	c.emit(Effect{Kind: Reseal, Peer: r.peer, SetVersion: c.cfg.SetVersion, Seal: &Sealing{Set: c.set()}})
}

// Resealed says that a replica has persisted the set in its seal.
func (c *Core) Resealed(p Peer, setVersion uint64) {
	r := c.current(p)
	if r == nil || !r.reseals {
		return
	}
	r.reseals, r.setVersion = false, setVersion
	if r.leaving {
		c.cut(r, errReplaced)
		return
	}
	c.reseal(r)
	c.advance()
}

// finishChange makes the new set the only one that counts. The replica that was
// replaced is told of the new set, if it can be, before its session ends.
func (c *Core) finishChange() {
	from, to := &c.replicas[c.change.from], &c.replicas[c.change.to]
	from.voter, to.voter = false, true
	c.change = nil
	c.leave(from, errReplaced)
	c.advance()
}

// Abandoned says that the control plane has given the learner up: it will never
// be in the set.
func (c *Core) Abandoned(learner format.ID) {
	ch := c.change
	if c.phase == Over || ch == nil || ch.stage == switched || c.replicas[ch.to].ID != learner {
		return
	}
	c.change = nil
	c.leave(&c.replicas[ch.to], errAbandoned)
	c.advance()
}

// Shown takes what a record of the control plane says of the set, with the zero
// ID for no learner: an outcome whose answer was lost, or a learner that a person
// has given up. The record may be an old one, from a server whose view is behind.
// That does no harm where it is newer than what the core knows, nor while the
// learner counts for nothing. While the change is joint, a learner that is
// missing may have been promoted since: only the answer to Promote can tell.
func (c *Core) Shown(setVersion uint64, set []format.ID, learner format.ID) {
	ch := c.change
	if ch == nil || c.replicas[ch.to].ID == learner {
		return
	}
	id := c.replicas[ch.to].ID
	in := slices.Contains(set, id)
	switch {
	case in && setVersion == c.cfg.SetVersion+1:
		c.Promoted(id, setVersion)
	case !in && setVersion == c.cfg.SetVersion && ch.stage == learning: // rule: no old record ends joint
		c.Abandoned(id)
	}
}

// leave ends the part that a replica takes.
func (c *Core) leave(r *replica, why error) {
	r.leaving = true
	switch {
	case r.stage == away:
		c.retire(r)
	case !r.reseals:
		c.cut(r, why)
	}
}

func (c *Core) retire(r *replica) {
	r.leaving, r.retired, r.sealed = false, true, false
	c.emit(Effect{Kind: Retired, Peer: r.peer})
}
