package agent

import (
	"maps"
	"slices"
	"sync"

	"github.com/gravenio/graven/openapi"
)

// Bounds of what is remembered for the control plane.
const (
	maxResults   = 1024 // of operators, in one heartbeat
	maxErrorText = 512  // bytes
)

// results are what operators have come to, until a heartbeat has delivered it.
// The zero value is empty.
type results struct {
	mu sync.Mutex
	of map[string]openapi.OperatorResult // by operator ID
}

// result keeps what the next heartbeat shall report. A success is told at once,
// a failure in its time: it would only be asked for again.
func (a *Agent) result(op *openapi.Operator, err error) {
	r := openapi.OperatorResult{OperatorID: op.OperatorID, Kind: op.Kind, ReplicaID: op.ReplicaID, Ok: err == nil}
	if err != nil {
		r.Error = err.Error()
		r.Error = r.Error[:min(len(r.Error), maxErrorText)]
	}
	a.results.add(&r)
	if r.Ok {
		signal(a.news)
	}
}

func (r *results) add(res *openapi.OperatorResult) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.of[res.OperatorID]; !known && len(r.of) >= maxResults {
		return // it is asked for again
	}
	if r.of == nil {
		r.of = map[string]openapi.OperatorResult{}
	}
	r.of[res.OperatorID] = *res
}

// done says whether an operator has come off and nobody has been told yet.
func (r *results) done(operator string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.of[operator].Ok
}

// unreported returns the results for the next heartbeat.
func (r *results) unreported() []openapi.OperatorResult {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.of))
}

// reported forgets results that a heartbeat has delivered.
func (r *results) reported(told []openapi.OperatorResult) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, res := range told {
		if r.of[res.OperatorID] == res {
			delete(r.of, res.OperatorID)
		}
	}
}
