package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/server"
)

// contents are the keys that etcd has and when each was written, but for what
// time alone writes.
func (c *cluster) contents() map[string]int64 {
	c.t.Helper()
	resp, err := c.etcd.Client.Get(c.t.Context(), "/graven/", clientv3.WithPrefix())
	if err != nil {
		c.t.Fatal(err)
	}
	refusal := []byte(`"kind":"daemon-refused"`) // the journal may tell of a refusal; nothing else may
	out := make(map[string]int64, len(resp.Kvs))
	for _, kv := range resp.Kvs {
		if key := string(kv.Key); key != "/graven/keys/period" && !bytes.Contains(kv.Value, refusal) {
			out[key] = kv.ModRevision
		}
	}
	return out
}

// unchanged fails the test for a key that a refused request has written.
func (c *cluster) unchanged(before map[string]int64) {
	c.t.Helper()
	after := c.contents()
	if maps.Equal(before, after) {
		return
	}
	for key := range after {
		if before[key] != after[key] {
			c.t.Errorf("a request that was refused has written %s", key)
		}
	}
	for key := range before {
		if _, ok := after[key]; !ok {
			c.t.Errorf("a request that was refused has removed %s", key)
		}
	}
}

// operation is one of the contract.
type operation struct {
	id, method, path string
	*openapi3.Operation
}

func operations(t *testing.T) []operation {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(openapi.Document())
	if err != nil {
		t.Fatal(err)
	}
	var all []operation
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			all = append(all, operation{op.OperationID, method, path, op})
		}
	}
	slices.SortFunc(all, func(a, b operation) int { return strings.Compare(a.id, b.id) })
	return all
}

// on is the operation's path, with things that there are where the test has
// them.
func (o *operation) on(daemon, log string) string {
	path := strings.NewReplacer("{daemon_id}", daemon, "{log}", log).Replace(o.path)
	for strings.Contains(path, "{") {
		from, to := strings.Index(path, "{"), strings.Index(path, "}")
		path = path[:from] + "nothing" + path[to+1:]
	}
	return path
}

func (o *operation) takes(header string) bool {
	return slices.ContainsFunc(o.Parameters, func(p *openapi3.ParameterRef) bool {
		return p.Value.In == openapi3.ParameterInHeader && p.Value.Name == header
	})
}

// TestEveryOperationRefusesBadInput sends to each operation of the contract what
// none of them takes. Each refusal has its type, and nothing is changed.
func TestEveryOperationRefusesBadInput(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	c.three()
	c.createLog("taken")
	before := c.contents()
	for _, op := range operations(t) {
		path := op.on("d1", "taken")
		refused := func(what string, status int, typ openapi.ProblemType, body string, headers ...string) {
			t.Helper()
			a := c.do(op.method, path, body, headers...)
			if a.status != status {
				t.Errorf("%s with %s: %d, want %d\n%s", op.id, what, a.status, status, a.body)
				return
			}
			if p := a.problem(t); p.Type != typ || p.Detail == "" {
				t.Errorf("%s with %s: %+v, want %s", op.id, what, p, typ)
			}
		}
		if op.RequestBody != nil {
			for what, body := range map[string]string{
				"half a body": `{`, "a list": `[]`, "null": `null`, "a text": `"x"`, "a number of 400 digits": strings.Repeat("9", 400),
				"an unknown member": `{"no_such_member":1}`, "two bodies": `{}{}`, "a member twice over in another case": `{"Incarnation":1}`,
			} {
				refused(what, http.StatusBadRequest, openapi.ProblemInvalidRequest, body)
			}
			refused("a form", http.StatusUnsupportedMediaType, openapi.ProblemUnsupportedMediaType, `a=b`, "Content-Type", "application/x-www-form-urlencoded")
			refused("more than is read", http.StatusRequestEntityTooLarge, openapi.ProblemTooLarge, `{"a":"`+strings.Repeat("x", server.MaxBodyBytes)+`"}`)
		}
		if op.takes("If-Match") && !strings.Contains(path, "nothing") {
			body := ""
			if op.RequestBody != nil {
				body = good()[op.id]
			}
			refused("a stale If-Match", http.StatusPreconditionFailed, openapi.ProblemPreconditionFailed, body, "If-Match", `"1"`)
			refused("an If-Match that is no version", http.StatusBadRequest, openapi.ProblemInvalidRequest, body, "If-Match", `"one"`)
		}
		if op.takes("Idempotency-Key") {
			refused("an endless key", http.StatusBadRequest, openapi.ProblemInvalidRequest, `{}`, "Idempotency-Key", strings.Repeat("k", 129))
		}
		if strings.Contains(op.path, "{daemon_id}") || strings.Contains(op.path, "{log}") {
			for _, bad := range []string{"a%2Fb", "A", strings.Repeat("a", 64), "%00", "..%2F.."} {
				path = op.on(bad, bad)
				refused("the ID "+bad, http.StatusBadRequest, openapi.ProblemInvalidRequest, "{}")
			}
		}
	}
	c.unchanged(before)
}

// good are bodies that operations with an If-Match take.
func good() map[string]string {
	return map[string]string{
		"setOperatorLimits": `{"cluster":16,"grace_seconds":600,"max_down_percent":25,"per_daemon":2,"scrub_every_seconds":72000,"timeout_seconds":900}`,
	}
}

// replayed are operations that take an Idempotency-Key: a good body, another
// one, and what has to be there.
func replayed() map[string][2]string {
	return map[string][2]string{
		"createLog":        {`{"name":"one","capacity_bytes":1048576}`, `{"name":"one","capacity_bytes":2097152}`},
		"openLog":          {`{"writer":{"host":"h","pid":1}}`, `{"writer":{"host":"h","pid":2}}`},
		"startReplacement": {`{"replica":"d1"}`, `{"replica":"d2"}`},
		"recordLogEvent":   {event("one"), event("two")},
	}
}

// TestReplayedKeyWithAnotherBody uses each key again for something else.
func TestReplayedKeyWithAnotherBody(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	c.three()
	c.createLog("taken")
	c.register(daemonSpec{id: "d4", n: 4, labels: map[string]string{"host": "d4"}})
	bodies := replayed()
	var writer openapi.OpenedLog
	for _, id := range []string{"createLog", "startReplacement", "openLog", "recordLogEvent"} {
		for _, op := range operations(t) {
			if op.id != id {
				continue
			}
			path, key := op.on("d1", "taken"), "key-of-"+id
			good, other := bodies[id][0], bodies[id][1]
			if id == "recordLogEvent" { // by the writer that is there
				named := strings.NewReplacer(`"writer_id":"w"`, fmt.Sprintf(`"writer_id":%q`, writer.WriterID),
					`"nonce":"0123456789abcdef"`, fmt.Sprintf(`"nonce":%q`, writer.Nonce))
				good, other = named.Replace(good), named.Replace(other)
			}
			a := c.do(op.method, path, good, "Idempotency-Key", key)
			if a.status >= 300 {
				t.Fatalf("%s: %d %s", id, a.status, a.body)
			}
			if id == "openLog" {
				if err := json.Unmarshal(a.body, &writer); err != nil {
					t.Fatal(err)
				}
			}
			before := c.contents()
			again := c.do(op.method, path, other, "Idempotency-Key", key)
			if p := again.problem(t); again.status != http.StatusUnprocessableEntity || p.Type != openapi.ProblemIdempotencyMismatch {
				t.Errorf("%s: another body under the key: %d %s", id, again.status, again.body)
			}
			if again = c.do(op.method, path, good, "Idempotency-Key", key); again.status != a.status || string(again.body) != string(a.body) {
				t.Errorf("%s: the same body under the key: %d %s\nfirst %d %s", id, again.status, again.body, a.status, a.body)
			}
			c.unchanged(before)
		}
	}
	for _, op := range operations(t) {
		if _, ok := bodies[op.id]; !ok && op.takes("Idempotency-Key") {
			t.Errorf("%s takes an Idempotency-Key: give replayed its bodies", op.id)
		}
	}
}

// TestNoClocksComeIn: no request that changes anything carries a time of day, so a
// clock that is a day off in an agent or a client can decide nothing. The journal may
// be asked for what happened between two times. (Tokens have an expiry; that is
// between a client and who made the token.)
func TestNoClocksComeIn(t *testing.T) {
	t.Parallel()
	for _, op := range operations(t) {
		if op.id == "listJournal" {
			continue
		}
		for _, p := range op.Parameters {
			noClock(t, op.id+" "+p.Value.Name, p.Value.Schema, nil)
		}
		if op.RequestBody != nil {
			for _, m := range op.RequestBody.Value.Content {
				noClock(t, op.id, m.Schema, nil)
			}
		}
	}
	c := start(t, setup{})
	for n, date := range []string{"Mon, 01 Jan 2001 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"} {
		b, err := json.Marshal(daemonSpec{id: "d1", n: 1}.request())
		if err != nil {
			t.Fatal(err)
		}
		if a := c.do(http.MethodPut, "/v1/daemons/d1", string(b), "Date", date); a.status != http.StatusOK {
			t.Errorf("registration %d by a clock at %s: %d %s", n, date, a.status, a.body)
		}
		if a := c.do(http.MethodPost, "/v1/daemons/d1/heartbeat", `{"incarnation":1,"free_bytes":1}`, "Date", date); a.status != http.StatusOK {
			t.Errorf("heartbeat by a clock at %s: %d %s", date, a.status, a.body)
		}
	}
}

func noClock(t *testing.T, where string, s *openapi3.SchemaRef, above []*openapi3.Schema) {
	t.Helper()
	if s == nil || slices.Contains(above, s.Value) {
		return
	}
	if f := s.Value.Format; f == "date-time" || f == "date" {
		t.Errorf("%s takes a time of day", where)
	}
	above = append(above, s.Value)
	for name, p := range s.Value.Properties {
		noClock(t, where+"."+name, p, above)
	}
	noClock(t, where+"[]", s.Value.Items, above)
	noClock(t, where+"{}", s.Value.AdditionalProperties.Schema, above)
	for _, list := range []openapi3.SchemaRefs{s.Value.AllOf, s.Value.OneOf, s.Value.AnyOf} {
		for _, p := range list {
			noClock(t, where, p, above)
		}
	}
}
