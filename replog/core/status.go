package core

import (
	"fmt"
	"strings"
)

// ReplicaStatus is what the core knows of one replica, for people and metrics.
type ReplicaStatus struct {
	Replica
	Index     int
	Stage     string // away, fencing, reported, trimming, resetting, aligning, filling, sealing or member
	Counts    bool   // its acknowledgements count
	Replacing bool   // another replica is about to take its place
	Durable   uint64
	Trimmed   uint64
	Lag       uint64 // bytes of the log that it has not acknowledged
	Reason    error  // why it is away, or nil
	Settled   bool   // it has all there is and counts, was tried and is away, or is a learner
}

// Status returns what is known of each replica, in the order of their indices:
// the set, and a learner.
func (c *Core) Status() []ReplicaStatus {
	out := make([]ReplicaStatus, 0, len(c.replicas))
	for i := range c.replicas {
		r := &c.replicas[i]
		if r.retired || r.leaving {
			continue
		}
		s := ReplicaStatus{
			Replica: r.Replica, Index: i, Stage: stageNames[r.stage], Counts: r.sealed && r.State == Present && r.stage == member,
			Replacing: c.change != nil && c.change.from == i,
			Durable:   r.durable, Trimmed: r.trimmed, Lag: c.tail - min(c.tail, r.durable), Reason: r.reason,
		}
		s.Settled = !r.voter || s.Counts && s.Lag == 0 || r.stage == away && r.reason != errNotYet //nolint:errorlint // it is never wrapped
		out = append(out, s)
	}
	return out
}

// MayMake says whether the region of a replica may be made when a session with
// it begins: it has promised nothing yet. One that has been sealed in is never
// made anew.
func (c *Core) MayMake(index int) bool {
	r := &c.replicas[index]
	return r.State != Present && !r.made // rule: present is never made anew
}

// Replacing returns the replacement that is under way.
func (c *Core) Replacing() (Replacement, bool) {
	if c.change == nil {
		return Replacement{}, false
	}
	return Replacement{Learner: c.replicas[c.change.to].ID, Replaces: c.replicas[c.change.from].ID}, true
}

// SetVersion returns the version of the replica set, as the control plane is
// known to have it.
func (c *Core) SetVersion() uint64 { return c.cfg.SetVersion }

// Waiting says in words what keeps the log from opening or committing: each
// replica with what is wrong with it. It is empty when an ack quorum works.
func (c *Core) Waiting() string {
	if s := c.lacking(c.inSet); s != "" {
		return s
	}
	if c.change == nil || c.change.stage == learning {
		return ""
	}
	if s := c.lacking(c.inNewSet); s != "" {
		return "a replacement is not known to be recorded yet, so the new set is needed, too: " + s
	}
	return ""
}

// Stalled says whether an open log commits nothing because too few replicas
// work: what Waiting describes.
func (c *Core) Stalled() bool {
	if c.phase != Open {
		return false
	}
	return c.working(c.inSet) < c.cfg.AckQuorum ||
		c.change != nil && c.change.stage != learning && c.working(c.inNewSet) < c.cfg.AckQuorum
}

func (c *Core) working(in func(i int) bool) int {
	n := 0
	for i := range c.replicas {
		if r := &c.replicas[i]; in(i) && r.stage == member && r.State != Allocated {
			n++
		}
	}
	return n
}

// lacking describes the members if fewer of them than the ack quorum work.
func (c *Core) lacking(in func(i int) bool) string {
	var parts []string
	working, n := 0, 0
	for i := range c.replicas {
		if !in(i) {
			continue
		}
		n++
		if s := c.trouble(&c.replicas[i]); s != "" {
			parts = append(parts, s)
			continue
		}
		working++
	}
	if working >= c.cfg.AckQuorum {
		return ""
	}
	return fmt.Sprintf("%d of %d replicas needed: %s", c.cfg.AckQuorum, n, strings.Join(parts, "; "))
}

// trouble says what a replica lacks, and nothing of one that works.
func (c *Core) trouble(r *replica) string {
	what := stageNames[r.stage]
	switch {
	case r.stage == member && r.State == Allocated:
		what = "ready, but the control plane has not recorded it as present yet"
	case r.stage == member:
		return ""
	case r.stage == away:
		what = r.reason.Error()
	case r.stage == reported && r.report.Suspect():
		what = fmt.Sprintf("suspect: holds %v, must have held %v", r.report.Last, r.report.Evidence)
	case r.stage == reported:
		what = fmt.Sprintf("answers, holds %v", r.report.Last)
	}
	return fmt.Sprintf("replica %s: %s", r.ID, what)
}
