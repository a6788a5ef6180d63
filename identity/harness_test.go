package identity

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// party is a set of files in a folder of the test's own.
type party struct {
	t     *testing.T
	files Files
}

func newAuthority(t *testing.T) (*Authority, PEM) {
	t.Helper()
	a, files, err := NewAuthority("test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return a, files
}

func newParty(t *testing.T, ca []byte, own PEM) *party {
	t.Helper()
	dir := t.TempDir()
	p := &party{t: t, files: Files{
		CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, "own.crt"), Key: filepath.Join(dir, "own.key"),
	}}
	p.write(p.files.CA, ca)
	p.write(p.files.Cert, own.Cert)
	p.write(p.files.Key, own.Key)
	return p
}

func (p *party) write(path string, b []byte) {
	p.t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *party) load(log *slog.Logger) *TLS {
	p.t.Helper()
	loaded, err := Load(p.files, log)
	if err != nil {
		p.t.Fatal(err)
	}
	return loaded
}

func issue(t *testing.T, a *Authority, role Role, name string, validity time.Duration) PEM {
	t.Helper()
	files, err := a.Issue(Request{
		Principal: Principal{Name: name, Roles: []Role{role}, Groups: []string{"team"}},
		Hosts:     []string{"127.0.0.1", "localhost"}, Validity: validity,
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// logged is a log that can be read while it is written.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logged) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.buf.Bytes(), []byte(text))
}

// shake makes one connection and returns what each end saw of it.
func shake(t *testing.T, server, client *tls.Config) (atServer, atClient tls.ConnectionState, err error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var wg sync.WaitGroup
	var serverErr error
	wg.Go(func() {
		c, err := ln.Accept()
		if err != nil {
			serverErr = err
			return
		}
		defer c.Close()
		s := tls.Server(c, server)
		if serverErr = s.Handshake(); serverErr == nil {
			_, serverErr = s.Write([]byte{1}) // A client of TLS 1.3 learns only by reading that it was refused.
			atServer = s.ConnectionState()
		}
	})
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := tls.Client(c, client)
	if err = s.Handshake(); err == nil {
		_, err = s.Read(make([]byte, 1))
		atClient = s.ConnectionState()
	}
	_ = c.Close()
	wg.Wait()
	if err == nil {
		err = serverErr
	}
	return atServer, atClient, err
}
