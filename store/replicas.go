package store

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// SetReplicas makes allocated replicas present, which must happen before an
// acknowledgement of theirs counts. Replicas that are present already stay so,
// so that it can be repeated.
//
// Errors: ErrInvalid; ErrNotFound; ErrSuperseded, as a SupersededError, for a
// lower epoch or another nonce; ErrEpochAhead; ErrConflict for another set
// version or contention; ErrUnavailable.
func (s *Store) SetReplicas(ctx context.Context, r SetReplicasRequest) (*Log, error) {
	if n := len(r.Present); n < 1 || n > MaxReplicas {
		return nil, invalid("present", "must name 1 to %d replicas, not %d", MaxReplicas, n)
	}
	if r.Epoch == 0 {
		return nil, invalid("epoch", "must be that of an open, at least 1")
	}
	ctx, cancel := s.call(ctx)
	defer cancel()
	var log *Log
	err := retry(ctx, fmt.Errorf("set replicas of %s: %w", r.Log, ErrConflict), func() (done bool, err error) {
		log, err = s.trySetReplicas(ctx, r)
		return log != nil, err
	})
	return log, err
}

func (s *Store) trySetReplicas(ctx context.Context, r SetReplicasRequest) (*Log, error) {
	l, err := s.readLog(ctx, r.Log)
	if err != nil {
		return nil, err
	}
	switch {
	case r.Epoch > l.rec.Epoch:
		return nil, fmt.Errorf("log %s is in epoch %d, not %d: %w", l.id, l.rec.Epoch, r.Epoch, ErrEpochAhead)
	case r.Epoch < l.rec.Epoch || r.Nonce != l.rec.Nonce:
		return nil, &SupersededError{LogID: l.id, Epoch: l.rec.Epoch}
	case r.SetVersion != l.rec.SetVersion:
		return nil, fmt.Errorf("log %s has set version %d, not %d: %w", l.id, l.rec.SetVersion, r.SetVersion, ErrConflict)
	}
	changed := false
	for _, id := range r.Present {
		rep := l.rec.replica(id)
		switch {
		case rep == nil:
			return nil, invalid("present", "log %s has no replica %q", l.id, clip(id))
		case rep.State == ReplicaAllocated:
			rep.State, changed = ReplicaPresent, true
		case rep.State != ReplicaPresent:
			return nil, invalid("present", "replica %s is a %s, not %s", id, rep.State, ReplicaAllocated)
		}
	}
	if changed {
		_, ok, err := s.commit(ctx, []clientv3.Cmp{l.log.unchanged()}, []clientv3.Op{put(l.log.key, l.rec)})
		if err != nil || !ok {
			return nil, err
		}
	}
	if seen, ok := s.view.Log(l.id); ok {
		return &seen, nil
	}
	out := publicLog(l.id, &l.rec)
	return &out, nil
}

// DeleteLog removes a log and its name. Replicas that a grant may have named
// are condemned: their bytes stay reserved until their daemons say that the
// regions are gone. Those of a log that was never opened are released at once.
// ifMatch is the ModRevision that the log must have, or 0.
//
// Errors: ErrNotFound; ErrLogInUse, as an InUseError, while a writer's lease
// lives; ErrPrecondition; ErrConflict; ErrUnavailable.
func (s *Store) DeleteLog(ctx context.Context, idOrName string, ifMatch int64) error {
	ctx, cancel := s.call(ctx)
	defer cancel()
	return retry(ctx, fmt.Errorf("delete log %s: %w", idOrName, ErrConflict), func() (bool, error) {
		return s.tryDeleteLog(ctx, idOrName, ifMatch)
	})
}

func (s *Store) tryDeleteLog(ctx context.Context, idOrName string, ifMatch int64) (bool, error) {
	l, err := s.readLog(ctx, idOrName)
	switch {
	case err != nil:
		return false, err
	case ifMatch != 0 && ifMatch != l.log.mod:
		return false, fmt.Errorf("log %s is at revision %d: %w", l.id, l.log.mod, ErrPrecondition)
	case l.writerRec != nil:
		return false, &InUseError{LogID: l.id, Writer: l.writerRec.Writer}
	}
	cmps := []clientv3.Cmp{l.log.unchanged(), l.writer.unchanged()}
	ops := []clientv3.Op{clientv3.OpDelete(l.log.key), clientv3.OpDelete(prefixNames + l.rec.Name)}
	if l.rec.Epoch > 0 {
		ops = append(ops, l.condemn()...)
	} else {
		released, credits, err := s.releaseAll(ctx, l)
		if err != nil {
			return false, err
		}
		cmps, ops = append(cmps, released...), append(ops, credits...)
	}
	_, ok, err := s.commit(ctx, cmps, ops)
	return ok, err
}

func (l *logEntries) condemn() []clientv3.Op {
	var ops []clientv3.Op
	for _, r := range l.rec.Replicas {
		ops = append(ops, put(condemnedKey(r.DaemonID, r.ReplicaID), condemnedRecord{
			version: current(), LogID: l.id, Bytes: l.rec.ReplicaBytes, Since: time.Now().UTC(),
		}))
	}
	return ops
}

// releaseAll gives each daemon its bytes back.
func (s *Store) releaseAll(ctx context.Context, l *logEntries) ([]clientv3.Cmp, []clientv3.Op, error) {
	var keys []string
	for _, r := range l.rec.Replicas {
		keys = append(keys, prefixSpace+r.DaemonID)
	}
	spaces, _, err := s.read(ctx, keys...)
	if err != nil {
		return nil, nil, err
	}
	var cmps []clientv3.Cmp
	var ops []clientv3.Op
	for _, space := range spaces {
		op, err := s.credit(space, l.rec.ReplicaBytes)
		if err != nil {
			return nil, nil, err
		}
		cmps, ops = append(cmps, space.unchanged()), append(ops, op)
	}
	return cmps, ops, nil
}
