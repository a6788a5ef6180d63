package server_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/server"
)

// trail keeps a server's audit records.
type trail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (a *trail) Write(b []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.buf.Write(b)
}

func (a *trail) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(a, nil)) }

// take returns the records since the last call.
func (a *trail) take(t *testing.T) (records []map[string]any) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for line := range strings.Lines(a.buf.String()) {
		var r map[string]any
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%q is no JSON: %v", line, err)
		}
		records = append(records, r)
	}
	a.buf.Reset()
	return records
}

// Each operation of the contract but a GET makes one record when it is refused, and
// a GET none. The table is the contract, so no operation can be forgotten.
func TestEveryOperationIsAudited(t *testing.T) {
	t.Parallel()
	a := &trail{}
	c := bare(t, server.Options{Logger: slog.New(slog.DiscardHandler), Audit: a.logger()})
	doc, err := openapi3.NewLoader().LoadFromData(openapi.Document())
	if err != nil {
		t.Fatal(err)
	}
	changes := 0
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			for _, p := range op.Parameters {
				if p.Value.In == "path" {
					path = strings.ReplaceAll(path, "{"+p.Value.Name+"}", "x1")
				}
			}
			if method == http.MethodGet {
				continue // those that a bare server can answer are asked below
			}
			changes++
			c.send(t, method, path+"?nothing=1", "secret", "X-Request-Id", "r1", "Authorization", "Bearer secret")
			got := a.take(t)
			if len(got) != 1 {
				t.Errorf("%s %s made %d records", method, path, len(got))
				continue
			}
			r := got[0]
			if r["msg"] != "audit" || r["operation"] != op.OperationID || r["resource"] != path || r["outcome"] != "refused" ||
				r["status"] == nil || r["problem"] != string(openapi.ProblemInvalidRequest) || r["request_id"] != "r1" ||
				!strings.HasPrefix(r["remote"].(string), "127.0.0.1:") || r["who"] == nil || r["via"] == nil {
				t.Errorf("%s %s: %v", method, path, r)
			}
			for k, v := range r {
				if strings.Contains(k+jsonText(v), "secret") {
					t.Errorf("%s %s: the record has a secret: %s=%v", method, path, k, v)
				}
			}
		}
	}
	if changes < 10 {
		t.Errorf("the contract has %d operations that change something", changes)
	}
	for _, path := range []string{"/healthz", "/openapi.yaml", "/v1/journal?limit=0"} {
		c.send(t, http.MethodGet, path, "")
	}
	c.send(t, http.MethodPost, "/v1/nothing", "{}")
	if got := a.take(t); len(got) != 0 {
		t.Errorf("what changes nothing made %v", got)
	}
}

func jsonText(v any) string {
	b, _ := json.Marshal(v) // of what was JSON
	return string(b)
}

func (c *cluster) send(t *testing.T, method, path, body string, headers ...string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, c.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	rsp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = rsp.Body.Close()
}

// What is done makes one record, too, with what it was about; a renewal makes none
// unless it is refused.
func TestDoneIsAudited(t *testing.T) {
	t.Parallel()
	a := &trail{}
	c := start(t, setup{server: server.Options{Audit: a.logger()}})
	c.three()
	c.createLog("l1")
	o := c.open("l1", `{"writer":{"host":"h","pid":7},"takeover":true}`)
	writer := `{"writer_id":"` + o.WriterID + `","epoch":1,"nonce":"` + o.Nonce + `"}`
	c.do(http.MethodPost, "/v1/logs/l1/renew", writer)
	c.do(http.MethodPost, "/v1/logs/l1/close", writer)
	c.do(http.MethodPost, "/v1/logs/l1/renew", writer)
	c.do(http.MethodDelete, "/v1/logs/l1", "")
	c.do(http.MethodPut, "/v1/operators/settings", good()["setOperatorLimits"])
	var got []string
	for _, r := range a.take(t) {
		got = append(got, r["operation"].(string)+" "+r["outcome"].(string))
		switch r["operation"] {
		case "createLog":
			if r["name"] != "l1" || r["replicas"] != 3.0 {
				t.Errorf("%v", r)
			}
		case "setOperatorLimits":
			var asked map[string]any
			if err := json.Unmarshal([]byte(good()["setOperatorLimits"]), &asked); err != nil {
				t.Fatal(err)
			}
			for limit, v := range asked {
				if r[limit] != v {
					t.Errorf("%s was set to %v, and the record says %v", limit, v, r[limit])
				}
			}
		case "openLog":
			if r["takeover"] != true || r["resource"] != "/v1/logs/l1/open" {
				t.Errorf("%v", r)
			}
		}
	}
	want := []string{
		"registerDaemon done", "registerDaemon done", "registerDaemon done",
		"createLog done", "openLog done", "closeLog done", "renewLog refused", "deleteLog done",
		"setOperatorLimits done",
	}
	if !slices.Equal(got, want) {
		t.Errorf("records %q, want %q", got, want)
	}
}

// A host that is refused over and over can't fill the disk; the next record says
// how many were left out.
func TestAuditOfAFlood(t *testing.T) {
	t.Parallel()
	a := &trail{}
	c := bare(t, server.Options{Logger: slog.New(slog.DiscardHandler), Audit: a.logger()})
	const asked = 400
	for range asked {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, c.url+"/v1/logs/l1?nothing=1", nil)
		if err != nil {
			t.Fatal(err)
		}
		rsp, err := c.http.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = rsp.Body.Close()
	}
	if n := len(a.take(t)); n < 100 || n > asked-100 {
		t.Errorf("%d refusals made %d records", asked, n)
	}
}
