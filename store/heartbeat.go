package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Heartbeat renews the daemon's lease, records what changed, takes the results
// of steps and answers with the next ones. For a daemon of which nothing
// changed it writes nothing to etcd.
//
// Errors: ErrInvalid; ErrLeaseExpired (register again), ErrStaleIncarnation
// (stop serving) and ErrGone (stop), each only after a linearizable read;
// ErrConflict (retry); ErrUnavailable.
func (s *Store) Heartbeat(ctx context.Context, r HeartbeatRequest) (*HeartbeatAnswer, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	ctx, cancel := s.call(ctx)
	defer cancel()
	live, ttl, err := s.renewDaemon(ctx, r.DaemonID, r.Incarnation)
	if err != nil {
		s.noteRefusal(ctx, r.DaemonID, err)
		return nil, err
	}
	if err := s.weighMark(ctx, r.DaemonID, r.Incarnation, r.Mark); err != nil {
		return nil, err
	}
	s.view.heard(r.DaemonID)
	if err := s.takeResults(ctx, r.DaemonID, r.Results); err != nil {
		return nil, err
	}
	if err := s.rewriteLive(ctx, r, live); err != nil {
		return nil, err
	}
	s.keysHeard(ctx, r.KeysVersion)
	mark := s.mark() // first: whoever holds the view's lock must not wait for the identity's
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	g, err := s.view.t.granting()
	if err != nil {
		return nil, err
	}
	return &HeartbeatAnswer{
		LeaseTTL: ttl, RenewEvery: ttl / 3, Grants: g.rules(s.opts.GrantPeriod, r.KeysVersion),
		Steps: s.view.t.steps(r.DaemonID, s.opts.RecoverAfter), Revision: s.view.revision,
		Mark: mark,
	}, nil
}

func (r *HeartbeatRequest) check() error {
	if err := checkID("daemon_id", r.DaemonID); err != nil {
		return err
	}
	if r.Free < 0 || r.Free > MaxBytes {
		return invalid("free_bytes", "must be 0 to %d, not %d", MaxBytes, r.Free)
	}
	if r.Addresses.TCPPort != 0 {
		if err := r.Addresses.check(); err != nil {
			return err
		}
	}
	if err := r.Health.check(); err != nil {
		return err
	}
	if len(r.Results) > MaxInventory {
		return invalid("results", "must be at most %d, not %d", MaxInventory, len(r.Results))
	}
	if err := r.Mark.check(); err != nil {
		return err
	}
	return checkInventory(r.Replicas)
}

// renewDaemon renews the lease of this incarnation. The view tells which lease
// that is; only etcd tells that there is none.
func (s *Store) renewDaemon(ctx context.Context, id string, incarnation uint64) (*liveRow, time.Duration, error) {
	live := s.view.live(id)
	if live == nil || live.rec.Incarnation != incarnation || live.rec.Outdated || s.formerLife(live.rec) || !s.view.mayHear(ctx, id) {
		var err error
		if live, err = s.readLive(ctx, id, incarnation); err != nil {
			return nil, 0, err
		}
	}
	// A lease that is gone may have been replaced by a registration that the
	// view has not seen: look once more.
	for range 2 {
		ttl, err := s.keeper.renew(ctx, live.lease)
		if err != nil {
			return nil, 0, err
		}
		if ttl > 0 {
			return live, ttl, nil
		}
		if live, err = s.readLive(ctx, id, incarnation); err != nil {
			return nil, 0, err
		}
	}
	return nil, 0, fmt.Errorf("renew daemon %s: %w", id, ErrConflict)
}

func (v *View) live(id string) *liveRow {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if d := v.t.daemons[id]; d != nil {
		return d.live
	}
	return nil
}

// readLive returns the sign of life of this incarnation as etcd has it, or why
// there is none.
func (s *Store) readLive(ctx context.Context, id string, incarnation uint64) (*liveRow, error) {
	es, _, err := s.read(ctx, prefixDaemons+id, prefixLive+id, prefixGone+id)
	if err != nil {
		return nil, err
	}
	daemon, live, gone := es[0], es[1], es[2]
	if !daemon.exists() {
		if gone.exists() {
			return nil, &DaemonError{DaemonID: id, Detail: "stop the daemon", Err: ErrGone}
		}
		return nil, &DaemonError{DaemonID: id, Detail: "it is not registered; register", Err: ErrLeaseExpired}
	}
	rec, err := decode[daemonRecord](daemon.key, daemon.value)
	if err != nil {
		return nil, err
	}
	if err := rec.heardAs(ctx, id); err != nil {
		return nil, err
	}
	switch {
	case incarnation < rec.Incarnation:
		return nil, &DaemonError{
			DaemonID: id, Err: ErrStaleIncarnation,
			Detail: fmt.Sprintf("incarnation %d has registered after %d", rec.Incarnation, incarnation),
		}
	case incarnation > rec.Incarnation, !live.exists():
		return nil, &DaemonError{DaemonID: id, Detail: "register again", Err: ErrLeaseExpired}
	}
	liveRec, err := decode[liveRecord](live.key, live.value)
	if err != nil {
		return nil, err
	}
	if s.formerLife(&liveRec) {
		return nil, &DaemonError{
			DaemonID: id, Err: ErrLeaseExpired,
			Detail: "etcd was restored from a backup since it registered; register again, with all that the pool holds",
		}
	}
	if liveRec.Outdated {
		return nil, &DaemonError{DaemonID: id, Detail: "a replica in its pool is a log's again; register again", Err: ErrLeaseExpired}
	}
	return newLiveRow(&liveRec, live, time.Now()), nil
}

// formerLife says that the daemon registered before etcd was set back: what its
// pool has got since is not in the record.
func (s *Store) formerLife(live *liveRecord) bool {
	id := s.known()
	return id != nil && live.Life < id.life
}

// rewriteLive writes the live record if it changed enough.
func (s *Store) rewriteLive(ctx context.Context, r HeartbeatRequest, live *liveRow) error {
	return retry(ctx, fmt.Errorf("heartbeat of %s: %w", r.DaemonID, ErrConflict), func() (bool, error) {
		next, changed := s.nextLive(r, live)
		if !changed {
			return true, nil
		}
		done, err := s.writeLive(ctx, r.DaemonID, live, next)
		if done || err != nil {
			return done, err
		}
		live, err = s.readLive(ctx, r.DaemonID, r.Incarnation)
		return false, err
	})
}

// writeLive replaces the live record, and the claims on addresses with it.
func (s *Store) writeLive(ctx context.Context, id string, old *liveRow, next liveRecord) (bool, error) {
	key := prefixLive + id
	cmps := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", old.mod)}
	ops := []clientv3.Op{put(key, next, clientv3.WithLease(old.lease))}
	if fresh := besides(next.Addresses.claims(), old.rec.Addresses.claims()); len(fresh) > 0 {
		es, _, err := s.read(ctx, keysOf(fresh)...)
		if err != nil {
			return false, err
		}
		for i, c := range fresh {
			if err := c.free(es[i], id); err != nil {
				return false, err
			}
		}
		claimIf, claimOps := claiming(es, id, old.lease)
		cmps, ops = append(cmps, claimIf...), append(ops, claimOps...)
	}
	ops = append(ops, leaving(old.rec.Addresses, next.Addresses.claims())...)
	_, ok, err := s.commit(ctx, cmps, ops)
	return ok, err
}

// nextLive is the live record after this heartbeat, and whether it differs from
// the old one by enough to be written.
func (s *Store) nextLive(r HeartbeatRequest, old *liveRow) (liveRecord, bool) {
	next := *old.rec
	next.Health, next.FreeBytes, next.ReportedAt = r.Health, r.Free, time.Now().UTC()
	if r.Addresses.TCPPort != 0 {
		next.Addresses = r.Addresses
	}
	if r.Replicas != nil {
		next.Replicas = r.Replicas
		next.Missing = s.view.stillMissing(r.DaemonID, old.rec.Missing, r.Replicas)
	}
	if r.KeysVersion != 0 {
		next.KeysVersion = r.KeysVersion
	}
	changed := next.KeysVersion != old.rec.KeysVersion || next.Health != old.rec.Health ||
		next.Addresses != old.rec.Addresses ||
		s.freeMoved(r.DaemonID, old.rec.FreeBytes, r.Free) ||
		len(next.Missing) != len(old.rec.Missing) ||
		!sameReplicas(old.rec.Replicas, next.Replicas) ||
		!slices.Equal(old.rec.Replicas, next.Replicas) && time.Since(old.at) >= s.opts.ReportEvery
	return next, changed
}

// freeMoved tells whether placement should hear of the change: it is 1% of the
// capacity, or the recorded number is what keeps the daemon from being given
// more.
func (s *Store) freeMoved(id string, old, now int64) bool {
	if old == now {
		return false
	}
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	d := s.view.t.daemons[id]
	if d == nil || d.rec == nil {
		return true
	}
	books := unreserved(d.rec, d.reserved)
	return max(old-now, now-old) >= max(1, d.rec.CapacityBytes/100) || min(old, now) < books
}

// sameReplicas compares what does not change with every append.
func sameReplicas(a, b []ReplicaSummary) bool {
	return slices.EqualFunc(a, b, func(x, y ReplicaSummary) bool {
		return x.ReplicaID == y.ReplicaID && x.LogID == y.LogID && x.Bytes == y.Bytes &&
			x.Epoch == y.Epoch && x.Suspect == y.Suspect && x.Damage == y.Damage && x.DamageLSN == y.DamageLSN
	})
}

// stillMissing are those that the report does not have, or has otherwise than the
// books do. A report lists what is quarantined, too.
func (v *View) stillMissing(daemonID string, missing []string, reported []ReplicaSummary) []string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	d := v.t.daemons[daemonID]
	return slices.DeleteFunc(slices.Clone(missing), func(id string) bool {
		return d != nil && slices.ContainsFunc(reported, func(r ReplicaSummary) bool {
			return r.ReplicaID == id && v.t.verdict(d, r).Verdict == VerdictKeep
		})
	})
}
