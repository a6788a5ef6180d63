package store

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// establish reads the cluster's identity, making it if it is absent, until it
// is known or ctx ends.
func (s *Store) establish(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		id, err := s.loadIdentity(ctx, 0)
		if err == nil {
			s.keep(id)
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

// loadIdentity reads the identity. Lives below the least are over.
func (s *Store) loadIdentity(ctx context.Context, least uint64) (*identity, error) {
	ctx, cancel := s.call(ctx)
	defer cancel()
	cluster, etcdID, err := s.loadCluster(ctx, least)
	if err != nil {
		return nil, err
	}
	if _, _, _, err := readOrMake(ctx, s, keyGrantKey, freshRing, decodeRing); err != nil {
		return nil, err
	}
	if _, _, _, err := readOrMake(ctx, s, keyPeriod, func() periodRecord {
		return periodRecord{version: current(), Period: 1}
	}, decode[periodRecord]); err != nil {
		return nil, err
	}
	return &identity{clusterID: cluster.ClusterID, etcdID: etcdID, life: cluster.Life, heard: new(atomic.Int64)}, nil
}

// lifeShift leaves each life of etcd 2^40 epochs, and MaxEpoch 2^13 lives.
const lifeShift = 40

// loadCluster returns the cluster's record once it names the etcd that was
// asked, and that one's ID. If it names another, this etcd was made from a
// backup, and a new life begins: one server writes it, all others read that. So it
// does when the recorded life is below the least, which is how a life ends that was
// set back under the same ID.
func (s *Store) loadCluster(ctx context.Context, least uint64) (rec clusterRecord, etcdID uint64, err error) {
	err = retry(ctx, fmt.Errorf("record etcd's ID: %w", ErrConflict), func() (bool, error) {
		var e entry
		rec, e, etcdID, err = readOrMake(ctx, s, keyCluster, func() clusterRecord {
			return clusterRecord{version: current(), ClusterID: uuid.NewString(), CreatedAt: time.Now().UTC()}
		}, decode[clusterRecord])
		if err != nil || rec.EtcdID == etcdName(etcdID) && rec.Life >= least {
			return true, err
		}
		var ops []clientv3.Op
		if rec.EtcdID != "" {
			rec.Life = max(rec.Life+1, least)
			s.dropLeases() // they are the life's that ends
			// Nobody's name: who asked when it showed has not done it.
			told, err := s.entry(ctx, JournalEntry{At: time.Now().UTC(), Kind: JournalEtcdRestored, Detail: fmt.Sprintf(
				"etcd is %s and was %s, restored from a backup or set back: life %d begins, and no epoch below %d is handed out",
				etcdName(etcdID), rec.EtcdID, rec.Life, rec.Life<<lifeShift)})
			if err != nil {
				return false, err
			}
			ops = append(ops, told)
			s.log.Warn("etcd was restored from a backup, or set back: epochs go on far above the old ones",
				"etcd", etcdName(etcdID), "before", rec.EtcdID, "life", rec.Life)
		}
		rec.EtcdID = etcdName(etcdID)
		resp, err := s.client.Txn(ctx).If(e.unchanged()).Then(append(ops, put(keyCluster, rec))...).Commit()
		if err != nil {
			return false, s.refused(ctx, "write "+keyCluster, err)
		}
		return resp.Succeeded, nil
	})
	return rec, etcdID, err
}

func etcdName(id uint64) string { return fmt.Sprintf("%016x", id) }

// identityIn is the cluster's identity as the etcd of this ID has it: what is
// known, unless etcd has been replaced under this server.
func (s *Store) identityIn(ctx context.Context, etcdID uint64) (*identity, error) {
	known, err := s.mustKnow()
	if err != nil || known.etcdID == etcdID {
		return known, err
	}
	return s.relearn(ctx, known.life+1)
}

// relearn reads the identity anew, with a life of at least that.
func (s *Store) relearn(ctx context.Context, least uint64) (*identity, error) {
	now, err := s.loadIdentity(ctx, least)
	if err != nil {
		return nil, err
	}
	s.dropLeases() // they may be the other life's
	return s.keep(now), nil
}

// keep takes an identity, unless what is known is the same or newer, and returns
// what is known then.
func (s *Store) keep(id *identity) *identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.identity; old != nil && old.etcdID == id.etcdID && old.life >= id.life {
		return old
	}
	s.identity = id
	return id
}

// readOrMake returns the value of a key that is made once, with the ID of the
// etcd that has it. Of several servers that find it absent, one writes it and
// all read that.
func readOrMake[T any](ctx context.Context, s *Store, key string, fresh func() T, decode func(string, []byte) (T, error)) (T, entry, uint64, error) {
	resp, err := s.client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(put(key, fresh()), clientv3.OpGet(key)).
		Else(clientv3.OpGet(key)).
		Commit()
	if err != nil {
		var none T
		return none, entry{}, 0, fail(ctx, "read "+key, err)
	}
	last := resp.Responses[len(resp.Responses)-1].GetResponseRange()
	e := entryOf(last.Kvs[0])
	rec, err := decode(key, e.value)
	return rec, e, resp.Header.ClusterId, err
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
