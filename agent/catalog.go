package agent

import (
	"errors"
	"fmt"
	"sync"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
)

// maxRemoved bounds how many removed replicas are remembered, so that a writer
// of a deleted log doesn't make its replicas anew. Replica IDs are never used
// again; what is forgotten here would be quarantined.
const maxRemoved = 4096

// catalog knows what the agent has of each replica beside what the pool knows.
type catalog struct {
	a *Agent

	mu         sync.Mutex // never held during I/O
	hosted     map[format.ID]*hosted
	making     map[format.ID]chan struct{} // closed when the attempt is over
	quarantine map[format.ID]bool
	removed    map[format.ID]bool
	order      []format.ID // of removed, the oldest first
}

func newCatalog(a *Agent) *catalog {
	return &catalog{
		a: a, hosted: map[format.ID]*hosted{}, making: map[format.ID]chan struct{}{},
		removed: map[format.ID]bool{},
	}
}

func (c *catalog) setQuarantine(ids map[format.ID]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.quarantine = ids
}

// find returns a replica that is in the pool and may be served: ErrNotFound of
// pmemlog if there is none.
func (c *catalog) find(id format.ID) (*hosted, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.quarantine[id] {
		return nil, refuse(rdmaio.ErrUnknownLog, "replica %s is quarantined: the control plane knows nothing of it", id)
	}
	if c.removed[id] {
		return nil, refuse(rdmaio.ErrUnknownLog, "replica %s has been removed", id)
	}
	r, err := c.a.pool.Replica(id)
	if err != nil {
		return nil, err
	}
	h := c.hosted[id]
	if h == nil {
		h = newHosted(c.a, r)
		c.hosted[id] = h
	}
	return h, nil
}

// findOrMake returns a replica, which is made if it is not there. It is made by
// one caller at a time; the others wait.
func (c *catalog) findOrMake(spec pmemlog.Spec) (h *hosted, created bool, err error) {
	for {
		h, err := c.find(spec.Replica)
		if !errors.Is(err, pmemlog.ErrNotFound) {
			return h, false, err
		}
		mine, other := c.claim(spec.Replica)
		switch {
		case mine == nil && other == nil:
			continue // removed meanwhile
		case other != nil:
			<-other
			continue
		}
		_, err = c.a.pool.Create(spec)
		c.settle(spec.Replica, mine)
		if err != nil && !errors.Is(err, pmemlog.ErrExists) {
			return nil, false, err
		}
		h, err = c.find(spec.Replica)
		return h, err == nil, err
	}
}

// claim begins the making of a replica, or returns what to wait for; neither if
// it must not be made.
func (c *catalog) claim(id format.ID) (mine, other chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if other := c.making[id]; other != nil || c.removed[id] {
		return nil, other
	}
	mine = make(chan struct{})
	c.making[id] = mine
	return mine, nil
}

func (c *catalog) settle(id format.ID, mine chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.making, id)
	close(mine)
}

// remove deletes a condemned replica of the given log and all that it holds:
// ErrNotFound of pmemlog if it is gone already. Its sessions end.
func (c *catalog) remove(r removal) error {
	if err := c.mayRemove(r); err != nil {
		return err
	}
	h := c.condemn(r.replica)
	if h != nil { // its writer could make it a member of a newer set meanwhile
		h.endOlder(nil, refuse(rdmaio.ErrUnknownLog, "replica %s has been removed", r.replica))
	}
	if err := c.mayRemove(r); err != nil { // once more, now that nobody can change it
		c.pardon(r.replica, h)
		return err
	}
	if h != nil {
		h.hint.stop()
	}
	return c.a.pool.Delete(r.replica)
}

// mayRemove says what speaks against a removal: a replica of another log, or one
// that knows better than a control plane that was set back.
func (c *catalog) mayRemove(r removal) error {
	there, err := c.a.pool.Replica(r.replica)
	if there == nil {
		return nil // and Delete says so
	}
	if there.Log() != r.log { // whether it is damaged or not
		return fmt.Errorf("replica %s belongs to log %s, not to %s: it is kept", r.replica, there.Log(), r.log)
	}
	if err != nil || r.setVersion == 0 {
		return nil
	}
	if v, beyond := there.MemberBeyond(r.setVersion); beyond {
		return fmt.Errorf("replica %s is a member of set version %d of log %s, and was condemned under version %d: the control plane has been set back; it is kept until that knows the newer set", r.replica, v, r.log, r.setVersion)
	}
	return nil
}

// condemn refuses the replica to everybody from now on, and waits for one that
// is being made.
func (c *catalog) condemn(id format.ID) *hosted {
	c.mu.Lock()
	if !c.removed[id] {
		c.removed[id] = true
		c.order = append(c.order, id)
		if len(c.order) > maxRemoved {
			delete(c.removed, c.order[0])
			c.order = c.order[1:]
		}
	}
	h, making := c.hosted[id], c.making[id]
	delete(c.hosted, id)
	c.mu.Unlock()
	if making != nil {
		<-making
	}
	return h
}

func (c *catalog) pardon(id format.ID, h *hosted) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.removed, id)
	if h != nil {
		c.hosted[id] = h
	}
	for i, old := range c.order {
		if old == id {
			c.order = append(c.order[:i], c.order[i+1:]...)
			return
		}
	}
}

// served returns a replica that a writer has asked for; nil for another.
func (c *catalog) served(id format.ID) *hosted {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hosted[id]
}

// all returns what is being served.
func (c *catalog) all() []*hosted {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*hosted, 0, len(c.hosted))
	for _, h := range c.hosted {
		out = append(out, h)
	}
	return out
}
