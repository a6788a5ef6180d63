package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gravenio/graven/apiclient"
	"github.com/gravenio/graven/openapi"
)

// ask makes a call that may reach several servers: registering, renewing and
// reading twice do no harm. Each attempt is bounded by timeout. It returns nil for
// a success, the answer as a *openapi.ProblemError, or why there was none.
func ask[R openapi.Response](ctx context.Context, timeout time.Duration, call func(context.Context) (R, error)) (R, error) {
	r, err := call(apiclient.Repeatable(apiclient.WithTimeout(ctx, timeout)))
	if err == nil {
		err = openapi.Check(r)
	}
	return r, err
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
