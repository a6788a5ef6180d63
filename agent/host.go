package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/rdmaio"
)

// makeable are the states in which a replica may be made at a Hello: it has
// promised nothing yet. Read-only.
var makeable = []string{"allocated", "learner"}

// host is the agent as the listener sees it.
type host struct{ a *Agent }

// Hello implements [rdmaio.Host]. The listener logs refusals.
func (s host) Hello(ctx context.Context, h rdmaio.Hello) (rdmaio.Target, rdmaio.Welcome, error) {
	t, w, err := s.hello(ctx, &h)
	if err != nil {
		err = wireError(err)
		s.a.metrics.refused(err)
		return nil, rdmaio.Welcome{}, err
	}
	return t, w, nil
}

func (s host) hello(ctx context.Context, h *rdmaio.Hello) (*target, rdmaio.Welcome, error) {
	a := s.a
	self := a.pool.Identity()
	if self.Cluster.IsZero() {
		a.chores.binding(ctx)
		self = a.pool.Identity()
	}
	if self.Cluster.IsZero() {
		return nil, rdmaio.Welcome{}, refuse(rdmaio.ErrUnknownLog, "daemon %s is not registered with any cluster yet", a.id)
	}
	if h.Cluster != self.Cluster {
		return nil, rdmaio.Welcome{}, refuse(rdmaio.ErrUnknownLog, "daemon %s belongs to cluster %s, not to %s", a.id, self.Cluster, h.Cluster)
	}
	if a.stopped.Load() {
		return nil, rdmaio.Welcome{}, refuse(rdmaio.ErrLost, "daemon %s is leaving", a.id)
	}
	replica, key, created, err := s.replica(ctx, h)
	if err != nil {
		return nil, rdmaio.Welcome{}, err
	}
	r := replica.replica
	if r.Log() != h.Log || r.Capacity() != h.Capacity {
		return nil, rdmaio.Welcome{}, refuse(rdmaio.ErrUnknownLog, "replica %s is one of log %s with a ring of %d bytes, not of log %s with %d",
			h.Replica, r.Log(), r.Capacity(), h.Log, h.Capacity)
	}
	if promised := r.Info().Slot.Fenced; !h.ReadOnly && !promised.Admits(h.Term) {
		return nil, rdmaio.Welcome{}, &pmemlog.FencedError{Term: h.Term, Promised: promised}
	}
	t := &target{
		a: a, hosted: replica, term: h.Term, grant: sha256.Sum256([]byte(h.Grant)), key: key,
		cheap: self.Kind != pmemlog.KindFile,
	}
	replica.admit(t, h.ReadOnly)
	a.metrics.sessions.Add(1)
	return t, rdmaio.Welcome{
		Daemon: a.id, Pool: self.Pool, Media: self.Kind.String(), FlushMode: "ack", Created: created,
	}, nil
}

// replica finds what the Hello names and may reach, and makes it if that is
// what the Hello asks for and the grant allows. It returns the client's key, too.
func (s host) replica(ctx context.Context, h *rdmaio.Hello) (found *hosted, key string, created bool, err error) {
	found, err = s.a.catalog.find(h.Replica)
	if h.ReadOnly {
		return s.readable(h, found, err)
	}
	if err == nil && found.knows(h) {
		key = found.clientKey()
		return found, key, false, s.checkKey(key, h.Peer)
	}
	p, gerr := s.check(h)
	if gerr != nil {
		return nil, "", false, gerr
	}
	if promised := err == nil && found.replica.Info().Slot.Fenced == h.Term; !promised {
		// The pool may have been set back or cloned, which registration finds out: an
		// opener must not take what it holds for the last word before. The writer whose
		// term it promised may come back, since that needs no control plane.
		if !s.a.chores.binding(ctx) {
			return nil, "", false, refuse(rdmaio.ErrBusy, "daemon %s has not been registered since it was started: it serves no new writer yet", s.a.id)
		}
		if err := s.checkFirst(&p); err != nil {
			return nil, "", false, err
		}
	}
	if !errors.Is(err, pmemlog.ErrNotFound) {
		return found, p.key, false, err
	}
	if !slices.Contains(makeable, p.state) { // rule: present is never made anew
		return nil, "", false, refuse(rdmaio.ErrReplicaMissing, "replica %s is %s and not in the pool of daemon %s", h.Replica, p.state, s.a.id)
	}
	if !h.Create {
		return nil, "", false, refuse(rdmaio.ErrUnknownLog, "replica %s is %s and has not been made", h.Replica, p.state)
	}
	found, created, err = s.create(h)
	return found, p.key, created, err
}

// readable is replica for one who only wants to read.
func (s host) readable(h *rdmaio.Hello, found *hosted, err error) (*hosted, string, bool, error) {
	if err := s.checkReader(h); err != nil {
		return nil, "", false, err
	}
	if errors.Is(err, pmemlog.ErrNotFound) {
		err = refuse(rdmaio.ErrUnknownLog, "daemon %s has no replica %s", s.a.id, h.Replica)
	}
	return found, "", false, err
}

func (s host) create(h *rdmaio.Hello) (*hosted, bool, error) {
	found, created, err := s.a.catalog.findOrMake(pmemlog.Spec{
		Cluster: h.Cluster, Log: h.Log, Replica: h.Replica, Capacity: h.Capacity,
	})
	if created {
		s.a.log.Info("made a replica", "log", h.Log, "replica", h.Replica,
			"capacity_bytes", h.Capacity, "free_bytes", s.a.pool.Free().Free)
		signal(s.a.news)
	}
	return found, created, err
}
