package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// resultsPerTxn keeps a transaction below etcd's limit of operations.
const resultsPerTxn = 32

// takeResults records which condemned regions are gone: the tombstones go and
// the bytes are free again. What etcd does not know as condemned changes
// nothing, so a repeated result is harmless.
func (s *Store) takeResults(ctx context.Context, daemonID string, results []StepResult) error {
	var done []string
	for _, r := range results {
		if r.Kind == StepRemoveReplica && r.Done && isUUID(r.ReplicaID) && !slices.Contains(done, r.ReplicaID) {
			done = append(done, r.ReplicaID)
		}
	}
	for chunk := range slices.Chunk(done, resultsPerTxn) {
		err := retry(ctx, fmt.Errorf("results of %s: %w", daemonID, ErrConflict), func() (bool, error) {
			return s.release(ctx, daemonID, chunk)
		})
		if err != nil {
			return err
		}
	}
	return s.takeTasks(ctx, daemonID, results)
}

func (s *Store) release(ctx context.Context, daemonID string, replicaIDs []string) (bool, error) {
	keys := []string{prefixSpace + daemonID}
	for _, id := range replicaIDs {
		keys = append(keys, condemnedKey(daemonID, id))
	}
	es, _, err := s.read(ctx, keys...)
	if err != nil {
		return false, err
	}
	space := es[0]
	cmps := []clientv3.Cmp{space.unchanged()}
	var ops []clientv3.Op
	var bytes int64
	for _, e := range es[1:] {
		if !e.exists() {
			continue
		}
		rec, err := decode[condemnedRecord](e.key, e.value)
		if err != nil {
			return false, err
		}
		bytes += rec.Bytes
		cmps = append(cmps, e.unchanged())
		ops = append(ops, clientv3.OpDelete(e.key))
	}
	if len(ops) == 0 {
		return true, nil
	}
	op, err := s.credit(space, bytes)
	if err != nil {
		return false, err
	}
	_, ok, err := s.commit(ctx, cmps, append(ops, op))
	return ok, err
}

// credit gives bytes back to a daemon. Books that do not add up are reported
// and never become negative.
func (s *Store) credit(space entry, bytes int64) (clientv3.Op, error) {
	rec := spaceRecord{version: current()}
	if space.exists() {
		var err error
		if rec, err = decode[spaceRecord](space.key, space.value); err != nil {
			return clientv3.Op{}, err
		}
	}
	if rec.ReservedBytes < bytes {
		s.log.Error("more bytes are released than were reserved",
			"key", space.key, "reserved", rec.ReservedBytes, "released", bytes)
	}
	rec.ReservedBytes = max(0, rec.ReservedBytes-bytes)
	return put(space.key, rec), nil
}

// Leave takes the daemon down at once, as its lease's expiry would. It is not
// an error if its lease is gone already. Errors: ErrStaleIncarnation, ErrGone,
// ErrUnavailable.
func (s *Store) Leave(ctx context.Context, daemonID string, incarnation uint64) error {
	if err := checkID("daemon_id", daemonID); err != nil {
		return err
	}
	ctx, cancel := s.call(ctx)
	defer cancel()
	err := retry(ctx, fmt.Errorf("leave %s: %w", daemonID, ErrConflict), func() (bool, error) {
		live, err := s.readLive(ctx, daemonID, incarnation)
		if err != nil {
			return false, err
		}
		key := prefixLive + daemonID
		_, ok, err := s.commit(ctx,
			[]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", live.mod)},
			append(leaving(live.rec.Addresses, nil), clientv3.OpDelete(key)))
		if ok {
			s.revokeLease(ctx, live.lease)
		}
		return ok, err
	})
	if errors.Is(err, ErrLeaseExpired) {
		return nil
	}
	return err
}

// SetDraining says whether the daemon may be given new replicas, and returns it as
// that leaves it. ifMatch is the ModRevision that the daemon must have, or 0.
// Errors: ErrNotFound, ErrPrecondition, ErrConflict, ErrUnavailable.
func (s *Store) SetDraining(ctx context.Context, daemonID string, draining bool, ifMatch int64) (*Daemon, error) {
	if err := checkID("daemon_id", daemonID); err != nil {
		return nil, err
	}
	ctx, cancel := s.call(ctx)
	defer cancel()
	var is daemonEntries
	err := retry(ctx, fmt.Errorf("drain %s: %w", daemonID, ErrConflict), func() (bool, error) {
		es, _, err := s.read(ctx, prefixDaemons+daemonID, prefixLive+daemonID, prefixSpace+daemonID)
		if err != nil {
			return false, err
		}
		rec, err := existing(daemonID, es, ifMatch)
		if err != nil {
			return false, err
		}
		is = daemonEntries{id: daemonID, rec: rec, mod: es[0].mod, live: es[1], space: es[2]}
		if rec.Draining == draining {
			return true, nil
		}
		rec.Draining = draining
		kind, text := JournalDaemonUndrained, "it may be given replicas again"
		if draining {
			kind, text = JournalDaemonDraining, "it is given no more replicas, and those that it has are to move away"
		}
		told, err := s.daemonEntry(ctx, kind, daemonID, "%s", text)
		if err != nil {
			return false, err
		}
		rev, ok, err := s.commit(ctx, []clientv3.Cmp{es[0].unchanged()}, []clientv3.Op{put(es[0].key, rec), told})
		is.rec, is.mod = rec, rev
		return ok, err
	})
	if err != nil {
		return nil, err
	}
	return s.view.shownDaemon(&is)
}

// daemonEntries are what etcd has of a daemon.
type daemonEntries struct {
	id          string
	rec         daemonRecord
	mod         int64 // the record's
	live, space entry
}

// shownDaemon is a daemon as these entries have it, whatever the view shows: it may
// be behind. When the daemon was heard of, and went down, is the view's to know.
func (v *View) shownDaemon(is *daemonEntries) (*Daemon, error) {
	d := &daemonRow{rec: &is.rec, recMod: is.mod, spaceMod: is.space.mod}
	if is.space.exists() {
		space, err := decode[spaceRecord](is.space.key, is.space.value)
		if err != nil {
			return nil, err
		}
		d.reserved = space.ReservedBytes
	}
	if is.live.exists() {
		live, err := decode[liveRecord](is.live.key, is.live.value)
		if err != nil {
			return nil, err
		}
		d.live = newLiveRow(&live, is.live, time.Now())
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	if seen := v.t.daemons[is.id]; seen != nil {
		d.heard, d.downAt = seen.heard, seen.downAt
	}
	out := v.t.daemon(is.id, d)
	return &out, nil
}

// existing decodes the daemon's record, the first of the entries it is made of.
func existing(daemonID string, es []entry, ifMatch int64) (daemonRecord, error) {
	if !es[0].exists() {
		return daemonRecord{}, &DaemonError{DaemonID: daemonID, Detail: "no such daemon", Err: ErrNotFound}
	}
	if newest := max(es[0].mod, es[1].mod, es[2].mod); ifMatch != 0 && ifMatch != newest {
		return daemonRecord{}, fmt.Errorf("daemon %s is at revision %d: %w", daemonID, newest, ErrPrecondition)
	}
	return decode[daemonRecord](es[0].key, es[0].value)
}

// DeleteDaemon forgets a daemon that has left: nothing is reserved or condemned
// on it and it is not live. ifMatch is the ModRevision that it must have, or 0.
//
// lost gives up the replicas of a daemon that never returns, and what is condemned
// on it. It must not be live either; its logs degrade, and are repaired.
//
// Errors: ErrNotFound, ErrDaemonBusy (with what is in the way), ErrLastCopies,
// ErrPrecondition, ErrConflict, ErrUnavailable.
func (s *Store) DeleteDaemon(ctx context.Context, daemonID string, lost bool, ifMatch int64) error {
	if err := checkID("daemon_id", daemonID); err != nil {
		return err
	}
	ctx, cancel := s.call(ctx)
	defer cancel()
	return retry(ctx, fmt.Errorf("delete daemon %s: %w", daemonID, ErrConflict), func() (bool, error) {
		if lost {
			return s.tryGiveUp(ctx, daemonID, ifMatch)
		}
		return s.tryDeleteDaemon(ctx, daemonID, ifMatch)
	})
}

func (s *Store) tryDeleteDaemon(ctx context.Context, id string, ifMatch int64) (bool, error) {
	es, _, err := s.read(ctx, prefixDaemons+id, prefixLive+id, prefixSpace+id)
	if err != nil {
		return false, err
	}
	rec, err := existing(id, es, ifMatch)
	if err != nil {
		return false, err
	}
	daemon, live, space := es[0], es[1], es[2]
	busy := func(format string, args ...any) error {
		return &DaemonError{DaemonID: id, Detail: fmt.Sprintf(format, args...), Err: ErrDaemonBusy}
	}
	if live.exists() {
		return false, busy("it is live; stop it first")
	}
	if space.exists() {
		reserved, err := decode[spaceRecord](space.key, space.value)
		if err != nil {
			return false, err
		}
		if n := reserved.ReservedBytes; n != 0 {
			return false, busy("%d bytes are reserved on it for logs or regions to be removed", n)
		}
	}
	lease, err := s.idemLease(ctx)
	if err != nil {
		return false, err
	}
	told, err := s.daemonEntry(ctx, JournalDaemonDeleted, id, "its pool was %s, in incarnation %d", rec.PoolID, rec.Incarnation)
	if err != nil {
		return false, err
	}
	condemned := prefixCondemned + id + "/"
	_, ok, err := s.commit(ctx,
		[]clientv3.Cmp{
			daemon.unchanged(), live.unchanged(), space.unchanged(),
			clientv3.Compare(clientv3.CreateRevision(condemned).WithPrefix(), "=", 0),
		},
		[]clientv3.Op{
			clientv3.OpDelete(daemon.key), clientv3.OpDelete(space.key),
			clientv3.OpDelete(prefixPools + rec.PoolID), told,
			put(prefixGone+id, goneRecord{version: current(), At: time.Now().UTC()}, clientv3.WithLease(lease)),
		})
	return ok, err
}
