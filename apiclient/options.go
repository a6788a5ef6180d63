package apiclient

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Bounds of what a client is made of and of what it reads.
const (
	MaxServers = 64
	maxAnswer  = 8 << 20 // of one answer, in bytes
)

// Options are what a client may be told. The zero value is a client without an
// identity.
type Options struct {
	// TLS is for https servers: whom to trust, and the certificate to show. nil
	// trusts what the system trusts and shows none.
	TLS *tls.Config

	// DialTLS connects to https servers instead, for those whom to trust changes
	// without a restart. TLS means nothing then.
	DialTLS func(ctx context.Context, network, address string) (net.Conn, error)

	// Token returns the bearer token for a request; "" sends none. It is asked
	// for each attempt, so one that changes is taken up. nil sends none.
	Token func() (string, error)

	// Timeout ends an attempt at one server, until its whole answer is here, or
	// until a stream begins; default 10 s.
	Timeout time.Duration

	// DialTimeout ends an attempt to connect; default 2 s.
	DialTimeout time.Duration

	// StreamIdle ends a stream of events that says nothing, not even that it
	// lives; default 60 s. Servers say so every 15 s.
	StreamIdle time.Duration

	// Transport replaces the client's own; TLS and DialTimeout are then its own
	// matter, and Close leaves it alone.
	Transport http.RoundTripper

	// Logger is told, at level debug, which server failed; none by default.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	o.Timeout = cmp.Or(o.Timeout, 10*time.Second)
	o.DialTimeout = cmp.Or(o.DialTimeout, 2*time.Second)
	o.StreamIdle = cmp.Or(o.StreamIdle, time.Minute)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	return o
}

// transport is the client's own.
func (o *Options) transport() *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: o.DialTimeout, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:     o.TLS,
		DialTLSContext:      o.DialTLS,
		TLSHandshakeTimeout: o.DialTimeout + 3*time.Second,
		IdleConnTimeout:     30 * time.Second,
		MaxIdleConnsPerHost: 4,
	}
}

// ParseURL reads the address of a server: an http or https URL, or HOST:PORT,
// which means http. The error names the text and the rule.
func ParseURL(text string) (*url.URL, error) {
	text = strings.TrimSpace(text)
	full := text
	if !strings.Contains(text, "://") {
		full = "http://" + text
	}
	u, err := url.Parse(full)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%q is no address of an API server: write http://HOST:PORT or https://HOST:PORT", text)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = ""
	return u, nil
}
