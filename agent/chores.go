package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
)

// Bounds of what is remembered for the control plane.
const (
	maxResults   = 1024 // of operators, in one heartbeat
	maxErrorText = 512  // bytes
)

// bindingWait is how long a Hello waits for a pool that belongs to no cluster
// yet.
const bindingWait = 2 * time.Second

// removal is a replica that the control plane has condemned.
type removal struct {
	replica, log format.ID
	operator     string // empty where the verdict of a registration asked for it
	setVersion   uint64 // of the log's replica set when this one left it; 0 if not known
}

// chores are what the control plane asks for and needs the medium: they are
// done one by one, apart from the lease. Whoever hands them in never waits.
type chores struct {
	a    *Agent
	wake chan struct{} // there is something to do
	news chan struct{} // there is something to tell the control plane soon

	bound     chan struct{} // closed once a registration has been written down, or failed to be
	boundOnce sync.Once

	mu       sync.Mutex
	cluster  format.ID // to be written down, with keys; zero for nothing
	keys     map[string]string
	removals []removal
	results  map[string]openapi.OperatorResult // by operator ID
}

func newChores(a *Agent) *chores {
	return &chores{
		a: a, wake: make(chan struct{}, 1), news: make(chan struct{}, 1),
		bound: make(chan struct{}), results: map[string]openapi.OperatorResult{},
	}
}

// signal fills a channel that holds one token at most.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// registered takes what follows from a registration.
func (c *chores) registered(cluster format.ID, reg *openapi.Registration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cluster, c.keys = cluster, maps.Clone(reg.GrantKeys)
	quarantine := map[format.ID]bool{}
	for _, v := range reg.Replicas {
		replica, errR := uuid.Parse(v.ReplicaID)
		log, errL := uuid.Parse(v.LogID)
		if err := errors.Join(errR, errL); err != nil {
			c.a.log.Error("verdict on a replica can't be read; the replica is kept", "replica", v.ReplicaID, "log", v.LogID, "err", err)
			continue
		}
		switch v.Action {
		case openapi.ActionRemove:
			c.add(removal{replica: format.ID(replica), log: format.ID(log), setVersion: uint64(max(v.SetVersion, 0))})
		case openapi.ActionQuarantine:
			quarantine[format.ID(replica)] = true
			c.a.log.Error("the control plane knows nothing of a replica in the pool; it is kept, counted and served to nobody until a person removes it",
				"replica", v.ReplicaID, "log", v.LogID)
		}
	}
	for _, id := range reg.Missing {
		c.a.log.Error("the control plane expects a replica that is not in the pool", "replica", id)
	}
	c.a.catalog.setQuarantine(quarantine)
	signal(c.wake)
}

// operators takes the steps that a heartbeat was answered with. Those that are
// under way, or done and not yet reported, are not begun again.
func (c *chores) operators(ops []openapi.Operator) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, op := range ops {
		if r, ok := c.results[op.OperatorID]; ok && r.Ok {
			continue
		}
		replica, errR := uuid.Parse(op.ReplicaID)
		log, errL := uuid.Parse(op.LogID)
		err := errors.Join(errR, errL)
		if op.Kind != openapi.OperatorRemoveReplica {
			err = fmt.Errorf("this agent, version %q, does not know operator %q", c.a.opts.Version, op.Kind)
		}
		if err != nil {
			c.result(op.OperatorID, op.ReplicaID, err)
			continue
		}
		c.add(removal{replica: format.ID(replica), log: format.ID(log), operator: op.OperatorID, setVersion: uint64(max(op.SetVersion, 0))})
	}
}

// add queues a removal unless it is queued already.
func (c *chores) add(r removal) {
	if slices.Contains(c.removals, r) || len(c.removals) >= pmemlog.MaxReplicas {
		return // it is asked for again
	}
	c.removals = append(c.removals, r)
	signal(c.wake)
}

// result keeps what the next heartbeat shall report. A success is told at once,
// a failure in its time: it would only be asked for again.
func (c *chores) result(operator, replica string, err error) {
	if _, known := c.results[operator]; !known && len(c.results) >= maxResults {
		return // it is asked for again
	}
	r := openapi.OperatorResult{
		OperatorID: operator, Kind: openapi.OperatorRemoveReplica, ReplicaID: replica, Ok: err == nil,
	}
	if err != nil {
		r.Error = err.Error()
		r.Error = r.Error[:min(len(r.Error), maxErrorText)]
	}
	c.results[operator] = r
	if err == nil {
		signal(c.news)
	}
}

// unreported returns the results for the next heartbeat.
func (c *chores) unreported() []openapi.OperatorResult {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Values(c.results))
}

// reported forgets results that a heartbeat has delivered.
func (c *chores) reported(results []openapi.OperatorResult) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range results {
		if c.results[r.OperatorID] == r {
			delete(c.results, r.OperatorID)
		}
	}
}

// run does what is handed in until ctx ends. The error is that of a pool that
// can't belong to this daemon.
func (c *chores) run(ctx context.Context) error {
	for {
		select {
		case <-c.wake:
		case <-ctx.Done():
			return nil
		}
		if err := c.writeDown(); err != nil {
			return err
		}
		for ctx.Err() == nil && c.removeNext() {
		}
	}
}

// binding waits a moment for the daemon to be registered and its pool to be
// bound, and reports whether they are: a writer may be here before the answer to
// the first registration of this incarnation, or before that is persistent.
func (c *chores) binding(ctx context.Context) bool {
	t := time.NewTimer(bindingWait)
	defer t.Stop()
	select {
	case <-c.bound:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	return false
}

// writeDown binds the pool to its cluster and daemon and keeps the grant keys.
func (c *chores) writeDown() error {
	c.mu.Lock()
	cluster, keys := c.cluster, c.keys
	c.cluster = format.ID{}
	c.mu.Unlock()
	if cluster.IsZero() {
		return nil
	}
	defer c.boundOnce.Do(func() { close(c.bound) })
	err := c.a.pool.BindCluster(cluster)
	if err == nil {
		err = c.a.pool.BindDaemon(c.a.id)
	}
	switch {
	case errors.Is(err, pmemlog.ErrIdentity):
		return err
	case err != nil:
		c.a.log.Error("the pool could not be bound to its cluster; it serves nobody before it is", "err", err)
		return nil
	}
	if err := saveKeys(c.a.opts.Dir, cluster.String(), keys); err != nil {
		c.a.log.Warn("grant keys could not be kept; after a restart writers are served once the agent is registered", "err", err)
	}
	return nil
}

// removeNext carries out one removal, and says whether there was one.
func (c *chores) removeNext() bool {
	c.mu.Lock()
	if len(c.removals) == 0 {
		c.mu.Unlock()
		return false
	}
	r := c.removals[0]
	c.mu.Unlock()

	err := c.a.catalog.remove(r)
	switch {
	case err == nil:
		c.a.log.Info("removed a condemned replica", "replica", r.replica, "log", r.log, "free_bytes", c.a.pool.Free().Free)
	case errors.Is(err, pmemlog.ErrNotFound):
		err = nil // already gone
	default:
		c.a.log.Error("a condemned replica could not be removed", "replica", r.replica, "log", r.log, "err", err)
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	c.removals = c.removals[1:]
	if r.operator != "" {
		c.result(r.operator, r.replica.String(), err)
	} else if err == nil {
		signal(c.news) // the control plane hands out the operator for it
	}
	return true
}
