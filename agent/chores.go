package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
)

// bindingWait is how long a Hello waits for a pool that belongs to no cluster
// yet.
const bindingWait = 2 * time.Second

// chores are what the control plane asks for and needs this medium: what a
// registration brings, and removals. They are done one by one, apart from the
// lease. Whoever hands them in never waits.
type chores struct {
	a    *Agent
	wake chan struct{} // there is something to do

	bound     chan struct{} // closed once a registration has been written down, or failed to be
	boundOnce sync.Once

	mu       sync.Mutex
	cluster  format.ID // to be written down; zero for nothing
	keys     bool      // the grant keys are to be kept
	mark     bool      // the mark is to be kept
	removals []removal
}

func newChores(a *Agent) *chores {
	return &chores{a: a, wake: make(chan struct{}, 1), bound: make(chan struct{})}
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
	c.cluster, c.keys = cluster, true
	c.mark = c.mark || c.a.marks.take(reg.EtcdMark, true)
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

// keep has the grant keys written down, or the mark.
func (c *chores) keep(keys, mark bool) {
	if !keys && !mark {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys, c.mark = c.keys || keys, c.mark || mark
	signal(c.wake)
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

// writeDown binds the pool to its cluster and daemon and keeps the grant keys and the
// mark.
func (c *chores) writeDown() error {
	c.mu.Lock()
	cluster, keys, mark := c.cluster, c.keys, c.mark
	c.cluster, c.keys, c.mark = format.ID{}, false, false
	c.mu.Unlock()
	if mark {
		defer c.a.keepMark()
	}
	if keys {
		defer c.writeKeys()
	}
	if cluster.IsZero() {
		return nil
	}
	defer c.boundOnce.Do(func() { close(c.bound) })
	err := c.a.pool.BindCluster(cluster)
	if err == nil {
		err = c.a.pool.BindDaemon(c.a.id)
	}
	if err == nil {
		err = c.a.pool.ConfirmIncarnation()
	}
	switch {
	case errors.Is(err, pmemlog.ErrIdentity):
		return err
	case err != nil:
		c.a.log.Error("the pool could not be bound to its cluster; it serves nobody before it is", "err", err)
		return nil
	}
	return nil
}

// writeKeys keeps the grant keys and has the control plane told: a new one signs
// only when it is kept everywhere.
func (c *chores) writeKeys() {
	cluster := c.a.pool.Identity().Cluster
	if cluster.IsZero() {
		return // the pool could not be bound; it serves nobody
	}
	version, ring := c.a.trust.snapshot()
	if err := saveKeys(c.a.opts.Dir, cluster.String(), version, ring); err != nil {
		c.a.log.Warn("grant keys could not be kept; after a restart writers are served once the agent is registered, and a new key does not sign before they are", "err", err)
		return
	}
	if uint64(c.a.trust.keptVersion()) != version {
		c.a.trust.isKept(version)
		signal(c.a.news)
	}
}
