package store

import (
	"errors"
	"strings"
	"testing"

	"github.com/gravenio/graven/planner"
)

// following is a subscription of a planned cluster, of which one kind of events is
// looked at.
type following struct {
	*plannedCluster
	sub    *Subscription
	resume int64
}

func (c *plannedCluster) follow(after int64) *following {
	c.Helper()
	sub, err := c.s.Events(c.Context(), after)
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(sub.Close)
	return &following{plannedCluster: c, sub: sub}
}

// until returns the first event about the operator that fits.
func (f *following) until(id string, fits func(*Operator) bool) Operator {
	f.Helper()
	for {
		ev := next(f.T, f.sub, id)
		if f.resume = ev.Resume; ev.Kind != EventOperator || ev.Deleted != (ev.Operator == nil) {
			f.Fatalf("an event about operator %s: %+v", id, ev)
		}
		if ev.Operator != nil && ev.Operator.OperatorID != id {
			f.Fatalf("the event about operator %s has %+v", id, ev.Operator)
		}
		if ev.Operator != nil && fits(ev.Operator) {
			return *ev.Operator
		}
	}
}

func (f *following) untilState(id string, want planner.State) Operator {
	f.Helper()
	return f.until(id, func(o *Operator) bool { return o.State == want })
}

func (f *following) untilDeleted(id string) {
	f.Helper()
	for ev := next(f.T, f.sub, id); !ev.Deleted; ev = next(f.T, f.sub, id) {
		if f.resume = ev.Resume; ev.Operator == nil {
			f.Fatalf("neither an operator nor deleted: %+v", ev)
		}
	}
}

func (f *following) pause(paused bool) {
	f.Helper()
	if _, err := f.s.PauseOperators(f.Context(), paused); err != nil {
		f.Fatal(err)
	}
}

func (f *following) drain(daemonID string, draining bool) {
	f.Helper()
	if err := drain(f.Context(), f.s, daemonID, draining, 0); err != nil {
		f.Fatal(err)
	}
}

// An operator is queued, waits for something else, begins and is done, and what it
// leaves behind is removed: all of that is in the events, of which a subscriber
// misses none, though his server goes away meanwhile.
func TestEventsOfAnOperator(t *testing.T) {
	t.Parallel()
	c := newPlanned(t, 4)
	l := c.log()
	a := open(t, c.s, l.LogID)
	f := c.follow(0)
	old, id := l.Replicas[0], "drain-"+l.Replicas[0].ReplicaID
	f.pause(true)
	f.drain(old.DaemonID, true)
	f.until(id, func(o *Operator) bool { return o.State == planner.Planned && strings.Contains(o.WaitsFor, "paused") })
	f.drain(c.daemons[3].DaemonID, true)
	f.pause(false)
	f.until(id, func(o *Operator) bool { return o.State == planner.Planned && strings.Contains(o.WaitsFor, "fits") })
	f.drain(c.daemons[3].DaemonID, false)
	began := f.untilState(id, planner.Running)
	if began.To != c.daemons[3].DaemonID || began.LearnerID == "" || began.LogName != l.Name || began.WaitsFor != "" {
		t.Errorf("begun: %+v", began)
	}

	f.sub.Close()
	if _, err := c.s.SetReplicas(t.Context(), promoteOf(a, began.LearnerID)); err != nil {
		t.Fatal(err)
	}
	c.stop()
	c.start()
	since := f.resume
	f = c.follow(since)
	if o := f.untilState(id, planner.Done); o.EndedAt.IsZero() || o.LearnerID != began.LearnerID {
		t.Errorf("done: %+v", o)
	}
	f = c.follow(since) // the removal is of the same revision
	removal := removalID(old.ReplicaID)
	if o := f.untilState(removal, planner.Running); o.Kind != OperatorRemoveReplica || o.DaemonID != old.DaemonID || o.LogID != l.LogID {
		t.Errorf("the removal: %+v", o)
	}
	c.beat(0, func(r *HeartbeatRequest) {
		r.Results = []StepResult{{OperatorID: removal, Kind: StepRemoveReplica, ReplicaID: old.ReplicaID, Done: true}}
	})
	f.untilDeleted(removal)
}

// A person cancels one that runs; one that waits is not wanted any more. Whoever
// resumes below what etcd has kept reads the list, and goes on behind it.
func TestEventsOfCancelledOperators(t *testing.T) {
	t.Parallel()
	c := newPlanned(t, 4)
	l := c.log()
	f := c.follow(0)
	ids := []string{"drain-" + l.Replicas[0].ReplicaID, "drain-" + l.Replicas[1].ReplicaID}
	f.drain(l.Replicas[0].DaemonID, true)
	f.untilState(ids[0], planner.Running)
	begun := f.resume
	if err := c.s.CancelOperator(t.Context(), ids[0]); err != nil {
		t.Fatal(err)
	}
	if o := f.untilState(ids[0], planner.Cancelled); o.Error == "" || o.EndedAt.IsZero() {
		t.Errorf("cancelled: %+v", o)
	}
	f.pause(true)
	f.drain(l.Replicas[1].DaemonID, true)
	f.untilState(ids[1], planner.Planned)

	if _, err := c.etcd.Client.Compact(t.Context(), c.s.View().Revision()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.s.Events(t.Context(), begun); !errors.Is(err, ErrCompacted) {
		t.Errorf("below what is kept: %v", err)
	}
	all, rev := c.s.View().Operators()
	states := map[string]planner.State{}
	for _, o := range all {
		states[o.OperatorID] = o.State
	}
	if states[ids[0]] != planner.Cancelled || states[ids[1]] != planner.Planned {
		t.Errorf("the list has %v", states)
	}
	f = c.follow(rev)
	f.drain(l.Replicas[1].DaemonID, false)
	f.untilDeleted(ids[1])
}
