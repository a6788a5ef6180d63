package store

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"time"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gravenio/graven/grant"
)

// establish reads the cluster's identity, making it if it is absent, until it
// is known or ctx ends.
func (s *Store) establish(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		id, err := s.loadIdentity(ctx)
		if err == nil {
			s.mu.Lock()
			s.identity = id
			s.mu.Unlock()
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.log.Warn("cluster identity cannot be read from etcd, trying again", "error", err)
		if err := sleep(ctx, backoff(attempt)); err != nil {
			return err
		}
	}
}

func (s *Store) loadIdentity(ctx context.Context) (*identity, error) {
	ctx, cancel := s.call(ctx)
	defer cancel()
	cluster, err := readOrMake(ctx, s, keyCluster, func() clusterRecord {
		return clusterRecord{version: current(), ClusterID: uuid.NewString(), CreatedAt: time.Now().UTC()}
	})
	if err != nil {
		return nil, err
	}
	key, err := readOrMake(ctx, s, keyGrantKey, func() keyRecord {
		seed := make([]byte, ed25519.SeedSize)
		rand.Read(seed) // never fails
		return keyRecord{version: current(), Seed: seed}
	})
	if err != nil {
		return nil, err
	}
	signing, err := grant.NewKey(key.Seed)
	if err != nil {
		return nil, err
	}
	return &identity{
		clusterID:  cluster.ClusterID,
		signing:    signing,
		publicKeys: map[string]string{signing.ID(): signing.Public()},
	}, nil
}

// readOrMake returns the value of a key that is written once and never changed.
// Of several servers that find it absent, one writes it and all read that.
func readOrMake[T interface{ schemaVersion() int }](ctx context.Context, s *Store, key string, fresh func() T) (T, error) {
	resp, err := s.client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(put(key, fresh()), clientv3.OpGet(key)).
		Else(clientv3.OpGet(key)).
		Commit()
	if err != nil {
		var none T
		return none, fail(ctx, "read "+key, err)
	}
	last := resp.Responses[len(resp.Responses)-1].GetResponseRange()
	return decode[T](key, last.Kvs[0].Value)
}

// backoff grows from 50 ms to 2 s.
func backoff(attempt int) time.Duration {
	return min(2*time.Second, 50*time.Millisecond<<min(attempt-1, 6))
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
