package main

import (
	"context"
	"crypto/tls"
	"strings"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/rdmaio/tcp"
	"github.com/gravenio/graven/replog"
	"github.com/gravenio/graven/replog/control"
)

// reach is how a command gets to the daemons of a log: plainly, or with TLS where
// the API is reached with TLS, by a key that is made for this command and that its
// grants name.
type reach struct {
	key  *tcp.Key // nil: plainly
	dial replog.Dialer
}

// reach says how to get to the daemons.
func (a *app) reach() (*reach, error) {
	t, err := a.tls(a.secured(), nil)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return &reach{dial: replog.DialTCP(tcp.Options{})}, nil
	}
	key, err := tcp.NewKey()
	if err != nil {
		return nil, err
	}
	return &reach{key: key, dial: replog.DialTCP(tcp.Options{
		Key: key, DialTLS: func(_, host string) (*tls.Config, error) { return t.Client(host), nil },
	})}, nil
}

// secured says whether the API is reached with TLS.
func (a *app) secured() bool { return strings.Contains(a.endpoints, "https://") }

// digest names the key; "" without one.
func (r *reach) digest() string {
	if r.key == nil {
		return ""
	}
	return r.key.Digest()
}

// control is what a log is opened by, in the name of what is done.
func (r *reach) control(api *openapi.ClientWithResponses, what string) *control.Client {
	return control.New(api, what, 0).Proving(r.digest())
}

// with adds the way to the daemons.
func (r *reach) with(o replog.Options) replog.Options {
	o.Dial = r.dial
	return o
}

// readGrant is what lets this command read a log that somebody else may write; ""
// where daemons ask for none.
func (r *reach) readGrant(ctx context.Context, api *openapi.ClientWithResponses, log string) (string, error) {
	if r.key == nil {
		return "", nil
	}
	g, err := checked(api.GrantReadWithResponse(ctx, log, openapi.ReadGrantRequest{ClientKey: r.digest()}))
	if err != nil || g.JSON200 == nil {
		return "", err
	}
	return g.JSON200.Grant, nil
}
