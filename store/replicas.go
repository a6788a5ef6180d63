package store

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gravenio/graven/planner"
)

// SetReplicas changes replicas in a writer's name, comparing its epoch, nonce
// and set version.
//
//   - Allocated ones become present, which must happen before an
//     acknowledgement of theirs counts.
//   - The learner becomes present: the replica that it replaces leaves the log,
//     and the set version grows by one. That change comes alone.
//   - The learner is condemned: it leaves the log. That change comes alone.
//
// What is so already stays so, so that each can be repeated after a lost
// answer, a promote under the set version that it was first sent with.
//
// Errors: ErrInvalid; ErrNotFound; ErrSuperseded, as a SupersededError, for a
// lower epoch or another nonce; ErrEpochAhead; ErrAbandoned for a learner that
// is not the log's, which is final; ErrConflict for another set version, a
// learner that was promoted meanwhile, or contention; ErrUnavailable.
func (s *Store) SetReplicas(ctx context.Context, r SetReplicasRequest) (*Log, error) {
	if err := r.check(); err != nil {
		return nil, err
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

func (r *SetReplicasRequest) check() error {
	if n := len(r.Present) + len(r.Condemned); n < 1 || n > MaxReplicas {
		return invalid("replicas", "must name 1 to %d replicas, not %d", MaxReplicas, n)
	}
	if len(r.Condemned) > 0 && len(r.Present)+len(r.Condemned) > 1 {
		return invalid("replicas", "a change to condemned must be the only one; send the others by themselves")
	}
	if r.Epoch == 0 {
		return invalid("epoch", "must be that of an open, at least 1")
	}
	return nil
}

func (s *Store) trySetReplicas(ctx context.Context, r SetReplicasRequest) (*Log, error) {
	l, err := s.readLog(ctx, r.Log)
	if err != nil {
		return nil, err
	}
	if err := s.mayWrite(ctx, l, l.rec.recovering()); err != nil {
		return nil, err
	}
	c, err := s.decide(ctx, l, r)
	if err != nil {
		return nil, err
	}
	rev := l.log.mod
	if c != nil {
		var ok bool
		if rev, ok, err = s.commit(ctx, c.cmps, c.ops); err != nil || !ok {
			return nil, err
		}
	}
	return s.shown(ctx, l, rev), nil
}

// decide returns what the request changes, or nil if all is so already. It
// leaves l.rec as it will be.
func (s *Store) decide(ctx context.Context, l *logEntries, r SetReplicasRequest) (*setChange, error) {
	switch {
	case r.Epoch > l.rec.Epoch:
		return nil, fmt.Errorf("log %s is in epoch %d, not %d: %w", l.id, l.rec.Epoch, r.Epoch, ErrEpochAhead)
	case r.Epoch < l.rec.Epoch || r.Nonce != l.rec.Nonce:
		return nil, &SupersededError{LogID: l.id, Epoch: l.rec.Epoch}
	case l.rec.promotedBy(r):
		return nil, nil
	case r.SetVersion != l.rec.SetVersion:
		return nil, fmt.Errorf("log %s has set version %d, not %d: %w", l.id, l.rec.SetVersion, r.SetVersion, ErrConflict)
	case len(r.Condemned) > 0:
		return s.condemnLearner(ctx, l, r.Condemned[0])
	case len(r.Present) == 1:
		return s.makeOnePresent(ctx, l, r.Present[0])
	}
	return l.makePresent(r.Present)
}

// promotedBy says that the request is a promote that has happened: its answer
// was lost. The epoch and nonce are this writer's, so nobody else can have
// changed the set since.
func (l *logRecord) promotedBy(r SetReplicasRequest) bool {
	if len(r.Present) != 1 || l.SetVersion != r.SetVersion+1 {
		return false
	}
	rep := l.replica(r.Present[0])
	return rep != nil && rep.State == ReplicaPresent && rep.JoinedSet == l.SetVersion
}

func (s *Store) makeOnePresent(ctx context.Context, l *logEntries, id string) (*setChange, error) {
	rep := l.rec.replica(id)
	switch {
	case rep == nil:
		return nil, fmt.Errorf("log %s, replica %q: %w", l.id, clip(id), ErrAbandoned)
	case rep.State == ReplicaLearner:
		return s.promote(ctx, l, rep)
	}
	return l.makePresent([]string{id})
}

func (s *Store) condemnLearner(ctx context.Context, l *logEntries, id string) (*setChange, error) {
	rep := l.rec.replica(id)
	switch {
	case rep == nil:
		return nil, nil // it has left
	case rep.State == ReplicaLearner:
		return s.abandon(ctx, l, id, outcome{planner.Failed, "its writer gave it up"})
	case rep.JoinedSet == l.rec.SetVersion:
		return nil, fmt.Errorf("replica %s of log %s was promoted in set version %d: %w", id, l.id, rep.JoinedSet, ErrConflict)
	}
	return nil, invalid("replicas", "replica %s is %s; only a learner can be condemned", id, rep.State)
}

// makePresent is the change that makes allocated replicas present.
func (l *logEntries) makePresent(ids []string) (*setChange, error) {
	changed := false
	for _, id := range ids {
		rep := l.rec.replica(id)
		switch {
		case rep == nil:
			return nil, invalid("replicas", "log %s has no replica %q", l.id, clip(id))
		case rep.State == ReplicaLearner:
			return nil, invalid("replicas", "replica %s is a learner; promote it by a request of its own", id)
		case rep.State == ReplicaAllocated:
			rep.State, changed = ReplicaPresent, true
		}
	}
	if !changed {
		return nil, nil
	}
	return &setChange{
		cmps: []clientv3.Cmp{l.log.unchanged()},
		ops:  []clientv3.Op{put(l.log.key, l.rec)},
	}, nil
}

// shown is the log as the view has it, or as its record alone tells it if the
// view has not seen the revision in time.
func (s *Store) shown(ctx context.Context, l *logEntries, rev int64) *Log {
	ctx, cancel := context.WithTimeout(ctx, viewPatience)
	defer cancel()
	if s.view.WaitRevision(ctx, rev) == nil {
		if seen, ok := s.view.Log(l.id); ok {
			return &seen
		}
	}
	out := publicLog(l.id, &l.rec)
	out.ModRevision = rev
	return &out
}
