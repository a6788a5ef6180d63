package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/server"
)

func TestLoopbackOnly(t *testing.T) {
	t.Parallel()
	c := bare(t, server.Options{LoopbackOnly: true})
	own := strings.TrimPrefix(c.url, "http://")
	for _, tc := range []struct {
		host, origin string
		status       int
	}{
		{own, "", 200},
		{"localhost:7070", "", 200},
		{"[::1]:7070", "", 200},
		{"127.9.9.9", "", 200},
		{own, "http://" + own, 200},
		{"graven.example", "", 403},
		{"127.0.0.1.example:7070", "", 403},
		{"localhost.example", "", 403},
		{own, "http://evil.example", 403},
		{own, "http://localhost:3000", 403}, // another program on this machine
		{own, "null", 403},
	} {
		headers := []string{"Host", tc.host}
		if tc.origin != "" {
			headers = append(headers, "Origin", tc.origin)
		}
		a := c.do(http.MethodGet, "/healthz", "", headers...)
		if a.status != tc.status {
			t.Errorf("Host %s, Origin %s: %d %s", tc.host, tc.origin, a.status, a.body)
		}
		if a.status == 403 && a.problem(t).Type != openapi.ProblemForbiddenOrigin {
			t.Errorf("Host %s, Origin %s: %s", tc.host, tc.origin, a.body)
		}
	}
	open := bare(t, server.Options{})
	if a := open.do(http.MethodGet, "/healthz", "", "Host", "graven.example"); a.status != http.StatusOK {
		t.Errorf("a server for others: %d %s", a.status, a.body)
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	c := bare(t, server.Options{})
	if a := c.do(http.MethodGet, "/healthz", "", "X-Request-Id", "mine-1"); a.header.Get("X-Request-Id") != "mine-1" {
		t.Errorf("own ID: %v", a.header)
	}
	if a := c.do(http.MethodGet, "/healthz", "", "X-Request-Id", strings.Repeat("x", 65)); len(a.header.Get("X-Request-Id")) != 16 {
		t.Errorf("an ID too long: %v", a.header)
	}
}

func TestAllowIsSaid(t *testing.T) {
	t.Parallel()
	c := bare(t, server.Options{})
	for path, allow := range map[string]string{
		"/v1/daemons/d1": "DELETE, GET, PUT", "/v1/logs": "GET, POST", "/v1/logs/l1/open": "POST", "/": "GET",
	} {
		if a := c.do(http.MethodPatch, path, ""); a.header.Get("Allow") != allow {
			t.Errorf("%s: %d, Allow %q, want %q", path, a.status, a.header.Get("Allow"), allow)
		}
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	c.three()
	c.createLog("l1")
	c.do(http.MethodGet, "/v1/logs/nothing", "")
	c.do(http.MethodGet, "/no/such/path", "")
	c.do("BREW", "/v1/logs", "")
	text := string(c.do(http.MethodGet, "/metrics", "").body)
	for _, line := range []string{
		`graven_http_requests_total{method="PUT",route="/v1/daemons/{daemon_id}",status="200"} 3`,
		`graven_http_requests_total{method="POST",route="/v1/logs",status="201"} 1`,
		`graven_http_requests_total{method="GET",route="/v1/logs/{log}",status="404"} 1`,
		`graven_http_requests_total{method="GET",route="none",status="404"} 1`,
		`graven_http_requests_total{method="other",route="none",status="405"} 1`,
		`graven_http_request_seconds_count{method="POST",route="/v1/logs"} 1`,
		`graven_daemons{state="up"} 3`,
		`graven_daemons{state="down"} 0`,
		`graven_logs{state="closed"} 1`,
		`graven_event_streams 0`,
		`graven_view_lag_seconds `,
	} {
		if !strings.Contains(text, line) {
			t.Errorf("metrics lack %s", line)
		}
	}
}

func TestStatusAlarms(t *testing.T) {
	t.Parallel()
	c := start(t, setup{server: server.Options{Version: "v9"}})
	c.three()
	c.register(daemonSpec{id: "v1", n: 4, media: openapi.MediaVolatile})
	l := c.createLog("l1")
	healthy := get[openapi.Status](c, "/v1/status")
	if kinds := alarmKinds(healthy); kinds != "volatile-media" || healthy.Version != "v9" || !healthy.Ready || healthy.ClusterID == "" {
		t.Errorf("status %+v", healthy)
	}
	c.do(http.MethodPost, "/v1/daemons/d1/heartbeat", `{"incarnation":1,"free_bytes":0,"health":{"state":"degraded","reason":"slow disk"}}`)
	if kinds := alarmKinds(get[openapi.Status](c, "/v1/status")); kinds != "daemon-unhealthy volatile-media" {
		t.Errorf("with an unhealthy daemon: %s", kinds)
	}
	for _, id := range []string{"d1", "d2"} {
		c.do(http.MethodPost, "/v1/daemons/"+id+"/heartbeat", `{"incarnation":1,"free_bytes":0,"leaving":true}`)
	}
	s := get[openapi.Status](c, "/v1/status")
	if kinds := alarmKinds(s); kinds != "log-unavailable daemon-down daemon-down volatile-media operators-braked" || s.Alarms[0].LogID != l.LogID {
		t.Errorf("with two of three down: %+v", s.Alarms)
	}
	if s.Daemons.Down != 2 || s.Daemons.Up != 2 || s.Logs.Degraded != 1 || s.AlarmCount != 5 {
		t.Errorf("counts %+v", s)
	}
}

// A suspect is shown with what is wrong with it and who repairs it.
func TestSuspectAlarmSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	c.three()
	l := c.createLog("l1")
	r := l.Replicas[0]
	for name, tt := range map[string]struct{ says, want string }{
		"lost":    {`"suspect":true`, "has lost something that it once had; the next open repairs it"},
		"damaged": {`"suspect":true,"damage":"bad checksum","damage_lsn":640`, "is damaged from LSN 640 on (bad checksum); the next open repairs it"},
	} {
		body := fmt.Sprintf(`{"incarnation":1,"free_bytes":0,"health":{"state":"ok"},"replicas":[{"replica_id":%q,"log_id":%q,"bytes":4096,"epoch":1,"trim_lsn":0,"tail_lsn":0,"durable_lsn":0,%s}]}`,
			r.ReplicaID, l.LogID, tt.says)
		if a := c.do(http.MethodPost, "/v1/daemons/"+r.DaemonID+"/heartbeat", body); a.status != http.StatusOK {
			t.Fatalf("%s: %d %s", name, a.status, a.body)
		}
		found := ""
		for _, a := range get[openapi.Status](c, "/v1/status").Alarms {
			if a.Kind == openapi.AlarmReplicaSuspect {
				found += a.Detail
			}
		}
		if !strings.HasSuffix(found, "on daemon "+r.DaemonID+" "+tt.want) {
			t.Errorf("%s: alarm %q, want %q", name, found, tt.want)
		}
	}
}

func alarmKinds(s openapi.Status) string {
	var kinds []string
	for _, a := range s.Alarms {
		kinds = append(kinds, string(a.Kind))
	}
	return strings.Join(kinds, " ")
}

// Without etcd, reads go on and say how old they are, changes are refused as
// unavailable, and the server says that it is not ready.
func TestWithoutEtcd(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	o := setup{}
	o.server.Logger = slog.New(slog.NewJSONHandler(&logged, nil))
	o.server.Audit = slog.New(slog.DiscardHandler)
	o.store.CallTimeout = 2 * time.Second
	o.store.MaxLag = time.Second
	c := start(t, o)
	c.three()
	if err := c.etcd.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server is not ready", func() bool {
		return c.do(http.MethodGet, "/readyz", "").status == http.StatusServiceUnavailable
	})
	a := c.do(http.MethodPost, "/v1/logs", newLog)
	if p := a.problem(t); a.status != http.StatusServiceUnavailable || p.Type != openapi.ProblemUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("create: %d %s", a.status, a.body)
	}
	if strings.Contains(string(a.body), "etcdserver") {
		t.Errorf("internals are shown: %s", a.body)
	}
	if a := c.do(http.MethodPost, "/v1/daemons/d1/heartbeat", `{"incarnation":1,"free_bytes":1}`); a.status != http.StatusServiceUnavailable {
		t.Errorf("heartbeat: %d %s", a.status, a.body)
	}
	if l := get[openapi.DaemonList](c, "/v1/daemons"); len(l.Items) != 3 {
		t.Errorf("list: %+v", l)
	}
	s := get[openapi.Status](c, "/v1/status")
	if s.Ready || !strings.HasPrefix(alarmKinds(s), "not-ready") {
		t.Errorf("status: %+v", s)
	}
	if a := c.do(http.MethodGet, "/healthz", ""); a.status != http.StatusOK {
		t.Errorf("healthz: %d", a.status)
	}
	var line struct{ Level, Error string }
	if err := json.NewDecoder(&logged).Decode(&line); err != nil || line.Level != "WARN" || line.Error == "" {
		t.Errorf("log line %+v, %v", line, err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]server.Options{
		"ShutdownTimeout": {ShutdownTimeout: -1}, "KeepAlive": {KeepAlive: -1},
		"HeaderTimeout": {HeaderTimeout: -1}, "BodyTimeout": {BodyTimeout: -1}, "WriteTimeout": {WriteTimeout: -1},
		"RateLimit": {RateLimit: -1}, "Hosts": {Hosts: []string{"graven.example:7070"}},
	} {
		if _, err := server.New(nil, o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A handler's own context ends with its client; nothing is left behind.
func TestClientGoesAway(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	ctx, cancel := context.WithCancel(t.Context())
	rsp, err := c.api().GetEvents(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	_ = rsp.Body.Close()
	eventually(t, "the stream has ended", func() bool {
		return strings.Contains(string(c.do(http.MethodGet, "/metrics", "").body), "graven_event_streams 0")
	})
}
