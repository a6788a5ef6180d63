package store

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// sharedLease is one lease for many keys that are kept for a while, so that
// none of them costs a lease of its own: it lives for twice the time that a key
// is to be kept and is used for the first half of that.
type sharedLease struct {
	mu    sync.Mutex
	id    clientv3.LeaseID
	since time.Time
}

func (s *Store) shared(ctx context.Context, l *sharedLease, keep time.Duration) (clientv3.LeaseID, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.id != 0 && time.Since(l.since) < keep {
		return l.id, nil
	}
	id, _, err := s.grantLease(ctx, 2*keep)
	if err != nil {
		return 0, err
	}
	l.id, l.since = id, time.Now()
	return id, nil
}

// dropLeases makes the next keys take new leases. It is called when a write
// failed, which is how a lease that etcd has lost shows, and when another life begins.
func (s *Store) dropLeases() {
	for _, l := range []*sharedLease{&s.idem, &s.journalLease, &s.operatorLease} {
		l.mu.Lock()
		l.id = 0
		l.mu.Unlock()
	}
}
