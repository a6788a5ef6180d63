package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gravenio/graven/planner"
)

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
	// Once: another log may have the name by the second attempt.
	id, err := s.resolve(ctx, idOrName)
	if err != nil {
		return err
	}
	return retry(ctx, fmt.Errorf("delete log %s: %w", idOrName, ErrConflict), func() (bool, error) {
		return s.tryDeleteLog(ctx, id, ifMatch)
	})
}

func (s *Store) tryDeleteLog(ctx context.Context, id string, ifMatch int64) (bool, error) {
	l, err := s.readLog(ctx, id)
	if err != nil {
		return false, err
	}
	if err := l.mayOwn(ctx); err != nil {
		return false, err
	}
	switch {
	case ifMatch != 0 && ifMatch != l.log.mod:
		return false, fmt.Errorf("log %s is at revision %d: %w", l.id, l.log.mod, ErrPrecondition)
	case l.writerRec != nil:
		return false, &InUseError{LogID: l.id, Writer: l.writerRec.Writer}
	}
	// All of its replicas are to go, those of a newer set, too. What can't be found
	// is kept by its daemon, and a person may remove it.
	if adopted, err := s.adopt(ctx, l); adopted || err != nil && !errors.Is(err, ErrSetBehind) {
		return false, again(err)
	}
	cmps, ops, err := s.giveBack(ctx, l, l.rec.Replicas...)
	if err != nil {
		return false, err
	}
	told, err := s.journal(ctx, l, JournalEntry{Kind: JournalLogDeleted, Detail: l.rec.describe()})
	if err != nil {
		return false, err
	}
	if learner := l.rec.learner(); learner != nil {
		settled, err := s.settle(ctx, *learner, outcome{planner.Cancelled, "the log was deleted"})
		if err != nil {
			return false, err
		}
		ops = append(ops, settled...)
	}
	_, ok, err := s.commit(ctx,
		append(cmps, l.log.unchanged(), l.writer.unchanged()),
		append(ops, told, clientv3.OpDelete(l.log.key), clientv3.OpDelete(prefixNames+l.rec.Name)))
	return ok, err
}

// giveBack is what becomes of replicas that leave the log: their bytes are free
// at once if no grant can have named them, which is so before the first open.
func (s *Store) giveBack(ctx context.Context, l *logEntries, gone ...replicaRecord) ([]clientv3.Cmp, []clientv3.Op, error) {
	ident, err := s.identityIn(ctx, l.asOf)
	if err != nil {
		return nil, nil, err
	}
	if l.rec.Epoch > 0 || l.rec.Life < ident.life { // or it was opened, and the backup is older
		return s.condemn(ctx, l, gone)
	}
	cmps, ops, err := s.releaseAll(ctx, gone, l.rec.ReplicaBytes)
	return append(cmps, l.asOf.cluster.unchanged()), ops, err
}

// condemn keeps the bytes reserved until each daemon has said that the region is
// gone. A daemon that was given up will never say so: it has no books any more.
func (s *Store) condemn(ctx context.Context, l *logEntries, gone []replicaRecord) ([]clientv3.Cmp, []clientv3.Op, error) {
	daemons, err := s.daemonsOf(ctx, gone)
	if err != nil {
		return nil, nil, err
	}
	var cmps []clientv3.Cmp
	var ops []clientv3.Op
	for i, r := range gone {
		cmps = append(cmps, daemons[i].sameLife())
		if !daemons[i].exists() {
			continue
		}
		ops = append(ops, put(condemnedKey(r.DaemonID, r.ReplicaID), condemnedRecord{
			version: current(), LogID: l.id, Bytes: l.rec.ReplicaBytes, Since: time.Now().UTC(), SetVersion: l.rec.SetVersion,
		}))
	}
	return cmps, ops, nil
}

// daemonsOf reads the records of the replicas' daemons.
func (s *Store) daemonsOf(ctx context.Context, replicas []replicaRecord) ([]entry, error) {
	keys := make([]string, len(replicas))
	for i, r := range replicas {
		keys[i] = prefixDaemons + r.DaemonID
	}
	es, _, err := s.read(ctx, keys...)
	return es, err
}

// releaseAll gives each daemon its bytes back.
func (s *Store) releaseAll(ctx context.Context, gone []replicaRecord, bytes int64) ([]clientv3.Cmp, []clientv3.Op, error) {
	var keys []string
	for _, r := range gone {
		keys = append(keys, prefixSpace+r.DaemonID)
	}
	spaces, _, err := s.read(ctx, keys...)
	if err != nil {
		return nil, nil, err
	}
	var cmps []clientv3.Cmp
	var ops []clientv3.Op
	for _, space := range spaces {
		if !space.exists() { // the daemon was given up
			cmps = append(cmps, space.unchanged())
			continue
		}
		op, err := s.credit(space, bytes)
		if err != nil {
			return nil, nil, err
		}
		cmps, ops = append(cmps, space.unchanged()), append(ops, op)
	}
	return cmps, ops, nil
}
