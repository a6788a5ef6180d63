package store

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// turn is which of a daemon's replicas are there, or are not, since a change of its
// sign of life. Most changes are none.
type turn struct {
	all      bool     // it came or went
	replicas []string // it misses these, or no more
}

// take adds what a change of a key makes.
func (t *turn) take(ch *clientv3.Event) {
	if table, _ := splitKey(string(ch.Kv.Key)); table != tableLive {
		return
	}
	before, was := missingIn(ch.PrevKv)
	now, is := missingIn(ch.Kv)
	if !was || !is {
		t.all = true
		return
	}
	t.replicas = append(without(before, now), without(now, before)...)
}

// missingIn is what a sign of life says to be missing, and false if there is none: it
// came, it went, or what it was before has been compacted.
func missingIn(kv *mvccpb.KeyValue) (missing []string, ok bool) {
	if kv == nil || len(kv.Value) == 0 {
		return nil, false
	}
	var live struct { // of a version that is known, or the view could not follow
		Missing []string `json:"missing"`
	}
	err := json.Unmarshal(kv.Value, &live)
	return live.Missing, err == nil
}

// without are those of a that are not in b.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(id string) bool { return slices.Contains(b, id) })
}

// turned are the logs whose state may have changed with the daemon, and the removals
// that wait for it or do no more. One that left the daemon since has had an event of
// its own, or will.
func (v *View) turned(daemonID string, t turn) []subject {
	if !t.all && len(t.replicas) == 0 {
		return nil
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	d := v.t.daemons[daemonID]
	if d == nil {
		return nil
	}
	var out []subject
	for _, id := range slices.Sorted(maps.Keys(d.replicas)) {
		if _, learner := d.learners[id]; !learner && (t.all || slices.Contains(t.replicas, id)) { // a learner counts for nothing
			out = append(out, subject{kind: EventLog, id: d.replicas[id]})
		}
	}
	if t.all {
		for _, id := range slices.Sorted(maps.Keys(d.condemned)) {
			out = append(out, subject{kind: EventOperator, id: removalID(id), on: daemonID})
		}
	}
	return out
}

// tell gives the subscriber an event, and then what follows from it, each as it is
// when he takes it. The revision is done with when he has all of it.
func (s *Store) tell(ctx context.Context, ev *Event, c chan<- Event) error {
	if err := s.reach(ctx, ev.Revision); err != nil {
		return err
	}
	follow, done := s.view.turned(ev.ID, ev.turns), ev.Resume
	if len(follow) > 0 {
		ev.Resume = ev.Revision - 1
	}
	if err := s.send(ctx, ev, c); err != nil {
		return err
	}
	for i, sub := range follow {
		next := Event{Revision: ev.Revision, Resume: ev.Revision - 1, Kind: sub.kind, ID: sub.id, on: sub.on}
		if i == len(follow)-1 {
			next.Resume = done
		}
		if err := s.send(ctx, &next, c); err != nil {
			return err
		}
	}
	return nil
}

// reach waits until the view is new enough.
func (s *Store) reach(ctx context.Context, rev int64) error {
	ctx, cancel := s.call(ctx)
	defer cancel()
	return s.view.WaitRevision(ctx, rev)
}

func (s *Store) send(ctx context.Context, ev *Event, c chan<- Event) error {
	s.view.complete(ev)
	select {
	case c <- *ev:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// complete adds the object that the event is about.
func (v *View) complete(ev *Event) {
	switch ev.Kind {
	case EventDaemon:
		d, ok := v.Daemon(ev.ID)
		if ev.Deleted = !ok; ok {
			ev.Daemon = &d
		}
	case EventLog:
		l, ok := v.Log(ev.ID)
		if ev.Deleted = !ok; ok {
			ev.Log = &l
		}
	case EventOperator:
		o, ok := v.operator(ev.ID, ev.on)
		if ev.Deleted = !ok; ok {
			ev.Operator = &o
		}
	}
}
