package server_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/gravenio/graven/identity"
	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/server"
)

// passport is an authority, a file of tokens, and the server's identity.
type passport struct {
	t      *testing.T
	ca     *identity.Authority
	root   identity.PEM
	tokens string // the file
	caFile string // the server's
	own    *identity.TLS
	who    *identity.Authenticator
}

func newPassport(t *testing.T) *passport {
	t.Helper()
	p := &passport{t: t, tokens: filepath.Join(t.TempDir(), "tokens")}
	var err error
	if p.ca, p.root, err = identity.NewAuthority("test", time.Hour); err != nil {
		t.Fatal(err)
	}
	p.write(p.tokens, nil)
	files := p.files(p.issue(p.ca, "server", 0))
	p.caFile = files.CA
	p.own = p.open(files)
	tokens, err := identity.LoadTokens(p.tokens, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	p.who = &identity.Authenticator{TLS: p.own, Tokens: tokens}
	return p
}

func (p *passport) write(path string, b []byte) {
	p.t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *passport) issue(ca *identity.Authority, name string, validity time.Duration, roles ...identity.Role) identity.PEM {
	p.t.Helper()
	files, err := ca.Issue(identity.Request{
		Principal: identity.Principal{Name: name, Roles: roles}, Hosts: []string{"127.0.0.1"}, Validity: validity,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return files
}

func (p *passport) load(own identity.PEM) *identity.TLS { return p.open(p.files(own)) }

func (p *passport) files(own identity.PEM) identity.Files {
	p.t.Helper()
	dir := p.t.TempDir()
	f := identity.Files{CA: filepath.Join(dir, "ca"), Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key")}
	p.write(f.CA, p.root.Cert)
	p.write(f.Cert, own.Cert)
	p.write(f.Key, own.Key)
	return f
}

func (p *passport) open(f identity.Files) *identity.TLS {
	p.t.Helper()
	loaded, err := identity.Load(f, slog.New(slog.DiscardHandler))
	if err != nil {
		p.t.Fatal(err)
	}
	return loaded
}

// give makes a token and puts it into the file.
func (p *passport) give(name string, expires time.Time, roles ...identity.Role) string {
	p.t.Helper()
	token, e, err := identity.NewToken(identity.Principal{Name: name, Roles: roles}, expires)
	if err != nil {
		p.t.Fatal(err)
	}
	old, err := os.ReadFile(p.tokens)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(p.tokens, append(old, e.String()+"\n"...))
	return "Bearer " + token
}

func (p *passport) config() *tls.Config {
	p.t.Helper()
	c, err := p.own.Server(tls.RequestClientCert)
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

// over is the same cluster, reached in another way.
func (c *cluster) over(tr *http.Transport) *cluster {
	other := *c
	routes := c.http.Transport.(*checkedTransport).routes // the contract takes long to read
	other.http = &http.Client{Transport: &checkedTransport{t: c.t, routes: routes, inner: tr}}
	return &other
}

func contractDocument(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(openapi.Document())
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// plain asks without looking at the answer's form; the contract's tests do that.
func plain(t *testing.T, method, url, token string) (int, openapi.Problem, http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", token)
	}
	r.Header.Set("Content-Type", "application/json")
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	rsp, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer rsp.Body.Close()
	var p openapi.Problem
	if rsp.Header.Get("Content-Type") == openapi.ProblemMediaType {
		if err := json.NewDecoder(rsp.Body).Decode(&p); err != nil {
			t.Fatal(err)
		}
	}
	return rsp.StatusCode, p, rsp.Header
}

// The server does exactly what x-roles says, for every operation and role.
func TestRolesAreThoseOfTheContract(t *testing.T) {
	t.Parallel()
	p := newPassport(t)
	c := bare(t, server.Options{Identities: p.who, Logger: slog.New(slog.DiscardHandler)})
	tokens := map[string]string{"": ""}
	for _, r := range identity.Roles() {
		tokens[string(r)] = p.give("is-"+string(r), time.Time{}, r)
	}
	fill := strings.NewReplacer("{daemon_id}", "d1", "{log}", "l1", "{file}", "x")
	for path, item := range contractDocument(t).Paths.Map() {
		for method, op := range item.Operations() {
			list, _ := op.Extensions["x-roles"].([]any)
			for role, token := range tokens {
				status, problem, h := plain(t, method, c.url+fill.Replace(path), token)
				may := slices.Contains(list, "anybody") || slices.Contains(list, any(role)) || role == "admin"
				refused := status == http.StatusUnauthorized || status == http.StatusForbidden
				if refused == may {
					t.Errorf("%s %s as %q: %d %s, may call it: %v", method, path, role, status, problem.Detail, may)
				}
				switch {
				case !refused:
				case role == "" && (problem.Type != openapi.ProblemUnauthenticated || h.Get("WWW-Authenticate") != `Bearer realm="graven"`):
					t.Errorf("%s %s as nobody: %+v, %v", method, path, problem, h)
				case role != "" && problem.Type != openapi.ProblemForbidden:
					t.Errorf("%s %s as %q: %+v", method, path, role, problem)
				}
			}
		}
	}
}

func TestRefusedIdentities(t *testing.T) {
	t.Parallel()
	p := newPassport(t)
	foreign, foreignRoot, err := identity.NewAuthority("foreign", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c := start(t, setup{server: server.Options{Identities: p.who, TLS: p.config()}})
	base := strings.Replace(c.url, "http:", "https:", 1)
	own := c.url
	c.url = base
	good := p.load(p.issue(p.ca, "alice", 0, identity.RoleClient))
	lapsed, err := identity.LoadClient(identity.Files{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(who *identity.TLS, token string) answer {
		tr := &http.Transport{}
		tr.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			d := tls.Dialer{Config: trusting(who, good)}
			return d.DialContext(ctx, network, address)
		}
		defer tr.CloseIdleConnections()
		return c.over(tr).do(http.MethodGet, "/v1/logs", "", "Authorization", token)
	}
	foreignToken, _, err := identity.NewToken(identity.Principal{Name: "x", Roles: []identity.Role{identity.RoleAdmin}}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	daemon := p.load(p.issue(p.ca, "d1", 0, identity.RoleDaemon))
	for name, tc := range map[string]struct {
		who    *identity.TLS
		token  string
		typ    openapi.ProblemType
		detail string
	}{
		"certificate":               {good, "", "", ""},
		"token":                     {lapsed, p.give("bob", time.Time{}, identity.RoleViewer), "", ""},
		"a key and nothing else":    {lapsed, "", openapi.ProblemUnauthenticated, "unknown authority"},
		"another authority":         {p.load(p.issue(foreign, "eve", 0, identity.RoleAdmin)), "", openapi.ProblemUnauthenticated, "unknown authority"},
		"a certificate of nobody":   {p.load(p.issue(p.ca, "etcd", 0)), "", openapi.ProblemUnauthenticated, "names nobody"},
		"an expired token":          {lapsed, p.give("old", time.Now().Add(-time.Second), identity.RoleViewer), openapi.ProblemTokenExpired, "expired on"},
		"another cluster's token":   {lapsed, "Bearer " + foreignToken, openapi.ProblemTokenInvalid, "another cluster"},
		"a garbled token":           {lapsed, "Bearer nonsense", openapi.ProblemTokenInvalid, "garbled"},
		"a JSON Web Token":          {good, "Bearer a.b.c", openapi.ProblemTokenInvalid, "takes no JSON Web Tokens"},
		"a daemon, for what it may": {daemon, "", "", ""},
	} {
		a := ask(tc.who, tc.token)
		if tc.typ == "" {
			if a.status != http.StatusOK {
				t.Errorf("%s: %d %s", name, a.status, a.body)
			}
			continue
		}
		if got := a.problem(t); a.status != http.StatusUnauthorized || got.Type != tc.typ || !strings.Contains(got.Detail, tc.detail) {
			t.Errorf("%s: %d %+v, want %s with %q", name, a.status, got, tc.typ, tc.detail)
		}
		if strings.Contains(string(a.body), strings.TrimPrefix(tc.token, "Bearer ")) && tc.token != "" {
			t.Errorf("%s: the answer repeats the token", name)
		}
	}

	admin := &http.Transport{DialTLSContext: p.load(p.issue(p.ca, "root", 0, identity.RoleAdmin)).DialContext}
	defer admin.CloseIdleConnections()
	line := "graven_certificate_expires_timestamp_seconds " + strconv.FormatFloat(float64(p.own.Expiry().At.Unix()), 'g', -1, 64)
	if a := c.over(admin).do(http.MethodGet, "/metrics", ""); !strings.Contains(string(a.body), line) {
		t.Errorf("metrics lack %s", line)
	}

	// A connection that is kept does not outlive its authority.
	tr := &http.Transport{DialTLSContext: good.DialContext}
	defer tr.CloseIdleConnections()
	kept := c.over(tr)
	if a := kept.do(http.MethodGet, "/v1/logs", ""); a.status != http.StatusOK {
		t.Errorf("on a connection that will be kept: %d %s", a.status, a.body)
	}
	p.write(p.caFile, foreignRoot.Cert)
	if a := kept.do(http.MethodGet, "/v1/logs", ""); a.status != http.StatusUnauthorized {
		t.Errorf("on that connection, without its authority: %d %s", a.status, a.body)
	}

	rsp, err := http.Get(own + "/healthz") //nolint:noctx // It is refused at once.
	if err == nil {
		defer rsp.Body.Close()
		if body, _ := io.ReadAll(rsp.Body); rsp.StatusCode != http.StatusBadRequest {
			t.Errorf("without TLS: %d %s", rsp.StatusCode, body)
		}
	}
}

// trusting is a client's configuration that believes what good believes.
func trusting(who, good *identity.TLS) *tls.Config {
	c := good.Client("127.0.0.1")
	c.GetClientCertificate = who.Client("").GetClientCertificate
	return c
}

// withToken asks, by a connection of its own, and hands out the answer to be read.
func withToken(t *testing.T, url, token string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", token)
	tr := &http.Transport{}
	rsp, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = rsp.Body.Close()
		tr.CloseIdleConnections()
	})
	return rsp
}

// A stream ends when its caller may no longer follow.
func TestStreamEndsWithItsToken(t *testing.T) {
	t.Parallel()
	p := newPassport(t)
	token := p.give("v", time.Time{}, identity.RoleViewer)
	c := start(t, setup{server: server.Options{Identities: p.who, KeepAlive: 10 * time.Millisecond}})
	rsp := withToken(t, c.url+"/v1/events", token)
	if _, err := io.ReadFull(rsp.Body, make([]byte, 32)); err != nil || rsp.StatusCode != http.StatusOK {
		t.Fatalf("%d, %v", rsp.StatusCode, err)
	}
	p.write(p.tokens, nil)
	if _, err := io.Copy(io.Discard, rsp.Body); err != nil {
		t.Errorf("the stream did not end well: %v", err)
	}
}

func TestRateLimitIsEachPrincipalsOwn(t *testing.T) {
	t.Parallel()
	p := newPassport(t)
	c := bare(t, server.Options{Identities: p.who, RateLimit: 1, Logger: slog.New(slog.DiscardHandler)})
	alice, bob := p.give("alice", time.Time{}, identity.RoleViewer), p.give("bob", time.Time{}, identity.RoleViewer)
	limited := func(token string) bool {
		status, problem, h := plain(t, http.MethodGet, c.url+"/v1/placements", token)
		if status == http.StatusTooManyRequests && (problem.Type != openapi.ProblemRateLimited || h.Get("Retry-After") == "") {
			t.Errorf("limited with %+v, %v", problem, h)
		}
		return status == http.StatusTooManyRequests
	}
	for i := range 10 {
		if limited(alice) {
			t.Fatalf("request %d of 10 in 10 s was limited to 1 a second", i+1)
		}
	}
	if !limited(alice) {
		t.Error("the eleventh request was not limited")
	}
	if limited(bob) {
		t.Error("bob is limited by alice's requests")
	}
	for range 130 {
		if limited("Bearer nonsense") {
			if limited(bob) {
				t.Error("bob is limited by refusals of others at his address")
			}
			return
		}
	}
	t.Error("130 refusals in a row were not limited")
}

func TestSlowClientsAreLeft(t *testing.T) {
	t.Parallel()
	short := 100 * time.Millisecond
	for name, tc := range map[string]struct {
		o     server.Options
		bytes string
	}{
		"header": {server.Options{HeaderTimeout: short}, "GET /healthz HTTP/1.1\r\nHost: x\r\n"},
		"body": {
			server.Options{BodyTimeout: short},
			"POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{",
		},
		"answer": {server.Options{WriteTimeout: short}, strings.Repeat("GET /openapi.yaml HTTP/1.1\r\nHost: x\r\n\r\n", 200)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := start(t, setup{server: tc.o})
			conn, err := net.Dial("tcp", strings.TrimPrefix(c.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if name == "answer" {
				if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := conn.Write([]byte(tc.bytes)); err != nil {
				t.Fatal(err)
			}
			if name == "answer" {
				// Nothing is read until the server has given up: its end of the
				// connection is closed then, and writing to it fails.
				eventually(t, "the server leaves a client that does not read", func() bool {
					_, err := conn.Write([]byte("\r\n"))
					return err != nil
				})
				return
			}
			if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "timeout") {
				t.Errorf("the server waits on: %v", err)
			}
		})
	}
}

// What a browser sends for a foreign page changes nothing, whatever certificate
// it adds.
func TestForeignPagesAreRefused(t *testing.T) {
	t.Parallel()
	c := bare(t, server.Options{Hosts: []string{"graven.example", "10.0.0.9"}, Logger: slog.New(slog.DiscardHandler)})
	own := strings.TrimPrefix(c.url, "http://")
	for _, tc := range []struct {
		method, host, origin, site string
		refused                    bool
	}{
		{"GET", "graven.example:7070", "", "", false},
		{"GET", "GRAVEN.example", "", "", false},
		{"GET", "10.0.0.9:7070", "", "", false},
		{"GET", own, "", "", false},
		{"GET", "evil.example", "", "", true},
		{"GET", "10.0.0.8", "", "", true},
		{"POST", "graven.example", "", "", false},
		{"POST", "graven.example", "https://graven.example", "same-origin", false},
		{"POST", own, "https://graven.example", "", false},
		{"POST", "graven.example", "https://evil.example", "cross-site", true},
		{"POST", "graven.example", "https://evil.example", "", true},
		{"POST", "graven.example", "null", "", true},
		{"DELETE", "graven.example", "https://other.graven.example", "same-site", true},
	} {
		path := "/v1/logs"
		if tc.method == "DELETE" {
			path = "/v1/logs/l1"
		}
		if tc.method == "GET" {
			path = "/healthz"
		}
		headers := []string{"Host", tc.host}
		if tc.origin != "" {
			headers = append(headers, "Origin", tc.origin)
		}
		if tc.site != "" {
			headers = append(headers, "Sec-Fetch-Site", tc.site)
		}
		a := c.do(tc.method, path, "", headers...)
		if refused := a.status == http.StatusForbidden; refused != tc.refused {
			t.Errorf("%+v: %d %s", tc, a.status, a.body)
		}
		if tc.refused && a.problem(t).Type != openapi.ProblemForbiddenOrigin {
			t.Errorf("%+v: %s", tc, a.body)
		}
	}
}
