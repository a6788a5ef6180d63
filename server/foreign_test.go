package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gravenio/graven/identity"
	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/server"
)

// secured is a cluster that asks everybody who he is.
func (p *passport) secured() *cluster {
	p.t.Helper()
	c := start(p.t, setup{server: server.Options{Identities: p.who, TLS: p.config()}})
	c.url = strings.Replace(c.url, "http:", "https:", 1)
	return c
}

// as is the cluster, asked by who has a certificate of this name and role.
func (c *cluster) as(p *passport, name string, role identity.Role) *cluster {
	c.t.Helper()
	tr := &http.Transport{DialTLSContext: p.load(p.issue(p.ca, name, 0, role)).DialContext}
	c.t.Cleanup(tr.CloseIdleConnections)
	return c.over(tr)
}

// refusedAs expects a refusal of this type, and that nothing was changed by it.
func (c *cluster) refusedAs(typ openapi.ProblemType, what, method, path, body string) {
	c.t.Helper()
	before := c.contents()
	a := c.do(method, path, body)
	if a.status != http.StatusForbidden || a.problem(c.t).Type != typ {
		c.t.Errorf("%s: %s %s %s: %d %s, want %s", what, method, path, body, a.status, a.body, typ)
	}
	c.unchanged(before)
}

// A daemon's ID is of use to its own certificate only.
func TestForeignDaemonIsRefused(t *testing.T) {
	t.Parallel()
	p := newPassport(t)
	c := p.secured()
	d1, d2, admin := c.as(p, "d1", identity.RoleDaemon), c.as(p, "d2", identity.RoleDaemon), c.as(p, "root", identity.RoleAdmin)
	d1.register(daemonSpec{id: "d1", n: 1, ttl: 3600})
	d2.register(daemonSpec{id: "d2", n: 2, ttl: 3600})
	again := daemonSpec{id: "d2", n: 2, ttl: 3600}.request()
	again.Incarnation = 2
	restarted, err := json.Marshal(again)
	if err != nil {
		t.Fatal(err)
	}
	const heart = "/v1/daemons/d2/heartbeat"
	words := []struct{ what, method, path, body string }{
		{"heartbeat", http.MethodPost, heart, `{"incarnation":1,"free_bytes":1048576}`},
		{"registration", http.MethodPut, "/v1/daemons/d2", string(restarted)},
		{"leaving", http.MethodPost, heart, `{"incarnation":2,"free_bytes":1048576,"leaving":true}`},
	}
	for _, w := range words {
		d1.refusedAs(openapi.ProblemForeignDaemon, w.what+" of d2 by d1", w.method, w.path, w.body)
		admin.refusedAs(openapi.ProblemForeignDaemon, w.what+" of d2 by an admin", w.method, w.path, w.body)
		if a := d2.do(w.method, w.path, w.body); a.status != http.StatusOK {
			t.Errorf("%s of d2 by itself: %d %s", w.what, a.status, a.body)
		}
	}
}

// ownersCall is an operation of a log, with a body that its owner may send then.
type ownersCall struct {
	id   string
	body func() string
}

// A log is of use to its owner only, whichever operation is asked for.
func TestForeignLogIsRefused(t *testing.T) {
	t.Parallel()
	p := newPassport(t)
	c := p.secured()
	for n := 1; n <= 4; n++ {
		id := fmt.Sprintf("d%d", n)
		c.as(p, id, identity.RoleDaemon).register(daemonSpec{id: id, n: n, ttl: 3600, labels: map[string]string{"host": id}})
	}
	alice := c.as(p, "alice", identity.RoleClient)
	strangers := map[identity.Role]*cluster{
		identity.RoleClient: c.as(p, "eve", identity.RoleClient), identity.RoleDaemon: c.as(p, "d9", identity.RoleDaemon),
	}
	l := alice.createLog("l1")
	w := openapi.OpenedLog{Epoch: 1, Nonce: strings.Repeat("0", 16), WriterID: "w"}
	replica := func() string { return l.Replicas[0].ReplicaID }
	// In the order in which the owner can do all of it.
	calls := []ownersCall{
		{"openLog", func() string { return `{"writer":{"host":"h","pid":1},"recovering":true,"lease_ttl_seconds":3600}` }},
		{"grantRead", func() string { return `{}` }},
		{"renewLog", func() string { return writerRef(w) }},
		{"changeReplicas", func() string { return changeOf(w, l.SetVersion, replica(), "present") }},
		{"startReplacement", func() string { return fmt.Sprintf(`{"replica":%q}`, replica()) }},
		{"abandonReplacement", func() string { return "" }},
		{"recordLogEvent", func() string {
			return fmt.Sprintf(`{"kind":"data-loss-accepted","detail":"x",%s`, strings.TrimPrefix(writerRef(w), "{"))
		}},
		{"closeLog", func() string { return writerRef(w) }},
		{"deleteLog", func() string { return "" }},
	}
	all := operations(t)
	for _, call := range calls {
		op := all[slices.IndexFunc(all, func(o operation) bool { return o.id == call.id })]
		path, body := op.on("d1", "l1"), call.body()
		for role, stranger := range strangers {
			typ := openapi.ProblemForeignLog
			if roles, _ := op.Extensions["x-roles"].([]any); !slices.Contains(roles, any(string(role))) {
				typ = openapi.ProblemForbidden
			}
			stranger.refusedAs(typ, op.id+" by another "+string(role), op.method, path, body)
		}
		a := alice.do(op.method, path, body)
		if a.status >= 300 {
			t.Fatalf("%s by the owner: %d %s", op.id, a.status, a.body)
		}
		if op.id == "openLog" {
			if err := json.Unmarshal(a.body, &w); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, op := range all {
		called := slices.ContainsFunc(calls, func(c ownersCall) bool { return c.id == op.id })
		if strings.Contains(op.path, "{log}") && op.method != http.MethodGet && !called {
			t.Errorf("%s is of a log: let a stranger ask for it here", op.id)
		}
	}
}
