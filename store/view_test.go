package store

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// startOwn runs a store on an etcd of the test's own.
func startOwn(t *testing.T, e *Embedded, o Options) *Store {
	t.Helper()
	s, stop, err := start(e, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return s
}

func TestRestartKeepsEverything(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := own(t, dir)
	s, stop, err := start(e, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	l := makeLog(t, s)
	a := open(t, s, l.Name)
	before, _ := s.View().Log(l.LogID)
	cluster, keys := s.ClusterID(), s.GrantKeys()
	if !strings.HasPrefix(e.Endpoint(), "http://127.0.0.1:") || strings.HasSuffix(e.Endpoint(), ":0") {
		t.Errorf("endpoint %s", e.Endpoint())
	}
	stop()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	s = startOwn(t, own(t, dir), Options{})
	if s.ClusterID() != cluster || !reflect.DeepEqual(s.GrantKeys(), keys) {
		t.Error("the cluster's identity changed")
	}
	after, ok := s.View().Log(l.LogID)
	if !ok || !reflect.DeepEqual(before, after) {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
	for _, r := range l.Replicas {
		if _, err := s.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: r.DaemonID, Incarnation: 1, Free: 1 << 30}); err != nil {
			t.Errorf("a lease did not survive: %v", err)
		}
	}
	if _, err := s.Renew(t.Context(), ref(a)); err != nil {
		t.Errorf("the writer's lease did not survive: %v", err)
	}
}

func TestServersShareOneIdentity(t *testing.T) {
	t.Parallel()
	e := own(t, t.TempDir())
	// Before either has written it.
	var stores [3]*Store
	done := make(chan error, len(stores))
	for i := range stores {
		var err error
		if stores[i], err = New(e.Client, Options{Lease: e.Lease, Logger: quiet()}); err != nil {
			t.Fatal(err)
		}
		go func() { done <- stores[i].establish(t.Context()) }()
	}
	for range stores {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range stores {
		if s.ClusterID() != stores[0].ClusterID() || !reflect.DeepEqual(s.GrantKeys(), stores[0].GrantKeys()) {
			t.Error("two servers, two identities")
		}
	}
}

func TestFolderInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := own(t, dir)
	if _, err := StartEmbedded(t.Context(), dir, EmbeddedOptions{Logger: quiet()}); !errors.Is(err, ErrFolderInUse) {
		t.Errorf("a second etcd in the folder: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	own(t, dir)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := StartEmbedded(t.Context(), file, EmbeddedOptions{Logger: quiet()}); err == nil {
		t.Error("etcd started in a file")
	}
}

func TestOccupiedPort(t *testing.T) {
	t.Parallel()
	port := shared.etcd.etcd.Clients[0].Addr().(*net.TCPAddr).Port
	_, err := StartEmbedded(t.Context(), t.TempDir(), EmbeddedOptions{ClientPort: port, Logger: quiet()})
	if err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("StartEmbedded on an occupied port: %v", err)
	}
}

// TestViewIsRebuiltAfterCompaction: the revision from which the watch would
// have to go on is gone.
func TestViewIsRebuiltAfterCompaction(t *testing.T) {
	t.Parallel()
	e := own(t, t.TempDir())
	s := startOwn(t, e, Options{})
	stale, err := New(e.Client, Options{Lease: e.Lease, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	rev, err := stale.fillView(t.Context(), stale.view.end())
	if err != nil {
		t.Fatal(err)
	}
	l := makeLog(t, s) // happens while the stale view looks away
	gone := daemon(t, s)
	expire(t, s, prefixLive+gone.DaemonID)
	if err := s.DeleteDaemon(t.Context(), gone.DaemonID, false, 0); err != nil {
		t.Fatal(err)
	}
	now := etcdRevision(t, s)
	if _, err := e.Client.Compact(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	if err := stale.followEtcd(t.Context(), rev+1, stale.view.end()); err == nil || !strings.Contains(err.Error(), "compacted") {
		t.Fatalf("following from a compacted revision: %v", err)
	}
	if _, ok := stale.View().Log(l.Name); ok {
		t.Fatal("the stale view has the log; this test tests nothing")
	}
	stop := runOnly(t, stale.feedView)
	defer stop()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := stale.View().WaitRevision(ctx, now); err != nil {
		t.Fatal(err)
	}
	got, _ := stale.View().Log(l.Name)
	want, _ := s.View().Log(l.Name)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("rebuilt %+v\nwant %+v", got, want)
	}
	a, _ := s.View().Daemons()
	b, _ := stale.View().Daemons()
	if len(a) != len(b) || len(a) != 3 {
		t.Errorf("%d and %d daemons", len(a), len(b))
	}
	// And it follows again.
	d := daemon(t, s)
	if err := stale.View().WaitRevision(ctx, etcdRevision(t, s)); err != nil {
		t.Fatal(err)
	}
	if _, ok := stale.View().Daemon(d.DaemonID); !ok {
		t.Error("the rebuilt view does not follow")
	}
}

// TestViewsAgree: a view that followed every change equals one built from a
// snapshot of the end.
func TestViewsAgree(t *testing.T) {
	t.Parallel()
	e := own(t, t.TempDir())
	s := startOwn(t, e, Options{})
	for range 5 {
		l := makeLog(t, s)
		if err := s.CloseLog(t.Context(), ref(open(t, s, l.Name))); err != nil {
			t.Fatal(err)
		}
		if err := s.DeleteLog(t.Context(), l.Name, 0); err != nil {
			t.Fatal(err)
		}
		l = makeLog(t, s)
		open(t, s, l.Name)
		if err := drain(t.Context(), s, l.Replicas[0].DaemonID, true, 0); err != nil {
			t.Fatal(err)
		}
		expire(t, s, prefixLive+l.Replicas[1].DaemonID)
	}
	fresh := startOwn(t, e, Options{})
	eventually(t, "both views show the same", func() bool {
		da, ra := s.View().Daemons()
		db, rb := fresh.View().Daemons()
		la, _ := s.View().Logs()
		lb, _ := fresh.View().Logs()
		for _, ds := range [][]Daemon{da, db} {
			for i := range ds { // what a server only knows of itself
				ds[i].LastSeen, ds[i].DownSince = time.Time{}, time.Time{}
			}
		}
		return ra == rb && len(da) == 30 && reflect.DeepEqual(da, db) && reflect.DeepEqual(la, lb) &&
			reflect.DeepEqual(s.View().Condemned(), fresh.View().Condemned()) && len(s.View().Condemned()) == 15
	})
}

func TestForeignRevisionsDoNotHoldTheViewUp(t *testing.T) {
	t.Parallel()
	s := shared.store
	resp, err := s.client.Put(t.Context(), "/elsewhere", "x")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.View().WaitRevision(ctx, resp.Header.Revision); err != nil {
		t.Error(err)
	}
}

func TestAValueOfALaterSchemaIsNotGuessedAt(t *testing.T) {
	t.Parallel()
	e := own(t, t.TempDir())
	s := startOwn(t, e, Options{})
	if _, err := e.Client.Put(t.Context(), prefixDaemons+"d1", `{"v":2}`); err != nil {
		t.Fatal(err)
	}
	r := daemonReq(t)
	r.DaemonID = "d1"
	if _, err := s.Register(t.Context(), r); err == nil || !strings.Contains(err.Error(), "schema version 2") {
		t.Errorf("Register: %v", err)
	}
	eventually(t, "not ready, and why", func() bool {
		err := s.Ready()
		return errors.Is(err, ErrUnavailable) && strings.Contains(err.Error(), "schema version 2")
	})
	if _, err := e.Client.Delete(t.Context(), prefixDaemons+"d1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "ready again", func() bool { return s.Ready() == nil })
}

func TestWithoutEtcdNothingHangs(t *testing.T) {
	t.Parallel()
	e := own(t, t.TempDir())
	x, err := Dial(t.Context(), []string{e.Endpoint()}, DialOptions{Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	s, err := New(x.Client, Options{Lease: x.Lease, CallTimeout: 2 * time.Second, MaxLag: 3 * time.Second, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	stop := runOnly(t, s.Run)
	t.Cleanup(stop)
	eventually(t, "ready over a socket", func() bool { return s.Ready() == nil })
	r := daemon(t, s)
	l, err := s.CreateLog(t.Context(), CreateLogRequest{Name: "l", Daemons: []string{r.DaemonID}, AckQuorum: 1, CapacityBytes: 4096})
	if err != nil {
		t.Fatal(err)
	}
	a := open(t, s, l.Name)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	var wg sync.WaitGroup
	for name, call := range map[string]func() error{
		"register": func() error { _, err := s.Register(ctx, r); return err },
		"heartbeat": func() error {
			_, err := s.Heartbeat(ctx, HeartbeatRequest{DaemonID: r.DaemonID, Incarnation: 1})
			return err
		},
		"leave":  func() error { return s.Leave(ctx, r.DaemonID, 1) },
		"drain":  func() error { return drain(ctx, s, r.DaemonID, true, 0) },
		"remove": func() error { return s.DeleteDaemon(ctx, r.DaemonID, false, 0) },
		"create": func() error {
			_, err := s.CreateLog(ctx, CreateLogRequest{
				Name: "m", Daemons: []string{r.DaemonID}, AckQuorum: 1, CapacityBytes: 4096, IdempotencyKey: "k",
			})
			return err
		},
		"open":  func() error { _, err := s.OpenLog(ctx, OpenLogRequest{Log: l.LogID, Takeover: true}); return err },
		"renew": func() error { _, err := s.Renew(ctx, ref(a)); return err },
		"close": func() error { return s.CloseLog(ctx, ref(a)) },
		"set": func() error {
			_, err := s.SetReplicas(ctx, SetReplicasRequest{Log: l.LogID, Epoch: 1, Nonce: a.Nonce, SetVersion: 1, Present: []string{l.Replicas[0].ReplicaID}})
			return err
		},
		"delete": func() error { return s.DeleteLog(ctx, l.LogID, 0) },
		"events": func() error { _, err := s.Events(ctx, 1); return err },
	} {
		wg.Go(func() {
			if err := call(); !errors.Is(err, ErrUnavailable) {
				t.Errorf("%s without etcd: %v", name, err)
			}
		})
	}
	wg.Wait()
	eventually(t, "not ready any more", func() bool { return errors.Is(s.Ready(), ErrUnavailable) })
	if _, ok := s.View().Log(l.Name); !ok {
		t.Error("the last picture is gone")
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.Register(ended, r); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnavailable) {
		t.Errorf("a caller that gave up: %v", err)
	}
}

func TestAFullEtcdSaysSo(t *testing.T) {
	t.Parallel()
	e := own(t, t.TempDir())
	s := startOwn(t, e, Options{})
	r := daemon(t, s)
	if _, err := e.etcd.Server.Alarm(t.Context(), &pb.AlarmRequest{
		MemberID: uint64(e.etcd.Server.MemberID()), Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_NOSPACE,
	}); err != nil {
		t.Fatal(err)
	}
	_, err := s.CreateLog(t.Context(), CreateLogRequest{Name: "l", Daemons: []string{r.DaemonID}, AckQuorum: 1, CapacityBytes: 4096})
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "space") {
		t.Errorf("CreateLog: %v", err)
	}
	// Renewals need no space.
	if _, err := s.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: r.DaemonID, Incarnation: 1, Free: r.Free}); err != nil {
		t.Errorf("Heartbeat: %v", err)
	}
}

func TestDialUnreachable(t *testing.T) {
	t.Parallel()
	start := time.Now()
	_, err := Dial(t.Context(), []string{"http://127.0.0.1:1"}, DialOptions{Timeout: 100 * time.Millisecond, Logger: quiet()})
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("Dial: %v after %v", err, time.Since(start))
	}
	if _, err := Dial(t.Context(), nil, DialOptions{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("Dial without endpoints: %v", err)
	}
}

func TestNewChecksItsOptions(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"DaemonTTL":        {DaemonTTL: time.Second},
		"WriterTTL":        {WriterTTL: 2 * time.Hour},
		"MaxLag":           {MaxLag: -1},
		"SubscriberBuffer": {SubscriberBuffer: -1},
	} {
		o.Lease = shared.etcd.Lease
		_, err := New(shared.etcd.Client, o)
		var bad *InvalidError
		if !errors.As(err, &bad) || bad.Field != name {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(nil, Options{}); err == nil {
		t.Error("no client, no error")
	}
	if _, err := New(clientv3.NewCtxClient(t.Context()), Options{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("no way to renew: %v", err)
	}
}
