package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/gravenio/graven/openapi"
)

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 8 << 20

// endpoints are the API servers. One is used until it fails.
type endpoints struct {
	clients []*openapi.ClientWithResponses
	urls    []string
	current atomic.Int64
	own     *http.Transport // nil if it is the caller's
}

func newEndpoints(urls []string, client *http.Client) (*endpoints, error) {
	e := &endpoints{urls: urls}
	var mine http.Client
	if client != nil {
		mine = *client
	}
	if mine.Transport == nil {
		e.own = http.DefaultTransport.(*http.Transport).Clone()
		mine.Transport = e.own
	}
	mine.Transport = bounded{mine.Transport}
	for _, u := range urls {
		c, err := openapi.NewClientWithResponses(u, openapi.WithHTTPClient(&mine))
		if err != nil {
			return nil, bad("Endpoints", "%q: %v", u, err)
		}
		e.clients = append(e.clients, c)
	}
	return e, nil
}

// apart returns the same servers for another user: the failover of the one does
// not disturb the other.
func (e *endpoints) apart() *endpoints { return &endpoints{clients: e.clients, urls: e.urls} }

// url is the server that is asked first.
func (e *endpoints) url() string { return e.urls[e.current.Load()] }

// close gives up idle connections, unless they are the caller's.
func (e *endpoints) close() {
	if e.own != nil {
		e.own.CloseIdleConnections()
	}
}

// bounded fails the reading of answers that are longer than any of the API's.
type bounded struct{ next http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := b.next.RoundTrip(r)
	if err == nil {
		res.Body = http.MaxBytesReader(nil, res.Body, maxAnswer)
	}
	return res, err
}

// ask tries the endpoints, from the one that worked last, until one gives an
// answer that is the cluster's and not only that server's; each attempt is
// bounded by timeout. It returns nil for a success, the answer as
// a *openapi.ProblemError, or why the last of them gave none.
func ask[R openapi.Response](ctx context.Context, e *endpoints, timeout time.Duration, call func(context.Context, *openapi.ClientWithResponses) (R, error)) (R, error) {
	var last error
	for range e.clients {
		at := e.current.Load()
		attempt, cancel := context.WithTimeout(ctx, timeout)
		r, err := call(attempt, e.clients[at])
		cancel()
		if err == nil {
			err = openapi.Check(r)
		}
		if err == nil || errors.Is(ctx.Err(), context.Canceled) || !away(err) {
			return r, err
		}
		e.current.CompareAndSwap(at, (at+1)%int64(len(e.clients))) // unless another call has done so
		if ctx.Err() != nil {
			return r, err
		}
		last = fmt.Errorf("%s: %w", e.urls[at], err)
	}
	var none R
	return none, last
}

// away says that another server, or the same one later, may answer otherwise.
func away(err error) bool {
	var p *openapi.ProblemError
	if !errors.As(err, &p) {
		return true // there was no answer
	}
	switch p.Problem.Type {
	case openapi.ProblemBlank, openapi.ProblemUnavailable, openapi.ProblemConflict:
		return true
	}
	return p.Problem.Status >= http.StatusInternalServerError
}

// configured are the refusals that another configuration would change. They end
// an agent that was never registered; one that serves goes on. Read-only.
var configured = []openapi.ProblemType{openapi.ProblemInvalidRequest, openapi.ProblemTTLTooShort}

// final returns the refusal that asking again won't change, or nil. serving
// says that the daemon has been registered.
func final(err error, serving bool) error {
	var p *openapi.ProblemError
	if !errors.As(err, &p) {
		return nil
	}
	what, ok := advice[p.Problem.Type]
	if !ok || serving && slices.Contains(configured, p.Problem.Type) {
		return nil
	}
	detail := p.Problem.Detail
	if detail == "" {
		detail = p.Problem.Title
	}
	for _, f := range p.Problem.Fields {
		detail += fmt.Sprintf("; %s: %s", f.Name, f.Rule)
	}
	return &RefusedError{Type: p.Problem.Type, Detail: detail, Advice: what}
}

// again says that the daemon has no lease and must register.
func again(err error) bool {
	return openapi.IsProblem(err, openapi.ProblemLeaseExpired) || openapi.IsProblem(err, openapi.ProblemNotFound)
}
