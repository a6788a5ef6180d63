package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

// Validity of what an authority makes.
const (
	DefaultAuthorityValidity   = 10 * 365 * 24 * time.Hour
	DefaultCertificateValidity = 365 * 24 * time.Hour
	// backdated is how far before its making a certificate becomes valid: the
	// clocks of two hosts may be a day apart.
	backdated = 25 * time.Hour
)

// PEM is a certificate and its private key, ready to be written to files.
type PEM struct{ Cert, Key []byte }

// Authority makes certificates for those who have no public key infrastructure
// of their own. Keys are ECDSA on P-256, which browsers take, too.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// NewAuthority makes an authority of that name, for people, and its files.
func NewAuthority(name string, validity time.Duration) (*Authority, PEM, error) {
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true, // it makes no other authority
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, PEM{}, fmt.Errorf("identity: make a key: %w", err)
	}
	files, err := sign(template, template, key, key, validity)
	if err != nil {
		return nil, PEM{}, err
	}
	a, err := ParseAuthority(files)
	return a, files, err
}

// ParseAuthority reads what NewAuthority made.
func ParseAuthority(files PEM) (*Authority, error) {
	pair, err := tls.X509KeyPair(files.Cert, files.Key)
	if err != nil {
		return nil, fmt.Errorf("identity: authority: %w", err)
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !pair.Leaf.IsCA || !ok {
		return nil, errors.New("identity: this certificate is no authority's, so nothing can be issued with it")
	}
	return &Authority{cert: pair.Leaf, key: key}, nil
}

// Request is what a certificate is to say.
type Request struct {
	// Principal gives name, roles and groups. Without roles the certificate
	// gives no rights here, such as one for etcd.
	Principal Principal
	// Hosts are the names and IP addresses at which it is reached as a server.
	Hosts []string
	// Validity is DefaultCertificateValidity if zero; it ends with the
	// authority's at the latest.
	Validity time.Duration
}

func (r Request) check() error {
	if err := CheckName(r.Principal.Name); err != nil {
		return err
	}
	for _, role := range r.Principal.Roles {
		if _, err := ParseRole(string(role)); err != nil {
			return err
		}
	}
	if len(r.Principal.Groups) > MaxGroups {
		return fmt.Errorf("identity: %d groups, at most %d", len(r.Principal.Groups), MaxGroups)
	}
	for _, g := range r.Principal.Groups {
		if err := CheckName(g); err != nil {
			return err
		}
	}
	if r.Validity < 0 {
		return fmt.Errorf("identity: a validity of %v must be positive", r.Validity)
	}
	return nil
}

// Issue makes a certificate with a new key, for a server and a client alike.
func (a *Authority) Issue(r Request) (PEM, error) {
	if err := r.check(); err != nil {
		return PEM{}, err
	}
	if r.Validity == 0 {
		r.Validity = DefaultCertificateValidity
	}
	if left := time.Until(a.cert.NotAfter); left <= 0 {
		return PEM{}, fmt.Errorf("identity: the authority %q expired on %s: make a new one", a.cert.Subject.CommonName, a.cert.NotAfter.UTC().Format(time.RFC3339))
	} else if r.Validity > left {
		r.Validity = left
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: r.Principal.Name},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:        r.Principal.URIs(),
	}
	for _, h := range r.Hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return PEM{}, fmt.Errorf("identity: make a key: %w", err)
	}
	return sign(template, a.cert, key, a.key, r.Validity)
}

func sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey, by crypto.Signer, validity time.Duration) (PEM, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return PEM{}, fmt.Errorf("identity: serial number: %w", err)
	}
	now := time.Now()
	template.SerialNumber = serial
	template.NotBefore, template.NotAfter = now.Add(-backdated), now.Add(validity)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		return PEM{}, fmt.Errorf("identity: make a certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return PEM{}, fmt.Errorf("identity: write the key: %w", err)
	}
	return PEM{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}, nil
}
