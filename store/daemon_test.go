package store

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestDownSinceOutlivesTheServer(t *testing.T) {
	t.Parallel()
	s := shared.store
	other := second(t, Options{})
	r := daemon(t, s)
	expire(t, s, prefixLive+r.DaemonID)
	eventually(t, "down_since is in the record", func() bool {
		es, _, err := s.read(t.Context(), prefixDaemons+r.DaemonID)
		if err != nil {
			t.Fatal(err)
		}
		rec, err := decode[daemonRecord](es[0].key, es[0].value)
		return err == nil && !rec.DownSince.IsZero()
	})
	rev := etcdRevision(t, s)
	if err := other.View().WaitRevision(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	if err := s.View().WaitRevision(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	a, _ := s.View().Daemon(r.DaemonID)
	b, _ := other.View().Daemon(r.DaemonID)
	if a.DownSince.IsZero() || !a.DownSince.Equal(b.DownSince) {
		t.Errorf("two servers: %v, %v", a.DownSince, b.DownSince)
	}
	fresh := second(t, Options{})
	if c, _ := fresh.View().Daemon(r.DaemonID); !c.DownSince.Equal(a.DownSince) || c.LastSeen.IsZero() {
		t.Errorf("a new server: %v, before %v", c.DownSince, a.DownSince)
	}
	if _, err := s.Register(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if d, _ := s.View().Daemon(r.DaemonID); d.State != DaemonUp || !d.DownSince.IsZero() {
		t.Errorf("after it came back: %+v", d)
	}
}

func TestMarkDownLosesAgainstARegistration(t *testing.T) {
	t.Parallel()
	s := shared.store
	r := daemon(t, s)
	s.view.mu.RLock()
	d := s.view.t.daemons[r.DaemonID]
	mark := downMark{id: r.DaemonID, rec: *d.rec, mod: d.recMod, since: time.Now()}
	s.view.mu.RUnlock()
	l := leader{s: s}
	if err := l.mark(t.Context(), mark); err != nil {
		t.Fatal(err)
	}
	if d, _ := s.View().Daemon(r.DaemonID); d.ModRevision != mark.mod && !d.DownSince.IsZero() {
		t.Error("a live daemon was marked down")
	}
	es, _, err := s.read(t.Context(), prefixDaemons+r.DaemonID)
	if err != nil || es[0].mod != mark.mod {
		t.Errorf("the record of a live daemon was written: %v", err)
	}
}

func TestDeleteDaemonGuards(t *testing.T) {
	t.Parallel()
	s := shared.store
	l := makeLog(t, s)
	id := l.Replicas[0].DaemonID
	del := func() error { return s.DeleteDaemon(t.Context(), id, false, 0) }
	busy := func(why string) {
		t.Helper()
		if err := del(); !errors.Is(err, ErrDaemonBusy) {
			t.Errorf("%s: %v", why, err)
		}
	}
	if err := s.DeleteDaemon(t.Context(), "no-such-daemon", false, 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
	busy("live, with a log")
	expire(t, s, prefixLive+id)
	busy("down, with a log")
	w := open(t, s, l.LogID)
	if err := s.CloseLog(t.Context(), ref(w)); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteLog(t.Context(), l.LogID, 0); err != nil {
		t.Fatal(err)
	}
	busy("down, with a condemned region")
	if err := s.takeResults(t.Context(), id, []StepResult{
		{Kind: StepRemoveReplica, ReplicaID: l.Replicas[0].ReplicaID, Done: true},
	}); err != nil {
		t.Fatal(err)
	}
	d, _ := s.View().Daemon(id)
	if err := s.DeleteDaemon(t.Context(), id, false, d.ModRevision-1); !errors.Is(err, ErrPrecondition) {
		t.Errorf("wrong revision: %v", err)
	}
	if err := del(); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.View().Daemon(id); ok {
		t.Error("it is still in the view")
	}
	if err := del(); !errors.Is(err, ErrNotFound) {
		t.Errorf("twice: %v", err)
	}
	// Its ID, pool and address are free again.
	if _, err := s.Register(t.Context(), RegisterRequest{
		DaemonID: id, PoolID: d.PoolID, Incarnation: 1, Addresses: d.Addresses, Capacity: 1, Media: "file",
		Transports: []string{"tcp"},
	}); err != nil {
		t.Errorf("registering again: %v", err)
	}
}

// drain is SetDraining for its error.
func drain(ctx context.Context, s *Store, id string, draining bool, ifMatch int64) error {
	_, err := s.SetDraining(ctx, id, draining, ifMatch)
	return err
}

func TestDraining(t *testing.T) {
	t.Parallel()
	s := shared.store
	r := daemon(t, s)
	if err := drain(t.Context(), s, r.DaemonID, true, 0); err != nil {
		t.Fatal(err)
	}
	d, _ := s.View().Daemon(r.DaemonID)
	if d.State != DaemonDraining {
		t.Errorf("state %s", d.State)
	}
	_, err := s.CreateLog(t.Context(), CreateLogRequest{Name: logName(t), Daemons: []string{r.DaemonID}, AckQuorum: 1, CapacityBytes: 4096})
	var unfit *UnfitError
	if !errors.As(err, &unfit) || unfit.Rule != "draining" {
		t.Errorf("a create on it: %v", err)
	}
	if err := drain(t.Context(), s, r.DaemonID, false, d.ModRevision+1); !errors.Is(err, ErrPrecondition) {
		t.Errorf("wrong revision: %v", err)
	}
	// A new incarnation still drains.
	r.Incarnation++
	if _, err := s.Register(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if d, _ := s.View().Daemon(r.DaemonID); d.State != DaemonDraining {
		t.Errorf("after a restart: %s", d.State)
	}
	if err := drain(t.Context(), s, r.DaemonID, false, 0); err != nil {
		t.Fatal(err)
	}
	if d, _ := s.View().Daemon(r.DaemonID); d.State != DaemonUp {
		t.Errorf("state %s", d.State)
	}
}
