package agent

import (
	"errors"
	"slices"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
)

// removal is a replica that the control plane has condemned.
type removal struct {
	replica, log format.ID
	operator     string // empty where the verdict of a registration asked for it
	setVersion   uint64 // of the log's replica set when this one left it; 0 if not known
}

// remove queues a removal.
func (c *chores) remove(r removal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(r)
}

// add queues a removal unless it is queued already. The lock is held.
func (c *chores) add(r removal) {
	if slices.Contains(c.removals, r) || len(c.removals) >= pmemlog.MaxReplicas {
		return // it is asked for again
	}
	c.removals = append(c.removals, r)
	signal(c.wake)
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

	if r.operator != "" { // before it leaves the queue: it is not begun again in between
		c.a.result(&openapi.Operator{
			OperatorID: r.operator, Kind: openapi.OperatorRemoveReplica, ReplicaID: r.replica.String(),
		}, err)
	} else if err == nil {
		signal(c.a.news) // the control plane hands out the operator for it
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removals = c.removals[1:]
	return true
}
