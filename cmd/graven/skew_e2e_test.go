package main

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"path/filepath"
	"testing"
	"time"

	"github.com/gravenio/graven/identity"
)

// madeAt makes an authority and the certificates of a development cluster as a
// machine would whose clock is that far ahead of ours. To those who verify them,
// their own clock is behind by as much.
func madeAt(t *testing.T, dir string, ahead time.Duration) {
	t.Helper()
	ca, err := openDevTLS(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, roles := range map[string][]identity.Role{
		"admin": {identity.RoleAdmin}, "etcd": nil, "server": nil, "d1": {identity.RoleDaemon},
	} {
		if _, err := ca.party(name, roles...); err != nil {
			t.Fatal(err)
		}
	}
	in := func(file string) string { return filepath.Join(dir, file) }
	root, err := tls.LoadX509KeyPair(in("ca.crt"), in("ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"admin", "etcd", "server", "d1", "ca"} {
		pair, err := tls.LoadX509KeyPair(in(name+".crt"), in(name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		c := pair.Leaf
		c.NotBefore, c.NotAfter = c.NotBefore.Add(ahead), c.NotAfter.Add(ahead)
		der, err := x509.CreateCertificate(rand.Reader, c, root.Leaf, c.PublicKey, root.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, in(name+".crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	}
}

// Clocks may be a day apart: daemons register, and a log is made, written and
// read, with certificates that were made by another clock.
func TestE2EClocksADayApart(t *testing.T) {
	skipShort(t)
	for name, ahead := range map[string]time.Duration{"authority ahead": 24 * time.Hour, "authority behind": -24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := t.TempDir()
			madeAt(t, filepath.Join(data, "tls"), ahead)
			c := startDev(t, data, "--tls", "--daemons", "1", "--pool-size", smallPool)
			input, want := filepath.Join(t.TempDir(), "input"), randomBytes(4, 10_000)
			writeFile(t, input, string(want))
			must(t, append(create("l1"), c.as("admin")...)...)
			must(t, append([]string{"log", "append", "l1", input}, c.as("admin")...)...)
			compare(t, []byte(must(t, append([]string{"log", "read", "l1"}, c.as("admin")...)...)), want)
		})
	}
}
