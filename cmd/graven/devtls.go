package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gravenio/graven/identity"
)

// devRenew is how long a certificate of a development cluster must still be valid
// at a start, or it is made anew.
const devRenew = 30 * 24 * time.Hour

// devTLS is the authority of a development cluster and who has certificates of it.
type devTLS struct {
	dir string
	ca  *identity.Authority
}

// openDevTLS makes the authority if there is none yet.
func openDevTLS(dir string) (*devTLS, error) {
	if _, err := os.Stat(filepath.Join(dir, caCertName)); errors.Is(err, fs.ErrNotExist) {
		if err := makeAuthority(dir, "graven dev", identity.DefaultAuthorityValidity); err != nil {
			return nil, err
		}
	}
	ca, err := openAuthority(dir)
	return &devTLS{dir, ca}, err
}

// party returns the files of one who has the role, or none. They are made if need
// be, or if they are about to expire.
func (d *devTLS) party(name string, roles ...identity.Role) (identity.Files, error) {
	f := identity.Files{
		CA: filepath.Join(d.dir, caCertName), Cert: filepath.Join(d.dir, name+".crt"), Key: filepath.Join(d.dir, name+".key"),
	}
	left, err := validFor(f.Cert)
	if errors.Is(err, fs.ErrNotExist) || err == nil && left < devRenew {
		r := identity.Request{Principal: identity.Principal{Name: name, Roles: roles}, Hosts: []string{"localhost", "127.0.0.1", "::1"}}
		return f, issueTo(d.ca, r, f.Cert, f.Key, err == nil)
	}
	return f, err
}

func validFor(path string) (time.Duration, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return 0, fmt.Errorf("%s holds no certificate", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return time.Until(cert.NotAfter), nil
}

// secure makes what --tls needs, and the file of settings that has the other
// commands use it.
func (d *dev) secure() error {
	if !d.tls {
		return nil
	}
	ca, err := openDevTLS(filepath.Join(d.folder.path, "tls"))
	if err != nil {
		return err
	}
	d.ca = ca
	admin, err := ca.party("admin", identity.RoleAdmin)
	if err != nil {
		return err
	}
	if d.etcdFiles, err = ca.party("etcd"); err != nil {
		return err
	}
	own, err := ca.party("server")
	if err != nil {
		return err
	}
	d.url = "https://" + d.ln.Addr().String()
	t, err := identity.Load(own, nil)
	if err != nil {
		return err
	}
	d.who = &identity.Authenticator{TLS: t}
	if d.serving, err = t.Server(tls.RequestClientCert); err != nil {
		return err
	}
	text := fmt.Sprintf("# Written by `graven dev --tls`; it has the other commands be an admin of its cluster.\napi: %q\ntls-ca: %q\ntls-cert: %q\ntls-key: %q\n",
		d.url, admin.CA, admin.Cert, admin.Key)
	return identity.ReplaceFile(d.folder.settings(), []byte(text))
}

// settings is the file that --config or GRAVEN_CONFIG names to reach the cluster.
func (f *devFolder) settings() string { return filepath.Join(f.path, "cli.yaml") }

// agentTLS are an agent's flags for its certificate, which is in the name of its
// daemon.
func (d *dev) agentTLS(id string) ([]string, error) {
	if d.ca == nil {
		return nil, nil
	}
	f, err := d.ca.party(id, identity.RoleDaemon)
	return []string{"--tls-ca", f.CA, "--tls-cert", f.Cert, "--tls-key", f.Key}, err
}
