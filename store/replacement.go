package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gravenio/graven/placement"
	"github.com/gravenio/graven/planner"
)

// StartReplacement adds a learner to the log that is to take the place of one
// of its replicas, and reserves its bytes. It is placed by the log's own rules
// beside the replicas that stay. While the learner of that same replica is
// there, the log is returned as it is, so that a start whose answer was lost
// can be repeated.
//
// Errors: ErrInvalid; ErrNotFound (no such log, or not a replica of its set);
// ErrReplacing, as a ReplacingError; ErrSetBehind; placement's, when no daemon fits or To
// does not; ErrConflict (retry), as an UnfitError naming the daemon if one was
// chosen that cannot take the replica any more; ErrIdempotencyMismatch; ErrUnavailable.
func (s *Store) StartReplacement(ctx context.Context, r StartReplacementRequest) (*Log, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	ctx, cancel := s.call(ctx)
	defer cancel()
	return s.start(ctx, &starting{req: r, hash: requestHash(ctx, "replace", r), id: uuid.NewString(), reason: ReasonRequested})
}

// start makes a learner, for a person, a writer or the planner.
func (s *Store) start(ctx context.Context, st *starting) (*Log, error) {
	r := &st.req
	var log *Log
	var unfit *UnfitError
	// Once: another log may have the name by the second attempt.
	id, err := s.resolve(ctx, r.Log)
	if err != nil {
		return nil, err
	}
	st.req.Log = id
	err = retry(ctx, fmt.Errorf("replace %s of log %s: %w", r.Replica, r.Log, ErrConflict), func() (done bool, err error) {
		log, err = s.tryStart(ctx, st)
		if errors.As(err, &unfit) {
			return false, nil // the view that chose it was behind: place again
		}
		return log != nil, err
	})
	if errors.Is(err, ErrConflict) && unfit != nil {
		return nil, unfit // it says which daemon and why
	}
	return log, err
}

func (r *StartReplacementRequest) check() error {
	if err := checkID("replica", r.Replica); err != nil {
		return err
	}
	if r.To != "" {
		if err := checkID("to", r.To); err != nil {
			return err
		}
	}
	return checkIdempotencyKey(r.IdempotencyKey)
}

// starting is one start through all its attempts.
type starting struct {
	req  StartReplacementRequest
	hash string
	id   string // the learner's

	reason  planner.Reason
	planned []clientv3.Cmp // what a plan was made on, if the planner asks for it
}

func (s *Store) tryStart(ctx context.Context, st *starting) (*Log, error) {
	l, err := s.readLog(ctx, st.req.Log, prefixIdem+st.req.IdempotencyKey)
	if err != nil {
		return nil, err
	}
	if err := l.mayOwn(ctx); err != nil {
		return nil, err
	}
	if answer, err := replayLog(l.extra[0], st.hash); answer != nil || err != nil {
		return answer, err
	}
	if adopted, err := s.adopt(ctx, l); adopted || err != nil {
		return nil, again(err)
	}
	old := l.rec.member(st.req.Replica)
	if old == nil {
		return nil, fmt.Errorf("log %s has no replica %s to replace; `graven log show` lists them: %w",
			l.rec.Name, st.req.Replica, ErrNotFound)
	}
	if learner := l.rec.learner(); learner != nil {
		if learner.Replaces == old.ReplicaID && (st.req.To == "" || st.req.To == learner.DaemonID) {
			return s.shown(ctx, l, l.log.mod), nil
		}
		return nil, l.replacing(learner)
	}
	to, err := s.placeLearner(&l.rec, old, st.req.To)
	if err != nil {
		return nil, err
	}
	c, err := s.addLearner(ctx, l, st, *old, to)
	if err != nil {
		return nil, err
	}
	rev, ok, err := s.commit(ctx, c.cmps, c.ops)
	if err != nil || !ok {
		return nil, err
	}
	return s.shown(ctx, l, rev), nil
}

func (l *logEntries) replacing(learner *replicaRecord) error {
	e := &ReplacingError{LogID: l.id, To: learner.DaemonID}
	if old := l.rec.replica(learner.Replaces); old != nil {
		e.From = old.DaemonID
	}
	return e
}

// placeLearner chooses the daemon, or holds the one that was asked for to the
// same rules. The replaced replica's failure domain is free again, its daemon
// is not: it would be another copy on what is to be left.
func (s *Store) placeLearner(rec *logRecord, old *replicaRecord, to string) (string, error) {
	if to == old.DaemonID {
		return "", invalid("to", "must be another daemon than %s, which holds the replica to be replaced", to)
	}
	r := placement.Request{
		Replicas: 1, ReplicaBytes: rec.ReplicaBytes,
		FailureDomain: placement.FailureDomain(rec.Placement.FailureDomain),
		Transport:     rec.Placement.Transport, Media: rec.Placement.Media, Labels: rec.Placement.Labels,
		Exclude: []string{old.DaemonID},
	}
	for _, stays := range rec.Replicas {
		if stays.ReplicaID != old.ReplicaID {
			r.Beside = append(r.Beside, stays.DaemonID)
		}
	}
	if to != "" {
		return to, s.view.CheckPlacement(r, to)
	}
	ids, _, err := s.view.Place(r, rand.Uint64())
	if err != nil {
		return "", err
	}
	return ids[0], nil
}

// addLearner is the change that reserves the learner's bytes and puts it into
// the log's record.
func (s *Store) addLearner(ctx context.Context, l *logEntries, st *starting, old replicaRecord, to string) (*setChange, error) {
	opID := operatorOf(st.reason, old.ReplicaID)
	es, _, err := s.read(ctx, prefixDaemons+to, prefixLive+to, prefixSpace+to, prefixOperators+opID)
	if err != nil {
		return nil, err
	}
	cmps, ops, err := reserve([]string{to}, es[:3], l.rec.ReplicaBytes)
	if err != nil {
		return nil, err
	}
	learner := replicaRecord{ReplicaID: st.id, DaemonID: to, State: ReplicaLearner, Replaces: old.ReplicaID, Operator: opID}
	operator, err := l.began(es[3], st, &old, &learner)
	if err != nil {
		return nil, err
	}
	l.rec.Replicas = append(l.rec.Replicas, learner)
	entry, err := s.note(ctx, l, JournalReplacementStarted, learner,
		fmt.Sprintf("a replica on %s is to take the place of the one on %s", to, old.DaemonID))
	if err != nil {
		return nil, err
	}
	rememberIf, rememberOp, err := s.remember(ctx, st.req.IdempotencyKey, st.hash, publicLog(l.id, &l.rec))
	if err != nil {
		return nil, err
	}
	return &setChange{
		cmps: append(append(append(cmps, l.log.unchanged()), rememberIf...), st.planned...),
		ops:  append(append(ops, put(l.log.key, l.rec), entry, operator), rememberOp...),
	}, nil
}

// operatorOf names the operator that replaces a replica.
func operatorOf(reason planner.Reason, replicaID string) string {
	if reason == planner.Draining {
		return string(planner.Drain) + "-" + replicaID
	}
	return string(planner.Replace) + "-" + replicaID
}

// began is the record of the operator that a learner is made by.
func (l *logEntries) began(e entry, st *starting, old, learner *replicaRecord) (clientv3.Op, error) {
	rec := operatorRecord{version: current(), Operator: Operator{
		OperatorID: learner.Operator, Kind: planner.Replace, Reason: st.reason, State: planner.Running, LogID: l.id, LogName: l.rec.Name,
		ReplicaID: old.ReplicaID, DaemonID: old.DaemonID, LearnerID: learner.ReplicaID, To: learner.DaemonID,
	}}
	if st.reason == planner.Draining {
		rec.Kind = planner.Drain
	}
	if err := rec.begin(e); err != nil {
		return clientv3.Op{}, err
	}
	return put(e.key, rec), nil
}

// AbandonReplacement takes the learner out of the log, for a person. ifMatch is
// the ModRevision that the log must have, or 0.
//
// Errors: ErrNotFound (no such log, or no learner); ErrPrecondition;
// ErrConflict; ErrUnavailable.
func (s *Store) AbandonReplacement(ctx context.Context, idOrName string, ifMatch int64) error {
	ctx, cancel := s.call(ctx)
	defer cancel()
	id, err := s.resolve(ctx, idOrName)
	if err != nil {
		return err
	}
	err = retry(ctx, fmt.Errorf("abandon the replacement of log %s: %w", idOrName, ErrConflict), func() (bool, error) {
		return s.tryAbandon(ctx, id, ifMatch)
	})
	return err
}

func (s *Store) tryAbandon(ctx context.Context, id string, ifMatch int64) (bool, error) {
	l, err := s.readLog(ctx, id)
	if err != nil {
		return false, err
	}
	if err := l.mayOwn(ctx); err != nil {
		return false, err
	}
	if ifMatch != 0 && ifMatch != l.log.mod {
		return false, fmt.Errorf("log %s is at revision %d: %w", l.id, l.log.mod, ErrPrecondition)
	}
	learner := l.rec.learner()
	if learner == nil {
		return false, fmt.Errorf("log %s has no replacement under way: %w", l.rec.Name, ErrNotFound)
	}
	c, err := s.abandon(ctx, l, learner.ReplicaID, outcome{planner.Cancelled, "a person gave it up"})
	if err != nil {
		return false, err
	}
	_, ok, err := s.commit(ctx, c.cmps, c.ops)
	return ok, err
}

// setChange is a change of a log's replicas, to be made in one transaction.
type setChange struct {
	cmps []clientv3.Cmp
	ops  []clientv3.Op
}

// abandon is the change that takes the learner out of the log.
func (s *Store) abandon(ctx context.Context, l *logEntries, learnerID string, how outcome) (*setChange, error) {
	learner := l.rec.drop(learnerID)
	return s.retire(ctx, l, learner, JournalReplacementAbandoned, learner, how,
		fmt.Sprintf("the replica on %s leaves without having counted: %s", learner.DaemonID, how.why))
}

// promote is the change that gives the learner the place of the replica that it
// replaces.
func (s *Store) promote(ctx context.Context, l *logEntries, learner *replicaRecord) (*setChange, error) {
	l.rec.SetVersion++
	replaces := learner.Replaces
	promoted := *learner // with its operator
	learner.State, learner.Replaces, learner.Operator, learner.JoinedSet = ReplicaPresent, "", "", l.rec.SetVersion
	old := l.rec.drop(replaces)
	if old.ReplicaID == "" {
		return nil, fmt.Errorf("store: log %s: learner %s replaces %s, which is not in the record",
			l.id, promoted.ReplicaID, replaces)
	}
	return s.retire(ctx, l, old, JournalReplacementDone, promoted, outcome{state: planner.Done},
		fmt.Sprintf("the replica on %s has taken the place of the one on %s", promoted.DaemonID, old.DaemonID))
}

// retire writes the record that has lost a replica, what becomes of that one,
// and the journal's entry about the learner.
func (s *Store) retire(ctx context.Context, l *logEntries, gone replicaRecord, kind JournalKind, learner replicaRecord, how outcome, detail string) (*setChange, error) {
	entry, err := s.note(ctx, l, kind, learner, detail)
	if err != nil {
		return nil, err
	}
	cmps, ops, err := s.giveBack(ctx, l, gone)
	if err != nil {
		return nil, err
	}
	settled, err := s.settle(ctx, learner, how)
	if err != nil {
		return nil, err
	}
	return &setChange{
		cmps: append(cmps, l.log.unchanged()),
		ops:  append(append(ops, put(l.log.key, l.rec), entry), settled...),
	}, nil
}
