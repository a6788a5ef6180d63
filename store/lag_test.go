package store

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
)

// A server whose view is behind must send nobody round in circles: what it
// answers to registrations, heartbeats and renewals is etcd's word.

func TestALaggingServerHearsDaemons(t *testing.T) {
	t.Parallel()
	s := shared.store
	late, g := lagging(t, Options{CallTimeout: 20 * time.Second})
	known, expired, deleted := daemon(t, s), daemon(t, s), daemon(t, s)
	if err := late.View().WaitRevision(t.Context(), etcdRevision(t, s)); err != nil {
		t.Fatal(err)
	}
	g.close()
	unknown := daemon(t, s)
	known.Incarnation = 2
	if err := reg(t.Context(), known); err != nil {
		t.Fatal(err)
	}
	expire(t, s, prefixLive+expired.DaemonID)
	expire(t, s, prefixLive+deleted.DaemonID)
	if err := s.DeleteDaemon(t.Context(), deleted.DaemonID, false, 0); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name        string
		r           RegisterRequest
		incarnation uint64
		want        error
	}{
		{"one that it does not know", unknown, 1, nil},
		{"an incarnation that it has not seen", known, 2, nil},
		{"the incarnation that it takes for live", known, 1, ErrStaleIncarnation},
		{"one that it takes for live and is not", expired, 1, ErrLeaseExpired},
		{"one that it takes for live and is deleted", deleted, 1, ErrGone},
	} {
		_, err := late.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: tc.r.DaemonID, Incarnation: tc.incarnation, Free: tc.r.Free})
		if err := answered(err, tc.want); err != nil {
			t.Errorf("heartbeat of %s: %v", tc.name, err)
		}
		if err := answered(late.Leave(t.Context(), "nobody-"+uuid.NewString()[:8], 1), nil); err != nil {
			t.Errorf("leave of a stranger: %v", err)
		}
	}
	if d, ok := late.View().Daemon(unknown.DaemonID); ok {
		t.Fatalf("the view was not held back: %+v", d)
	}
}

// Register, expire, register again, across two servers whose views differ in
// age: the one behind refuses by etcd's record at once, and what it would take
// it takes only when its view, by which it judges the inventory, has come up.
func TestALaggingServerRegistersByEtcdsWord(t *testing.T) {
	t.Parallel()
	s := shared.store
	late, g := lagging(t, Options{CallTimeout: 500 * time.Millisecond})
	r := daemon(t, s)
	if err := late.View().WaitRevision(t.Context(), etcdRevision(t, s)); err != nil {
		t.Fatal(err)
	}
	g.close()
	expire(t, s, prefixLive+r.DaemonID)
	moved := r // it has moved meanwhile: by the view behind, a clone of what is live
	moved.TCPPort += 20000
	again := moved
	again.Incarnation = 2
	if err := reg(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	if _, err := late.Register(t.Context(), moved); !errors.Is(err, ErrPoolRolledBack) {
		t.Errorf("the incarnation that the view behind takes for the newest: %v", err)
	}
	next := again
	next.Incarnation = 3
	_, before := recordOf[daemonRecord](t, prefixDaemons+r.DaemonID)
	if _, err := late.Register(t.Context(), next); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a registration that must wait for the view: %v", err)
	}
	if _, after := recordOf[daemonRecord](t, prefixDaemons+r.DaemonID); after.mod != before.mod {
		t.Error("a registration that was not answered changed the record")
	}
	g.open()
	eventually(t, "the view comes up, and the registration is taken", func() bool {
		_, err := late.Register(t.Context(), next)
		if err != nil && !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
		return err == nil
	})
}

// What a lagging server is asked to drain, it drains, and shows it as etcd has it:
// one that it has not seen yet, and one that is live and has been down by its view.
func TestALaggingServerDrains(t *testing.T) {
	t.Parallel()
	s := shared.store
	late, g := lagging(t, Options{CallTimeout: 20 * time.Second})
	back := daemon(t, s)
	expire(t, s, prefixLive+back.DaemonID)
	if err := late.View().WaitRevision(t.Context(), etcdRevision(t, s)); err != nil {
		t.Fatal(err)
	}
	g.close()
	fresh := daemon(t, s)
	back.Incarnation++
	if err := reg(t.Context(), back); err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]RegisterRequest{"fresh": fresh, "back": back} {
		for _, want := range []DaemonState{DaemonDraining, DaemonUp} {
			got, err := late.SetDraining(t.Context(), r.DaemonID, want == DaemonDraining, 0)
			if err != nil {
				t.Errorf("%s, to be %s: %v", name, want, err)
				continue
			}
			_, record := recordOf[daemonRecord](t, prefixDaemons+r.DaemonID)
			if got.State != want || got.ModRevision != record.mod || got.Incarnation != r.Incarnation || got.FreeBytes != r.Free {
				t.Errorf("%s is shown as %s at revision %d, incarnation %d with %d bytes free; it was made %s at %d",
					name, got.State, got.ModRevision, got.Incarnation, got.FreeBytes, want, record.mod)
			}
		}
	}
	if d, ok := late.View().Daemon(fresh.DaemonID); ok {
		t.Fatalf("the view was not held back: %+v", d)
	}
}

func TestALaggingServerRenewsWriters(t *testing.T) {
	t.Parallel()
	s := shared.store
	late, g := lagging(t, Options{CallTimeout: 20 * time.Second})
	taken, lost, deleted := makeLog(t, s), makeLog(t, s), makeLog(t, s)
	first, lostBy, deletedBy := open(t, s, taken.LogID), open(t, s, lost.LogID), open(t, s, deleted.LogID)
	if err := late.View().WaitRevision(t.Context(), etcdRevision(t, s)); err != nil {
		t.Fatal(err)
	}
	g.close()
	second := open(t, s, taken.LogID, takeover)
	expire(t, s, prefixWriters+lost.LogID)
	if err := errors.Join(s.CloseLog(t.Context(), ref(deletedBy)), s.DeleteLog(t.Context(), deleted.LogID, 0)); err != nil {
		t.Fatal(err)
	}
	fresh := open(t, s, newPatient(t, s, 1).LogID)
	for _, tc := range []struct {
		name string
		w    *OpenAnswer
		want error
	}{
		{"the writer that it takes for the newest", first, ErrSuperseded},
		{"the writer that took over", second, nil},
		{"the writer that lost its lease", lostBy, nil},
		{"the writer of a log that is deleted", deletedBy, ErrNotFound},
		{"the writer of a log that it does not know", fresh, nil},
	} {
		a, err := late.Renew(t.Context(), ref(tc.w))
		if err := answered(err, tc.want); err != nil {
			t.Errorf("renewal of %s: %v", tc.name, err)
		}
		if err == nil && (a.SetVersion != 1 || len(a.Replicas) != 3) {
			t.Errorf("renewal of %s tells it of set version %d with %d replicas", tc.name, a.SetVersion, len(a.Replicas))
		}
	}
	if l, ok := late.View().Log(fresh.LogID); ok {
		t.Fatalf("the view was not held back: %+v", l)
	}
}
