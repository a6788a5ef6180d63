package store

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	caller "github.com/gravenio/graven/identity"
)

// etcdParty writes a certificate of the authority for 127.0.0.1.
func etcdParty(t *testing.T, ca *caller.Authority, root caller.PEM, name string) caller.Files {
	t.Helper()
	own, err := ca.Issue(caller.Request{Principal: caller.Principal{Name: name}, Hosts: []string{"127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := caller.Files{CA: filepath.Join(dir, "ca"), Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key")}
	for path, b := range map[string][]byte{f.CA: root.Cert, f.Cert: own.Cert, f.Key: own.Key} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func TestEtcdWithTLS(t *testing.T) {
	t.Parallel()
	ca, root, err := caller.NewAuthority("etcd", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	foreign, _, err := caller.NewAuthority("foreign", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	e, err := StartEmbedded(t.Context(), t.TempDir(), EmbeddedOptions{Logger: quiet(), TLS: etcdParty(t, ca, root, "etcd")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	if !strings.HasPrefix(e.Endpoint(), "https://127.0.0.1:") {
		t.Errorf("etcd is at %s", e.Endpoint())
	}
	load := func(f caller.Files) func(string) *tls.Config {
		loaded, err := caller.Load(f, quiet())
		if err != nil {
			t.Fatal(err)
		}
		return loaded.Client
	}
	own := etcdParty(t, ca, root, "api1")
	dial := func(endpoint string, config func(string) *tls.Config) error {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		x, err := Dial(ctx, []string{endpoint}, DialOptions{Logger: quiet(), TLS: config, Timeout: 2 * time.Second})
		if err != nil {
			return err
		}
		s, err := New(x.Client, Options{Logger: quiet(), Lease: x.Lease})
		if err != nil {
			return err
		}
		runCtx, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- s.Run(runCtx) }()
		err = s.WaitReady(ctx)
		stop()
		return errors.Join(err, <-done, x.Close())
	}
	if err := dial(e.Endpoint(), load(own)); err != nil {
		t.Errorf("with its certificate: %v", err)
	}
	for name, c := range map[string]struct {
		endpoint string
		config   func(string) *tls.Config
		want     error
	}{
		"another authority's certificate": {e.Endpoint(), load(etcdParty(t, foreign, root, "eve")), ErrUnavailable},
		"no certificate":                  {e.Endpoint(), load(caller.Files{CA: own.CA}), ErrUnavailable},
		"an etcd of another authority":    {e.Endpoint(), load(etcdParty(t, ca, mustRoot(t), "api1")), ErrUnavailable},
		"no TLS":                          {strings.Replace(e.Endpoint(), "https", "http", 1), nil, ErrUnavailable},
		"https without certificates":      {e.Endpoint(), nil, ErrInvalid},
		"certificates for http":           {"http://127.0.0.1:1", load(own), ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := dial(c.endpoint, c.config); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func mustRoot(t *testing.T) caller.PEM {
	t.Helper()
	_, root, err := caller.NewAuthority("other", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return root
}
