package store

import (
	"context"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/gravenio/graven/planner"
)

const (
	// lookEvery is how often the leader looks whether the view has changed.
	lookEvery = 100 * time.Millisecond
	// planEvery is how often it plans if nothing has: times go by.
	planEvery = time.Second
)

// lead takes part in the election and runs the loops whenever this server has won
// it. Trouble ends a term, not the loop.
func (s *Store) lead(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		begun := time.Now()
		err := s.serveTerm(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Since(begun) > s.opts.ElectionTTL {
			attempt = 1
		}
		s.log.Warn("this server stands for the election of the loops again", "error", err)
		if err := sleep(ctx, backoff(attempt)); err != nil {
			return err
		}
	}
}

// serveTerm waits to be elected and runs the loops for as long as the election's
// lease lives. Its end gives the lease up, so that another server follows at once.
func (s *Store) serveTerm(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	session, err := concurrency.NewSession(s.clientUntil(ctx),
		concurrency.WithTTL(int(wholeSeconds(s.opts.ElectionTTL))), concurrency.WithContext(ctx))
	if err != nil {
		return fail(ctx, "stand for the election", err)
	}
	defer s.revokeLease(ctx, session.Lease())
	defer session.Orphan()
	go func() { // ends with the term
		select {
		case <-session.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	e := concurrency.NewElection(session, keyElection)
	if err := e.Campaign(ctx, s.opts.ServerName); err != nil {
		return fail(ctx, "stand for the election", err)
	}
	s.log.Info("this server leads the loops", "server", s.opts.ServerName)
	l := leader{
		s: s, term: &term{key: e.Key(), rev: e.Rev()}, begun: time.Now(), planner: planner.New(rand.Uint64()),
	}
	return l.run(ctx)
}

// clientUntil is the store's client for who cleans up through it until the client's
// own context ends, as a candidate does: without etcd that would be never. What a
// candidate leaves behind goes with its lease.
func (s *Store) clientUntil(ctx context.Context) *clientv3.Client {
	c := clientv3.NewCtxClient(ctx)
	c.KV, c.Lease, c.Watcher = s.client.KV, s.client.Lease, s.client.Watcher
	return c
}

// leader runs the loops of one term.
type leader struct {
	s       *Store
	term    *term
	begun   time.Time // of its clock, which is monotonic
	planner *planner.Planner

	seen    int64            // the revision that was planned on last
	mods    map[string]int64 // of the operators then
	planned time.Time
}

func (l *leader) run(ctx context.Context) error {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			l.look(ctx)
		}
	}
}

// look does what is due. A view that lags shows what was; nothing is decided on it.
func (l *leader) look(ctx context.Context) {
	v := l.s.view
	rev, lag := v.Revision(), v.Lag()
	if lag > l.s.opts.MaxLag || rev == l.seen && time.Since(l.planned) < planEvery {
		return
	}
	l.seen, l.planned = rev, time.Now()
	l.markDown(ctx)
	if l.s.markOnly {
		return
	}
	v.mu.RLock()
	view, set := v.t.planView(), *v.t.planner
	l.mods = v.t.operatorMods()
	v.mu.RUnlock()
	plan := l.planner.Plan(view, set.Limits.planner(l.s.opts.RecoverAfter), set.Paused, planner.Duration(time.Since(l.begun)))
	if l.s.planned != nil {
		l.s.planned(&plan)
	}
	l.carryOut(ctx, view, &plan)
}
