package store

import (
	"context"
	"errors"
	"testing"
	"time"
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
	s := second(t, Options{SubscriberBuffer: 2})
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
	if !errors.Is(sub.Err(), ErrSlow) || n != 2 {
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
