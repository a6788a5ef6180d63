package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/server"
)

const (
	noUUID  = "99999999-9999-4999-8999-999999999999"
	newLog  = `{"name":"x","replicas":3,"capacity_bytes":1048576}`
	noWrite = `{"writer_id":"w","epoch":1,"nonce":"0123456789abcdef"}`
)

// body is a registration with some members replaced; "" removes one.
func body(changes ...string) string {
	fields := map[string]string{
		"pool_id": `"00000000-0000-4000-8000-000000000077"`, "incarnation": "1",
		"tcp_addr": `"127.0.0.1"`, "tcp_port": "20077",
		"capacity_bytes": "4294967296", "free_bytes": "4294967296", "media": `"file"`,
		"transports": `["tcp"]`, "version": `"test"`,
	}
	for i := 0; i < len(changes); i += 2 {
		fields[changes[i]] = changes[i+1]
	}
	var parts []string
	for k, v := range fields {
		if v != "" {
			parts = append(parts, fmt.Sprintf("%q:%s", k, v))
		}
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// Each bad request gets its status and type, and for invalid-request the field.
func TestBadInput(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	c.three()
	c.createLog("taken")
	before := c.contents()
	json400 := openapi.ProblemInvalidRequest
	for _, tc := range []struct {
		name   string
		method string
		path   string
		body   string
		header []string
		status int
		typ    openapi.ProblemType
		field  string
	}{
		{name: "unknown path", method: "GET", path: "/v2/daemons", status: 404, typ: openapi.ProblemNotFound},
		{name: "path below an object", method: "GET", path: "/v1/logs/taken/records", status: 404, typ: openapi.ProblemNotFound},
		{name: "trailing slash", method: "GET", path: "/v1/logs/", status: 404, typ: openapi.ProblemNotFound},
		{name: "wrong method", method: "PATCH", path: "/v1/daemons/d1", status: 405, typ: openapi.ProblemMethodNotAllowed},
		{name: "wrong method on a list", method: "DELETE", path: "/v1/logs", status: 405, typ: openapi.ProblemMethodNotAllowed},
		{name: "unknown page file", method: "GET", path: "/ui/other.js", status: 404, typ: openapi.ProblemNotFound},

		{name: "unknown daemon", method: "GET", path: "/v1/daemons/nobody", status: 404, typ: openapi.ProblemNotFound},
		{name: "unknown log", method: "GET", path: "/v1/logs/nothing", status: 404, typ: openapi.ProblemNotFound},
		{name: "unknown log by UUID", method: "GET", path: "/v1/logs/" + noUUID, status: 404, typ: openapi.ProblemNotFound},
		{name: "delete unknown daemon", method: "DELETE", path: "/v1/daemons/nobody", status: 404, typ: openapi.ProblemNotFound},
		{name: "delete unknown log", method: "DELETE", path: "/v1/logs/nothing", status: 404, typ: openapi.ProblemNotFound},
		{name: "open unknown log", method: "POST", path: "/v1/logs/nothing/open", body: `{"writer":{"host":"h","pid":1}}`, status: 404, typ: openapi.ProblemNotFound},
		{name: "renew unknown log", method: "POST", path: "/v1/logs/nothing/renew", body: noWrite, status: 404, typ: openapi.ProblemNotFound},
		{name: "close unknown log", method: "POST", path: "/v1/logs/nothing/close", body: noWrite, status: 404, typ: openapi.ProblemNotFound},
		{
			name: "replicas of an unknown log", method: "POST", path: "/v1/logs/nothing/replicas",
			body:   `{"epoch":1,"nonce":"0123456789abcdef","set_version":1,"replicas":[{"replica_id":"` + noUUID + `","state":"present"}]}`,
			status: 404, typ: openapi.ProblemNotFound,
		},

		{name: "encoded slash", method: "GET", path: "/v1/logs/a%2Fb", status: 400, typ: json400, field: "path"},
		{name: "encoded slash, lower case", method: "DELETE", path: "/v1/daemons/a%2fb", status: 400, typ: json400, field: "path"},
		{name: "a name with a slash", method: "POST", path: "/v1/logs", body: `{"name":"a/b","capacity_bytes":1048576}`, status: 400, typ: json400, field: "name"},
		{name: "an upper-case ID", method: "GET", path: "/v1/daemons/D1", status: 400, typ: json400, field: "daemon_id"},
		{name: "an endless ID", method: "GET", path: "/v1/daemons/" + strings.Repeat("d", 64), status: 400, typ: json400, field: "daemon_id"},
		{name: "a name like a UUID", method: "POST", path: "/v1/logs", body: `{"name":"` + noUUID + `","capacity_bytes":1048576}`, status: 400, typ: json400, field: "name"},

		{name: "malformed JSON", method: "POST", path: "/v1/logs", body: `{"name":`, status: 400, typ: json400, field: "body"},
		{name: "two JSON values", method: "POST", path: "/v1/logs", body: newLog + newLog, status: 400, typ: json400, field: "body"},
		{name: "an array", method: "POST", path: "/v1/logs", body: `[]`, status: 400, typ: json400, field: "body"},
		{name: "null", method: "POST", path: "/v1/logs", body: `null`, status: 400, typ: json400, field: "body"},
		{name: "no body", method: "POST", path: "/v1/logs", header: []string{"Content-Type", "application/json"}, status: 400, typ: json400, field: "body"},
		{name: "deep JSON", method: "POST", path: "/v1/logs", body: strings.Repeat("[", 100_000), status: 400, typ: json400, field: "body"},
		{name: "not JSON", method: "POST", path: "/v1/logs", body: newLog, header: []string{"Content-Type", "application/x-www-form-urlencoded"}, status: 415, typ: openapi.ProblemUnsupportedMediaType},
		{name: "too large", method: "POST", path: "/v1/logs", body: `{"name":"` + strings.Repeat("x", server.MaxBodyBytes) + `"}`, status: 413, typ: openapi.ProblemTooLarge},
		{name: "unknown member", method: "POST", path: "/v1/logs", body: `{"name":"x","capacity_bytes":1048576,"ack":2}`, status: 400, typ: json400, field: "ack"},
		{name: "missing member", method: "POST", path: "/v1/logs", body: `{"name":"x"}`, status: 400, typ: json400, field: "capacity_bytes"},
		{name: "wrong type", method: "POST", path: "/v1/logs", body: `{"name":"x","capacity_bytes":"1MiB"}`, status: 400, typ: json400, field: "capacity_bytes"},
		{name: "a fraction", method: "POST", path: "/v1/logs", body: `{"name":"x","capacity_bytes":1048576.5}`, status: 400, typ: json400, field: "capacity_bytes"},
		{name: "beyond int64", method: "POST", path: "/v1/logs/taken/open", body: `{"writer":{"host":"h","pid":1},"min_epoch":1e30}`, status: 400, typ: json400, field: "min_epoch"},
		{name: "beyond every number", method: "POST", path: "/v1/logs", body: `{"name":"x","capacity_bytes":1e400}`, status: 400, typ: json400, field: "capacity_bytes"},
		{name: "an exponent", method: "POST", path: "/v1/logs/taken/open", body: `{"writer":{"host":"h","pid":1e0}}`, status: 400, typ: json400, field: "writer.pid"},

		{name: "size no multiple", method: "POST", path: "/v1/logs", body: `{"name":"x","capacity_bytes":1048577}`, status: 400, typ: json400, field: "capacity_bytes"},
		{name: "size too small", method: "POST", path: "/v1/logs", body: `{"name":"x","capacity_bytes":4096}`, status: 400, typ: json400, field: "capacity_bytes"},
		{name: "size too large", method: "POST", path: "/v1/logs", body: `{"name":"x","capacity_bytes":1099511631872}`, status: 400, typ: json400, field: "capacity_bytes"},
		{name: "no replica", method: "POST", path: "/v1/logs", body: `{"name":"x","replicas":0,"capacity_bytes":1048576}`, status: 400, typ: json400, field: "replicas"},
		{name: "eight replicas", method: "POST", path: "/v1/logs", body: `{"name":"x","replicas":8,"capacity_bytes":1048576}`, status: 400, typ: json400, field: "replicas"},
		{name: "ack quorum below majority", method: "POST", path: "/v1/logs", body: `{"name":"x","replicas":3,"ack_quorum":1,"capacity_bytes":1048576}`, status: 400, typ: json400, field: "ack_quorum"},
		{name: "ack quorum above replicas", method: "POST", path: "/v1/logs", body: `{"name":"x","replicas":3,"ack_quorum":4,"capacity_bytes":1048576}`, status: 400, typ: json400, field: "ack_quorum"},
		{name: "bad label key in a create", method: "POST", path: "/v1/logs", body: `{"name":"x","capacity_bytes":1048576,"placement":{"labels":{"a b":"c"}}}`, status: 400, typ: json400, field: "placement.labels.a b"},
		{name: "unknown medium", method: "POST", path: "/v1/logs", body: `{"name":"x","capacity_bytes":1048576,"placement":{"media":"tape"}}`, status: 400, typ: json400, field: "placement.media"},
		{name: "name taken", method: "POST", path: "/v1/logs", body: `{"name":"taken","capacity_bytes":1048576}`, status: 409, typ: openapi.ProblemNameTaken},
		{name: "more replicas than daemons", method: "POST", path: "/v1/logs", body: `{"name":"x","replicas":5,"capacity_bytes":1048576}`, status: 409, typ: openapi.ProblemNoPlacement},
		{name: "more bytes than there are", method: "POST", path: "/v1/logs", body: `{"name":"x","capacity_bytes":1099511627776}`, status: 409, typ: openapi.ProblemNoPlacement},
		{name: "bad idempotency key", method: "POST", path: "/v1/logs", body: newLog, header: []string{"Idempotency-Key", "a b"}, status: 400, typ: json400, field: "Idempotency-Key"},

		{name: "placement without size", method: "GET", path: "/v1/placements?replicas=3", status: 400, typ: json400, field: "replica_size"},
		{name: "placement of none", method: "GET", path: "/v1/placements?replicas=0&replica_size=1048576", status: 400, typ: json400, field: "replicas"},
		{name: "placement of words", method: "GET", path: "/v1/placements?replicas=three&replica_size=1048576", status: 400, typ: json400, field: "replicas"},
		{name: "placement of an odd size", method: "GET", path: "/v1/placements?replicas=3&replica_size=1048577", status: 400, typ: json400, field: "replica_size"},
		{name: "placement in a planet", method: "GET", path: "/v1/placements?replicas=3&replica_size=1048576&failure_domain=planet", status: 400, typ: json400, field: "failure_domain"},
		{name: "placement with half a label", method: "GET", path: "/v1/placements?replicas=3&replica_size=1048576&label=zone", status: 400, typ: json400, field: "label"},
		{name: "placement with both labels", method: "GET", path: "/v1/placements?replicas=3&replica_size=1048576&label=zone=a&label=zone=b", status: 400, typ: json400, field: "label"},
		{name: "placement on volatile media", method: "GET", path: "/v1/placements?replicas=3&replica_size=1048576&media=volatile", status: 409, typ: openapi.ProblemNoPlacement},
		{name: "misspelt parameter", method: "GET", path: "/v1/daemons?sate=up", status: 400, typ: json400, field: "sate"},
		{name: "parameter twice", method: "GET", path: "/v1/daemons?limit=1&limit=2", status: 400, typ: json400, field: "limit"},
		{name: "broken escape", method: "GET", path: "/v1/daemons?state=%zz", status: 400, typ: json400, field: "query"},
		{name: "unknown state", method: "GET", path: "/v1/daemons?state=asleep", status: 400, typ: json400, field: "state"},
		{name: "limit of none", method: "GET", path: "/v1/logs?limit=0", status: 400, typ: json400, field: "limit"},
		{name: "limit of too many", method: "GET", path: "/v1/logs?limit=1001", status: 400, typ: json400, field: "limit"},
		{name: "foreign continue", method: "GET", path: "/v1/logs?continue=a", status: 400, typ: json400, field: "continue"},

		{name: "no pool", method: "PUT", path: "/v1/daemons/d9", body: body("pool_id", ""), status: 400, typ: json400, field: "pool_id"},
		{name: "incarnation 0", method: "PUT", path: "/v1/daemons/d9", body: body("incarnation", "0"), status: 400, typ: json400, field: "incarnation"},
		{name: "port 0", method: "PUT", path: "/v1/daemons/d9", body: body("tcp_port", "0"), status: 400, typ: json400, field: "tcp_port"},
		{name: "unspecified address", method: "PUT", path: "/v1/daemons/d9", body: body("tcp_addr", `"0.0.0.0"`), status: 400, typ: json400, field: "tcp_addr"},
		{name: "no transport", method: "PUT", path: "/v1/daemons/d9", body: body("transports", "[]"), status: 400, typ: json400, field: "transports"},
		{name: "more free than there is", method: "PUT", path: "/v1/daemons/d9", body: body("free_bytes", "4294967297"), status: 400, typ: json400, field: "free_bytes"},
		{name: "short TTL", method: "PUT", path: "/v1/daemons/d9", body: body("lease_ttl_seconds", "1"), status: 400, typ: openapi.ProblemTTLTooShort},
		{name: "endless TTL", method: "PUT", path: "/v1/daemons/d9", body: body("lease_ttl_seconds", "3601"), status: 400, typ: json400, field: "lease_ttl_seconds"},
		{name: "address in use", method: "PUT", path: "/v1/daemons/d9", body: body("tcp_port", "20001"), status: 409, typ: openapi.ProblemAddressInUse},
		{name: "another pool", method: "PUT", path: "/v1/daemons/d1", body: body(), status: 409, typ: openapi.ProblemPoolWiped},
		{name: "heartbeat of a stranger", method: "POST", path: "/v1/daemons/d9/heartbeat", body: `{"incarnation":1,"free_bytes":1}`, status: 404, typ: openapi.ProblemLeaseExpired},
		{name: "heartbeat without incarnation", method: "POST", path: "/v1/daemons/d1/heartbeat", body: `{"free_bytes":1}`, status: 400, typ: json400, field: "incarnation"},
		{name: "a mark of revision 0", method: "PUT", path: "/v1/daemons/d9", body: body("etcd_mark", mark("0", "0", "0a")), status: 400, typ: json400, field: "etcd_mark.revision"},
		{name: "a mark of the highest number", method: "PUT", path: "/v1/daemons/d9", body: body("etcd_mark", mark("0", "18446744073709551615", "0a")), status: 400, typ: json400, field: "etcd_mark.revision"},
		{name: "a mark of a life that can't be", method: "PUT", path: "/v1/daemons/d9", body: body("etcd_mark", mark("8192", "1", "0a")), status: 400, typ: json400, field: "etcd_mark.life"},
		{name: "a mark with a garbled proof", method: "PUT", path: "/v1/daemons/d9", body: body("etcd_mark", mark("0", "1", "0A")), status: 400, typ: json400, field: "etcd_mark.proof"},
		{name: "a mark without a proof", method: "POST", path: "/v1/daemons/d1/heartbeat", body: `{"incarnation":1,"free_bytes":1,"etcd_mark":{"life":0,"revision":1}}`, status: 400, typ: json400, field: "etcd_mark.proof"},
		{name: "a heartbeat with an endless life", method: "POST", path: "/v1/daemons/d1/heartbeat", body: `{"incarnation":1,"free_bytes":1,"etcd_mark":` + mark("8192", "1", "0a") + `}`, status: 400, typ: json400, field: "etcd_mark.life"},
		{name: "delete of a live daemon", method: "DELETE", path: "/v1/daemons/d1", status: 409, typ: openapi.ProblemDaemonInUse},
		{name: "If-Match of another version", method: "DELETE", path: "/v1/logs/taken", header: []string{"If-Match", `"1"`}, status: 412, typ: openapi.ProblemPreconditionFailed},
		{name: "If-Match of another form", method: "DELETE", path: "/v1/logs/taken", header: []string{"If-Match", `W/"1"`}, status: 400, typ: json400, field: "If-Match"},

		{name: "open without writer", method: "POST", path: "/v1/logs/taken/open", body: `{}`, status: 400, typ: json400, field: "writer"},
		{name: "open with a short TTL", method: "POST", path: "/v1/logs/taken/open", body: `{"writer":{"host":"h","pid":1},"lease_ttl_seconds":1}`, status: 400, typ: openapi.ProblemTTLTooShort},
		{name: "replacement of an unknown log", method: "POST", path: "/v1/logs/nothing/replacement", body: `{"replica":"d1"}`, status: 404, typ: openapi.ProblemNotFound},
		{name: "replacement of an unknown replica", method: "POST", path: "/v1/logs/taken/replacement", body: `{"replica":"` + noUUID + `"}`, status: 404, typ: openapi.ProblemNotFound},
		{name: "replacement of nothing", method: "POST", path: "/v1/logs/taken/replacement", body: `{}`, status: 400, typ: json400, field: "replica"},
		{name: "replacement of no ID", method: "POST", path: "/v1/logs/taken/replacement", body: `{"replica":"D 1"}`, status: 400, typ: json400, field: "replica"},
		{name: "replacement to no ID", method: "POST", path: "/v1/logs/taken/replacement", body: `{"replica":"d1","to":""}`, status: 400, typ: json400, field: "to"},
		{name: "replacement to itself", method: "POST", path: "/v1/logs/taken/replacement", body: `{"replica":"d1","to":"d1"}`, status: 400, typ: json400, field: "to"},
		{name: "replacement with a typing error", method: "POST", path: "/v1/logs/taken/replacement", body: `{"replica":"d1","from":"d1"}`, status: 400, typ: json400, field: "from"},
		{name: "replacement to a stranger", method: "POST", path: "/v1/logs/taken/replacement", body: `{"replica":"d1","to":"d9"}`, status: 409, typ: openapi.ProblemNoPlacement},
		{name: "replacement without a place", method: "POST", path: "/v1/logs/taken/replacement", body: `{"replica":"d1"}`, status: 409, typ: openapi.ProblemNoPlacement},
		{name: "replacement with a bad key", method: "POST", path: "/v1/logs/taken/replacement", body: `{"replica":"d1"}`, header: []string{"Idempotency-Key", "a b"}, status: 400, typ: json400, field: "Idempotency-Key"},
		{name: "replacement to be read", method: "GET", path: "/v1/logs/taken/replacement", status: 405, typ: openapi.ProblemMethodNotAllowed},
		{name: "abandon of nothing", method: "DELETE", path: "/v1/logs/taken/replacement", status: 404, typ: openapi.ProblemNotFound},
		{name: "abandon for an unknown log", method: "DELETE", path: "/v1/logs/nothing/replacement", status: 404, typ: openapi.ProblemNotFound},
		{
			name: "a state that no request makes", method: "POST", path: "/v1/logs/taken/replicas",
			body:   `{"epoch":1,"nonce":"0123456789abcdef","set_version":1,"replicas":[{"replica_id":"` + noUUID + `","state":"learner"}]}`,
			status: 400, typ: json400, field: "replicas.0.state",
		},
		{
			name: "condemned and present at once", method: "POST", path: "/v1/logs/taken/replicas",
			body: `{"epoch":1,"nonce":"0123456789abcdef","set_version":1,"replicas":[{"replica_id":"` + noUUID +
				`","state":"condemned"},{"replica_id":"` + noUUID + `","state":"present"}]}`,
			status: 400, typ: json400, field: "replicas",
		},
		{name: "event of an unknown log", method: "POST", path: "/v1/logs/nothing/events", body: event("x"), status: 404, typ: openapi.ProblemNotFound},
		{name: "event of no writer", method: "POST", path: "/v1/logs/taken/events", body: event("x"), status: 409, typ: openapi.ProblemConflict},
		{name: "event without a word", method: "POST", path: "/v1/logs/taken/events", body: event(""), status: 400, typ: json400, field: "detail"},
		{name: "event of too many", method: "POST", path: "/v1/logs/taken/events", body: event(strings.Repeat("x", 2049)), status: 400, typ: json400, field: "detail"},
		{name: "event of three-byte words", method: "POST", path: "/v1/logs/taken/events", body: event(strings.Repeat("€", 1000)), status: 400, typ: json400, field: "detail"},
		{name: "event of a kind that writers have not", method: "POST", path: "/v1/logs/taken/events", body: strings.Replace(event("x"), "data-loss-accepted", "replacement-done", 1), status: 400, typ: json400, field: "kind"},
		{name: "event with fifteen given up", method: "POST", path: "/v1/logs/taken/events", body: event("x", 15), status: 400, typ: json400, field: "given_up"},
		{name: "event with an endless reason", method: "POST", path: "/v1/logs/taken/events", body: strings.Replace(event("x", 1), "gone", strings.Repeat("x", 513), 1), status: 400, typ: json400, field: "given_up.0.detail"},
		{name: "renew with a short nonce", method: "POST", path: "/v1/logs/taken/renew", body: `{"writer_id":"w","epoch":1,"nonce":"1"}`, status: 400, typ: json400, field: "nonce"},
		{name: "Last-Event-ID of words", method: "GET", path: "/v1/events", header: []string{"Last-Event-ID", "now"}, status: 400, typ: json400, field: "Last-Event-ID"},
		{name: "Last-Event-ID of the future", method: "GET", path: "/v1/events", header: []string{"Last-Event-ID", "999999999"}, status: 410, typ: openapi.ProblemEventsGap},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := c.do(tc.method, tc.path, tc.body, tc.header...)
			if a.status != tc.status || a.header.Get("Content-Type") != openapi.ProblemMediaType {
				t.Fatalf("answer %d %s, want %d\n%s", a.status, a.header.Get("Content-Type"), tc.status, a.body)
			}
			p := a.problem(t)
			if p.Type != tc.typ || p.Title == "" || p.RequestID == "" || p.RequestID != a.header.Get("X-Request-Id") {
				t.Fatalf("problem %+v, want type %s", p, tc.typ)
			}
			if tc.typ == json400 && !names(p.Fields, tc.field) {
				t.Errorf("fields %+v, want one named %s", p.Fields, tc.field)
			}
			if p.Detail == "" || strings.Contains(p.Detail, "store:") {
				t.Errorf("detail %q", p.Detail)
			}
			c.unchanged(before)
		})
	}
}

// mark is one with a proof of 64 digits.
func mark(life, revision, digits string) string {
	return fmt.Sprintf(`{"life":%s,"revision":%s,"proof":%q}`, life, revision, strings.Repeat(digits, 32))
}

// event is a writer's event with this detail and so many replicas given up.
func event(detail string, givenUp ...int) string {
	text := fmt.Sprintf(`{"writer_id":"w","epoch":1,"nonce":"0123456789abcdef","kind":"data-loss-accepted","detail":%q`, detail)
	if len(givenUp) > 0 {
		one := `{"replica_id":"` + noUUID + `","detail":"gone"}`
		text += `,"given_up":[` + one + strings.Repeat(","+one, givenUp[0]-1) + `]`
	}
	return text + "}"
}

func names(fields []openapi.FieldProblem, name string) bool {
	for _, f := range fields {
		if f.Name == name && f.Rule != "" {
			return true
		}
	}
	return false
}

func TestAllFieldsAreNamedAtOnce(t *testing.T) {
	t.Parallel()
	c := bare(t, server.Options{})
	p := c.do(http.MethodPost, "/v1/logs", `{"name":"A","replicas":9,"capacity_bytes":1,"x":1}`).problem(t)
	for _, name := range []string{"name", "replicas", "capacity_bytes", "x"} {
		if !names(p.Fields, name) {
			t.Errorf("%s is not among %+v", name, p.Fields)
		}
	}
}

func TestNoPlacementHasCounts(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	c.three()
	c.register(daemonSpec{id: "v1", n: 4, media: openapi.MediaVolatile})
	for path, want := range map[string]openapi.PlacementProblem{
		"/v1/placements?replicas=5&replica_size=1048576": {
			Rule: "daemons", Replicas: 5, Daemons: 4, Eligible: 3, Domains: 3, Removed: map[string]int{"media": 1},
		},
		"/v1/placements?replicas=3&replica_size=1048576&label=zone=zd1": {
			Rule: "label", Replicas: 3, Daemons: 4, Eligible: 1, Domains: 1, Removed: map[string]int{"media": 1, "label": 2},
		},
		"/v1/placements?replicas=3&replica_size=1048576&exclude=d1&exclude=d2": {
			Rule: "exclude", Replicas: 3, Daemons: 4, Eligible: 1, Domains: 1, Removed: map[string]int{"media": 1, "exclude": 2},
		},
		"/v1/placements?replicas=2&replica_size=1048576&media=volatile": {
			Rule: "media", Replicas: 2, Daemons: 4, Eligible: 1, Domains: 1, Removed: map[string]int{"media": 3},
		},
		"/v1/placements?replicas=1&replica_size=1099511627776": {
			Rule: "space", Replicas: 1, Daemons: 4, Removed: map[string]int{"media": 1, "space": 3},
		},
	} {
		a := c.do(http.MethodGet, path, "")
		p := a.problem(t)
		if a.status != http.StatusConflict || p.Type != openapi.ProblemNoPlacement || p.Placement == nil {
			t.Errorf("%s: %d %s", path, a.status, a.body)
			continue
		}
		if got := fmt.Sprintf("%+v", *p.Placement); got != fmt.Sprintf("%+v", want) {
			t.Errorf("%s: %s, want %+v", path, got, want)
		}
	}
}
