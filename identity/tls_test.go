package identity

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"
)

func serverConfig(t *testing.T, x *TLS) *tls.Config {
	t.Helper()
	c, err := x.Server(tls.RequireAndVerifyClientCert)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func serialOf(t *testing.T, p PEM) string {
	t.Helper()
	return parseCert(t, p.Cert).SerialNumber.String()
}

func parseCert(t *testing.T, text []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestBothEndsProveThemselves(t *testing.T) {
	t.Parallel()
	a, root := newAuthority(t)
	clientPEM := issue(t, a, RoleClient, "alice", 0)
	server := newParty(t, root.Cert, issue(t, a, RoleDaemon, "d1", 0)).load(nil)
	client := newParty(t, root.Cert, clientPEM).load(nil)
	for name, config := range map[string]*tls.Config{
		"by host": client.Client("127.0.0.1"), "by name": client.ClientOf(RoleDaemon, "d1"),
	} {
		atServer, atClient, err := shake(t, serverConfig(t, server), config)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if atClient.Version != tls.VersionTLS13 {
			t.Errorf("%s: version %x, want TLS 1.3", name, atClient.Version)
		}
		p, err := OfCertificate(atServer.PeerCertificates[0])
		if err != nil || p.Name != "alice" || !p.Is(RoleClient) || p.Is(RoleDaemon) || p.Key != client.Key() || p.Groups[0] != "team" {
			t.Errorf("%s: the server saw %+v, %v; want the client alice of team with key %s", name, p, err, client.Key())
		}
	}
}

func TestRefusedHandshakes(t *testing.T) {
	t.Parallel()
	a, root := newAuthority(t)
	foreign, foreignRoot := newAuthority(t)
	server := newParty(t, root.Cert, issue(t, a, RoleDaemon, "d1", 0)).load(nil)
	good := newParty(t, root.Cert, issue(t, a, RoleClient, "alice", 0))
	old := good.load(nil)
	old.is.cert = pairOf(t, issue(t, a, RoleClient, "alice", time.Nanosecond))
	old.seen, _ = good.sum()
	bare, err := Load(Files{CA: good.files.CA}, nil)
	if err != nil {
		t.Fatal(err)
	}
	oldest := good.load(nil).Client("127.0.0.1")
	oldest.MinVersion, oldest.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	for name, c := range map[string]struct {
		client *tls.Config
		want   string
	}{
		"certificate of another authority": {newParty(t, root.Cert, issue(t, foreign, RoleAdmin, "eve", 0)).load(nil).Client("127.0.0.1"), "unknown certificate authority"},
		"expired certificate":              {old.Client("127.0.0.1"), "expired certificate"},
		"no certificate":                   {bare.Client("127.0.0.1"), "certificate required"},
		"TLS 1.2":                          {oldest, "protocol version"},
		"server of another authority":      {newParty(t, foreignRoot.Cert, issue(t, a, RoleClient, "alice", 0)).load(nil).Client("127.0.0.1"), "unknown authority"},
		"server at another host":           {good.load(nil).Client("example.org"), "example.org"},
		"another daemon":                   {good.load(nil).ClientOf(RoleDaemon, "d2"), `"d1" (daemon), not of daemon "d2"`},
		"not a daemon":                     {good.load(nil).ClientOf(RoleAdmin, "d1"), `"d1" (daemon), not of admin "d1"`},
		"foreign, by name":                 {newParty(t, foreignRoot.Cert, issue(t, a, RoleClient, "alice", 0)).load(nil).ClientOf(RoleDaemon, "d1"), "unknown authority"},
	} {
		_, _, err := shake(t, serverConfig(t, server), c.client)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
}

// What an authority has just made is good for those whose clocks are a day from
// its own, before or after it.
func TestClocksADayApart(t *testing.T) {
	t.Parallel()
	a, root, err := NewAuthority("test", DefaultAuthorityValidity)
	if err != nil {
		t.Fatal(err)
	}
	server := newParty(t, root.Cert, issue(t, a, RoleDaemon, "d1", 0))
	client := newParty(t, root.Cert, issue(t, a, RoleClient, "alice", 0))
	for _, off := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		now := func() time.Time { return time.Now().Add(off) }
		at, err := load(server.files, slog.Default(), now)
		if err != nil {
			t.Errorf("a server at %v: %v", off, err)
			continue
		}
		asks, err := load(client.files, slog.Default(), now)
		if err != nil {
			t.Errorf("a client at %v: %v", off, err)
			continue
		}
		seen, _, err := shake(t, serverConfig(t, at), asks.ClientOf(RoleDaemon, "d1"))
		if err != nil {
			t.Errorf("both at %v: %v", off, err)
			continue
		}
		if p, err := at.Verify(seen.PeerCertificates); err != nil || p.Name != "alice" {
			t.Errorf("the client, by a clock at %v: %v, %v", off, p, err)
		}
	}
}

func pairOf(t *testing.T, p PEM) *tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		t.Fatal(err)
	}
	return &pair
}

func (p *party) sum() (sum [32]byte, err error) {
	c, err := p.files.read()
	return c.sum(), err
}

// Certificate and key are two files: in between they do not fit together.
func TestNewCertificateIsUsedWithoutRestart(t *testing.T) {
	t.Parallel()
	a, root := newAuthority(t)
	first, second := issue(t, a, RoleDaemon, "d1", 0), issue(t, a, RoleDaemon, "d1", 0)
	log := &logged{}
	sp := newParty(t, root.Cert, first)
	server := serverConfig(t, sp.load(slog.New(slog.NewTextHandler(log, nil))))
	cp := newParty(t, root.Cert, issue(t, a, RoleClient, "alice", 0))
	client := cp.load(nil)
	expect := func(when string, want PEM) {
		t.Helper()
		_, at, err := shake(t, server, client.Client("localhost"))
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if got := at.PeerCertificates[0].SerialNumber.String(); got != serialOf(t, want) {
			t.Errorf("%s: the server showed certificate %s, want %s", when, got, serialOf(t, want))
		}
	}
	expect("at first", first)
	sp.write(sp.files.Cert, second.Cert)
	expect("with the old key", first)
	expect("with the old key, again", first)
	if n := log.count("can't be used"); n != 1 {
		t.Errorf("the log says %d times that the files can't be used, want once", n)
	}
	sp.write(sp.files.Key, second.Key)
	expect("with both", second)
	if err := os.Remove(sp.files.Key); err != nil {
		t.Fatal(err)
	}
	expect("with the key gone", second)
	expect("with the key gone, again", second)
	if n := log.count("can't be read"); n != 1 {
		t.Errorf("the log says %d times that the files can't be read, want once", n)
	}

	third := issue(t, a, RoleClient, "bob", 0)
	cp.write(cp.files.Cert, third.Cert)
	cp.write(cp.files.Key, third.Key)
	at, _, err := shake(t, server, client.Client("localhost"))
	if err != nil {
		t.Fatal(err)
	}
	if p, err := OfCertificate(at.PeerCertificates[0]); err != nil || p.Name != "bob" {
		t.Errorf("the client's new certificate names %v, %v; want bob", p, err)
	}
}

func TestNewAuthorityIsBelievedWithoutRestart(t *testing.T) {
	t.Parallel()
	a, root := newAuthority(t)
	b, root2 := newAuthority(t)
	sp := newParty(t, root.Cert, issue(t, a, RoleDaemon, "d1", 0))
	cp := newParty(t, root.Cert, issue(t, b, RoleClient, "alice", 0))
	server, client := serverConfig(t, sp.load(nil)), cp.load(nil)
	try := func() error {
		_, _, err := shake(t, server, client.Client("localhost"))
		return err
	}
	if try() == nil {
		t.Fatal("a client of an unknown authority was let in")
	}
	both := append(append([]byte{}, root.Cert...), root2.Cert...)
	sp.write(sp.files.CA, both)
	if err := try(); err != nil {
		t.Errorf("with both authorities: %v", err)
	}
	sp.write(sp.files.CA, both[:len(both)-40])
	if err := try(); err != nil {
		t.Errorf("with a file that was cut off: %v", err)
	}
	sp.write(sp.files.CA, root.Cert)
	if try() == nil {
		t.Error("an authority that was taken out is still believed")
	}
	cp.write(cp.files.CA, root2.Cert)
	sp.write(sp.files.CA, both)
	if try() == nil {
		t.Error("the client still believes the authority that was taken out")
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	a, root := newAuthority(t)
	own, other := issue(t, a, RoleDaemon, "d1", 0), issue(t, a, RoleDaemon, "d2", 0)
	expired := issue(t, a, RoleDaemon, "d1", time.Nanosecond)
	for name, c := range map[string]struct {
		ca, cert, key []byte
		want          string
	}{
		"another's key":             {root.Cert, own.Cert, other.Key, "private key does not match"},
		"expired":                   {root.Cert, expired.Cert, expired.Key, "expired on"},
		"no certificate":            {root.Cert, []byte("x"), own.Key, "own.crt"},
		"authority that is a key":   {root.Key, own.Cert, own.Key, "certificates only"},
		"authority without content": {nil, own.Cert, own.Key, "no certificate"},
		"large authority":           {make([]byte, maxPEM+1), own.Cert, own.Key, "at most"},
	} {
		_, err := Load(newParty(t, c.ca, PEM{Cert: c.cert, Key: c.key}).files, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
	files := newParty(t, root.Cert, own).files
	for name, f := range map[string]Files{
		"certificate alone": {CA: files.CA, Cert: files.Cert}, "key alone": {Key: files.Key}, "missing": {CA: files.CA + "x"},
	} {
		if _, err := Load(f, nil); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
	ahead := func() time.Time { return time.Now().Add(-48 * time.Hour) }
	if _, err := load(files, slog.Default(), ahead); err == nil || !strings.Contains(err.Error(), "clock") {
		t.Errorf("not valid yet: got %v, want an error that speaks of the clock", err)
	}
	bare, err := Load(Files{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bare.Server(tls.NoClientCert); err == nil {
		t.Error("a server without a certificate was made")
	}
	alone, err := Load(Files{Cert: files.Cert, Key: files.Key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := alone.Server(tls.VerifyClientCertIfGiven); err == nil {
		t.Error("a server that verifies clients by no authority was made")
	}
}
