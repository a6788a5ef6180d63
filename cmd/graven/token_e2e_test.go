package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

// tokenSite is a server that believes tokens and JSON Web Tokens, over the etcd of
// a cluster that asks nobody.
type tokenSite struct {
	t                 *testing.T
	api, tokens, keys string
}

func newTokenSite(t *testing.T, signers ...ed25519.PrivateKey) *tokenSite {
	t.Helper()
	c := startDev(t, t.TempDir(), "--daemons", "1", "--pool-size", smallPool)
	dir := t.TempDir()
	s := &tokenSite{t: t, tokens: filepath.Join(dir, "tokens"), keys: filepath.Join(dir, "jwks.json")}
	writeFile(t, s.tokens, "")
	s.believe(signers...)
	p := start(t, nil, "server", "--listen", "127.0.0.1:0", "--etcd-endpoints", c.dev.await(t, `(?m)^etcd .* (http://\S+)$`)[1],
		"--tokens", s.tokens, "--jwt-keys", s.keys, "--jwt-issuer", "https://id.example", "--jwt-audience", "graven",
		"--jwt-roles-claim", "roles", "--jwt-groups-claim", "teams")
	s.api = "http://" + p.await(t, `serving the API" address=(\S+)`)[1]
	eventually(t, func() string { return s.api + " is not ready" }, func() bool {
		rsp, err := http.Get(s.api + "/readyz") //nolint:noctx // It is asked again soon.
		if err != nil {
			return false
		}
		_ = rsp.Body.Close()
		return rsp.StatusCode == http.StatusOK
	})
	return s
}

// believe replaces the set of keys.
func (s *tokenSite) believe(signers ...ed25519.PrivateKey) {
	s.t.Helper()
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, k := range signers {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.Public(), KeyID: "k1", Use: "sig"})
	}
	b, err := json.Marshal(set)
	if err != nil {
		s.t.Fatal(err)
	}
	writeFile(s.t, s.keys, string(b))
}

// file is where the token is that commands show.
func (s *tokenSite) file(token string) string {
	s.t.Helper()
	name := filepath.Join(s.t.TempDir(), "token")
	writeFile(s.t, name, token)
	return name
}

// made is a token of `graven token new`.
func (s *tokenSite) made(name, role string) string {
	s.t.Helper()
	return s.file(must(s.t, "token", "new", name, "--role", role, "--file", s.tokens))
}

// signed is a JSON Web Token for bob, a client of the team.
func (s *tokenSite) signed(method jwt.SigningMethod, key any) string {
	s.t.Helper()
	token := jwt.NewWithClaims(method, jwt.MapClaims{
		"iss": "https://id.example", "aud": "graven", "sub": "bob", "exp": time.Now().Add(time.Hour).Unix(),
		"roles": []string{"client"}, "teams": []string{"team"},
	})
	token.Header["kid"] = "k1"
	text, err := token.SignedString(key)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.file(text)
}

// may runs a command by who holds the token.
func (s *tokenSite) may(token string, args ...string) string {
	s.t.Helper()
	return must(s.t, append(args, "--api", s.api, "--token-file", token)...)
}

// mayNot is may for a command that is refused with a problem of this type.
func (s *tokenSite) mayNot(typ, token string, args ...string) {
	s.t.Helper()
	out, errs, status := graven(s.t, nil, append(args, "--api", s.api, "--token-file", token)...)
	if status != 1 || !strings.Contains(errs, typ) {
		s.t.Errorf("graven %s: exit status %d, want 1 and %s\n%s%s", strings.Join(args, " "), status, typ, out, errs)
	}
}

// create are the arguments that make a log on the one daemon.
func create(log string) []string {
	return []string{"log", "create", log, "--replicas", "1", "--ack", "1", "--capacity", smallLog}
}

// A server that is started with a file of tokens gives each his rights, until the
// token is taken back.
func TestServerWithTokens(t *testing.T) {
	skipShort(t)
	s := newTokenSite(t, newSigner(t))
	viewer, client := s.made("vic", "viewer"), s.made("alice", "client")
	s.may(viewer, "log", "ls")
	s.mayNot("forbidden", viewer, create("l1")...)
	if out := s.may(client, append(create("l1"), "-o", "json")...); !strings.Contains(out, `"owner": "alice"`) {
		t.Errorf("the log is not alice's:\n%s", out)
	}
	input := filepath.Join(t.TempDir(), "input")
	want := randomBytes(3, 10_000)
	if err := os.WriteFile(input, want, 0o600); err != nil {
		t.Fatal(err)
	}
	s.may(client, "log", "append", "l1", input)
	if got := s.may(client, "log", "read", "l1"); !bytes.Equal([]byte(got), want) {
		t.Errorf("the log has %d bytes, want the %d that were written", len(got), len(want))
	}
	s.mayNot("unauthenticated", "", "log", "ls")
	must(t, "token", "rm", "vic", "--file", s.tokens)
	s.mayNot("token-invalid", viewer, "log", "ls")
	s.may(client, "log", "ls")
}

// A server that is started with an issuer's keys believes what these have signed,
// by the algorithm that is theirs.
func TestServerWithJWTs(t *testing.T) {
	skipShort(t)
	key := newSigner(t)
	s := newTokenSite(t, key)
	bob := s.signed(jwt.SigningMethodEdDSA, key)
	if out := s.may(bob, append(create("l1"), "-o", "json")...); !strings.Contains(out, `"owner": "bob"`) || !strings.Contains(out, `"team"`) {
		t.Errorf("the log is not bob's and his team's:\n%s", out)
	}
	s.may(bob, "log", "ls")
	s.mayNot("forbidden", bob, "operator", "pause")
	for what, token := range map[string]string{
		"HS256 with the public key": s.signed(jwt.SigningMethodHS256, []byte(key.Public().(ed25519.PublicKey))),
		"none":                      s.signed(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType),
		"another's key":             s.signed(jwt.SigningMethodEdDSA, newSigner(t)),
	} {
		t.Log(what)
		s.mayNot("token-invalid", token, "log", "rm", "l1")
	}
	s.may(bob, "log", "show", "l1")
	s.believe(newSigner(t))
	s.mayNot("token-invalid", bob, "log", "ls")
}

func newSigner(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
