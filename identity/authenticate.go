package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Sentinels of a refused identity. The error's text says what to do about it and
// never repeats a token.
var (
	// ErrUnauthenticated: nothing says who asks, or the certificate does not count.
	ErrUnauthenticated = errors.New("identity: unauthenticated")
	// ErrTokenInvalid: a token that is garbled or not believed.
	ErrTokenInvalid = errors.New("identity: token is invalid")
	// ErrTokenExpired: a token that was believed once.
	ErrTokenExpired = errors.New("identity: token has expired")
)

// refusedError is one of the sentinels with its reason.
type refusedError struct {
	kind   error
	detail string
}

func (e *refusedError) Error() string { return e.detail }
func (e *refusedError) Unwrap() error { return e.kind }

func unauthenticated(format string, args ...any) error {
	return &refusedError{ErrUnauthenticated, fmt.Sprintf(format, args...)}
}

func tokenInvalid(why string) error {
	return &refusedError{ErrTokenInvalid, "the token is not valid: " + why}
}

func tokenExpired(at time.Time) error {
	return &refusedError{ErrTokenExpired, "the token expired on " + at.UTC().Format(time.RFC3339) + ": get a new one"}
}

// Authenticator finds out who sends a request. The zero value believes nobody.
// It is safe for concurrent use.
type Authenticator struct {
	TLS    *TLS    // whose authorities made the clients' certificates; nil: no certificate counts
	Tokens *Tokens // nil: none
	JWTs   *JWTs   // nil: none
}

// Identify says who sends a request, by its connection (nil without TLS) and its
// Authorization header. A token decides when there is one; Key is always that of
// the connection. The certificate is verified each time and not in the handshake,
// so that one which was believed once does not count for as long as its
// connection lives, and whoever has a token may use a key that no authority knows.
//
// Errors: ErrUnauthenticated, ErrTokenInvalid, ErrTokenExpired.
func (a *Authenticator) Identify(conn *tls.ConnectionState, authorization string) (Principal, error) {
	var chain []*x509.Certificate
	if conn != nil {
		chain = conn.PeerCertificates
	}
	if authorization == "" {
		return a.byCertificate(chain)
	}
	p, err := a.byToken(authorization)
	if err != nil {
		return Principal{}, err
	}
	if len(chain) > 0 {
		p.Key = Thumbprint(chain[0])
	}
	return p, nil
}

func (a *Authenticator) byCertificate(chain []*x509.Certificate) (Principal, error) {
	if len(chain) == 0 {
		return Principal{}, unauthenticated("who asks? Use a certificate of this cluster, or a token")
	}
	if a.TLS == nil {
		return Principal{}, unauthenticated("this server believes no certificates: use a token")
	}
	p, err := a.TLS.Verify(chain)
	if err != nil {
		return Principal{}, unauthenticated("%v", err)
	}
	return p, nil
}

// byToken tells the kinds apart by how they begin.
func (a *Authenticator) byToken(authorization string) (Principal, error) {
	scheme, token, _ := strings.Cut(authorization, " ")
	token = strings.TrimSpace(token)
	switch {
	case !strings.EqualFold(scheme, "Bearer") || token == "":
		return Principal{}, tokenInvalid("the header must be Authorization: Bearer TOKEN")
	case strings.HasPrefix(token, TokenPrefix) && a.Tokens != nil:
		return a.Tokens.find(token)
	case strings.HasPrefix(token, TokenPrefix):
		return Principal{}, tokenInvalid("this server has no file of tokens")
	case a.JWTs != nil:
		return a.JWTs.find(token)
	case strings.Count(token, ".") == 2:
		return Principal{}, tokenInvalid("this server takes no JSON Web Tokens")
	}
	return Principal{}, tokenInvalid("it is garbled: `graven token new` makes one")
}

// Verify says whose certificate a client has shown; the first of the chain is
// his own.
func (t *TLS) Verify(chain []*x509.Certificate) (Principal, error) {
	pool := t.current().pool
	if pool == nil {
		return Principal{}, errors.New("identity: without a file of authorities no certificate counts")
	}
	if err := verifyChain(chain, pool, t.now(), x509.ExtKeyUsageClientAuth); err != nil {
		return Principal{}, fmt.Errorf("identity: the client's certificate: %w", err)
	}
	return OfCertificate(chain[0])
}
