package store

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
)

// TestAThousandDaemonsReturn: no server is there until the leases of a thousand
// daemons have run out, however much longer; then two are there again, and all
// daemons at once. Nothing but their own records has changed, and none is asked
// for anything that it was not asked for before.
func TestAThousandDaemonsReturn(t *testing.T) {
	t.Parallel()
	daemons := 1000
	if testing.Short() {
		daemons = 200
	}
	e := own(t, t.TempDir())
	s, stop, err := start(e, Options{CallTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	fleet := make([]RegisterRequest, daemons)
	for i := range fleet {
		fleet[i] = daemonReq(t)
	}
	register(t, fleet, s)
	doomed := fleet[0].DaemonID
	condemnOn(t, s, doomed)
	for i := 1; i <= 40; i += 4 { // logs in every state that a restart could misread
		l, err := s.CreateLog(t.Context(), on(t, fleet[i].DaemonID, fleet[i+1].DaemonID, fleet[i+2].DaemonID))
		if err != nil {
			t.Fatal(err)
		}
		a := open(t, s, l.LogID)
		if i%8 == 1 {
			if _, err := s.SetReplicas(t.Context(), promoteOf(a, l.Replicas[0].ReplicaID)); err != nil {
				t.Fatal(err)
			}
			fleet[i].Replicas = []ReplicaSummary{{ReplicaID: l.Replicas[0].ReplicaID, LogID: l.LogID, Bytes: l.ReplicaBytes}}
		}
	}
	stop()
	runOut(t, e.Client)
	before := lasting(t, e.Client)

	var servers []*Store
	for range 2 {
		s, stop, err := start(e, Options{CallTimeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(stop)
		servers = append(servers, s)
	}
	register(t, fleet, servers...)
	for i, r := range fleet {
		a, err := servers[i%2].Heartbeat(t.Context(), HeartbeatRequest{DaemonID: r.DaemonID, Incarnation: 1, Free: r.Free})
		if err != nil {
			t.Fatal(err)
		}
		if want := map[bool]int{true: 1}[r.DaemonID == doomed]; len(a.Steps) != want {
			t.Errorf("%s is asked for %+v, want %d removals", r.DaemonID, a.Steps, want)
		}
	}
	for _, s := range servers {
		ds, _ := s.View().Daemons()
		down := slices.DeleteFunc(ds, func(d Daemon) bool { return d.State == DaemonUp })
		if len(down) != 0 {
			t.Errorf("%d daemons are not up, such as %+v", len(down), down[0])
		}
	}
	if after := lasting(t, e.Client); after != before {
		t.Errorf("logs, books or tombstones have changed:\n%s\nbefore:\n%s", after, before)
	}
}

// register registers all daemons, many at a time, each with one of the servers.
func register(t *testing.T, fleet []RegisterRequest, servers ...*Store) {
	t.Helper()
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(64)
	for i, r := range fleet {
		g.Go(func() error {
			_, err := servers[i%len(servers)].Register(ctx, r)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// runOut ends every lease that keeps a daemon or a writer, as time would.
func runOut(t *testing.T, c *clientv3.Client) {
	t.Helper()
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(64)
	for _, p := range []string{prefixLive, prefixWriters} {
		resp, err := c.Get(ctx, p, clientv3.WithPrefix())
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range resp.Kvs {
			g.Go(func() error {
				_, err := c.Revoke(ctx, clientv3.LeaseID(kv.Lease))
				return err
			})
		}
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// condemnOn leaves the tombstone of a region on the daemon.
func condemnOn(t *testing.T, s *Store, id string) {
	t.Helper()
	l, err := s.CreateLog(t.Context(), on(t, id))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CloseLog(t.Context(), ref(open(t, s, l.LogID))); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteLog(t.Context(), l.LogID, 0); err != nil {
		t.Fatal(err)
	}
}

// lasting is all that etcd has of logs, books and tombstones, as text.
func lasting(t *testing.T, c *clientv3.Client) string {
	t.Helper()
	text := ""
	for _, p := range []string{prefixLogs, prefixNames, prefixSpace, prefixCondemned} {
		resp, err := c.Get(context.WithoutCancel(t.Context()), p, clientv3.WithPrefix())
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range resp.Kvs {
			text += string(kv.Key) + " " + string(kv.Value) + "\n"
		}
	}
	return text
}

// TestHeartbeatsWriteNothing: however many daemons beat and however their LSNs
// move, etcd's raft gets no entry. What is looked at is the index that etcd's
// own counter of applied proposals shows (etcd_server_proposals_applied_total).
func TestHeartbeatsWriteNothing(t *testing.T) {
	t.Parallel()
	e := own(t, t.TempDir())
	s, stop, err := start(e, Options{ReportEvery: time.Hour}) // so that no pause of this machine ends it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	fleet := make([]RegisterRequest, 20)
	for i := range fleet {
		fleet[i] = daemonReq(t)
		fleet[i].Replicas = []ReplicaSummary{{ReplicaID: uuid.NewString(), LogID: uuid.NewString(), Bytes: 4096}}
	}
	register(t, fleet, s)
	applied, committed := e.etcd.Server.AppliedIndex(), e.etcd.Server.CommittedIndex()
	const beats = 50
	for n := range beats {
		for _, r := range fleet {
			sum := r.Replicas[0]
			sum.TailLSN, sum.DurableLSN, sum.CommitLSN = uint64(3*n), uint64(2*n), uint64(n)
			if _, err := s.Heartbeat(t.Context(), HeartbeatRequest{
				DaemonID: r.DaemonID, Incarnation: 1, Free: r.Free, Replicas: []ReplicaSummary{sum},
				Results: []StepResult{{Kind: StepRemoveReplica, ReplicaID: uuid.NewString(), Done: true}}, // of one long gone
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if a, c := e.etcd.Server.AppliedIndex(), e.etcd.Server.CommittedIndex(); a != applied || c != committed {
		t.Errorf("%d heartbeats: %d entries applied, %d committed", beats*len(fleet), a-applied, c-committed)
	}
}
