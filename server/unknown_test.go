package server_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gravenio/graven/identity"
	"github.com/gravenio/graven/openapi"
)

// bodies are what operations of the contract take, on the cluster of
// TestNoOperationIsForUnknownCallers.
func bodies(w openapi.OpenedLog, setVersion int64) map[string]string {
	d9, _ := json.Marshal(daemonSpec{id: "d9", n: 9}.request())
	return map[string]string{
		"registerDaemon":   string(d9),
		"heartbeatDaemon":  `{"incarnation":1,"free_bytes":1048576,"leaving":true}`,
		"createLog":        `{"name":"l9","replicas":3,"capacity_bytes":1048576}`,
		"openLog":          `{"writer":{"host":"h","pid":1},"takeover":true}`,
		"grantRead":        `{}`,
		"renewLog":         writerRef(w),
		"closeLog":         writerRef(w),
		"changeReplicas":   changeOf(w, setVersion, w.Replicas[1].ReplicaID, "present"),
		"startReplacement": fmt.Sprintf(`{"replica":%q}`, w.Replicas[0].ReplicaID),
		"recordLogEvent":   `{"kind":"data-loss-accepted","detail":"x",` + strings.TrimPrefix(writerRef(w), "{"),
		"setOperatorLimits": `{"cluster":16,"grace_seconds":60,"max_down_percent":25,"per_daemon":2,` +
			`"scrub_every_seconds":72000,"timeout_seconds":900}`,
	}
}

// Whatever is asked for, nobody gets it who can't prove who he is, or whose role
// is another, and nothing is changed by his asking.
func TestNoOperationIsForUnknownCallers(t *testing.T) {
	t.Parallel()
	p := newPassport(t)
	c := p.secured()
	admin := c.as(p, "root", identity.RoleAdmin)
	for n := 1; n <= 4; n++ {
		id := fmt.Sprintf("d%d", n)
		admin.register(daemonSpec{id: id, n: n, ttl: 3600, labels: map[string]string{"host": id}})
	}
	l := admin.createLog("l1")
	w := admin.open("l1", `{"writer":{"host":"h","pid":1},"lease_ttl_seconds":3600}`)
	good, all := bodies(w, l.SetVersion), operations(t)
	a := admin.do(http.MethodPost, "/v1/logs/l1/replacement", good["startReplacement"])
	operators := get[openapi.OperatorList](admin, "/v1/operators")
	keys := get[openapi.KeyRing](admin, "/v1/keys")
	if len(operators.Items) == 0 {
		t.Fatalf("no operator is under way: %d %s", a.status, a.body)
	}
	fill := strings.NewReplacer("{daemon_id}", "d2", "{log}", "l1",
		"{operator_id}", operators.Items[0].OperatorID, "{key_id}", keys.Items[0].KeyID)
	before := c.contents()
	for n, caller := range p.unknown() {
		asker := c.over(caller.transport(p, n))
		for _, op := range all {
			roles, _ := op.Extensions["x-roles"].([]any)
			if slices.Contains(roles, any("anybody")) || slices.Contains(roles, any(string(caller.role))) {
				continue
			}
			body, known := good[op.id]
			if op.RequestBody != nil && !known {
				t.Errorf("%s has a body: give bodies one", op.id)
			}
			var headers []string
			if caller.token != "" {
				headers = []string{"Authorization", caller.token}
			}
			a := asker.do(op.method, fill.Replace(op.path), body, headers...)
			status := http.StatusUnauthorized
			if caller.typ == openapi.ProblemForbidden {
				status = http.StatusForbidden
			}
			if a.status != status || a.problem(t).Type != caller.typ || !strings.Contains(a.problem(t).Detail, caller.detail) {
				t.Errorf("%s by %s: %d %s, want %s with %q", op.id, caller.what, a.status, a.body, caller.typ, caller.detail)
			}
		}
		c.unchanged(before)
	}
	// The bodies are good, so it was not for them.
	for id, body := range good {
		op := all[slices.IndexFunc(all, func(o operation) bool { return o.id == id })]
		if a := admin.do(op.method, fill.Replace(op.path), body); a.status == http.StatusBadRequest || a.status == http.StatusUnauthorized {
			t.Errorf("%s by an admin: %d %s", id, a.status, a.body)
		}
	}
}

// caller is somebody who is to be refused.
type caller struct {
	what, token string
	own         *identity.PEM
	role        identity.Role // that he proves all the same
	typ         openapi.ProblemType
	detail      string
}

func (p *passport) unknown() []caller {
	p.t.Helper()
	foreign, _, err := identity.NewAuthority("foreign", time.Hour)
	if err != nil {
		p.t.Fatal(err)
	}
	foreignToken, _, err := identity.NewToken(identity.Principal{Name: "x", Roles: []identity.Role{identity.RoleAdmin}}, time.Time{})
	if err != nil {
		p.t.Fatal(err)
	}
	eve := p.issue(foreign, "root", 0, identity.RoleAdmin)
	nobody := p.issue(p.ca, "etcd", 0)
	lapsed := p.issue(p.ca, "root", time.Nanosecond, identity.RoleAdmin)
	good := p.issue(p.ca, "root", 0, identity.RoleAdmin)
	none := caller{typ: openapi.ProblemUnauthenticated}
	all := []caller{
		{"a certificate of another authority", "", &eve, "", none.typ, "unknown authority"},
		{"a certificate without a role", "", &nobody, "", none.typ, "names nobody"},
		{"a certificate that has expired", "", &lapsed, "", none.typ, "expired"},
		{"nothing", "", nil, "", none.typ, "who asks?"},
		{"an expired token", p.give("old", time.Now().Add(-time.Second), identity.RoleAdmin), nil, "", openapi.ProblemTokenExpired, "expired on"},
		{"a token of another cluster", "Bearer " + foreignToken, nil, "", openapi.ProblemTokenInvalid, "another cluster"},
		{"a garbled token", "Bearer nonsense", nil, "", openapi.ProblemTokenInvalid, "garbled"},
		{"a garbled token beside a good certificate", "Bearer nonsense", &good, "", openapi.ProblemTokenInvalid, "garbled"},
		{"another scheme", "Basic cm9vdDpyb290", nil, "", openapi.ProblemTokenInvalid, "Authorization: Bearer"},
	}
	for _, role := range []identity.Role{identity.RoleViewer, identity.RoleClient, identity.RoleDaemon} {
		all = append(all, caller{"a " + string(role), p.give(string(role), time.Time{}, role), nil, role, openapi.ProblemForbidden, "it takes the role"})
	}
	return all
}

// transport shows the caller's certificate, valid or not, and comes from an
// address of its own: refusals are counted by address.
func (k *caller) transport(p *passport, n int) *http.Transport {
	p.t.Helper()
	config := p.load(p.issue(p.ca, "anyone", 0)).Client("127.0.0.1") // for what it believes
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if k.own == nil {
			return &tls.Certificate{}, nil
		}
		pair, err := tls.X509KeyPair(k.own.Cert, k.own.Key)
		return &pair, err
	}
	d := tls.Dialer{NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(n+1))}}, Config: config}
	tr := &http.Transport{DialTLSContext: d.DialContext}
	p.t.Cleanup(tr.CloseIdleConnections)
	return tr
}
