package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/server"
	"github.com/gravenio/graven/store"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster is an etcd, a store and a server on a port of their own.
type cluster struct {
	t      *testing.T
	url    string
	store  *store.Store
	server *server.Server
	etcd   *store.Embedded
	http   *http.Client // checks every answer against the contract
	stop   func()       // ends the server, as a signal would

	served  chan error
	options server.Options
}

type setup struct {
	store  store.Options
	server server.Options
}

func start(t *testing.T, o setup) *cluster {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	etcd, err := store.StartEmbedded(t.Context(), t.TempDir(), store.EmbeddedOptions{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	o.store.Lease, o.store.Logger = etcd.Lease, quiet
	if o.server.Logger == nil {
		o.server.Logger = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	st, err := store.New(etcd.Client, o.store)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := server.New(st, o.server)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sctx, stopStore := context.WithCancel(context.Background())
	hctx, stopServer := context.WithCancel(context.Background())
	stored, served := make(chan error, 1), make(chan error, 1)
	go func() { stored <- st.Run(sctx) }()
	go func() { served <- srv.Run(hctx, ln) }()
	transport := &checkedTransport{t: t, routes: contract(t), inner: &http.Transport{}}
	c := &cluster{
		t: t, url: "http://" + ln.Addr().String(), store: st, server: srv, etcd: etcd,
		http: &http.Client{Transport: transport}, stop: stopServer, served: served, options: o.server,
	}
	t.Cleanup(func() {
		transport.inner.CloseIdleConnections()
		c.stop()
		if err := <-c.served; err != nil {
			t.Errorf("server: %v", err)
		}
		stopStore()
		if err := <-stored; err != nil {
			t.Errorf("store: %v", err)
		}
		if err := etcd.Close(); err != nil {
			t.Errorf("etcd: %v", err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := st.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return c
}

// bare is a server without a store, for what is decided before one is asked.
func bare(t *testing.T, o server.Options) *cluster {
	t.Helper()
	srv, err := server.New(nil, o)
	if err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewServer(srv.Handler())
	transport := &checkedTransport{t: t, routes: contract(t), inner: &http.Transport{}}
	t.Cleanup(func() {
		transport.inner.CloseIdleConnections()
		listener.Close()
	})
	return &cluster{t: t, url: listener.URL, server: srv, http: &http.Client{Transport: transport}}
}

// restart puts another server at the address of the one that was stopped.
func (c *cluster) restart() {
	c.t.Helper()
	if err := <-c.served; err != nil {
		c.t.Fatal(err)
	}
	srv, err := server.New(c.store, c.options)
	if err != nil {
		c.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", strings.TrimPrefix(c.url, "http://"))
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	c.server, c.stop = srv, stop
	go func() { c.served <- srv.Run(ctx, ln) }()
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func contract(t *testing.T) routers.Router {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(openapi.Document())
	if err != nil {
		t.Fatal(err)
	}
	routes, err := legacy.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return routes
}

// checkedTransport fails the test for an answer that the contract does not
// have: its status, headers, body, or the type of its problem.
type checkedTransport struct {
	t      *testing.T
	routes routers.Router
	inner  *http.Transport
}

func (c *checkedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	rsp, err := c.inner.RoundTrip(r)
	if err != nil || strings.HasPrefix(rsp.Header.Get("Content-Type"), "text/event-stream") {
		return rsp, err
	}
	body, err := io.ReadAll(rsp.Body)
	_ = rsp.Body.Close()
	rsp.Body = io.NopCloser(bytes.NewReader(body))
	if err != nil {
		return rsp, nil
	}
	c.check(r, rsp, body)
	return rsp, nil
}

func (c *checkedTransport) check(r *http.Request, rsp *http.Response, body []byte) {
	c.t.Helper()
	path := *r
	path.URL = mustPath(r)
	route, params, err := c.routes.FindRoute(&path)
	if err != nil {
		if rsp.StatusCode < 400 {
			c.t.Errorf("%s %s: answered %d and is not in the contract", r.Method, r.URL.Path, rsp.StatusCode)
		}
		return
	}
	text := strings.HasPrefix(rsp.Header.Get("Content-Type"), "text/") || strings.Contains(rsp.Header.Get("Content-Type"), "yaml") ||
		strings.Contains(rsp.Header.Get("Content-Type"), "svg")
	err = openapi3filter.ValidateResponse(r.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: &path, Route: route, PathParams: params},
		Status:                 rsp.StatusCode, Header: rsp.Header, Body: io.NopCloser(bytes.NewReader(body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true, ExcludeResponseBody: text},
	})
	if err != nil {
		c.t.Errorf("%s %s: answer %d breaks the contract: %v\n%s", r.Method, r.URL.Path, rsp.StatusCode, err, body)
	}
	if rsp.StatusCode >= 400 {
		c.checkProblem(r, route, rsp, body)
	}
}

// mustPath gives the router what it routes by: the path alone.
func mustPath(r *http.Request) *url.URL {
	u := *r.URL
	u.Scheme, u.Host = "", ""
	return &u
}

func (c *checkedTransport) checkProblem(r *http.Request, route *routers.Route, rsp *http.Response, body []byte) {
	c.t.Helper()
	var p openapi.Problem
	if err := json.Unmarshal(body, &p); err != nil {
		c.t.Errorf("%s %s: problem: %v", r.Method, r.URL.Path, err)
		return
	}
	if int(p.Status) != rsp.StatusCode {
		c.t.Errorf("%s %s: problem says %d, answer is %d", r.Method, r.URL.Path, p.Status, rsp.StatusCode)
	}
	ref := route.Operation.Responses.Value(fmt.Sprint(rsp.StatusCode))
	if ref == nil {
		ref = route.Operation.Responses.Default()
	}
	types, _ := ref.Value.Extensions["x-problem-types"].([]any)
	slug := strings.TrimPrefix(string(p.Type), openapi.ProblemPrefix)
	if !slices.Contains(types, any(slug)) {
		c.t.Errorf("%s %s: %d with type %s, which the contract does not list there (%v)", r.Method, r.URL.Path, rsp.StatusCode, slug, types)
	}
}

// api is the generated client.
func (c *cluster) api() *openapi.ClientWithResponses {
	c.t.Helper()
	api, err := openapi.NewClientWithResponses(c.url, openapi.WithHTTPClient(c.http))
	if err != nil {
		c.t.Fatal(err)
	}
	return api
}

// answer is what a plain request got.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) problem(t *testing.T) openapi.Problem {
	t.Helper()
	var p openapi.Problem
	if err := json.Unmarshal(a.body, &p); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	return p
}

// do sends a request as curl would; a body is sent as JSON.
func (c *cluster) do(method, path, body string, headers ...string) answer {
	c.t.Helper()
	a, err := c.try(method, path, body, headers...)
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

// try is do for goroutines that must not end the test.
func (c *cluster) try(method, path, body string, headers ...string) (answer, error) {
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
			continue
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	rsp, err := c.http.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer rsp.Body.Close()
	b, err := io.ReadAll(rsp.Body)
	return answer{rsp.StatusCode, rsp.Header, b}, err
}

// get decodes a success.
func get[T any](c *cluster, path string) T {
	c.t.Helper()
	a := c.do(http.MethodGet, path, "")
	var v T
	if a.status != http.StatusOK {
		c.t.Fatalf("GET %s: %d %s", path, a.status, a.body)
	}
	if err := json.Unmarshal(a.body, &v); err != nil {
		c.t.Fatalf("GET %s: %v", path, err)
	}
	return v
}

// daemonSpec is a daemon to register.
type daemonSpec struct {
	id       string
	n        int // tells pools and ports apart
	media    openapi.Media
	capacity int64
	ttl      int64
	labels   map[string]string
}

func (d daemonSpec) request() openapi.RegisterRequest {
	if d.media == "" {
		d.media = openapi.MediaFile
	}
	if d.capacity == 0 {
		d.capacity = 4 << 30
	}
	if d.ttl == 0 {
		d.ttl = 60
	}
	return openapi.RegisterRequest{
		PoolID:      fmt.Sprintf("00000000-0000-4000-8000-%012d", d.n),
		Incarnation: 1,
		TCPAddr:     "127.0.0.1", TCPPort: int32(20000 + d.n),
		Media: d.media, CapacityBytes: d.capacity, FreeBytes: d.capacity,
		Transports: []openapi.Transport{openapi.TransportTCP}, FlushModes: []openapi.FlushMode{openapi.FlushAck},
		Labels: d.labels, Replicas: []openapi.ReplicaSummary{}, Version: "test", LeaseTTLSeconds: d.ttl,
	}
}

func (c *cluster) register(d daemonSpec) *openapi.Registration {
	c.t.Helper()
	rsp, err := c.api().RegisterDaemonWithResponse(c.t.Context(), d.id, d.request())
	if err != nil {
		c.t.Fatal(err)
	}
	if err := openapi.Check(rsp); err != nil {
		c.t.Fatal(err)
	}
	return rsp.JSON200
}

// three registers d1, d2 and d3.
func (c *cluster) three() {
	c.t.Helper()
	for n := 1; n <= 3; n++ {
		id := fmt.Sprintf("d%d", n)
		c.register(daemonSpec{id: id, n: n, labels: map[string]string{"host": id, "zone": "z" + id}})
	}
}

func (c *cluster) createLog(name string) openapi.Log {
	c.t.Helper()
	a := c.do(http.MethodPost, "/v1/logs", `{"name":"`+name+`","replicas":3,"ack_quorum":2,"capacity_bytes":1048576}`)
	var l openapi.Log
	if a.status != http.StatusCreated {
		c.t.Fatalf("create %s: %d %s", name, a.status, a.body)
	}
	if err := json.Unmarshal(a.body, &l); err != nil {
		c.t.Fatal(err)
	}
	return l
}
