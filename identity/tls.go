package identity

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// TLS makes the configurations of a party's connections, all of TLS 1.3. It
// looks at the files again at each handshake, so certificate, key and
// authorities change without a restart. Files that can't be used, or do not fit
// together yet, change nothing: what was read last stays, and the log says so
// once. A TLS is safe for concurrent use.
type TLS struct {
	files Files
	log   *slog.Logger
	now   func() time.Time
	spare *tls.Certificate // what a client without a certificate proves its key by; nil: nothing

	mu   sync.Mutex
	seen [sha256.Size]byte // contents that were looked at last, good or bad
	lost string            // the last error of reading, "" if the files could be read
	is   *material
	// servers are the configurations made of is, by the kind of client
	// authentication. They are kept for what is cached in them.
	servers map[tls.ClientAuthType]*tls.Config
}

// Load reads the files. All that are named must be usable: the key must be the
// certificate's, and the certificate must be valid now. Nil for the log means
// slog.Default.
func Load(f Files, log *slog.Logger) (*TLS, error) {
	if log == nil {
		log = slog.Default()
	}
	return load(f, log, time.Now)
}

// LoadClient is as Load, for those who prove who they are by a token. Without a
// certificate of their own they show one that they signed themselves, with a key
// made for this process: it says nothing but whose connections are the same
// client's.
func LoadClient(f Files, log *slog.Logger) (*TLS, error) {
	t, err := Load(f, log)
	if err != nil || f.Cert != "" {
		return t, err
	}
	_, own, err := NewAuthority("nobody", DefaultAuthorityValidity)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(own.Cert, own.Key)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	t.spare = &pair
	return t, nil
}

func load(f Files, log *slog.Logger, now func() time.Time) (*TLS, error) {
	if err := f.validate(); err != nil {
		return nil, err
	}
	c, err := f.read()
	if err != nil {
		return nil, err
	}
	m, err := f.parse(c, now())
	if err != nil {
		return nil, err
	}
	return &TLS{files: f, log: log, now: now, seen: c.sum(), is: m}, nil
}

// current is what the files say, or said when they were last usable.
func (t *TLS) current() *material {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refresh()
	return t.is
}

// refresh needs mu.
func (t *TLS) refresh() {
	c, err := t.files.read()
	if err != nil {
		if text := err.Error(); text != t.lost {
			t.lost = text
			t.log.Error("certificate files can't be read; what was read before stays in use", "error", err)
		}
		return
	}
	t.lost = ""
	sum := c.sum()
	if sum == t.seen {
		return
	}
	t.seen = sum
	m, err := t.files.parse(c, t.now())
	if err != nil {
		t.log.Error("new certificate files can't be used; what was read before stays in use", "error", err)
		return
	}
	t.is, t.servers = m, nil
	if m.cert != nil {
		t.log.Info("certificate files read again", "certificate", t.files.Cert, "valid_until", m.cert.Leaf.NotAfter)
	} else {
		t.log.Info("certificate files read again", "ca", t.files.CA)
	}
}

// Key is the thumbprint of the key that the party's connections prove, as in
// Principal.Key; "" if they prove none.
func (t *TLS) Key() string {
	if c := t.own(); c != nil {
		return Thumbprint(c.Leaf)
	}
	return ""
}

// Server is a configuration for a listener. It fails without a certificate, and
// without authorities if the clients' certificates are to be verified.
func (t *TLS) Server(clients tls.ClientAuthType) (*tls.Config, error) {
	m := t.current()
	if m.cert == nil {
		return nil, errors.New("identity: a server needs a certificate and its private key")
	}
	if m.pool == nil && clients >= tls.VerifyClientCertIfGiven {
		return nil, errors.New("identity: to verify clients a server needs the file of the authorities that made their certificates")
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return t.server(clients), nil },
		// Never asked for: GetConfigForClient answers. Listeners want one of them.
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return t.current().cert, nil },
	}, nil
}

func (t *TLS) server(clients tls.ClientAuthType) *tls.Config {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refresh()
	if c, ok := t.servers[clients]; ok {
		return c
	}
	c := &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{*t.is.cert},
		ClientAuth:   clients,
		ClientCAs:    t.is.pool,
		// A resumed session would be believed by the authorities of its first
		// handshake.
		SessionTicketsDisabled: true,
	}
	if t.servers == nil {
		t.servers = map[tls.ClientAuthType]*tls.Config{}
	}
	t.servers[clients] = c
	return c
}

// Client is a configuration for one connection to a host, which must have a
// certificate for that name or address. Ask for a new one for each connection:
// it believes the authorities of this moment.
func (t *TLS) Client(host string) *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		ServerName:           host,
		RootCAs:              t.current().pool,
		GetClientCertificate: t.clientCertificate,
	}
}

// ClientOf is as Client, for a party that is known by its role and name and may
// be reached at any address: its certificate must say so, whatever hosts it is
// for.
func (t *TLS) ClientOf(role Role, name string) *tls.Config {
	pool := t.current().pool
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		GetClientCertificate: t.clientCertificate,
		InsecureSkipVerify:   true, //nolint:gosec // VerifyConnection does it, without the host.
		VerifyConnection: func(s tls.ConnectionState) error {
			return verifyParty(s.PeerCertificates, pool, role, name, t.now())
		},
	}
}

func verifyParty(chain []*x509.Certificate, pool *x509.CertPool, role Role, name string, now time.Time) error {
	if err := verifyChain(chain, pool, now, x509.ExtKeyUsageServerAuth); err != nil {
		return fmt.Errorf("identity: the server's certificate: %w", err)
	}
	p, err := OfCertificate(chain[0])
	if err != nil {
		return err
	}
	if p.Name != name || !has(p.Roles, role) {
		return fmt.Errorf("identity: the server's certificate is that of %s, not of %s %q", p, role, name)
	}
	return nil
}

// verifyChain is what a handshake does, but for the host's name.
func verifyChain(chain []*x509.Certificate, pool *x509.CertPool, now time.Time, usage x509.ExtKeyUsage) error {
	if len(chain) == 0 {
		return errors.New("there is none")
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: pool, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage},
	})
	return err
}

func (t *TLS) clientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	if c := t.own(); c != nil {
		return c, nil
	}
	return &tls.Certificate{}, nil // none
}

func (t *TLS) own() *tls.Certificate {
	if c := t.current().cert; c != nil {
		return c
	}
	return t.spare
}

// DialContext connects with TLS to a host and port. It is meant for
// http.Transport's DialTLSContext. A connection that can't be made in 5 s is an
// error.
func (t *TLS) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("identity: dial %q: %w", address, err)
	}
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: t.Client(host)}
	return d.DialContext(ctx, network, address)
}
