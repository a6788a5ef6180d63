package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/pflag"

	"github.com/gravenio/graven/apiclient"
	"github.com/gravenio/graven/identity"
)

// credentials are what this process proves who it is by.
type credentials struct {
	files     identity.Files
	tokenFile string
	loaded    *identity.TLS // of files; nil until it was asked for
}

// tokenVariable holds a token itself. It is no flag: command lines are for
// everybody to see.
const tokenVariable = envPrefix + "_TOKEN"

func (c *credentials) flags(f *pflag.FlagSet) {
	f.StringVar(&c.files.CA, "tls-ca", "", "`FILE` (PEM) of the authorities that made the certificates of the others (default the system's)")
	f.StringVar(&c.files.Cert, "tls-cert", "", "`FILE` (PEM) of this process's certificate")
	f.StringVar(&c.files.Key, "tls-key", "", "`FILE` (PEM) of its private key")
	f.StringVar(&c.tokenFile, "token-file", "", "`FILE` with a token to show to the API (default the variable "+tokenVariable+")")
}

// tls reads the files, once. It is nil if none is named and nothing needs it.
func (c *credentials) tls(needed bool, log *slog.Logger) (*identity.TLS, error) {
	if c.loaded != nil || c.files.Empty() && !needed {
		return c.loaded, nil
	}
	t, err := identity.LoadClient(c.files, log)
	if err != nil {
		return nil, withHint(trimmed(err), "see --tls-ca, --tls-cert and --tls-key; `graven ca issue` makes a certificate")
	}
	c.loaded = t
	return t, nil
}

// token is asked for each request, so a new one in the file is taken up.
func (c *credentials) token() (string, error) {
	if c.tokenFile == "" {
		return os.Getenv(tokenVariable), nil
	}
	b, err := os.ReadFile(c.tokenFile)
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	text := strings.TrimSpace(string(b))
	if text == "" || strings.ContainsAny(text, " \t\r\n") {
		return "", fmt.Errorf("--token-file: %s must hold one token and nothing else", c.tokenFile)
	}
	return text, nil
}

// apiOptions says who asks the API, and how.
func (c *credentials) apiOptions(endpoints []string, log *slog.Logger) (apiclient.Options, error) {
	var o apiclient.Options
	needed := slices.ContainsFunc(endpoints, func(e string) bool { return strings.HasPrefix(e, "https://") })
	t, err := c.tls(needed, log)
	if err != nil {
		return o, err
	}
	if t != nil {
		o.DialTLS = t.DialContext
	}
	token, err := c.token()
	if err != nil || token == "" {
		return o, err
	}
	for _, e := range endpoints {
		if u, err := url.Parse(e); err != nil || u.Scheme != "https" && !loopback(u.Hostname()) {
			return o, usagef("--api: %s would carry the token for everybody to read: write https://", e)
		}
	}
	o.Token = c.token
	return o, nil
}

// watchExpiry has the log say when certificates are about to expire, until it is ended.
// Nil is none.
func watchExpiry(ctx context.Context, all ...*identity.TLS) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	var watches sync.WaitGroup
	for _, t := range all {
		if t != nil {
			watches.Go(func() { t.WatchExpiry(ctx) })
		}
	}
	return func() { cancel(); watches.Wait() }
}

// trimmed drops our own package's name from an error's text.
func trimmed(err error) error {
	if text, ok := strings.CutPrefix(err.Error(), "identity: "); ok {
		return errors.New(text)
	}
	return err
}

// loopback says whether only this machine reaches the host. "" means all
// addresses.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func insecureFlag(f *pflag.FlagSet, insecure *bool) {
	f.BoolVar(insecure, "insecure", false, "serve beyond this machine without TLS: whoever reaches the port may do everything and read along")
}

// checkExposed refuses to listen beyond loopback without TLS, unless the person
// who starts it says that he knows.
func checkExposed(flag, address string, secured, insecure bool) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return usagef("%s is %q: must be HOST:PORT", flag, address)
	}
	if secured || insecure || loopback(host) {
		return nil
	}
	return usagef("%s is %q: beyond this machine it takes TLS, or whoever reaches the port may do everything and read along; "+
		"give --tls-ca, --tls-cert and --tls-key (`graven ca` makes them), or say --insecure", flag, address)
}
