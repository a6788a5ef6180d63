package store

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
)

// shared is one etcd and one store for the tests that need no own.
var shared struct {
	etcd  *Embedded
	store *Store
	// edges is another server, whose calls follow the plans in their contexts.
	edges *Store
	// settings is held by a test that changes what the whole cluster has one of.
	settings sync.Mutex
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "graven-store-")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	shared.etcd, err = StartEmbedded(context.Background(), dir, EmbeddedOptions{Logger: quiet()})
	if err != nil {
		panic(err)
	}
	var stop func()
	o := Options{CallTimeout: time.Minute} // the races are many at once, and a busy machine is no failure of theirs
	if shared.store, stop, err = start(shared.etcd, o); err != nil {
		panic(err)
	}
	var stopEdges func()
	if shared.edges, stopEdges, err = startOn(edgeClient(shared.etcd.Client, nil), shared.etcd.Lease, o); err != nil {
		panic(err)
	}
	code := m.Run()
	stopEdges()
	stop()
	if err := shared.etcd.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "close etcd:", err)
		code = 1
	}
	if err := goleak.Find(betweenMembers()...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

// betweenMembers are the connections that etcd members of one process leave
// behind among each other; this package itself has nothing to do with HTTP.
func betweenMembers() (ignored []goleak.Option) {
	for _, f := range []string{
		"net/http.(*persistConn).readLoop", "net/http.(*persistConn).writeLoop",
		"net/http.(*conn).serve", "net/http.(*connReader).backgroundRead",
	} {
		ignored = append(ignored, goleak.IgnoreAnyFunction(f))
	}
	return ignored
}

func quiet() *slog.Logger {
	if os.Getenv("GRAVEN_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}

// start runs a store on the etcd and waits until it is ready.
func start(e *Embedded, o Options, edit ...func(*Store)) (*Store, func(), error) {
	return startOn(e.Client, e.Lease, o, edit...)
}

// startOn runs a store on the client, as edit makes it.
func startOn(client *clientv3.Client, lease pb.LeaseClient, o Options, edit ...func(*Store)) (*Store, func(), error) {
	o.Lease = lease
	if o.Logger == nil {
		o.Logger = quiet()
	}
	s, err := New(client, o)
	if err != nil {
		return nil, nil, err
	}
	s.markOnly = o.ServerName != planning // no test shall have its logs repaired by another one's planner
	for _, f := range edit {
		f(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			panic(err)
		}
	})
	wait, cancelWait := context.WithTimeout(ctx, 20*time.Second)
	defer cancelWait()
	if err := s.WaitReady(wait); err != nil {
		stop()
		return nil, nil, err
	}
	return s, stop, nil
}

// second runs another store on the shared etcd.
func second(t *testing.T, o Options) *Store {
	t.Helper()
	s, stop, err := start(shared.etcd, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return s
}

// own starts an etcd for one test.
func own(t *testing.T, dir string) *Embedded {
	t.Helper()
	e, err := StartEmbedded(t.Context(), dir, EmbeddedOptions{Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// eventually polls a condition that no event announces to the test.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// planning is the name of a server of a test that plans operators.
const planning = "planning"

var ports atomic.Int64

// daemonReq is a good registration of a daemon that no other test has.
func daemonReq(t *testing.T) RegisterRequest {
	n := ports.Add(1)
	return RegisterRequest{
		DaemonID: fmt.Sprintf("%s-%d", strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")[4:min(40, len(t.Name()))]), n),
		PoolID:   uuid.NewString(), Incarnation: 1,
		Addresses: Addresses{TCPAddr: "127.0.0.1", TCPPort: int(10000 + n)},
		Capacity:  1 << 30, Free: 1 << 30, Media: "file", Transports: []string{"tcp"},
		Labels: map[string]string{"host": fmt.Sprint("h", n)}, LeaseTTL: time.Minute,
	}
}

// daemon registers one.
func daemon(t *testing.T, s *Store, edit ...func(*RegisterRequest)) RegisterRequest {
	t.Helper()
	r := daemonReq(t)
	for _, f := range edit {
		f(&r)
	}
	if _, err := s.Register(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	return r
}

func daemons(t *testing.T, s *Store, n int) []string {
	t.Helper()
	ids := make([]string, n)
	for i := range ids {
		ids[i] = daemon(t, s).DaemonID
	}
	return ids
}

func logName(t *testing.T) string {
	return fmt.Sprint("log-", ports.Add(1))
}

// makeLog makes a log on new daemons.
func makeLog(t *testing.T, s *Store) *Log {
	t.Helper()
	l, err := s.CreateLog(t.Context(), CreateLogRequest{
		Name: logName(t), Daemons: daemons(t, s, 3), AckQuorum: 2, CapacityBytes: 1 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func open(t *testing.T, s *Store, log string, edit ...func(*OpenLogRequest)) *OpenAnswer {
	t.Helper()
	r := OpenLogRequest{Log: log, Host: "h", PID: 7, LeaseTTL: time.Minute}
	for _, f := range edit {
		f(&r)
	}
	a, err := s.OpenLog(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func ref(a *OpenAnswer) WriterRef {
	return WriterRef{Log: a.LogID, WriterID: a.WriterID, Epoch: a.Epoch}
}

// expire ends a lease as its time running out would.
func expire(t *testing.T, s *Store, key string) {
	t.Helper()
	resp, err := s.client.Get(t.Context(), key)
	if err != nil || len(resp.Kvs) != 1 || resp.Kvs[0].Lease == 0 {
		t.Fatalf("%s has no lease: %v, %v", key, resp, err)
	}
	rev, err := s.client.Revoke(t.Context(), entryOf(resp.Kvs[0]).lease)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.view.WaitRevision(t.Context(), rev.Header.Revision); err != nil {
		t.Fatal(err)
	}
}

func etcdRevision(t *testing.T, s *Store) int64 {
	t.Helper()
	resp, err := s.client.Get(t.Context(), keyCluster)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

// runOnly runs one of a store's loops.
func runOnly(t *testing.T, loop func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = loop(ctx)
	}()
	return func() { cancel(); <-done }
}
