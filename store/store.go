package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/gravenio/graven/planner"
)

// Store talks to etcd. Make it with New, and have Run running.
type Store struct {
	client *clientv3.Client
	opts   Options
	log    *slog.Logger
	view   *View
	keeper *keeper

	idem, journalLease, operatorLease sharedLease

	markOnly       bool                // the leader plans nothing; for tests that share an etcd
	planned        func(*planner.Plan) // told of each plan; for tests
	refusals       *refusals
	journalTrimmed atomic.Uint64

	health healthBox

	mu       sync.RWMutex // taken before the view's, never while that is held
	identity *identity
}

// New checks the options and starts nothing. The client stays the caller's and
// must outlive Run.
func New(client *clientv3.Client, o Options) (*Store, error) {
	if client == nil {
		return nil, invalid("client", "must not be nil")
	}
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.Lease == nil {
		conn := client.ActiveConnection()
		if conn == nil {
			return nil, invalid("Lease", "is needed for a client without a connection of its own")
		}
		o.Lease = pb.NewLeaseClient(conn)
	}
	s := &Store{client: client, opts: o, log: o.Logger, keeper: newKeeper(o.Lease)}
	s.view = newView(o.MaxLag)
	s.view.bounds = s.journalBounds
	s.refusals = newRefusals(o.RefusalWindow)
	return s, nil
}

// Run makes the cluster's identity if there is none, keeps the view fed and
// renewals flowing. It blocks until ctx ends, and then returns nil once all its
// goroutines have ended. Trouble with etcd does not end it: it shows in Ready.
func (s *Store) Run(ctx context.Context) error {
	ctx = clientv3.WithRequireLeader(ctx)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.establish(ctx) })
	g.Go(func() error { return s.keeper.run(ctx) })
	g.Go(func() error { return s.feedView(ctx) })
	g.Go(func() error { return s.probeView(ctx) })
	g.Go(func() error { return s.lead(ctx) })
	g.Go(func() error { return s.tendJournal(ctx) })
	g.Go(func() error { return s.watchHealth(ctx) })
	g.Go(func() error { return s.keepPeriods(ctx) })
	err := g.Wait()
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// View returns the in-memory view. It is the same one for the store's life.
func (s *Store) View() *View { return s.view }

// Ready returns nil when the cluster's identity is known and the view is no
// older than Options.MaxLag, else an error that wraps ErrUnavailable and says
// what is missing.
func (s *Store) Ready() error {
	if s.known() == nil {
		return fmt.Errorf("%w: the cluster's identity is not known yet", ErrUnavailable)
	}
	if err := s.view.fresh(); err != nil {
		return err
	}
	_, err := s.view.granting()
	return err
}

// WaitReady blocks until Ready returns nil or ctx ends.
func (s *Store) WaitReady(ctx context.Context) error {
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	for {
		err := s.Ready()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-t.C:
		}
	}
}

// ClusterID returns the cluster's UUID, or "" while it is not known.
func (s *Store) ClusterID() string {
	if id := s.known(); id != nil {
		return id.clusterID
	}
	return ""
}

// GrantKeys returns the public keys that all grants are verified with, key ID to
// base64 of the Ed25519 public key; nil while they are not known.
func (s *Store) GrantKeys() map[string]string {
	g, err := s.view.granting()
	if err != nil {
		return nil
	}
	keys, _ := g.ring.public()
	return keys
}

// identity is what all servers of a cluster share.
type identity struct {
	clusterID string
	etcdID    uint64        // etcd's own cluster ID
	life      uint64        // how many etcds there have been
	mod       int64         // ModRevision of the record that says so
	marks     []byte        // what marks are proved with
	heard     *atomic.Int64 // the highest revision that etcd was heard to be at in this life
}

func (s *Store) known() *identity {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.identity
}

func (s *Store) mustKnow() (*identity, error) {
	if id := s.known(); id != nil {
		return id, nil
	}
	return nil, fmt.Errorf("%w: the cluster's identity is not known yet", ErrUnavailable)
}
