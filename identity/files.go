package identity

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"
)

// maxPEM bounds each file, in bytes.
const maxPEM = 1 << 20

// Files are where a party's certificate is, all in PEM. Cert and Key go
// together. Without them the party proves nothing by its connections; without CA
// it believes the system's authorities as a client, and nobody as a server.
type Files struct {
	CA   string // the authorities whose certificates are believed
	Cert string // the party's own certificate, then what leads to the authority
	Key  string // its private key
}

// Empty says that no file is named.
func (f Files) Empty() bool { return f == Files{} }

// validate checks that the names fit together; it opens nothing.
func (f Files) validate() error {
	switch {
	case f.Cert == "" && f.Key != "":
		return errors.New("identity: a private key without its certificate: name both files")
	case f.Cert != "" && f.Key == "":
		return errors.New("identity: a certificate without its private key: name both files")
	}
	return nil
}

// contents are the bytes of the files; nil for one that is not named.
type contents struct{ ca, cert, key []byte }

func (f Files) read() (c contents, err error) {
	for _, x := range []struct {
		to   *[]byte
		path string
	}{{&c.ca, f.CA}, {&c.cert, f.Cert}, {&c.key, f.Key}} {
		if x.path == "" {
			continue
		}
		if *x.to, err = readBounded(x.path); err != nil {
			return contents{}, err
		}
	}
	return c, nil
}

func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxPEM {
		return nil, fmt.Errorf("identity: %s is no file of at most %d bytes", path, maxPEM)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	return b, nil
}

// sum tells contents apart without keeping the private key's bytes.
func (c contents) sum() [sha256.Size]byte {
	h := sha256.New()
	for _, b := range [][]byte{c.ca, c.cert, c.key} {
		one := sha256.Sum256(b)
		h.Write(one[:])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// material is what the files say.
type material struct {
	pool *x509.CertPool   // nil: the system's
	cert *tls.Certificate // nil: none; its Leaf is set
}

// parse reads what is usable at the time, and nothing else.
func (f Files) parse(c contents, now time.Time) (*material, error) {
	m := &material{}
	if f.CA != "" {
		pool, err := parsePool(c.ca)
		if err != nil {
			return nil, fmt.Errorf("identity: %s: %w", f.CA, err)
		}
		m.pool = pool
	}
	if f.Cert == "" {
		return m, nil
	}
	pair, err := tls.X509KeyPair(c.cert, c.key)
	if err != nil {
		return nil, fmt.Errorf("identity: certificate %s with key %s: %w", f.Cert, f.Key, err)
	}
	if err := checkTime(pair.Leaf, now); err != nil {
		return nil, fmt.Errorf("identity: %s: %w", f.Cert, err)
	}
	m.cert = &pair
	return m, nil
}

// parsePool wants certificates and nothing else, so that a file which was cut
// off is noticed.
func parsePool(text []byte) (*x509.CertPool, error) {
	pool, n := x509.NewCertPool(), 0
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("holds a %.40q, must hold certificates only", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", n+1, err)
		}
		pool.AddCert(cert)
		n++
	}
	if n == 0 {
		return nil, errors.New("holds no certificate in PEM")
	}
	if bytes.Contains(text, []byte("-----BEGIN")) {
		return nil, fmt.Errorf("what follows certificate %d is damaged", n)
	}
	return pool, nil
}

func checkTime(cert *x509.Certificate, now time.Time) error {
	if now.After(cert.NotAfter) {
		return fmt.Errorf("the certificate expired on %s: issue a new one", cert.NotAfter.UTC().Format(time.RFC3339))
	}
	if now.Before(cert.NotBefore) {
		return fmt.Errorf("the certificate is valid only from %s: compare this machine's clock", cert.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}
