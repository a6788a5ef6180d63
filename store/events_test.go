package store

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/gravenio/graven/planner"
)

// next returns the next event that is about one of the IDs.
func next(t *testing.T, sub *Subscription, ids ...string) Event {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case ev, ok := <-sub.C:
			if !ok {
				t.Fatalf("the stream ended: %v", sub.Err())
			}
			for _, id := range ids {
				if ev.ID == id {
					return ev
				}
			}
		case <-timeout:
			t.Fatalf("no event about %v", ids)
		}
	}
}

func TestEventsTellWhatChanged(t *testing.T) {
	t.Parallel()
	s := shared.store
	sub, err := s.Events(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	r := daemon(t, s)
	if ev := next(t, sub, r.DaemonID); ev.Kind != EventDaemon || ev.Daemon == nil || ev.Daemon.State != DaemonUp || ev.Deleted {
		t.Errorf("registered: %+v", ev)
	}
	l, err := s.CreateLog(t.Context(), CreateLogRequest{Name: logName(t), Daemons: []string{r.DaemonID}, AckQuorum: 1, CapacityBytes: 4096})
	if err != nil {
		t.Fatal(err)
	}
	// One transaction is three events; whoever has seen only one resumes before it.
	a, b := next(t, sub, r.DaemonID, l.LogID), next(t, sub, r.DaemonID, l.LogID)
	created := next(t, sub, entryID(t, s, JournalLogCreated, l.LogID))
	if created.Revision != l.ModRevision || created.Resume != created.Revision || a.Resume != a.Revision-1 || created.Journal.LogName != l.Name {
		t.Errorf("created: %+v\n%+v", created, a)
	}
	if a.Revision != b.Revision || a.Revision != l.ModRevision || a.ID == b.ID {
		t.Errorf("created: %+v\n%+v", a, b)
	}
	w := open(t, s, l.Name)
	if ev := next(t, sub, l.LogID); ev.Kind != EventLog || ev.Log.State != LogOpen || ev.Log.Writer.WriterID != w.WriterID {
		t.Errorf("opened: %+v", ev)
	}
	expire(t, s, prefixLive+r.DaemonID)
	if ev := next(t, sub, r.DaemonID); ev.Daemon.State != DaemonDown {
		t.Errorf("down: %+v", ev.Daemon)
	}
	if err := s.CloseLog(t.Context(), ref(w)); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteLog(t.Context(), l.LogID, 0); err != nil {
		t.Fatal(err)
	}
	for ev := next(t, sub, l.LogID); !ev.Deleted; ev = next(t, sub, l.LogID) {
		if ev.Log == nil {
			t.Fatalf("neither a log nor deleted: %+v", ev)
		}
	}
	sub.Close()
	sub.Close()
	for range sub.C {
	}
	if err := sub.Err(); err != nil {
		t.Errorf("after Close: %v", err)
	}
}

func TestEventsResume(t *testing.T) {
	t.Parallel()
	e := own(t, t.TempDir())
	s := startOwn(t, e, Options{})
	start := etcdRevision(t, s)
	var ids []string
	for range 5 {
		ids = append(ids, daemon(t, s).DaemonID)
	}
	sub, err := s.Events(t.Context(), start)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	var third Event
	for i, id := range ids {
		ev := next(t, sub, ids...)
		if ev.ID != id {
			t.Fatalf("event %d is about %s, want %s", i, ev.ID, id)
		}
		if i == 2 { // its journal's entry follows
			third = next(t, sub, entryID(t, s, JournalDaemonRegistered, id))
		}
	}
	again, err := s.Events(t.Context(), third.Resume)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if ev := next(t, again, ids...); ev.ID != ids[3] {
		t.Errorf("resumed with %s, want %s", ev.ID, ids[3])
	}
	if _, err := e.Client.Compact(t.Context(), third.Revision); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Events(t.Context(), third.Revision-1); !errors.Is(err, ErrCompacted) {
		t.Errorf("from below the compacted revision: %v", err)
	}
	kept, err := s.Events(t.Context(), third.Revision)
	if err != nil {
		t.Fatalf("from the compacted revision: %v", err)
	}
	defer kept.Close()
	if ev := next(t, kept, ids...); ev.ID != ids[3] {
		t.Errorf("resumed with %s, want %s", ev.ID, ids[3])
	}
	if _, err := s.Events(t.Context(), 1<<40); !errors.Is(err, ErrCompacted) {
		t.Errorf("from a revision that etcd never reached: %v", err)
	}
	if _, err := s.Events(t.Context(), -1); !errors.Is(err, ErrInvalid) {
		t.Errorf("from a negative revision: %v", err)
	}
}

func TestASlowSubscriberIsToldSo(t *testing.T) {
	t.Parallel()
	s := startOwn(t, own(t, t.TempDir()), Options{SubscriberBuffer: 2}) // a change may be many events where others make them
	sub, err := s.Events(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	daemons(t, s, 4)
	eventually(t, "the stream ends", func() bool { return sub.Err() != nil })
	n, last := 0, Event{}
	for ev := range sub.C {
		n, last = n+1, ev
	}
	if !errors.Is(sub.Err(), ErrSlow) || n != 2 && n != 3 { // one may be on its way
		t.Errorf("%d events, then %v", n, sub.Err())
	}
	again, err := s.Events(t.Context(), last.Resume)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if ev := <-again.C; ev.Revision <= last.Resume {
		t.Errorf("resumed at %d after %d", ev.Revision, last.Resume)
	}
}

func TestEventsEndWithTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	sub, err := shared.store.Events(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	for range sub.C {
	}
	if !errors.Is(sub.Err(), context.Canceled) {
		t.Errorf("Err: %v", sub.Err())
	}
}

// logOn makes a log on these daemons.
func logOn(t *testing.T, s *Store, daemons ...string) *Log {
	t.Helper()
	l, err := s.CreateLog(t.Context(), on(t, daemons...))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// What a daemon's coming and going makes of its logs arrives as their own events,
// and so does a replica that it does not find any more.
func TestEventsOfALogWhoseDaemonsChange(t *testing.T) {
	t.Parallel()
	s := shared.store
	reqs := []RegisterRequest{daemon(t, s), daemon(t, s), daemon(t, s)}
	l := logOn(t, s, reqs[0].DaemonID, reqs[1].DaemonID, reqs[2].DaemonID)
	a := open(t, s, l.LogID)
	if _, err := s.SetReplicas(t.Context(), SetReplicasRequest{
		Log: l.LogID, Epoch: a.Epoch, Nonce: a.Nonce, SetVersion: 1, Present: []string{l.Replicas[0].ReplicaID, l.Replicas[1].ReplicaID},
	}); err != nil {
		t.Fatal(err)
	}
	other := logOn(t, s, daemons(t, s, 1)...)
	sub, err := s.Events(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	is := func(what string, want LogState) {
		t.Helper()
		ev := next(t, sub, l.LogID, other.LogID)
		if ev.Kind != EventLog || ev.ID != l.LogID || ev.Log == nil || ev.Log.State != want {
			t.Errorf("%s: %+v", what, ev)
		}
	}
	expire(t, s, prefixLive+reqs[0].DaemonID)
	is("down", LogDegraded)
	reqs[0].Incarnation++
	reqs[0].Replicas = []ReplicaSummary{{ReplicaID: l.Replicas[0].ReplicaID, LogID: l.LogID, Bytes: l.ReplicaBytes}}
	again := func(r RegisterRequest) {
		t.Helper()
		if _, err := s.Register(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	again(reqs[0])
	is("back", LogOpen)
	reqs[0].Incarnation, reqs[0].Replicas = reqs[0].Incarnation+1, nil
	again(reqs[0]) // while its lease lives
	is("without its replica", LogDegraded)
	beat := HeartbeatRequest{DaemonID: reqs[0].DaemonID, Incarnation: reqs[0].Incarnation, Free: 1 << 20, Health: Health{Status: "degraded"}}
	if _, err := s.Heartbeat(t.Context(), beat); err != nil { // it is rewritten, and no log's state follows from that
		t.Fatal(err)
	}
	for ev := next(t, sub, reqs[0].DaemonID, l.LogID); ev.Daemon == nil || ev.Daemon.Health.Status != "degraded"; {
		if ev = next(t, sub, reqs[0].DaemonID, l.LogID); ev.Kind == EventLog {
			t.Errorf("a rewrite of what the daemon says: %+v", ev)
		}
	}
	reqs[0].Incarnation++
	reqs[0].Replicas = []ReplicaSummary{{ReplicaID: l.Replicas[0].ReplicaID, LogID: l.LogID, Bytes: l.ReplicaBytes}}
	again(reqs[0])
	is("with its replica again", LogOpen)
}

// A daemon with more logs than changes may wait: all of them come, and then what it
// has to remove, and the revision is not done with before the last. The log of a
// learner on it is not concerned.
func TestEventsOfAllLogsOfADaemon(t *testing.T) {
	t.Parallel()
	s := second(t, Options{SubscriberBuffer: 4})
	r := daemon(t, s)
	gone := logOn(t, s, r.DaemonID)
	if err := s.CloseLog(t.Context(), ref(open(t, s, gone.LogID))); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteLog(t.Context(), gone.LogID, 0); err != nil {
		t.Fatal(err)
	}
	want := make(map[string]bool)
	for range 30 {
		want[logOn(t, s, r.DaemonID).LogID] = true
	}
	learning := makeLog(t, s)
	if _, err := s.StartReplacement(t.Context(), StartReplacementRequest{Log: learning.LogID, Replica: learning.Replicas[0].ReplicaID, To: r.DaemonID}); err != nil {
		t.Fatal(err)
	}
	after := s.View().Revision()
	expire(t, s, prefixLive+r.DaemonID)
	eventually(t, "it is down", func() bool { d, _ := s.View().Daemon(r.DaemonID); return d.State == DaemonDown })
	for range 2 { // they come again, whoever has read a part of them
		sub, err := s.Events(t.Context(), after)
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		down := next(t, sub, r.DaemonID)
		if down.Resume != down.Revision-1 || down.Daemon.State != DaemonDown {
			t.Errorf("the daemon's event: %+v", down)
		}
		seen := make(map[string]bool)
		for range want {
			ev := <-sub.C
			if ev.Revision != down.Revision || ev.Resume != down.Resume || !want[ev.ID] || seen[ev.ID] || ev.Log == nil || ev.Log.State != LogDegraded {
				t.Fatalf("event %d: %+v; %v", len(seen), ev, sub.Err())
			}
			seen[ev.ID] = true
		}
		if ev := <-sub.C; ev.ID != removalID(gone.Replicas[0].ReplicaID) || ev.Operator == nil || ev.Revision != down.Revision || ev.Resume != ev.Revision {
			t.Errorf("the last: %+v", ev)
		}
	}
}

// What a daemon has to remove waits for it, and begins when it is back.
func TestEventsOfARemovalWhoseDaemonChanges(t *testing.T) {
	t.Parallel()
	c := newCondemned(t)
	s := shared.store
	sub, err := s.Events(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	expire(t, s, prefixLive+c.r.DaemonID)
	if ev := next(t, sub, removalID(c.replica)); ev.Operator == nil || ev.Operator.State != planner.Planned || ev.Operator.WaitsFor == "" {
		t.Errorf("down: %+v", ev)
	}
	c.r.Incarnation++
	if _, err := s.Register(t.Context(), c.r); err != nil {
		t.Fatal(err)
	}
	if ev := next(t, sub, removalID(c.replica)); ev.Operator == nil || ev.Operator.State != planner.Running {
		t.Errorf("back: %+v", ev)
	}
}
