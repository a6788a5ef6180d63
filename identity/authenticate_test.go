package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"
)

func conn(t *testing.T, chain ...PEM) *tls.ConnectionState {
	t.Helper()
	s := &tls.ConnectionState{}
	for _, p := range chain {
		s.PeerCertificates = append(s.PeerCertificates, parseCert(t, p.Cert))
	}
	return s
}

func TestIdentify(t *testing.T) {
	t.Parallel()
	a, root := newAuthority(t)
	foreign, _ := newAuthority(t)
	sp := newParty(t, root.Cert, issue(t, a, RoleAdmin, "server", 0))
	token, entry := newToken(t, "bob", time.Time{})
	tokens, _ := loadTokens(t, nil, entry.String())
	full := &Authenticator{TLS: sp.load(nil), Tokens: tokens}
	client := issue(t, a, RoleClient, "alice", 0)
	stranger := issue(t, foreign, RoleAdmin, "eve", 0)
	nameless, err := a.Issue(Request{Principal: Principal{Name: "etcd"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		a      *Authenticator
		conn   *tls.ConnectionState
		header string
		want   string // name
		err    error
		text   string
	}{
		"certificate":          {full, conn(t, client), "", "alice", nil, ""},
		"token":                {full, conn(t), "Bearer " + token, "bob", nil, ""},
		"token without TLS":    {full, nil, "bearer  " + token, "bob", nil, ""},
		"both":                 {full, conn(t, client), "Bearer " + token, "bob", nil, ""},
		"token, unknown key":   {full, conn(t, stranger), "Bearer " + token, "bob", nil, ""},
		"nothing":              {full, conn(t), "", "", ErrUnauthenticated, "who asks?"},
		"nothing, no TLS":      {full, nil, "", "", ErrUnauthenticated, "who asks?"},
		"foreign certificate":  {full, conn(t, stranger), "", "", ErrUnauthenticated, "unknown authority"},
		"expired certificate":  {full, conn(t, issue(t, a, RoleAdmin, "x", time.Nanosecond)), "", "", ErrUnauthenticated, "expired"},
		"names nobody":         {full, conn(t, nameless), "", "", ErrUnauthenticated, "names nobody"},
		"an authority's own":   {full, conn(t, root), "", "", ErrUnauthenticated, ""},
		"good one, bad token":  {full, conn(t, client), "Bearer x", "", ErrTokenInvalid, "garbled"},
		"password":             {full, conn(t), "Basic YTpi", "", ErrTokenInvalid, "Bearer TOKEN"},
		"no token":             {full, conn(t), "Bearer ", "", ErrTokenInvalid, "Bearer TOKEN"},
		"JWT where none are":   {full, conn(t), "Bearer a.b.c", "", ErrTokenInvalid, "takes no JSON Web Tokens"},
		"token where none are": {&Authenticator{}, nil, "Bearer " + token, "", ErrTokenInvalid, "no file of tokens"},
		"certificate, zero":    {&Authenticator{}, conn(t, client), "", "", ErrUnauthenticated, "believes no certificates"},
	} {
		p, err := c.a.Identify(c.conn, c.header)
		if p.Name != c.want || !errors.Is(err, c.err) || (err != nil && !strings.Contains(err.Error(), c.text)) {
			t.Errorf("%s: got %v, %v; want %q, %v with %q", name, p, err, c.want, c.err, c.text)
		}
		wantKey := ""
		if err == nil && c.conn != nil && len(c.conn.PeerCertificates) > 0 {
			wantKey = Thumbprint(c.conn.PeerCertificates[0])
		}
		if p.Key != wantKey {
			t.Errorf("%s: got key %q, want %q", name, p.Key, wantKey)
		}
	}

	// A certificate that was believed at the handshake is not for ever.
	state := conn(t, client)
	_, next := newAuthority(t)
	sp.write(sp.files.CA, next.Cert)
	if p, err := full.Identify(state, ""); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("after its authority was taken out: %v, %v", p, err)
	}
	if _, err := full.TLS.Verify([]*x509.Certificate{}); err == nil {
		t.Error("an empty chain was verified")
	}
}

// Who has a token and no certificate proves a key all the same, the same one for
// as long as the process lives.
func TestClientWithoutCertificateProvesAKey(t *testing.T) {
	t.Parallel()
	a, root := newAuthority(t)
	sp := newParty(t, root.Cert, issue(t, a, RoleAdmin, "server", 0))
	server, err := sp.load(nil).Server(tls.RequestClientCert)
	if err != nil {
		t.Fatal(err)
	}
	client, err := LoadClient(Files{CA: sp.files.CA}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		at, _, err := shake(t, server, client.Client("localhost"))
		if err != nil {
			t.Fatal(err)
		}
		if len(at.PeerCertificates) != 1 || Thumbprint(at.PeerCertificates[0]) != client.Key() || client.Key() == "" {
			t.Errorf("the server saw %d certificates, the client's key is %q", len(at.PeerCertificates), client.Key())
		}
	}
}
