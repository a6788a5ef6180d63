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
		id, err := s.loadIdentity(ctx, newLife{})
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

// newLife is why the life of etcd that is on record is over. The zero value asks for
// none but what the record itself shows.
type newLife struct {
	least uint64 // lives below it are over
	// The daemon that has proved it, and how; "" for who has noticed it by himself.
	daemonID, proof string
}

// loadIdentity reads the identity, of the new life if one is due.
func (s *Store) loadIdentity(ctx context.Context, due newLife) (*identity, error) {
	ctx, cancel := s.call(ctx)
	defer cancel()
	cluster, id, err := s.loadCluster(ctx, due)
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
	marks, _, _, err := readOrMake(ctx, s, keyMarks, freshMarkKey, decode[markKeyRecord])
	if err != nil {
		return nil, err
	}
	id.clusterID, id.life, id.marks, id.heard = cluster.ClusterID, cluster.Life, marks.Secret, new(atomic.Int64)
	return id, nil
}

// lifeShift leaves each life of etcd 2^40 epochs, and MaxEpoch 2^13 lives.
const lifeShift = 40

// loadCluster returns the cluster's record once it names the etcd that was
// asked, and where it is. If it names another, this etcd was made from a
// backup, and a new life begins: one server writes it, all others read that. So it
// does when the recorded life is below the least, which is how a life ends that was
// set back under the same ID.
func (s *Store) loadCluster(ctx context.Context, due newLife) (rec clusterRecord, id *identity, err error) {
	id = &identity{}
	err = retry(ctx, fmt.Errorf("record etcd's ID: %w", ErrConflict), func() (bool, error) {
		var e entry
		rec, e, id.etcdID, err = readOrMake(ctx, s, keyCluster, func() clusterRecord {
			return clusterRecord{version: current(), ClusterID: uuid.NewString(), CreatedAt: time.Now().UTC()}
		}, decode[clusterRecord])
		id.mod = e.mod
		if err != nil || rec.EtcdID == etcdName(id.etcdID) && rec.Life >= due.least {
			return true, err
		}
		var ops []clientv3.Op
		if rec.EtcdID != "" {
			told, err := s.beginLife(ctx, &rec, id.etcdID, due)
			if err != nil {
				return false, err
			}
			ops = append(ops, told)
		}
		rec.EtcdID = etcdName(id.etcdID)
		resp, err := s.client.Txn(ctx).If(e.unchanged()).Then(append(ops, put(keyCluster, rec))...).Commit()
		if err != nil {
			return false, s.refused(ctx, "write "+keyCluster, err)
		}
		id.mod = resp.Header.Revision
		return resp.Succeeded, nil
	})
	return rec, id, err
}

// beginLife takes the record into its next life, and returns the journal's entry.
func (s *Store) beginLife(ctx context.Context, rec *clusterRecord, etcdID uint64, due newLife) (clientv3.Op, error) {
	how := fmt.Sprintf("etcd is %s and was %s, restored from a backup or set back", etcdName(etcdID), rec.EtcdID)
	if due.proof != "" && rec.EtcdID == etcdName(etcdID) {
		how = due.proof
	}
	before := rec.Life
	rec.Life = max(rec.Life+1, due.least)
	s.dropLeases() // they are the life's that ends
	s.log.Warn("etcd was restored from a backup, or set back: epochs go on far above the old ones",
		"how", how, "daemon", due.daemonID, "life_before", before, "life", rec.Life)
	e := JournalEntry{At: time.Now().UTC(), Kind: JournalEtcdRestored, DaemonID: due.daemonID, Detail: fmt.Sprintf(
		"%s: life %d begins, and no epoch below %d is handed out", how, rec.Life, rec.Life<<lifeShift)}
	if due.daemonID != "" {
		e = signed(ctx, e)
	} // else whoever asked when it showed has nothing to do with it
	return s.entry(ctx, e)
}

func etcdName(id uint64) string { return fmt.Sprintf("%016x", id) }

// identityIn is the cluster's identity for what is decided on a read: what is
// known, unless etcd has been replaced under this server.
func (s *Store) identityIn(ctx context.Context, at moment) (*identity, error) {
	known, err := s.mustKnow()
	if err != nil || known.etcdID == at.etcdID {
		return known, err
	}
	return s.relearn(ctx, newLife{least: known.life + 1})
}

// relearn reads the identity anew, of the new life if one is due.
func (s *Store) relearn(ctx context.Context, due newLife) (*identity, error) {
	now, err := s.loadIdentity(ctx, due)
	if err != nil {
		return nil, err
	}
	s.dropLeases() // they may be the other life's
	return s.keep(now), nil
}

// keep takes an identity, unless what is known is the same or newer, and returns
// what is known then. With another etcd or life the view is built anew, also where
// another server has noticed: this one may have followed what is no more.
func (s *Store) keep(id *identity) *identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.identity
	switch {
	case old == nil:
	case old.etcdID != id.etcdID || old.life < id.life:
		s.view.outdate()
	case old.life > id.life || old.mod >= id.mod:
		return old
	default: // the record was written anew, in the same life
		id.heard = old.heard
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
