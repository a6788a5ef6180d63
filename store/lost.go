package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// maxNamed bounds the logs that a message names.
const maxNamed = 5

// tryGiveUp forgets a daemon that never returns. Its replicas stay in their logs'
// records, as unknown, until others have taken their place: nothing is opened on
// the word that they are lost. Its books go, with what is condemned on it, and a
// mark stays for the day when it returns after all.
func (s *Store) tryGiveUp(ctx context.Context, id string, ifMatch int64) (bool, error) {
	es, rev, err := s.read(ctx, prefixDaemons+id, prefixLive+id, prefixSpace+id)
	if err != nil {
		return false, err
	}
	rec, err := existing(id, es, ifMatch)
	if err != nil {
		return false, err
	}
	if es[1].exists() {
		return false, &DaemonError{DaemonID: id, Detail: "it is live, so it is not lost; drain it, or stop it first", Err: ErrDaemonBusy}
	}
	if err := s.view.WaitRevision(ctx, rev); err != nil {
		return false, err
	}
	logs, last := s.view.without(id)
	if len(last) > 0 {
		return false, &DaemonError{DaemonID: id, Err: ErrLastCopies, Detail: fmt.Sprintf(
			"without it too few copies are here of %s; bring other daemons back, or recover (`graven log recover`) or delete them first", named(last))}
	}
	entry, err := s.entry(ctx, signed(ctx, JournalEntry{
		Kind: JournalDaemonLost, DaemonID: id,
		Detail: fmt.Sprintf("daemon %s, pool %s, was given up with its replicas of %d logs: %s", id, rec.PoolID, len(logs), named(logs)),
	}))
	if err != nil {
		return false, err
	}
	_, ok, err := s.commit(ctx,
		[]clientv3.Cmp{es[0].unchanged(), es[1].unchanged()},
		[]clientv3.Op{
			clientv3.OpDelete(es[0].key), clientv3.OpDelete(es[2].key),
			clientv3.OpDelete(prefixCondemned+id+"/", clientv3.WithPrefix()),
			put(prefixGone+id, goneRecord{version: current(), At: time.Now().UTC(), PoolID: rec.PoolID, Lost: true}),
			entry,
		})
	return ok, err
}

// without names the logs that have a replica on the daemon, and those of them that
// could not be opened without it: too few of their other copies are here.
func (v *View) without(id string) (logs, last []string) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	d := v.t.daemons[id]
	if d == nil {
		return nil, nil
	}
	for _, logID := range d.replicas {
		l := v.t.logs[logID]
		logs = append(logs, l.rec.Name)
		if l.rec.Epoch > 0 && v.t.here(l.rec, id) < l.rec.needed() {
			last = append(last, l.rec.Name)
		}
	}
	slices.Sort(logs)
	slices.Sort(last)
	return logs, last
}

// here counts the log's replicas that can be read without the daemon.
func (t *tables) here(rec *logRecord, without string) int {
	n := 0
	for _, r := range rec.Replicas {
		d := t.daemons[r.DaemonID]
		if r.State != ReplicaLearner && r.DaemonID != without && d != nil && d.live != nil && !slices.Contains(d.live.rec.Missing, r.ReplicaID) {
			n++
		}
	}
	return n
}

// members is the size of the log's set.
func (l *logRecord) members() int {
	n := len(l.Replicas)
	if l.learner() != nil {
		n--
	}
	return n
}

// needed is how many replicas of the set must be here for an open to end: enough to
// know of every acknowledged record, and enough to acknowledge what it writes. A
// learner that takes a lost one's place needs them, too, so one that acknowledges
// by all its replicas can spare none.
func (l *logRecord) needed() int {
	return max(l.members()-l.AckQuorum+1, l.AckQuorum)
}

// named lists some of the names.
func named(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	text := strings.Join(names[:min(len(names), maxNamed)], ", ")
	if more := len(names) - maxNamed; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// barred refuses a daemon that was given up: for good with the pool that it had,
// and with another one while logs still name replicas on it, which would be taken
// for replicas in that.
func (s *Store) barred(gone entry, r *RegisterRequest) error {
	if !gone.exists() {
		return nil
	}
	rec, err := decode[goneRecord](gone.key, gone.value)
	if err != nil || !rec.Lost {
		return err
	}
	refuse := func(format string, args ...any) error {
		return &DaemonError{DaemonID: r.DaemonID, Err: ErrGone, Detail: fmt.Sprintf(format, args...)}
	}
	if rec.PoolID == r.PoolID {
		return refuse("it was given up as lost at %s; what its pool holds stays there, see `graven pool`: give it a new folder and another ID",
			rec.At.Format(time.RFC3339))
	}
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	if d := s.view.t.daemons[r.DaemonID]; d != nil && len(d.replicas) > 0 {
		return refuse("it was given up as lost, and %d of its replicas have not been replaced yet; wait for that, or use another ID", len(d.replicas))
	}
	return nil
}
