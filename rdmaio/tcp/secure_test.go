package tcp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/gravenio/graven/rdmaio"
)

func refusedBy(t *testing.T, name string, want error, addr string, h rdmaio.Hello, o Options) {
	t.Helper()
	conn, _, err := Dial(t.Context(), addr, h, rdmaio.Events{}, o)
	if err == nil {
		_ = conn.Close()
	}
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", name, err, want)
	}
}

func TestOneEndWithoutTLS(t *testing.T) {
	t.Parallel()
	far, near := quiet(), quiet()
	far.TLS, near.TLS = certificates(t)
	refusedBy(t, "plain to TLS", rdmaio.ErrTLS, serve(t, newFakeHost(ringSize), far), someHello(), quiet())
	refusedBy(t, "TLS to plain", rdmaio.ErrTLS, serve(t, newFakeHost(ringSize), quiet()), someHello(), near)
}

// The host learns which key the connection has proved, and a grant of another
// connection of the same client finds the same one.
func TestTheHostLearnsTheKey(t *testing.T) {
	t.Parallel()
	far, near := quiet(), quiet()
	far.TLS, near.TLS = certificates(t)
	host := newFakeHost(ringSize)
	addr := serve(t, host, far)
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	near.Key = key
	h := someHello()
	h.Peer = rdmaio.Peer{TLS: true, Key: "a lie"}
	for range 2 {
		dial(t, addr, h, near)
		host.mu.Lock()
		got := host.hello.Peer
		host.mu.Unlock()
		if got != (rdmaio.Peer{TLS: true, Key: key.Digest()}) {
			t.Errorf("the host was told of %+v, not of key %s", got, key.Digest())
		}
	}
	dial(t, serve(t, host, quiet()), h, quiet())
	host.mu.Lock()
	defer host.mu.Unlock()
	if host.hello.Peer != (rdmaio.Peer{}) {
		t.Errorf("a plain connection has proved %+v", host.hello.Peer)
	}
}

// Configurations that are made for each connection, as those that follow files.
func TestConfigurationsPerConnection(t *testing.T) {
	t.Parallel()
	far, near := quiet(), quiet()
	server, client := certificates(t)
	far.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return server, nil }}
	var meant []string
	near.DialTLS = func(daemon, host string) (*tls.Config, error) {
		meant = append(meant, daemon+" at "+host)
		return client, nil
	}
	host := newFakeHost(ringSize)
	h := someHello()
	h.Daemon = "d1"
	dial(t, serve(t, host, far), h, near)
	if len(meant) != 1 || meant[0] != "d1 at 127.0.0.1" {
		t.Errorf("asked for %q", meant)
	}
	host.mu.Lock()
	if host.hello.Peer.Key == "" {
		t.Error("the client was not asked to prove a key")
	}
	host.mu.Unlock()
	near.DialTLS = func(string, string) (*tls.Config, error) { return nil, errors.New("no files") }
	if _, _, err := Dial(t.Context(), "127.0.0.1:1", h, rdmaio.Events{}, near); err == nil {
		t.Error("dialled without a configuration")
	}
}

func TestAListenerThatIsNotBelieved(t *testing.T) {
	t.Parallel()
	far, near := quiet(), quiet()
	far.TLS, near.TLS = certificates(t)
	addr := serve(t, newFakeHost(ringSize), far)
	other := near
	other.TLS = near.TLS.Clone()
	other.TLS.RootCAs = x509.NewCertPool()
	refusedBy(t, "another authority", rdmaio.ErrUntrusted, addr, someHello(), other)
	other.TLS = near.TLS.Clone()
	other.TLS.ServerName = "elsewhere"
	refusedBy(t, "another name", rdmaio.ErrUntrusted, addr, someHello(), other)
	other.TLS = near.TLS.Clone()
	other.TLS.VerifyConnection = func(tls.ConnectionState) error { return errors.New("not that one") }
	refusedBy(t, "verification of one's own", rdmaio.ErrUntrusted, addr, someHello(), other)
}

func TestClientsOfBeforeOrWithoutKey(t *testing.T) {
	t.Parallel()
	far := quiet()
	var near *tls.Config
	far.TLS, near = certificates(t)
	host := newFakeHost(ringSize)
	addr := serve(t, host, far)
	old := near.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if conn, err := tls.Dial("tcp", addr, old); err == nil {
		_ = conn.Close()
		t.Error("TLS 1.2 was spoken")
	}
	conn, err := tls.Dial("tcp", addr, near) // of TLS 1.3: the refusal comes with the first read
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("without a certificate: %v", err)
	}
	_ = conn.Close()
	host.mu.Lock()
	defer host.mu.Unlock()
	if host.hello.Capacity != 0 {
		t.Error("a Hello came through")
	}
}

// Whoever says nothing, or only half a handshake, is cut off, and holds one of a
// bounded number of places until then.
func TestHandshakesAreBounded(t *testing.T) {
	t.Parallel()
	far, near := quiet(), quiet()
	far.TLS, near.TLS = certificates(t)
	far.HelloTimeout, far.MaxHandshakes = 300*time.Millisecond, 2
	host := newFakeHost(ringSize)
	addr := serve(t, host, far)
	var stuck []net.Conn
	for range 3 + maxRefusals {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte{tlsHandshake, 3, 1, 2}); err != nil {
			t.Fatal(err)
		}
		stuck = append(stuck, conn)
	}
	for _, conn := range stuck {
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("not cut off: %v", err)
		}
	}
	dial(t, addr, someHello(), near)

	ln, err := net.Listen("tcp", "127.0.0.1:0") // which accepts and is silent
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	near.DeadAfter = 50 * time.Millisecond
	refusedBy(t, "a silent far end", rdmaio.ErrLost, ln.Addr().String(), someHello(), near)
}
