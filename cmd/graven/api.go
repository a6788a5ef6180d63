package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gravenio/graven/openapi"
)

// client returns a client of the API that fails over between its endpoints.
func (a *app) client() (*openapi.ClientWithResponses, error) {
	bases, err := parseEndpoints(a.endpoints)
	if err != nil {
		return nil, err
	}
	return newClient(bases)
}

func newClient(bases []*url.URL) (*openapi.ClientWithResponses, error) {
	return openapi.NewClientWithResponses(bases[0].String(), openapi.WithHTTPClient(newFailover(bases)))
}

// parseEndpoints reads a comma list of base URLs; a bare host:port means http.
func parseEndpoints(list string) ([]*url.URL, error) {
	var bases []*url.URL
	for text := range strings.SplitSeq(list, ",") {
		text = strings.TrimSpace(text)
		if text == "" {
			continue
		}
		if !strings.Contains(text, "://") {
			text = "http://" + text
		}
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, usagef("--api: %q is no address: write http://HOST:PORT", text)
		}
		u.Path = strings.TrimRight(u.Path, "/")
		bases = append(bases, u)
	}
	if len(bases) == 0 {
		return nil, usagef("--api names no address: write http://HOST:PORT")
	}
	return bases, nil
}

// failover is an HTTP client for several equal servers. It stays with the one
// that answered last. It is safe for concurrent use.
type failover struct {
	bases []*url.URL
	http  *http.Client
	last  atomic.Int64
}

func newFailover(bases []*url.URL) *failover {
	t := &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
		ResponseHeaderTimeout: 15 * time.Second,
		IdleConnTimeout:       30 * time.Second,
		MaxIdleConnsPerHost:   4,
	}
	return &failover{bases: bases, http: &http.Client{Transport: t}}
}

// Do sends a request made for the first base. It goes on to the next server when
// one can't be reached or is not available and the request may be repeated.
func (f *failover) Do(req *http.Request) (*http.Response, error) {
	start := f.last.Load()
	var failed error
	for i := range f.bases {
		n := (int(start) + i) % len(f.bases)
		rsp, err := f.try(req, f.bases[n])
		final := i == len(f.bases)-1
		switch {
		case err == nil && (rsp.StatusCode != http.StatusServiceUnavailable || final || !repeatable(req)):
			f.last.Store(int64(n))
			return rsp, nil
		case err == nil:
			_ = rsp.Body.Close()
		default:
			if ctx := req.Context(); ctx.Err() != nil {
				return nil, fmt.Errorf("ask the API at %s: %w", f.bases[n], context.Cause(ctx))
			}
			failed = errors.Join(failed, unreachable(f.bases[n], err))
			if !repeatable(req) && !neverSent(err) {
				return nil, failed
			}
		}
	}
	return nil, withHint(failed, "start a cluster with `graven dev`, or name the API's address with --api or GRAVEN_API")
}

func (f *failover) try(req *http.Request, base *url.URL) (*http.Response, error) {
	r := req.Clone(req.Context())
	r.URL.Scheme, r.URL.Host = base.Scheme, base.Host
	r.Host = ""
	if f.bases[0].Path != base.Path {
		r.URL.Path = base.Path + strings.TrimPrefix(req.URL.Path, f.bases[0].Path)
		r.URL.RawPath = ""
	}
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		r.Body = body
	}
	return f.http.Do(r)
}

// repeatable says whether a request may reach two servers without doing harm.
func repeatable(req *http.Request) bool {
	return req.Method != http.MethodPost || req.Header.Get("Idempotency-Key") != ""
}

// neverSent says whether no server can have seen the request.
func neverSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

func unreachable(base *url.URL, err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		err = errors.New("connection refused")
	}
	return fmt.Errorf("the API at %s does not answer: %w", base, err)
}

// checked turns an answer that is an error into one.
func checked[R openapi.Response](rsp R, err error) (R, error) {
	if err != nil {
		return rsp, err
	}
	return rsp, openapi.Check(rsp)
}
