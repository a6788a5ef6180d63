package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gravenio/graven/openapi"
)

// endpoints sends each request to one server until that fails, then to the next.
// It repeats nothing by itself: whoever calls knows what may be repeated.
type endpoints struct {
	urls   []*url.URL
	at     atomic.Uint32
	client *http.Client
}

func newEndpoints(urls []string, first int) (*endpoints, error) {
	e := &endpoints{client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}, Timeout: 8 * time.Second}}
	e.at.Store(uint32(first))
	for _, text := range urls {
		u, err := url.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("soak: %w", err)
		}
		e.urls = append(e.urls, u)
	}
	return e, nil
}

// Do implements openapi.HttpRequestDoer.
func (e *endpoints) Do(r *http.Request) (*http.Response, error) {
	at := e.at.Load()
	u := e.urls[int(at)%len(e.urls)]
	r.URL.Scheme, r.URL.Host, r.Host = u.Scheme, u.Host, u.Host
	rsp, err := e.client.Do(r)
	if err != nil || rsp.StatusCode == http.StatusServiceUnavailable {
		e.at.CompareAndSwap(at, at+1)
	}
	return rsp, err
}

func (e *endpoints) close() { e.client.CloseIdleConnections() }

// session is one client's access to the API.
type session struct {
	*openapi.ClientWithResponses
	run *run
	via *endpoints
}

func (r *run) connect(first int) (*session, error) {
	via, err := newEndpoints(r.fleet.URLs(), first)
	if err != nil {
		return nil, err
	}
	api, err := openapi.NewClientWithResponses(r.fleet.URLs()[0], openapi.WithHTTPClient(via))
	if err != nil {
		return nil, fmt.Errorf("soak: %w", err)
	}
	return &session{ClientWithResponses: api, run: r, via: via}, nil
}

// patience is how long what has to happen may take, with processes being killed
// all the while. Whatever takes longer hangs.
const patience = 3 * time.Minute

// definite repeats a call until its outcome is known, and says whether an earlier
// attempt may have had one. An outcome that the contract does not foresee is a
// difference.
func (s *session) definite(what string, call func(ctx context.Context) (openapi.Response, error)) (err error, repeated bool) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		rsp, err := call(ctx)
		if err == nil {
			if err = openapi.Check(rsp); err == nil {
				s.run.done.add(what, 1)
				return nil, repeated
			}
		}
		if known := s.run.refused(what, err); known {
			return err, repeated
		}
		repeated = true
		if wait(ctx, time.Millisecond*time.Duration(20+rand.IntN(200))) != nil {
			s.run.differ("%s had no outcome within %v; the last: %v", what, patience, err)
			return err, repeated
		}
	}
}

// refused counts an error and says whether it is an outcome.
func (r *run) refused(what string, err error) bool {
	p, ok := errors.AsType[*openapi.ProblemError](err)
	switch {
	case !ok:
		r.lost.add(what, 1)
		return false
	case p.Problem.Status == http.StatusServiceUnavailable:
		r.unavailable.add(what, 1)
		return false
	case p.Problem.Status >= 500, p.Problem.Type == openapi.ProblemBlank, p.Problem.Type == openapi.ProblemInvalidRequest:
		r.differ("%s was answered %d %s: %s", what, p.Problem.Status, p.Problem.Type, p.Problem.Detail)
	}
	r.refusals.add(what+" "+strings.TrimPrefix(string(p.Problem.Type), "urn:graven:problem:"), 1)
	return true
}

// get fetches a path of one server and gives up on nothing but ctx.
func get(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("soak: %w", err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	rsp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("soak: %w", err)
	}
	defer rsp.Body.Close()
	body, err := io.ReadAll(rsp.Body)
	if err == nil && rsp.StatusCode != http.StatusOK {
		err = fmt.Errorf("soak: GET %s: %s: %s", address, rsp.Status, body)
	}
	return body, err
}
