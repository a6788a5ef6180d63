package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gravenio/graven/planner"
)

// CancelOperator ends an operator for a person. A replacement's learner leaves
// its log in the same transaction; one that has been promoted meanwhile stays.
// Cancelling twice is no error.
//
// Errors: ErrNotFound; ErrOperatorEnded, if it has ended or is the removal of a
// condemned replica; ErrConflict; ErrUnavailable.
func (s *Store) CancelOperator(ctx context.Context, id string) error {
	if !operatorPattern.MatchString(id) {
		return invalid("operator_id", "must match %s, not %q", operatorPattern, clip(id))
	}
	ctx, cancel := s.call(ctx)
	defer cancel()
	err := retry(ctx, fmt.Errorf("cancel operator %s: %w", id, ErrConflict), func() (bool, error) {
		return s.tryCancel(ctx, id)
	})
	return err
}

func (s *Store) tryCancel(ctx context.Context, id string) (bool, error) {
	es, _, err := s.read(ctx, prefixOperators+id)
	if err != nil {
		return false, err
	}
	if !es[0].exists() {
		if strings.HasPrefix(id, StepRemoveReplica+"-") {
			if _, there := s.view.Operator(id); there {
				return false, fmt.Errorf("operator %s: the replica is no longer part of a log, and its removal can't be cancelled: %w", id, ErrOperatorEnded)
			}
		}
		return false, fmt.Errorf("operator %s: %w", id, ErrNotFound)
	}
	rec, err := decode[operatorRecord](es[0].key, es[0].value)
	switch {
	case err != nil:
		return false, err
	case rec.State == planner.Cancelled:
		return true, nil
	case rec.State.Ended():
		return false, fmt.Errorf("operator %s is %s: %w", id, rec.State, ErrOperatorEnded)
	}
	c, err := s.ending(ctx, es[0], &rec, planner.Cancelled, "a person cancelled it")
	if err != nil {
		return false, err
	}
	entry, err := s.entry(ctx, signed(ctx, JournalEntry{
		Kind: JournalOperatorCancelled, LogID: rec.LogID, LogName: rec.LogName, DaemonID: rec.DaemonID, ReplicaID: rec.ReplicaID,
		Detail: fmt.Sprintf("operator %s was cancelled", id),
	}))
	if err != nil {
		return false, err
	}
	_, ok, err := s.commit(ctx, c.cmps, append(c.ops, entry))
	return ok, err
}

// ending is the change that ends an operator that has not ended yet, and takes its
// learner out of the log if that is still one. A learner that was promoted, or
// given up, has ended the operator in that transaction: the comparisons fail.
func (s *Store) ending(ctx context.Context, op entry, rec *operatorRecord, state planner.State, why string) (*setChange, error) {
	if rec.State == planner.Running && rec.LearnerID != "" {
		l, err := s.readLog(ctx, rec.LogID)
		switch {
		case errors.Is(err, ErrNotFound): // only the operator is left
		case err != nil:
			return nil, err
		default:
			if learner := l.rec.learner(); learner != nil && learner.ReplicaID == rec.LearnerID {
				return s.abandon(ctx, l, learner.ReplicaID, outcome{state, why})
			}
		}
	}
	put, err := s.putEnded(ctx, op.key, rec, state, why)
	if err != nil {
		return nil, err
	}
	return &setChange{cmps: []clientv3.Cmp{op.unchanged()}, ops: []clientv3.Op{put}}, nil
}

// outcome is how an operator ends.
type outcome struct {
	state planner.State
	why   string
}

// putEnded is the write of a record that has ended; it is kept for a while.
func (s *Store) putEnded(ctx context.Context, key string, rec *operatorRecord, state planner.State, why string) (clientv3.Op, error) {
	lease, err := s.shared(ctx, &s.operatorLease, s.opts.OperatorTTL)
	if err != nil {
		return clientv3.Op{}, err
	}
	rec.end(state, why)
	return put(key, *rec, clientv3.WithLease(lease)), nil
}

// settle is what ends the operator of a learner, for the transaction that takes
// the learner from its list. The log's record guards it: while the learner is
// listed, the operator runs, and nothing else ends it.
func (s *Store) settle(ctx context.Context, learner replicaRecord, how outcome) ([]clientv3.Op, error) {
	if learner.Operator == "" {
		return nil, nil
	}
	es, _, err := s.read(ctx, prefixOperators+learner.Operator)
	if err != nil || !es[0].exists() {
		return nil, err
	}
	rec, err := decode[operatorRecord](es[0].key, es[0].value)
	if err != nil || rec.State != planner.Running || rec.LearnerID != learner.ReplicaID {
		return nil, err
	}
	put, err := s.putEnded(ctx, es[0].key, &rec, how.state, how.why)
	if err != nil {
		return nil, err
	}
	return []clientv3.Op{put}, nil
}
