package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// attempts is how often a transaction is tried from a new read.
const attempts = 12

// viewPatience is how long a call that has made its change waits for the view.
const viewPatience = time.Second

// call bounds one call's dealings with etcd.
func (s *Store) call(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, s.opts.CallTimeout, errCallTimeout)
}

var errCallTimeout = errors.New("etcd did not answer in time")

// fail says what an etcd error means to the caller: his own context's end, or
// that etcd is not available.
func fail(ctx context.Context, op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, rpctypes.ErrCompacted), errors.Is(err, rpctypes.ErrFutureRev):
		return fmt.Errorf("%s: %w: %w", op, ErrCompacted, err)
	case errors.Is(err, rpctypes.ErrNoSpace):
		return fmt.Errorf("%s: %w: %w", op, ErrNoSpace, ErrUnavailable)
	case ctx.Err() != nil && !errors.Is(context.Cause(ctx), errCallTimeout):
		return fmt.Errorf("%s: %w", op, context.Cause(ctx))
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w: %w", op, ErrUnavailable, errCallTimeout)
	default:
		return fmt.Errorf("%s: %w: %w", op, ErrUnavailable, err)
	}
}

// entry is a key as it was read; a zero one is absent.
type entry struct {
	key   string
	value []byte
	mod   int64
	lease clientv3.LeaseID
	made  int64 // the revision that made the key
}

func (e entry) exists() bool { return e.mod != 0 }

// unchanged compares the key with what was read, absence included.
func (e entry) unchanged() clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(e.key), "=", e.mod)
}

// sameLife compares only that the key was not made or removed since.
func (e entry) sameLife() clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(e.key), "=", e.made)
}

func entryOf(kv *mvccpb.KeyValue) entry {
	return entry{key: string(kv.Key), value: kv.Value, mod: kv.ModRevision, made: kv.CreateRevision, lease: clientv3.LeaseID(kv.Lease)}
}

// read gets the keys at one revision, linearizably.
func (s *Store) read(ctx context.Context, keys ...string) ([]entry, int64, error) {
	entries, at, err := s.readAt(ctx, keys...)
	return entries, at.revision, err
}

// moment is when something was read, and where.
type moment struct {
	etcdID   uint64
	revision int64
	cluster  entry // the cluster's record, which says in which life of etcd
}

// readAt is read with where that was. What is known of the cluster afterwards is
// at least as new.
func (s *Store) readAt(ctx context.Context, keys ...string) ([]entry, moment, error) {
	entries, at, err := s.ask(ctx, keys)
	if errors.Is(err, errSetBack) {
		entries, at, err = s.ask(ctx, keys)
	}
	if err != nil {
		return nil, moment{}, err
	}
	return entries, at, nil
}

// ask is one linearizable read, which also tells whether etcd was set back.
func (s *Store) ask(ctx context.Context, keys []string) ([]entry, moment, error) {
	keys = append(slices.Clone(keys), keyCluster)
	ops := make([]clientv3.Op, len(keys))
	for i, k := range keys {
		ops[i] = clientv3.OpGet(k)
	}
	before := s.listen()
	resp, err := s.client.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return nil, moment{}, fail(ctx, "read etcd", err)
	}
	entries := make([]entry, len(keys))
	for i, k := range keys {
		entries[i].key = k
		if kvs := resp.Responses[i].GetResponseRange().Kvs; len(kvs) == 1 {
			entries[i] = entryOf(kvs[0])
		}
	}
	last := len(keys) - 1
	at := moment{etcdID: resp.Header.ClusterId, revision: resp.Header.Revision, cluster: entries[last]}
	if err := s.hear(ctx, before, resp.Header); err != nil {
		return nil, moment{}, err
	}
	return entries[:last], at, s.heed(ctx, before, at.cluster)
}

// commit runs the operations if the comparisons hold, and waits for the view
// to see the result.
func (s *Store) commit(ctx context.Context, cmps []clientv3.Cmp, ops []clientv3.Op) (rev int64, ok bool, err error) {
	before := s.listen()
	resp, err := s.client.Txn(ctx).If(cmps...).Then(ops...).Commit()
	if err != nil {
		return 0, false, s.refused(ctx, "write etcd", err)
	}
	if err := s.hear(ctx, before, resp.Header); err != nil {
		return 0, false, err
	}
	if resp.Succeeded {
		// The change is made whether or not the view sees it in time.
		ctx, cancel := context.WithTimeout(ctx, viewPatience)
		defer cancel()
		_ = s.view.WaitRevision(ctx, resp.Header.Revision)
	}
	return resp.Header.Revision, resp.Succeeded, nil
}

// errLeaseLost says that nothing was written, as etcd does not have a lease that it
// was to be written under: etcd was set back. By the next attempt there is another.
var errLeaseLost = fmt.Errorf("%w: etcd has lost a lease; try again", ErrUnavailable)

// refused is the error of a write that etcd did not take, or whose answer was lost.
// The next shared leases are new ones.
func (s *Store) refused(ctx context.Context, op string, err error) error {
	s.dropLeases()
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("%s: %w", op, errLeaseLost)
	}
	return fail(ctx, op, err)
}

// retry calls try until it reports done, at most attempts times, with jitter in
// between; then it returns conflict. What failed for a lost lease is tried again.
func retry(ctx context.Context, conflict error, try func() (done bool, err error)) error {
	for i := range attempts {
		if i > 0 {
			if err := pause(ctx, i); err != nil {
				return err
			}
		}
		done, err := try()
		switch {
		case errors.Is(err, errLeaseLost) && i < attempts-1:
		case done || err != nil:
			return err
		}
	}
	return conflict
}

// pause sleeps for a random time that grows with the attempt, to 100 ms.
func pause(ctx context.Context, attempt int) error {
	most := min(100*time.Millisecond, time.Millisecond<<min(attempt, 10))
	t := time.NewTimer(rand.N(most))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return fail(ctx, "retry", ctx.Err())
	case <-t.C:
		return nil
	}
}

// grantLease makes a lease of at least ttl, in whole seconds.
func (s *Store) grantLease(ctx context.Context, ttl time.Duration) (clientv3.LeaseID, time.Duration, error) {
	resp, err := s.client.Grant(ctx, wholeSeconds(ttl))
	if err != nil {
		return 0, 0, fail(ctx, "grant lease", err)
	}
	return resp.ID, time.Duration(resp.TTL) * time.Second, nil
}

// revokeLease gives a lease up. It outlives the caller's context, because a
// lease that nobody uses should not wait for its expiry; if it fails, expiry is
// what happens.
func (s *Store) revokeLease(ctx context.Context, id clientv3.LeaseID) {
	if id == clientv3.NoLease {
		return
	}
	ctx, cancel := s.call(context.WithoutCancel(ctx))
	defer cancel()
	if _, err := s.client.Revoke(ctx, id); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		s.log.Debug("lease was not revoked and will expire", "lease", int64(id), "error", err)
	}
}

func wholeSeconds(d time.Duration) int64 {
	return int64((d + time.Second - 1) / time.Second)
}

func put(key string, rec any, opts ...clientv3.OpOption) clientv3.Op {
	return clientv3.OpPut(key, encode(rec), opts...)
}
