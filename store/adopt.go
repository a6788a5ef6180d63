package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gravenio/graven/planner"
)

// An etcd that was set back may name a set of replicas that is not a log's any
// more. The replicas know better: their seals name the newer set. Daemons report
// those when they register, as all do after a restore, and the first call that
// would decide something on the old set takes the newer one into the record.

// SealReport is what the newest seal of a replica in a daemon's pool says of its
// log's set.
type SealReport struct {
	ReplicaID  string `json:"replica_id"`
	SetVersion uint64 `json:"set_version"`
	// Set are the IDs of the members.
	Set []string `json:"set"`
}

// maxAhead bounds what is kept of one daemon, so that its record stays within what
// etcd takes; what the next registration brings are then others.
const maxAhead = 1024

// ahead are the seals that name a newer set than the log's record: the only ones
// that anybody asks for, and none while all is well.
func (t *tables) ahead(inventory []ReplicaSummary, seals []SealReport) []SealReport {
	logOf := make(map[string]string, len(inventory))
	for _, r := range inventory {
		logOf[r.ReplicaID] = r.LogID
	}
	var out []SealReport
	for _, s := range seals {
		if l := t.logs[logOf[s.ReplicaID]]; l != nil && s.SetVersion > l.rec.SetVersion && len(out) < maxAhead {
			out = append(out, s)
		}
	}
	return out
}

// newerSet is what seals say of a log, and where its members were found.
type newerSet struct {
	version uint64
	members []string
	// at is the daemon of each member that the record does not have.
	at map[string]string
}

// witness counts who reports a set.
type witness struct {
	seal    SealReport
	trusted bool                // a replica that the record names says so
	members map[string]struct{} // daemons that hold a member which says so
}

// sightings goes through what is reported of a log in this life of etcd.
func (t *tables) sightings(life uint64, see func(daemonID string, live *liveRow)) {
	for id, d := range t.daemons {
		if d.rec != nil && d.live != nil && d.live.rec.Life == life {
			see(id, d.live)
		}
	}
}

// newerSet returns the newest set that is believed, or nil if none is newer than
// the record's. A seal is believed from the daemon that the record itself names
// for the replica, which is trusted with the log as it is; and else, since all
// replicas may have been replaced, if an ack quorum of the members that it names,
// each on another daemon, say the same. An opener fences what the record names,
// so it can't have met a newer seal of anybody else.
func (t *tables) newerSet(logID string, rec *logRecord, life uint64) (*newerSet, error) {
	claims := make(map[string]*witness)
	t.sightings(life, func(daemonID string, live *liveRow) {
		for _, s := range live.rec.Seals {
			r := live.summaries[s.ReplicaID]
			if r == nil || r.LogID != logID || s.SetVersion <= rec.SetVersion || len(s.Set) != rec.members() {
				continue
			}
			key := fmt.Sprint(s.SetVersion, s.Set)
			w := claims[key]
			if w == nil {
				w = &witness{seal: s, members: make(map[string]struct{})}
				claims[key] = w
			}
			w.hear(rec, daemonID, s.ReplicaID)
		}
	})
	best, err := newest(claims, rec)
	if best == nil || err != nil {
		return nil, err
	}
	n := &newerSet{version: best.SetVersion, members: best.Set}
	return n, t.locate(n, logID, rec, life)
}

func (w *witness) hear(rec *logRecord, daemonID, replicaID string) {
	if r := rec.replica(replicaID); r != nil && r.DaemonID == daemonID {
		w.trusted = true
	}
	if slices.Contains(w.seal.Set, replicaID) {
		w.members[daemonID] = struct{}{}
	}
}

// newest is the newest claim that is believed. Two of one version are two
// histories, and a person has to choose.
func newest(claims map[string]*witness, rec *logRecord) (*SealReport, error) {
	var best *SealReport
	twice := false
	for _, w := range claims {
		if !w.trusted && len(w.members) < rec.AckQuorum {
			continue
		}
		if best == nil || w.seal.SetVersion > best.SetVersion {
			best, twice = &w.seal, false
		} else if w.seal.SetVersion == best.SetVersion {
			twice = true
		}
	}
	if twice {
		return nil, fmt.Errorf("log %s: %w: daemons report different sets of version %d; "+
			"take its records from the replicas with `graven pool export`", rec.Name, ErrSetBehind, best.SetVersion)
	}
	return best, nil
}

// locate finds the members that the record does not have in the daemons'
// inventories, and refuses what is not certain.
func (t *tables) locate(n *newerSet, logID string, rec *logRecord, life uint64) error {
	n.at = make(map[string]string)
	taken := make(map[string]string)
	for _, id := range n.members {
		daemonID := ""
		if r := rec.replica(id); r != nil {
			daemonID = r.DaemonID
		} else {
			found := t.holders(logID, id, rec.ReplicaBytes, life)
			if len(found) != 1 {
				return n.lacks(rec, id, found)
			}
			daemonID = found[0]
			n.at[id] = daemonID
		}
		if other := taken[daemonID]; other != "" {
			return fmt.Errorf("log %s: %w: replicas %s and %s of set version %d are both on daemon %s",
				rec.Name, ErrSetBehind, other, id, n.version, daemonID)
		}
		taken[daemonID] = id
	}
	return nil
}

func (n *newerSet) lacks(rec *logRecord, id string, found []string) error {
	if len(found) > 1 {
		return fmt.Errorf("log %s: %w: replica %s of set version %d is reported by several daemons: %v; stop those that are copies",
			rec.Name, ErrSetBehind, id, n.version, found)
	}
	return fmt.Errorf("log %s: %w: set version %d, which its replicas know, has replica %s, and no daemon that has registered "+
		"since etcd was restored holds it; bring that daemon back", rec.Name, ErrSetBehind, n.version, id)
}

// holders are the daemons that report the region, as the log's, in its size.
func (t *tables) holders(logID, replicaID string, bytes int64, life uint64) []string {
	var out []string
	t.sightings(life, func(daemonID string, live *liveRow) {
		if r := live.summaries[replicaID]; r != nil && r.LogID == logID && r.Bytes == bytes {
			out = append(out, daemonID)
		}
	})
	slices.Sort(out)
	return out
}

// adopt takes the newest set that the seals name into the log's record, if it is
// newer, and reports whether it did. The daemons whose replicas it takes out of
// quarantine are asked to register again.
//
// Errors: ErrSetBehind, if there is a newer set that can't be taken; ErrConflict,
// if something changed meanwhile; ErrUnavailable.
func (s *Store) adopt(ctx context.Context, l *logEntries) (bool, error) {
	ident, err := s.identityIn(ctx, l.asOf)
	if err != nil {
		return false, err
	}
	s.view.mu.RLock()
	n, err := s.view.t.newerSet(l.id, &l.rec, ident.life)
	s.view.mu.RUnlock()
	if n == nil || err != nil {
		return false, err
	}
	c := &adoption{logEntries: l, newerSet: n, had: l.rec.SetVersion}
	for _, f := range []func(context.Context, *Store) error{c.take, c.leave, c.tell} {
		if err := f(ctx, s); err != nil {
			return false, err
		}
	}
	_, ok, err := s.commit(ctx, append(c.cmps, l.log.unchanged(), l.asOf.cluster.unchanged()), append(c.ops, put(l.log.key, l.rec)))
	if err == nil && !ok {
		err = fmt.Errorf("log %s: take set version %d from its replicas: %w", l.rec.Name, n.version, ErrConflict)
	}
	return ok, err
}

// adoption is one such transaction.
type adoption struct {
	*logEntries
	*newerSet
	setChange

	had  uint64 // the record's set version before
	gone []replicaRecord
}

// take rewrites the set, and moves the bytes of the members that come back from
// quarantined to reserved.
func (c *adoption) take(ctx context.Context, s *Store) error {
	old := c.rec.Replicas
	next := make([]replicaRecord, 0, len(old))
	for _, id := range c.members {
		if r := c.rec.replica(id); r != nil && r.State != ReplicaLearner {
			next = append(next, replicaRecord{ReplicaID: id, DaemonID: r.DaemonID, State: ReplicaPresent, JoinedSet: r.JoinedSet})
			continue
		}
		r := replicaRecord{ReplicaID: id, DaemonID: c.at[id], State: ReplicaPresent, JoinedSet: c.version}
		if learner := c.rec.replica(id); learner != nil {
			r.DaemonID = learner.DaemonID // its bytes are reserved
			ops, err := s.settle(ctx, *learner, outcome{state: planner.Done})
			if err != nil {
				return err
			}
			c.ops = append(c.ops, ops...)
		} else if err := c.reserve(ctx, s, id, r.DaemonID); err != nil {
			return err
		}
		next = append(next, r)
	}
	for _, r := range old {
		switch {
		case slices.Contains(c.members, r.ReplicaID):
		case r.State == ReplicaLearner && slices.Contains(c.members, r.Replaces):
			next = append(next, r)
		default:
			c.gone = append(c.gone, r)
		}
	}
	c.rec.Replicas, c.rec.SetVersion = next, c.version
	return nil
}

// reserve makes the bytes of a region that a daemon has the log's. What is
// condemned there has its bytes reserved already, and gives them back only by a
// change of the daemon's space.
func (c *adoption) reserve(ctx context.Context, s *Store, replicaID, daemonID string) error {
	es, _, err := s.read(ctx, prefixDaemons+daemonID, prefixLive+daemonID, prefixSpace+daemonID, condemnedKey(daemonID, replicaID))
	if err != nil {
		return err
	}
	daemon, live, space, condemned := es[0], es[1], es[2], es[3]
	if !daemon.exists() || !live.exists() || !space.exists() {
		return fmt.Errorf("log %s: daemon %s, which has replica %s, left meanwhile: %w", c.rec.Name, daemonID, replicaID, ErrConflict)
	}
	c.cmps = append(c.cmps, daemon.unchanged(), live.unchanged(), space.unchanged())
	if condemned.exists() {
		c.ops = append(c.ops, clientv3.OpDelete(condemned.key))
	} else {
		books, err := decode[spaceRecord](space.key, space.value)
		if err != nil {
			return err
		}
		books.ReservedBytes += c.rec.ReplicaBytes
		c.ops = append(c.ops, put(space.key, books))
	}
	return c.release(daemon, live, replicaID)
}

// release takes the region out of quarantine: in the books at once, and at the
// daemon, which refuses it to writers until it has registered again.
func (c *adoption) release(daemon, live entry, replicaID string) error {
	rec, err := decode[daemonRecord](daemon.key, daemon.value)
	if err != nil {
		return err
	}
	if i := slices.Index(rec.Quarantined, replicaID); i >= 0 {
		rec.Quarantined = slices.Delete(rec.Quarantined, i, i+1)
		rec.QuarantinedBytes = max(0, rec.QuarantinedBytes-c.rec.ReplicaBytes)
	}
	liveRec, err := decode[liveRecord](live.key, live.value)
	if err != nil {
		return err
	}
	// What the view was read from may be an older report than this one.
	if !slices.ContainsFunc(liveRec.Replicas, func(r ReplicaSummary) bool {
		return r.ReplicaID == replicaID && r.LogID == c.id && r.Bytes == c.rec.ReplicaBytes
	}) {
		return fmt.Errorf("log %s: replica %s is not on its daemon any more: %w", c.rec.Name, replicaID, ErrConflict)
	}
	liveRec.Outdated = true
	c.ops = append(c.ops, put(daemon.key, rec), put(live.key, liveRec, clientv3.WithLease(live.lease)))
	return nil
}

// leave condemns what the newer set does not have any more.
func (c *adoption) leave(ctx context.Context, s *Store) error {
	cmps, ops, err := s.condemn(ctx, c.logEntries, c.gone)
	if err != nil {
		return err
	}
	c.cmps, c.ops = append(c.cmps, cmps...), append(c.ops, ops...)
	for _, r := range c.gone {
		ops, err := s.settle(ctx, r, outcome{planner.Cancelled, "the replica that it was to replace is not in the log's newer set"})
		if err != nil {
			return err
		}
		c.ops = append(c.ops, ops...)
	}
	return nil
}

// tell is the journal's entry.
func (c *adoption) tell(ctx context.Context, s *Store) error {
	var came, went []string
	for _, id := range slices.Sorted(slices.Values(c.members)) {
		if d := c.at[id]; d != "" {
			came = append(came, id+" on "+d)
		}
	}
	for _, r := range c.gone {
		went = append(went, r.ReplicaID+" on "+r.DaemonID)
	}
	entry, err := s.journal(ctx, c.logEntries, JournalEntry{Kind: JournalSetAdopted, Detail: clipDetail(fmt.Sprintf(
		"the record had set version %d, and seals of the replicas name version %d; in it again: %s; not any more: %s",
		c.had, c.version, named(came), named(went)))})
	c.ops = append(c.ops, entry)
	return err
}

// again is how a call goes on after an adoption: from a new read, as after any
// comparison that failed.
func again(err error) error {
	if errors.Is(err, ErrConflict) {
		return nil
	}
	return err
}
