package apiclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gravenio/graven/openapi"
)

// Client asks several equal servers. It is what the generated client calls.
type Client struct {
	o       Options
	http    *http.Client
	own     *http.Transport // nil if it is the caller's
	servers *servers
	api     *openapi.ClientWithResponses
}

var _ openapi.HttpRequestDoer = (*Client)(nil)

// New returns a client of the servers, which are addresses as [ParseURL] reads
// them. It asks nobody yet. The error says which address is none.
func New(addresses []string, o Options) (*Client, error) {
	if len(addresses) == 0 || len(addresses) > MaxServers {
		return nil, fmt.Errorf("%d API servers: must be 1 to %d", len(addresses), MaxServers)
	}
	urls := make([]*url.URL, len(addresses))
	for i, a := range addresses {
		var err error
		if urls[i], err = ParseURL(a); err != nil {
			return nil, err
		}
	}
	o = o.withDefaults()
	c := &Client{o: o, servers: newServers(urls)}
	rt := o.Transport
	if rt == nil {
		c.own = o.transport()
		rt = c.own
	}
	c.http = &http.Client{Transport: rt, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return c, c.generate()
}

// generate makes the generated client over this one. Its requests are made for
// the first server.
func (c *Client) generate() error {
	var err error
	c.api, err = openapi.NewClientWithResponses(c.servers.url(0).String(), openapi.WithHTTPClient(c))
	return err
}

// Apart returns the same servers over the same connections for another user:
// the failover of the one does not disturb the other.
func (c *Client) Apart() *Client {
	urls := make([]*url.URL, len(c.servers.list))
	for i := range urls {
		urls[i] = c.servers.url(i)
	}
	apart := &Client{o: c.o, http: c.http, servers: newServers(urls)}
	_ = apart.generate() // it went well with the same URLs
	return apart
}

// API returns the generated client whose calls fail over.
func (c *Client) API() *openapi.ClientWithResponses { return c.api }

// URL is the server that is asked first.
func (c *Client) URL() string { return c.servers.url(c.servers.order(time.Now())[0]).String() }

// Close gives up idle connections, unless the transport is the caller's or this
// client was made by Apart.
func (c *Client) Close() {
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
}

// Do implements openapi.HttpRequestDoer for requests made for the first server.
//
// Errors: a *NoAnswerError, or what the request's context says.
func (c *Client) Do(r *http.Request) (*http.Response, error) {
	order := c.servers.order(time.Now())
	none := &NoAnswerError{}
	var answer *http.Response // only that server's, but better than none
	for i, n := range order {
		a := c.attempt(r, n, len(order)-i)
		if a.err != nil && errors.Is(r.Context().Err(), context.Canceled) {
			return nil, fmt.Errorf("ask the API at %s: %w", c.servers.url(n), context.Cause(r.Context()))
		}
		if a.err == nil && !a.away {
			c.servers.answered(n)
			return a.response, nil
		}
		c.servers.failed(n, time.Now())
		if !a.harmless {
			noteLost(r.Context())
		}
		if a.err == nil {
			answer = a.response
			c.o.Logger.Debug("an API server can't answer", "url", c.servers.url(n).String(), "status", answer.StatusCode)
		} else {
			none.Attempts = append(none.Attempts, Attempt{URL: c.servers.url(n).String(), Err: plain(a.err)})
			c.o.Logger.Debug("an API server does not answer", "url", c.servers.url(n).String(), "err", a.err)
		}
		if r.Context().Err() != nil || !a.harmless && !repeatable(r) {
			break
		}
	}
	if answer != nil {
		return answer, nil
	}
	return nil, none
}

// aimed returns the request for a server.
func (c *Client) aimed(ctx context.Context, r *http.Request, at *url.URL) (*http.Request, error) {
	out := r.Clone(ctx)
	first := c.servers.url(0)
	out.URL.Scheme, out.URL.Host, out.Host = at.Scheme, at.Host, ""
	if first.Path != at.Path {
		escaped := at.EscapedPath() + strings.TrimPrefix(r.URL.EscapedPath(), first.EscapedPath())
		path, err := url.PathUnescape(escaped)
		if err != nil {
			return nil, err
		}
		out.URL.Path, out.URL.RawPath = path, escaped
	}
	if r.GetBody != nil {
		body, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		out.Body = body
	}
	return out, c.authorize(out)
}

func (c *Client) authorize(r *http.Request) error {
	if c.o.Token == nil {
		return nil
	}
	token, err := c.o.Token()
	if err != nil {
		return fmt.Errorf("read the token: %w", err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return nil
}
