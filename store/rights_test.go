package store

import (
	"context"
	"errors"
	"testing"
	"time"

	caller "github.com/gravenio/graven/identity"
)

func as(t *testing.T, name string, role caller.Role, groups ...string) context.Context {
	return caller.With(t.Context(), caller.Principal{
		Name: name, Roles: []caller.Role{role}, Groups: groups, Via: caller.ViaCertificate,
	})
}

// ownedLog is a log of alice and of those in her team, on daemons whose names
// are those of their IDs with "cert-" before.
func ownedLog(t *testing.T, s *Store) (*Log, []string) {
	t.Helper()
	ids := make([]string, 3)
	for i := range ids {
		r := daemonReq(t)
		ids[i] = r.DaemonID
		if _, err := s.Register(as(t, "cert-"+r.DaemonID, caller.RoleDaemon), r); err != nil {
			t.Fatal(err)
		}
	}
	l, err := s.CreateLog(as(t, "alice", caller.RoleClient, "team"), CreateLogRequest{
		Name: logName(t), Daemons: ids, AckQuorum: 2, CapacityBytes: 1 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	return l, ids
}

func TestLogsBelongToTheirMakers(t *testing.T) {
	t.Parallel()
	s := shared.store
	l, ids := ownedLog(t, s)
	if seen, _ := s.View().Log(l.LogID); seen.Owner != "alice" || len(seen.Groups) != 1 || seen.Groups[0] != "team" {
		t.Errorf("the log is shown as %q's and %q's", seen.Owner, seen.Groups)
	}
	stranger := daemon(t, s)
	alice := as(t, "alice", caller.RoleClient)
	for name, ctx := range map[string]context.Context{
		"another client":              as(t, "eve", caller.RoleClient, "other"),
		"a viewer of that name":       as(t, "alice", caller.RoleViewer, "team"),
		"nobody":                      caller.With(t.Context(), caller.Principal{}),
		"a daemon that has no copy":   as(t, "cert-"+stranger.DaemonID, caller.RoleDaemon),
		"a daemon of the ID":          as(t, ids[0], caller.RoleDaemon),
		"a daemon that has a replica": as(t, "cert-"+ids[0], caller.RoleDaemon),
	} {
		before := etcdRevision(t, s)
		_, open := s.OpenLog(ctx, OpenLogRequest{Log: l.Name})
		_, takeover := s.OpenLog(ctx, OpenLogRequest{Log: l.Name, Recovering: true, Takeover: true})
		_, replace := s.StartReplacement(ctx, StartReplacementRequest{Log: l.Name, Replica: l.Replicas[0].ReplicaID})
		for what, err := range map[string]error{
			"open": open, "takeover": takeover, "replace": replace,
			"abandon": s.AbandonReplacement(ctx, l.Name, 0), "delete": s.DeleteLog(ctx, l.Name, 0),
		} {
			if !errors.Is(err, ErrForeignLog) {
				t.Errorf("%s, %s: got %v, want ErrForeignLog", name, what, err)
			}
		}
		if after := logRevision(t, s, l.LogID); after > before {
			t.Errorf("%s: the log has changed", name)
		}
	}

	a, err := s.OpenLog(as(t, "bob", caller.RoleClient, "x", "team"), OpenLogRequest{Log: l.Name, LeaseTTL: time.Minute})
	if err != nil {
		t.Fatalf("one of the owner's group: %v", err)
	}
	w := WriterRef{Log: a.LogID, WriterID: a.WriterID, Epoch: a.Epoch, Nonce: a.Nonce}
	eve, holder := as(t, "eve", caller.RoleClient), as(t, "cert-"+ids[0], caller.RoleDaemon)
	for name, ctx := range map[string]context.Context{"another client": eve, "a daemon while a client writes": holder} {
		_, renew := s.Renew(ctx, w)
		_, set := s.SetReplicas(ctx, SetReplicasRequest{
			Log: l.Name, Epoch: a.Epoch, Nonce: a.Nonce, SetVersion: a.SetVersion, Present: []string{l.Replicas[0].ReplicaID},
		})
		record := s.RecordLogEvent(ctx, LogEventRequest{Writer: w, Kind: JournalDataLossAccepted, Detail: "x"})
		for what, err := range map[string]error{"renew": renew, "set": set, "record": record, "close": s.CloseLog(ctx, w)} {
			if !errors.Is(err, ErrForeignLog) {
				t.Errorf("%s, %s: got %v, want ErrForeignLog", name, what, err)
			}
		}
	}
	if _, err := s.Renew(alice, w); err != nil {
		t.Errorf("renew by the owner: %v", err)
	}
	if err := s.CloseLog(alice, w); err != nil {
		t.Errorf("close by the owner: %v", err)
	}
	for name, ctx := range map[string]context.Context{
		"an admin": as(t, "root", caller.RoleAdmin), "anybody": caller.With(t.Context(), caller.Principal{Via: caller.ViaNothing}),
		"the program": t.Context(),
	} {
		if _, err := s.OpenLog(ctx, OpenLogRequest{Log: l.Name, Takeover: true}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func logRevision(t *testing.T, s *Store, id string) int64 {
	t.Helper()
	es, _, err := s.read(t.Context(), prefixLogs+id)
	if err != nil {
		t.Fatal(err)
	}
	return es[0].mod
}

// A daemon does a writer's work for a log only where it has a replica, and only
// while nobody else does.
func TestDaemonsRecoverOnlyWhatTheyHold(t *testing.T) {
	t.Parallel()
	s := shared.store
	l, ids := ownedLog(t, s)
	holder := as(t, "cert-"+ids[1], caller.RoleDaemon)
	a, err := s.OpenLog(holder, OpenLogRequest{Log: l.Name, Recovering: true, LeaseTTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	w := WriterRef{Log: a.LogID, WriterID: a.WriterID, Epoch: a.Epoch, Nonce: a.Nonce}
	if _, err := s.Renew(holder, w); err != nil {
		t.Errorf("renew: %v", err)
	}
	if _, err := s.SetReplicas(holder, SetReplicasRequest{
		Log: l.Name, Epoch: a.Epoch, Nonce: a.Nonce, SetVersion: a.SetVersion, Present: []string{l.Replicas[0].ReplicaID},
	}); err != nil {
		t.Errorf("set: %v", err)
	}
	stranger := as(t, "cert-x", caller.RoleDaemon)
	if _, err := s.Renew(stranger, w); !errors.Is(err, ErrForeignLog) {
		t.Errorf("renew by a daemon without a replica: %v", err)
	}
	if err := s.CloseLog(holder, w); err != nil {
		t.Errorf("close: %v", err)
	}
	ownerless := makeLog(t, s)
	if _, err := s.OpenLog(as(t, "alice", caller.RoleClient), OpenLogRequest{Log: ownerless.Name}); !errors.Is(err, ErrForeignLog) {
		t.Errorf("a client opens a log that nobody owns: %v", err)
	}
	if _, err := s.OpenLog(as(t, "", caller.RoleDaemon), OpenLogRequest{Log: ownerless.Name, Recovering: true}); !errors.Is(err, ErrForeignLog) {
		t.Errorf("a daemon without a name recovers a log on daemons without one: %v", err)
	}
}

// An answer with a grant is given again only to the one who got it first.
func TestAnswersAreGivenAgainToTheirCallerOnly(t *testing.T) {
	t.Parallel()
	s := shared.store
	l, _ := ownedLog(t, s)
	r := OpenLogRequest{Log: l.Name, LeaseTTL: time.Minute, IdempotencyKey: logName(t)}
	first, err := s.OpenLog(as(t, "alice", caller.RoleClient), r)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.OpenLog(as(t, "alice", caller.RoleClient), r)
	if err != nil || again.WriterID != first.WriterID {
		t.Errorf("the same again: %v, %v", again, err)
	}
	if _, err := s.OpenLog(as(t, "bob", caller.RoleClient, "team"), r); !errors.Is(err, ErrIdempotencyMismatch) {
		t.Errorf("another of the group, with her key: %v, want ErrIdempotencyMismatch", err)
	}
	if _, err := s.OpenLog(as(t, "eve", caller.RoleClient), r); !errors.Is(err, ErrForeignLog) {
		t.Errorf("a stranger with her key: %v, want ErrForeignLog", err)
	}
}

func TestDaemonIDsAreBoundToNames(t *testing.T) {
	t.Parallel()
	s := shared.store
	r := daemonReq(t)
	own, other := as(t, "host1", caller.RoleDaemon), as(t, "host2", caller.RoleDaemon)
	if _, err := s.Register(own, r); err != nil {
		t.Fatal(err)
	}
	if d, _ := s.View().Daemon(r.DaemonID); d.Identity != "host1" {
		t.Errorf("the daemon is shown as bound to %q, want host1", d.Identity)
	}
	beat := HeartbeatRequest{DaemonID: r.DaemonID, Incarnation: 1, Free: 1 << 20}
	for name, ctx := range map[string]context.Context{
		"another daemon": other, "an admin": as(t, "root", caller.RoleAdmin), "nobody": caller.With(t.Context(), caller.Principal{}),
	} {
		before := etcdRevision(t, s)
		again := r
		again.Incarnation++
		_, register := s.Register(ctx, again)
		_, heartbeat := s.Heartbeat(ctx, beat)
		for what, err := range map[string]error{
			"register": register, "heartbeat": heartbeat, "leave": s.Leave(ctx, r.DaemonID, 1),
		} {
			if !errors.Is(err, ErrForeignDaemon) {
				t.Errorf("%s, %s: got %v, want ErrForeignDaemon", name, what, err)
			}
		}
		es, _, err := s.read(t.Context(), prefixDaemons+r.DaemonID, prefixLive+r.DaemonID)
		if err != nil || es[0].mod > before || es[1].mod > before {
			t.Errorf("%s: the daemon has changed, %v", name, err)
		}
	}
	if _, err := s.Heartbeat(own, beat); err != nil {
		t.Errorf("heartbeat of its own: %v", err)
	}
	if _, err := s.Register(own, r); err != nil {
		t.Errorf("it registers again: %v", err)
	}
	if _, err := s.Register(t.Context(), r); err != nil {
		t.Errorf("a server that asks nobody: %v", err)
	}
	if d, _ := s.View().Daemon(r.DaemonID); d.Identity != "host1" {
		t.Errorf("after that it is bound to %q, want host1", d.Identity)
	}
}

// A cluster that begins to ask for names goes on with the daemons that it has.
func TestDaemonWithoutANameIsBoundByItsNextRegistration(t *testing.T) {
	t.Parallel()
	s := shared.store
	r := daemon(t, s)
	own := as(t, "host1", caller.RoleDaemon)
	beat := HeartbeatRequest{DaemonID: r.DaemonID, Incarnation: 1, Free: 1 << 20}
	if _, err := s.Heartbeat(own, beat); !errors.Is(err, ErrLeaseExpired) {
		t.Errorf("before it has registered by its name: %v, want ErrLeaseExpired", err)
	}
	if _, err := s.Register(own, r); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Heartbeat(own, beat); err != nil {
		t.Errorf("after that: %v", err)
	}
	if _, err := s.Heartbeat(as(t, "host2", caller.RoleDaemon), beat); !errors.Is(err, ErrForeignDaemon) {
		t.Errorf("another: %v, want ErrForeignDaemon", err)
	}
}
