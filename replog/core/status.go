package core

import (
	"fmt"
	"strings"
)

// ReplicaStatus is what the core knows of one replica, for people and metrics.
type ReplicaStatus struct {
	Replica
	Stage   string // away, fencing, reported, trimming, resetting, aligning, filling, sealing or member
	Counts  bool   // its acknowledgements count
	Durable uint64
	Trimmed uint64
	Lag     uint64 // bytes of the log that it has not acknowledged
	Reason  error  // why it is away, or nil
	Settled bool   // it has all there is and counts, or it was tried and is away
}

// Status returns what is known of each replica, in the order of the set.
func (c *Core) Status() []ReplicaStatus {
	out := make([]ReplicaStatus, len(c.replicas))
	for i := range c.replicas {
		r := &c.replicas[i]
		out[i] = ReplicaStatus{
			Replica: r.Replica, Stage: stageNames[r.stage], Counts: r.sealed && r.State == Present && r.stage == member,
			Durable: r.durable, Trimmed: r.trimmed, Lag: c.tail - min(c.tail, r.durable), Reason: r.reason,
		}
		s := &out[i]
		s.Settled = s.Counts && s.Lag == 0 || r.stage == away && r.reason != errNotYet //nolint:errorlint // it is never wrapped
	}
	return out
}

// Waiting says in words what keeps the log from opening or committing: each
// replica with what is wrong with it. It is empty when an ack quorum works.
func (c *Core) Waiting() string {
	var parts []string
	working := 0
	for i := range c.replicas {
		r := &c.replicas[i]
		switch {
		case r.stage == member && r.State == Present:
			working++
		case r.stage == away:
			parts = append(parts, fmt.Sprintf("replica %s: %v", r.ID, r.reason))
		case r.stage == reported && r.report.Suspect():
			parts = append(parts, fmt.Sprintf("replica %s: suspect: holds %v, must have held %v", r.ID, r.report.Last, r.report.Evidence))
		case r.stage == reported:
			parts = append(parts, fmt.Sprintf("replica %s: answers, holds %v", r.ID, r.report.Last))
		case r.stage == member:
			parts = append(parts, fmt.Sprintf("replica %s: ready, but the control plane has not recorded it as present yet", r.ID))
		default:
			parts = append(parts, fmt.Sprintf("replica %s: %s", r.ID, stageNames[r.stage]))
		}
	}
	if working >= c.cfg.AckQuorum {
		return ""
	}
	return fmt.Sprintf("%d of %d replicas needed: %s", c.cfg.AckQuorum, len(c.replicas), strings.Join(parts, "; "))
}
