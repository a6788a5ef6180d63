package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/server"
	"github.com/gravenio/graven/store"
)

const (
	patience = 30 * time.Second // for what must happen; nothing is asserted about how long it takes
	poolSize = 8 << 20
	ringSize = 1 << 20
	shortTTL = 2 * time.Second
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(childMain(dir))
	}
	code := m.Run()
	sharedCluster.close()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// controlPlane is a real server over a real store and etcd.
type controlPlane struct {
	url   string
	api   *openapi.ClientWithResponses
	ends  []func() error
	store *store.Store
}

func newControlPlane(ctx context.Context) (_ *controlPlane, err error) {
	quiet := slog.New(slog.DiscardHandler)
	dir, err := os.MkdirTemp("", "graven-agent")
	if err != nil {
		return nil, err
	}
	c := &controlPlane{ends: []func() error{func() error { return os.RemoveAll(dir) }}}
	defer func() {
		if err != nil {
			_ = c.close() // the first error says more
		}
	}()
	etcd, err := store.StartEmbedded(ctx, dir, store.EmbeddedOptions{Logger: quiet})
	if err != nil {
		return nil, err
	}
	c.ends = append(c.ends, etcd.Close)
	if c.store, err = store.New(etcd.Client, store.Options{Logger: quiet, Lease: etcd.Lease, ReportEvery: time.Millisecond}); err != nil {
		return nil, err
	}
	srv, err := server.New(c.store, server.Options{Logger: quiet})
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c.background(c.store.Run)
	c.background(func(ctx context.Context) error { return srv.Run(ctx, ln) })
	c.url = "http://" + ln.Addr().String()
	if c.api, err = openapi.NewClientWithResponses(c.url, openapi.WithHTTPClient(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}})); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return c, c.store.WaitReady(ctx)
}

func (c *controlPlane) background(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	c.ends = append(c.ends, func() error {
		cancel()
		return <-done
	})
}

func (c *controlPlane) close() error {
	var first error
	for i := len(c.ends) - 1; i >= 0; i-- {
		if err := c.ends[i](); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// lazy is the control plane that the tests share; it is started by the first
// one that needs it.
type lazy struct {
	once sync.Once
	c    *controlPlane
	err  error
}

var sharedCluster lazy

func (l *lazy) close() {
	if l.c != nil {
		if err := l.c.close(); err != nil {
			fmt.Fprintln(os.Stderr, "control plane:", err)
		}
	}
}

// cluster is what one test sees of the control plane: its own gate in front of
// it, and its own name for daemons and logs.
type cluster struct {
	*controlPlane
	t    *testing.T
	gate *gate
	name string
}

var testNumber atomic.Int64

func newCluster(t *testing.T) *cluster {
	t.Helper()
	sharedCluster.once.Do(func() { sharedCluster.c, sharedCluster.err = newControlPlane(context.Background()) })
	if sharedCluster.err != nil {
		t.Fatal(sharedCluster.err)
	}
	return &cluster{
		controlPlane: sharedCluster.c, t: t, gate: newGate(t, sharedCluster.c.url),
		name: fmt.Sprintf("t%d", testNumber.Add(1)),
	}
}

// newOwnCluster is newCluster with a control plane that no other test has.
func newOwnCluster(t *testing.T) *cluster {
	t.Helper()
	c, err := newControlPlane(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	})
	return &cluster{controlPlane: c, t: t, gate: newGate(t, c.url), name: fmt.Sprintf("t%d", testNumber.Add(1))}
}

// gate is a proxy in front of the API that can be shut, and that looks at
// requests.
type gate struct {
	url        string
	shut       atomic.Bool
	heartbeats atomic.Int64 // that were let through
	mu         sync.Mutex
	look       func(r *http.Request, body []byte)
	refuse     func(r *http.Request) bool
}

func newGate(t *testing.T, to string) *gate {
	t.Helper()
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{}
	transport := &http.Transport{}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.Transport = transport
	proxy.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.shut.Load() {
			panic(http.ErrAbortHandler) // the connection breaks
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		g.mu.Lock()
		if g.look != nil {
			g.look(r, body)
		}
		refused := g.refuse != nil && g.refuse(r)
		g.mu.Unlock()
		if refused {
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(w, r)
		if strings.HasSuffix(r.URL.Path, "/heartbeat") {
			g.heartbeats.Add(1)
		}
	}))
	g.url = srv.URL
	t.Cleanup(func() {
		srv.Close()
		transport.CloseIdleConnections()
	})
	return g
}

func (g *gate) onRequest(look func(r *http.Request, body []byte)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.look = look
}

// onlyWithout breaks the connections of requests to paths that end like that; an
// empty one is none.
func (g *gate) onlyWithout(suffix string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refuse = func(r *http.Request) bool { return suffix != "" && strings.HasSuffix(r.URL.Path, suffix) }
}

// options are those of a small agent of this test.
func (c *cluster) options(id string) Options {
	return Options{
		ID: c.name + id, Dir: c.t.TempDir(), PoolSize: poolSize, Endpoints: []string{c.gate.url}, LeaseTTL: shortTTL,
		Labels: map[string]string{"host": c.name + id, "test": c.name}, Version: "test", Logger: testLogger(c.t),
	}
}

func testLogger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(&testLog{t: t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// testLog writes to the test's log until that is over.
type testLog struct {
	t    *testing.T
	once sync.Once
	over atomic.Bool
}

func (l *testLog) Write(p []byte) (int, error) {
	l.once.Do(func() { l.t.Cleanup(func() { l.over.Store(true) }) })
	if !l.over.Load() {
		l.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

// running is an agent in its own goroutine.
type running struct {
	*Agent
	t    *testing.T
	stop context.CancelFunc
	done chan error
	err  error
	over bool
}

// start runs an agent until the test ends or it is ended.
func start(t *testing.T, o Options) *running {
	t.Helper()
	var a *Agent
	eventually(t, "the pool is free", func() bool { // a child of another test has its lock, too, between fork and exec
		var err error
		if a, err = New(o); err != nil && !errors.Is(err, pmemlog.ErrLocked) {
			t.Fatal(err)
		}
		return err == nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Agent: a, t: t, stop: cancel, done: make(chan error, 1)}
	go func() { r.done <- a.Run(ctx) }()
	t.Cleanup(func() {
		if !r.over {
			r.end()
		}
	})
	select {
	case <-a.Listening():
	case err := <-r.done:
		r.over = true
		t.Fatalf("agent ended: %v", err)
	}
	return r
}

// end stops the agent in order and fails the test if it ends in disorder.
func (r *running) end() {
	r.t.Helper()
	r.stop()
	if err := r.wait(); err != nil {
		r.t.Errorf("agent ended: %v", err)
	}
}

// confirmed waits until this start counts: the control plane shows it before the
// agent has the answer and has written it down.
func (r *running) confirmed() {
	r.t.Helper()
	select {
	case <-r.chores.bound:
	case <-time.After(30 * time.Second):
		r.t.Fatal("this start is not confirmed")
	}
}

// wait returns how the agent ended by itself.
func (r *running) wait() error {
	r.t.Helper()
	if r.over {
		return r.err
	}
	select {
	case r.err = <-r.done:
		r.over = true
	case <-time.After(patience):
		r.t.Fatal("the agent does not end")
	}
	return r.err
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain until %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (c *cluster) daemon(id string) *openapi.Daemon {
	c.t.Helper()
	r, err := c.api.GetDaemonWithResponse(context.Background(), id)
	if err != nil {
		c.t.Fatal(err)
	}
	return r.JSON200 // nil while it is not known
}

func (c *cluster) untilState(id string, want openapi.DaemonState) *openapi.Daemon {
	c.t.Helper()
	var d *openapi.Daemon
	eventually(c.t, id+" is "+string(want), func() bool {
		d = c.daemon(id)
		return d != nil && d.State == want
	})
	return d
}

// createLog makes a log of as many replicas on this test's daemons.
func (c *cluster) createLog(name string, replicas int32) *openapi.Log {
	c.t.Helper()
	var log *openapi.Log
	eventually(c.t, "a log can be made", func() bool { // the view may lag behind the registration
		r, err := c.api.CreateLogWithResponse(context.Background(), nil, openapi.CreateLogRequest{
			Name: c.name + name, Replicas: replicas, CapacityBytes: ringSize,
			Placement: openapi.PlacementRules{Labels: map[string]string{"test": c.name}},
		})
		if err != nil {
			c.t.Fatal(err)
		}
		if r.JSON201 == nil && r.StatusCode() != http.StatusConflict {
			c.t.Fatalf("create: %s", r.Body)
		}
		log = r.JSON201
		return log != nil
	})
	return log
}

// open asks for the next epoch of a log.
func (c *cluster) open(log *openapi.Log) *openapi.OpenedLog {
	c.t.Helper()
	r, err := c.api.OpenLogWithResponse(context.Background(), log.LogID, nil, openapi.OpenLogRequest{
		Writer: openapi.WriterInfo{Host: "test"}, Takeover: true,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	if r.JSON200 == nil {
		c.t.Fatalf("open: %s", r.Body)
	}
	return r.JSON200
}

// present has the control plane count on the log's replicas.
func (c *cluster) present(o *openapi.OpenedLog) {
	c.t.Helper()
	body := openapi.ChangeReplicasRequest{Epoch: o.Epoch, Nonce: o.Nonce, SetVersion: o.SetVersion}
	for _, r := range o.Replicas {
		body.Replicas = append(body.Replicas, openapi.ReplicaChange{ReplicaID: r.ReplicaID, State: openapi.ChangeToPresent})
	}
	r, err := c.api.ChangeReplicasWithResponse(context.Background(), o.LogID, body)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := openapi.Check(r); err != nil {
		c.t.Fatal(err)
	}
}

func decode[T any](t *testing.T, b []byte) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(b, &v); err != nil {
		t.Error(err)
	}
	return v
}
