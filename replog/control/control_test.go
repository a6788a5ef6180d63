package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog"
	"github.com/gravenio/graven/replog/core"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	clusterID = "5d3c2f4e-8f5a-4b7e-9a55-0d7f5b0c9a11"
	logID     = "0a3c2f4e-8f5a-4b7e-9a55-0d7f5b0c9a22"
	replicaID = "1b3c2f4e-8f5a-4b7e-9a55-0d7f5b0c9a33"
	otherID   = "2c3c2f4e-8f5a-4b7e-9a55-0d7f5b0c9a44"
	nonce     = "00ff86d081884c7d"
)

// server answers every call the same way and remembers the last one.
type server struct {
	status int
	kind   string // of the answer
	answer any    // rendered as JSON, or a string as it is

	mu     sync.Mutex
	method string
	path   string
	key    string
	body   map[string]any
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.method, s.path, s.key = r.Method, r.URL.Path, r.Header.Get("Idempotency-Key")
	s.body = nil
	raw, _ := io.ReadAll(r.Body) // what is missing shows in the test
	_ = json.Unmarshal(raw, &s.body)
	w.Header().Set("Content-Type", s.kind)
	w.WriteHeader(s.status)
	if text, ok := s.answer.(string); ok {
		_, _ = io.WriteString(w, text)
		return
	}
	_ = json.NewEncoder(w).Encode(s.answer)
}

func start(t *testing.T, s *server) *Client {
	t.Helper()
	if s.kind == "" {
		s.kind = "application/json"
	}
	h := httptest.NewServer(s)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	t.Cleanup(h.Close)
	api, err := openapi.NewClientWithResponses(h.URL, openapi.WithHTTPClient(client))
	if err != nil {
		t.Fatal(err)
	}
	return New(api, "test", 7*time.Second)
}

func problem(t openapi.ProblemType, status int) *server {
	return &server{status: status, kind: openapi.ProblemMediaType, answer: openapi.Problem{
		Type: t, Title: "no", Status: int32(status), Detail: "since host h9 has it",
	}}
}

func openedLog() *openapi.OpenedLog {
	return &openapi.OpenedLog{
		AckQuorum: 2, CapacityBytes: 1 << 20, ClusterID: clusterID, Epoch: 3, Grant: "signed", LogID: logID, Name: "vm-1",
		Nonce: nonce, RenewEverySeconds: 2.5, SetVersion: 4, WriterID: "w1", AfterClose: true,
		Replicas: []openapi.Endpoint{
			{ReplicaID: replicaID, DaemonID: "d1", State: openapi.ReplicaPresent, TCPAddr: "fd00::1", TCPPort: 7000},
			{ReplicaID: otherID, DaemonID: "d2", State: openapi.ReplicaAllocated},
		},
	}
}

func grantForTest() replog.Grant {
	id, _ := parseID("", logID)
	return replog.Grant{Log: id, Name: "vm-1", Term: format.Fence{Epoch: 3, Nonce: 0xff86d081884c7d}, Writer: "w1", SetVersion: 4}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	s := &server{status: http.StatusOK, answer: openedLog()}
	c := start(t, s)
	g, err := c.Open(context.Background(), replog.OpenRequest{Log: "vm-1", Takeover: true, MinEpoch: 9})
	if err != nil {
		t.Fatal(err)
	}
	if g.Cluster.String() != clusterID || g.Log.String() != logID || g.Name != "vm-1" || g.Term != grantForTest().Term ||
		g.SetVersion != 4 || g.AckQuorum != 2 || g.Capacity != 1<<20 || g.Token != "signed" || !g.AfterClose || g.Writer != "w1" || g.RenewEvery != 2500*time.Millisecond {
		t.Errorf("%+v", g)
	}
	if len(g.Replicas) != 2 || g.Replicas[0].Address != "[fd00::1]:7000" || g.Replicas[0].State != core.Present || g.Replicas[0].Daemon != "d1" ||
		g.Replicas[1].Address != "" || g.Replicas[1].State != core.Allocated || g.Replicas[1].ID.String() != otherID {
		t.Errorf("%+v", g.Replicas)
	}
	writer, _ := s.body["writer"].(map[string]any)
	if s.method != http.MethodPost || !strings.HasSuffix(s.path, "/logs/vm-1/open") || s.body["takeover"] != true || s.body["min_epoch"] != 9.0 ||
		s.body["lease_ttl_seconds"] != 7.0 || writer["name"] != "test" || writer["host"] == "" || writer["pid"] == nil {
		t.Errorf("%s %s %v", s.method, s.path, s.body)
	}
	first := s.key
	if len(first) < 16 {
		t.Errorf("idempotency key %q", first)
	}
	if _, err := c.Open(context.Background(), replog.OpenRequest{Log: "vm-1"}); err != nil || s.key == first {
		t.Errorf("another open has key %q like the first, %v", s.key, err)
	}
}

func TestRenewCloseAndPresent(t *testing.T) {
	t.Parallel()
	ctx, g := context.Background(), grantForTest()
	s := &server{status: http.StatusOK, answer: openapi.RenewedLog{SetVersion: 5, Grant: "anew", Replicas: append(openedLog().Replicas,
		openapi.Endpoint{ReplicaID: clusterID, DaemonID: "d3", State: openapi.ReplicaLearner, Replaces: otherID})}}
	now, err := start(t, s).Renew(ctx, g)
	if err != nil || len(now.Replicas) != 3 || now.Replicas[0].Address != "[fd00::1]:7000" || now.SetVersion != 5 || now.Token != "anew" ||
		now.Replicas[2].State != core.Learner || now.Replicas[2].Replaces.String() != otherID {
		t.Errorf("renew: %+v, %v", now, err)
	}
	check := func(what, path string) {
		t.Helper()
		if !strings.HasSuffix(s.path, "/logs/"+logID+path) || s.body["epoch"] != 3.0 || s.body["nonce"] != nonce {
			t.Errorf("%s: %s %v", what, s.path, s.body)
		}
	}
	check("renew", "/renew")
	s = &server{status: http.StatusNoContent}
	if err := start(t, s).Close(ctx, g); err != nil {
		t.Errorf("close: %v", err)
	}
	check("close", "/close")
	s = &server{status: http.StatusOK, answer: map[string]any{}}
	id, _ := parseID("", replicaID)
	if err := start(t, s).MakePresent(ctx, g, []format.ID{id}); err != nil {
		t.Errorf("present: %v", err)
	}
	check("present", "/replicas")
	changes, _ := s.body["replicas"].([]any)
	if len(changes) != 1 || s.body["set_version"] != 4.0 {
		t.Fatalf("present: %v", s.body)
	}
	if change := changes[0].(map[string]any); change["replica_id"] != replicaID || change["state"] != "present" {
		t.Errorf("present: %v", change)
	}
}

func TestReplacement(t *testing.T) {
	t.Parallel()
	ctx, g := context.Background(), grantForTest()
	id, _ := parseID("", replicaID)
	s := &server{status: http.StatusOK, answer: openapi.ReplicaSet{SetVersion: 5}}
	if version, err := start(t, s).Promote(ctx, g, id); err != nil || version != 5 {
		t.Errorf("promote: %d, %v", version, err)
	}
	changes, _ := s.body["replicas"].([]any)
	if len(changes) != 1 || s.body["set_version"] != 4.0 || changes[0].(map[string]any)["state"] != "present" {
		t.Errorf("promote: %v", s.body)
	}
	s = &server{status: http.StatusOK, answer: openapi.ReplicaSet{SetVersion: 4}}
	if _, err := start(t, s).Promote(ctx, g, id); err == nil || errors.Is(err, replog.ErrAbandoned) {
		t.Errorf("a promote that changed nothing: %v", err)
	}
	if _, err := start(t, problem(openapi.ProblemReplacementAbandoned, http.StatusConflict)).Promote(ctx, g, id); !errors.Is(err, replog.ErrAbandoned) {
		t.Errorf("promote of an abandoned learner: %v", err)
	}
	if _, err := start(t, problem(openapi.ProblemConflict, http.StatusConflict)).Promote(ctx, g, id); err == nil || errors.Is(err, replog.ErrAbandoned) {
		t.Errorf("promote with an unknown outcome: %v", err)
	}
	s = &server{status: http.StatusOK, answer: openapi.ReplicaSet{SetVersion: 4}}
	if err := start(t, s).Abandon(ctx, g, id); err != nil {
		t.Errorf("abandon: %v", err)
	}
	changes, _ = s.body["replicas"].([]any)
	if len(changes) != 1 || changes[0].(map[string]any)["state"] != "condemned" {
		t.Errorf("abandon: %v", s.body)
	}
	s = &server{status: http.StatusOK, answer: map[string]any{}}
	if err := start(t, s).Replace(ctx, g, id); err != nil || s.body["replica"] != replicaID || !strings.HasSuffix(s.path, "/replacement") {
		t.Errorf("replace: %s %v, %v", s.path, s.body, err)
	}
	if err := start(t, problem(openapi.ProblemNoPlacement, http.StatusConflict)).Replace(ctx, g, id); !openapi.IsProblem(err, openapi.ProblemNoPlacement) {
		t.Errorf("replace without room: %v", err)
	}
}

func TestRecordLoss(t *testing.T) {
	t.Parallel()
	a, _ := parseID("", replicaID)
	b, _ := parseID("", otherID)
	loss := core.Loss{Chosen: a, Last: format.Position{Epoch: 2, LSN: 640}, Unknown: []core.Unknown{
		{ID: b, Reason: errors.New(strings.Repeat("ä", 600))}, {ID: a, Evidence: format.Position{Epoch: 2, LSN: 1024}},
	}}
	s := &server{status: http.StatusNoContent}
	c := start(t, s)
	g := grantForTest()
	g.Replicas = []replog.Replica{{ID: a, Daemon: "d1"}, {ID: b, Daemon: "d2"}}
	for range 2 {
		if err := c.RecordLoss(context.Background(), g, loss); err != nil {
			t.Fatal(err)
		}
	}
	given, _ := s.body["given_up"].([]any)
	if len(given) != 2 || s.body["kind"] != "data-loss-accepted" || !strings.Contains(s.body["detail"].(string), "on d1, which ends at LSN 640") || s.body["writer_id"] != "w1" {
		t.Fatalf("%v", s.body)
	}
	first, second := given[0].(map[string]any), given[1].(map[string]any)
	if text := first["detail"].(string); first["replica_id"] != otherID || len(text) > 512 || !strings.HasPrefix(text, "on d2: what it held is not known") {
		t.Errorf("%v", first)
	}
	if text := second["detail"].(string); !strings.Contains(text, "LSN 1024 of epoch 2") {
		t.Errorf("%v", second)
	}
	if key := s.key; !strings.Contains(key, nonce) || !strings.Contains(key, logID) {
		t.Errorf("idempotency key %q", key)
	}
}

func TestRecordRecovery(t *testing.T) {
	t.Parallel()
	ids := [4]format.ID{}
	g := grantForTest()
	for i := range ids {
		ids[i] = format.ID{byte(i + 1)}
		g.Replicas = append(g.Replicas, replog.Replica{ID: ids[i], Daemon: fmt.Sprint("d", i+1)})
	}
	rec := core.Recovery{T: 4096, Away: ids[3:], Repaired: []core.Repaired{
		{ID: ids[0], From: 64, Held: 64}, {ID: ids[1], From: 128, Held: 8192, Diverged: true}, {ID: ids[2], From: 192, Held: 192, Damaged: true},
	}}
	s := &server{status: http.StatusNoContent}
	c := start(t, s)
	if err := c.RecordRecovery(context.Background(), g, rec); err != nil {
		t.Fatal(err)
	}
	first, key := s.body["detail"], s.key
	if err := c.RecordRecovery(context.Background(), g, rec); err != nil || s.body["detail"] != first || s.key != key {
		t.Errorf("told again: %v, %v under %q, %v", err, s.body["detail"], s.key, key)
	}
	text, _ := first.(string)
	for _, want := range []string{
		"epoch 3 begins at LSN 4096", "on d1 had missed what lies from LSN 64 on", "on d2 ended at LSN 8192 otherwise than the log, and was rewritten from LSN 128 on",
		"on d3 had lost records, and was given all from LSN 192 on", "without d4",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %q", want, text)
		}
	}
	if s.body["kind"] != "log-recovered" || s.body["writer_id"] != "w1" || !strings.HasPrefix(key, "recovery-"+logID) || !strings.Contains(key, nonce) || len(key) > 128 {
		t.Errorf("%v under %q", s.body, key)
	}
	// The longest one is within the contract's bound.
	longest := core.Recovery{T: 1<<63 - 1}
	g.Replicas = nil
	for i := range 7 {
		id := format.ID{byte(i)}
		g.Replicas = append(g.Replicas, replog.Replica{ID: id, Daemon: strings.Repeat("d", 63)})
		longest.Repaired = append(longest.Repaired, core.Repaired{ID: id, From: 1<<63 - 1, Held: 1<<63 - 1, Diverged: true})
	}
	if n := len(describeRecovery(g, &longest)); n > 2048 {
		t.Errorf("%d bytes", n)
	}
}

// A control plane that was set back hands the writer's own epoch to another one.
// That alone ends nothing: the replicas know better.
func TestSupersededInItsOwnEpoch(t *testing.T) {
	t.Parallel()
	for epoch, want := range map[int64]bool{2: false, 3: false, 4: true} {
		s := problem(openapi.ProblemSuperseded, http.StatusConflict)
		p := s.answer.(openapi.Problem)
		p.Epoch = epoch
		s.answer = p
		if _, err := start(t, s).Renew(context.Background(), grantForTest()); err == nil || errors.Is(err, replog.ErrSuperseded) != want {
			t.Errorf("superseded by epoch %d in epoch 3: %v", epoch, err)
		}
	}
}

// TestRefusals: what a writer must tell apart, it can; the server's words are
// kept.
func TestRefusals(t *testing.T) {
	t.Parallel()
	ctx, g := context.Background(), grantForTest()
	calls := map[string]func(*Client) error{
		"open":    func(c *Client) error { _, err := c.Open(ctx, replog.OpenRequest{Log: "vm-1"}); return err },
		"renew":   func(c *Client) error { _, err := c.Renew(ctx, g); return err },
		"close":   func(c *Client) error { return c.Close(ctx, g) },
		"present": func(c *Client) error { return c.MakePresent(ctx, g, nil) },
		"promote": func(c *Client) error { _, err := c.Promote(ctx, g, format.ID{}); return err },
		"abandon": func(c *Client) error { return c.Abandon(ctx, g, format.ID{}) },
		"loss":    func(c *Client) error { return c.RecordLoss(ctx, g, core.Loss{}) },
		"recover": func(c *Client) error { return c.RecordRecovery(ctx, g, core.Recovery{}) },
	}
	for name, call := range calls {
		for _, p := range []struct {
			t      openapi.ProblemType
			status int
			want   error
		}{
			{openapi.ProblemLogInUse, http.StatusConflict, replog.ErrInUse},
			{openapi.ProblemSuperseded, http.StatusConflict, replog.ErrSuperseded},
			{openapi.ProblemSetBehind, http.StatusConflict, core.ErrSetBehind},
			{openapi.ProblemUnavailable, http.StatusServiceUnavailable, nil},
			{openapi.ProblemNotFound, http.StatusNotFound, nil},
		} {
			err := call(start(t, problem(p.t, p.status)))
			if err == nil || !openapi.IsProblem(err, p.t) || !strings.Contains(err.Error(), "since host h9 has it") {
				t.Errorf("%s, %s: %v", name, p.t, err)
			}
			for _, kind := range []error{replog.ErrInUse, replog.ErrSuperseded, core.ErrSetBehind} {
				if errors.Is(err, kind) != errors.Is(p.want, kind) {
					t.Errorf("%s, %s: is %v: %v", name, p.t, kind, errors.Is(err, kind))
				}
			}
		}
		err := call(start(t, &server{status: http.StatusBadGateway, kind: "text/html", answer: "<html>"}))
		if err == nil || errors.Is(err, replog.ErrSuperseded) || !strings.Contains(err.Error(), "502") {
			t.Errorf("%s through a broken proxy: %v", name, err)
		}
	}
	for _, name := range []string{"open", "renew"} {
		err := calls[name](start(t, &server{status: http.StatusOK, kind: "text/plain", answer: "hello"}))
		if err == nil || !strings.Contains(err.Error(), "without a body") {
			t.Errorf("%s with an answer that is none: %v", name, err)
		}
	}
}

func TestCallsEndWithTheirContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c := start(t, &server{status: http.StatusOK, answer: openedLog()})
	if _, err := c.Open(ctx, replog.OpenRequest{Log: "vm-1"}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := c.Renew(ctx, grantForTest()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := c.Close(ctx, grantForTest()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := c.MakePresent(ctx, grantForTest(), nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestBadGrants: what the server got wrong is named by its field.
func TestBadGrants(t *testing.T) {
	t.Parallel()
	for want, harm := range map[string]func(*openapi.OpenedLog){
		`cluster_id "x": must be a UUID`:                  func(o *openapi.OpenedLog) { o.ClusterID = "x" },
		`log_id "": must be a UUID`:                       func(o *openapi.OpenedLog) { o.LogID = "" },
		`replica_id "r": must be a UUID`:                  func(o *openapi.OpenedLog) { o.Replicas[1].ReplicaID = "r" },
		`nonce "": must be 16 hexadecimal digits`:         func(o *openapi.OpenedLog) { o.Nonce = "" },
		`nonce "+0ff86d081884c7d": must be 16 hexadecima`: func(o *openapi.OpenedLog) { o.Nonce = "+0ff86d081884c7d" },
		`nonce "ff86d081884c7d": must be 16 hexadecimal`:  func(o *openapi.OpenedLog) { o.Nonce = "ff86d081884c7d" },
		`capacity_bytes -4096: must be 1 to`:              func(o *openapi.OpenedLog) { o.CapacityBytes = -4096 },
		`capacity_bytes 4611686018427387904: must be`:     func(o *openapi.OpenedLog) { o.CapacityBytes = 1 << 62 },
		`set_version -1: must not be negative`:            func(o *openapi.OpenedLog) { o.SetVersion = -1 },
		`epoch -1: must be at least 1`:                    func(o *openapi.OpenedLog) { o.Epoch = -1 },
	} {
		o := openedLog()
		harm(o)
		_, err := start(t, &server{status: http.StatusOK, answer: o}).Open(context.Background(), replog.OpenRequest{Log: "vm-1"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
	s := &server{status: http.StatusOK, answer: openapi.RenewedLog{Replicas: []openapi.Endpoint{{ReplicaID: "r"}}}}
	if _, err := start(t, s).Renew(context.Background(), grantForTest()); err == nil || !strings.Contains(err.Error(), `replica_id "r"`) {
		t.Errorf("renew: %v", err)
	}
}

func TestLogOf(t *testing.T) {
	t.Parallel()
	l := &openapi.Log{
		LogID: logID, Name: "vm-1", CapacityBytes: 1 << 20, AckQuorum: 2,
		Replicas: []openapi.Replica{
			{ReplicaID: replicaID, DaemonID: "d1", State: openapi.ReplicaPresent},
			{ReplicaID: otherID, DaemonID: "d2", State: openapi.ReplicaAllocated},
		},
	}
	d := openapi.Daemon{DaemonID: "d1"}
	d.TCPAddr, d.TCPPort = "10.0.0.1", 7000
	got, err := LogOf(clusterID, l, []openapi.Daemon{d, {DaemonID: "d2"}})
	if err != nil {
		t.Fatal(err)
	}
	if got.Cluster.String() != clusterID || got.ID.String() != logID || got.Name != "vm-1" || got.Capacity != 1<<20 || got.AckQuorum != 2 ||
		len(got.Replicas) != 2 || got.Replicas[0].Address != "10.0.0.1:7000" || got.Replicas[0].State != core.Present ||
		got.Replicas[1].Address != "" || got.Replicas[1].State != core.Allocated {
		t.Errorf("%+v", got)
	}
	if _, err := LogOf("c", l, nil); err == nil || !strings.Contains(err.Error(), `cluster_id "c"`) {
		t.Error(err)
	}
	l.Replicas[0].ReplicaID = "r"
	if _, err := LogOf(clusterID, l, nil); err == nil || !strings.Contains(err.Error(), `replica_id "r"`) {
		t.Error(err)
	}
	l.LogID = "l"
	if _, err := LogOf(clusterID, l, nil); err == nil || !strings.Contains(err.Error(), `log_id "l"`) {
		t.Error(err)
	}
}
