package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gravenio/graven/apiclient"
	"github.com/gravenio/graven/openapi"
)

// attemptTime is how long one server may take to answer.
const attemptTime = 8 * time.Second

// session is one client's access to the API.
type session struct {
	*openapi.ClientWithResponses
	run *run
	via *http.Transport
}

// connect returns a session that asks the first of the servers as long as that
// one answers.
func (r *run) connect(first int) (*session, error) {
	urls := r.fleet.URLs()
	first %= len(urls)
	via := &http.Transport{MaxIdleConnsPerHost: 4}
	api, err := apiclient.New(slices.Concat(urls[first:], urls[:first]), apiclient.Options{
		Timeout: attemptTime, Transport: &witness{run: r, next: via},
	})
	if err != nil {
		return nil, fmt.Errorf("soak: %w", err)
	}
	return &session{ClientWithResponses: api.API(), run: r, via: via}, nil
}

func (s *session) close() { s.via.CloseIdleConnections() }

// witness sees every attempt, also those whose failure another server makes good.
type witness struct {
	run  *run
	next http.RoundTripper
}

func (w *witness) RoundTrip(r *http.Request) (*http.Response, error) {
	rsp, err := w.next.RoundTrip(r)
	if err == nil && rsp.StatusCode >= http.StatusInternalServerError && rsp.StatusCode != http.StatusServiceUnavailable {
		w.run.differ("%s %s of %s was answered %s", r.Method, r.URL.Path, r.URL.Host, rsp.Status)
	}
	return rsp, err
}

// patience is how long what has to happen may take, with processes being killed
// all the while. Whatever takes longer hangs.
const patience = 3 * time.Minute

// definite repeats a call until its outcome is known, and says whether an attempt
// whose answer was lost may have had one. An outcome that the contract does not foresee is a
// difference.
func (s *session) definite(what string, call func(ctx context.Context) (openapi.Response, error)) (err error, repeated bool) {
	ctx, lost := apiclient.NoteLost(context.Background())
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		rsp, err := call(ctx)
		if err == nil {
			if err = openapi.Check(rsp); err == nil {
				s.run.done.add(what, 1)
				return nil, lost()
			}
		}
		if known := s.run.refused(what, err); known {
			return err, lost()
		}
		if wait(ctx, time.Millisecond*time.Duration(20+rand.IntN(200))) != nil {
			s.run.differ("%s had no outcome within %v; the last: %v", what, patience, err)
			return err, true
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

// answered makes the result of a call of the generated client that of a call to
// definite.
func answered[R openapi.Response](rsp R, err error) (openapi.Response, error) {
	if err != nil {
		return nil, err
	}
	return rsp, nil
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
