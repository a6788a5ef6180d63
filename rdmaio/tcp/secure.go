package tcp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"time"

	"github.com/gravenio/graven/rdmaio"
)

// tlsHandshake is the first byte of a TLS connection; a frame begins with a
// letter.
const tlsHandshake = 22

// Key is a private key with a certificate that only its owner has signed: what a
// client proves on the data plane, where grants name keys and no names. It is
// kept in memory alone.
type Key struct {
	cert   tls.Certificate
	digest string
}

// NewKey makes a key.
func NewKey() (*Key, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("tcp: make a key: %w", err)
	}
	// Nobody looks at the times; they only have to be there.
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(100, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, fmt.Errorf("tcp: make a certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("tcp: make a certificate: %w", err)
	}
	return &Key{
		cert:   tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private, Leaf: leaf},
		digest: digestOf(leaf),
	}, nil
}

// Digest names the key as a grant does: the SHA-256 of its SubjectPublicKeyInfo in
// lower-case hexadecimal.
func (k *Key) Digest() string { return k.digest }

func digestOf(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// secureConn is a TLS connection whose end is its socket's: closing it waits for
// nobody, and a peer that closes its socket between two frames has ended in good
// order. Frames say for themselves where they end.
type secureConn struct {
	*tls.Conn
	plain net.Conn
}

// Close closes the socket.
func (c secureConn) Close() error { return c.plain.Close() }

// Read implements net.Conn.
func (c secureConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err
}

// serverTLS is what a listener needs of a configuration: TLS 1.3, and a client
// that proves a key, whoever has signed its certificate.
func serverTLS(base *tls.Config) *tls.Config {
	c := base.Clone()
	c.MinVersion, c.ClientAuth, c.ClientCAs = tls.VersionTLS13, tls.RequireAnyClientCert, nil
	c.VerifyPeerCertificate = nil
	c.DynamicRecordSizingDisabled = true // records of a log are not web pages
	c.SessionTicketsDisabled = true      // a key is proved each time
	if choose := base.GetConfigForClient; choose != nil {
		c.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			chosen, err := choose(h)
			if err != nil || chosen == nil {
				return nil, err
			}
			chosen = chosen.Clone()
			chosen.GetConfigForClient = nil
			return serverTLS(chosen), nil
		}
	}
	return c
}

// dialTLS is the configuration for one connection to a daemon, nil for a plain
// one.
func (o *Options) dialTLS(daemon, addr string) (*tls.Config, error) {
	if o.TLS == nil && o.DialTLS == nil {
		return nil, nil
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	cfg := o.TLS
	if o.DialTLS != nil {
		if cfg, err = o.DialTLS(daemon, host); err != nil {
			return nil, fmt.Errorf("tcp: prepare TLS for daemon %q: %w", daemon, err)
		}
	}
	key := o.Key
	if key == nil {
		if key, err = NewKey(); err != nil {
			return nil, err
		}
	}
	cfg = cfg.Clone()
	if cfg.ServerName == "" && !cfg.InsecureSkipVerify {
		cfg.ServerName = host
	}
	cfg.MinVersion, cfg.DynamicRecordSizingDisabled = tls.VersionTLS13, true
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &key.cert, nil }
	return cfg, nil
}

// greetServer shakes hands as the near end, for as long as the far end may be
// silent.
func (c secureConn) greetServer(ctx context.Context, deadAfter time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, deadAfter)
	defer cancel()
	err := c.HandshakeContext(ctx)
	var plain tls.RecordHeaderError
	var verify *tls.CertificateVerificationError
	var network net.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &plain):
		return refuse(rdmaio.ErrTLS, "the far end does not speak TLS: connect without, or start the daemon with it")
	case ctx.Err() != nil, errors.Is(err, io.EOF), errors.As(err, &network):
		return lost(fmt.Errorf("TLS handshake: %w", err))
	case errors.As(err, &verify):
		return refuse(rdmaio.ErrUntrusted, "%v", verify.Err)
	default: // what the caller's own verification says comes as it is
		return refuse(rdmaio.ErrUntrusted, "%v", err)
	}
}

// greetClient shakes hands as the far end; the deadline is set.
func (c secureConn) greetClient(ctx context.Context) (rdmaio.Peer, error) {
	err := c.HandshakeContext(ctx)
	var plain tls.RecordHeaderError
	switch {
	case err == nil:
	case errors.As(err, &plain):
		return rdmaio.Peer{}, refuse(rdmaio.ErrTLS, "this daemon serves with TLS only; the connection began with %q", plain.RecordHeader[:])
	default:
		return rdmaio.Peer{}, lost(fmt.Errorf("TLS handshake: %w", err))
	}
	return rdmaio.Peer{TLS: true, Key: digestOf(c.ConnectionState().PeerCertificates[0])}, nil
}

// tellPlain says to a peer that is plain, and may understand a frame, why it is
// not served; one that speaks TLS to a plain end sees that for itself.
func tellPlain(conn net.Conn, s *session, err error) {
	sayWhy(conn, newReplies(conn, s.l.opts.speaks.lowest, s.l.opts.BusyEvery), err)
}
