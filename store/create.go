package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gravenio/graven/placement"
)

// CreateLog makes a log and reserves its bytes on every daemon in one
// transaction, so that the same bytes are never promised twice.
//
// Errors: ErrInvalid; ErrNameTaken; ErrConflict, as an UnfitError naming the
// daemon, when a daemon cannot take its replica any more: place again and
// retry; ErrIdempotencyMismatch; ErrUnavailable.
func (s *Store) CreateLog(ctx context.Context, r CreateLogRequest) (*Log, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	ctx, cancel := s.call(ctx)
	defer cancel()
	c := creation{req: r, hash: r.hash(ctx), id: uuid.NewString()}
	var log *Log
	err := retry(ctx, &UnfitError{DaemonID: r.Daemons[0], Rule: "contention"}, func() (done bool, err error) {
		log, err = s.tryCreate(ctx, &c)
		return log != nil, err
	})
	if err != nil {
		return nil, err
	}
	return log, nil
}

func (r *CreateLogRequest) check() error {
	if err := checkLogName(r.Name); err != nil {
		return err
	}
	n := len(r.Daemons)
	if n < 1 || n > MaxReplicas {
		return invalid("replicas", "must be 1 to %d, not %d", MaxReplicas, n)
	}
	seen := make(map[string]bool, n)
	for _, id := range r.Daemons {
		if err := checkID("daemons", id); err != nil {
			return err
		}
		if seen[id] {
			return invalid("daemons", "%s is listed twice; every replica needs a daemon of its own", id)
		}
		seen[id] = true
	}
	if majority := n/2 + 1; r.AckQuorum < majority || r.AckQuorum > n {
		return invalid("ack_quorum", "must be a majority of the replicas and no more than them: %d to %d, not %d",
			majority, n, r.AckQuorum)
	}
	if err := r.Placement.check(); err != nil {
		return err
	}
	if r.CapacityBytes < 1 || r.CapacityBytes > MaxBytes {
		return invalid("capacity_bytes", "must be 1 to %d, not %d", MaxBytes, r.CapacityBytes)
	}
	return checkIdempotencyKey(r.IdempotencyKey)
}

func (r *PlacementRules) check() error {
	switch placement.FailureDomain(r.FailureDomain) {
	case "", placement.Host, placement.Rack, placement.Zone:
	default:
		return invalid("placement.failure_domain", "must be host, rack or zone, not %q", clip(r.FailureDomain))
	}
	return checkLabels(r.Labels)
}

func (r CreateLogRequest) hash(ctx context.Context) string {
	if r.RequestHash != "" {
		return requestHash(ctx, "create", r.RequestHash)
	}
	n := len(r.Daemons)
	r.Daemons = nil
	return requestHash(ctx, "create", struct {
		CreateLogRequest
		Replicas int
	}{r, n})
}

// creation is one create through all its attempts.
type creation struct {
	req  CreateLogRequest
	hash string
	id   string
	life uint64 // of etcd
}

func (s *Store) tryCreate(ctx context.Context, c *creation) (*Log, error) {
	keys := []string{prefixNames + c.req.Name, prefixIdem + c.req.IdempotencyKey}
	for _, id := range c.req.Daemons {
		keys = append(keys, prefixDaemons+id, prefixLive+id, prefixSpace+id)
	}
	es, at, err := s.readAt(ctx, keys...)
	if err != nil {
		return nil, err
	}
	ident, err := s.identityIn(ctx, at)
	if err != nil {
		return nil, err
	}
	c.life = ident.life
	name, idem := es[0], es[1]
	if answer, err := replayLog(idem, c.hash); answer != nil || err != nil {
		return answer, err
	}
	if name.exists() {
		return nil, fmt.Errorf("log %s: %w", c.req.Name, ErrNameTaken)
	}
	rec := c.record(ctx)
	cmps, ops, err := reserve(c.req.Daemons, es[2:], rec.ReplicaBytes)
	if err != nil {
		return nil, err
	}
	answer := publicLog(c.id, &rec)
	rememberIf, rememberOp, err := s.remember(ctx, c.req.IdempotencyKey, c.hash, answer)
	if err != nil {
		return nil, err
	}
	told, err := s.journal(ctx, &logEntries{id: c.id, rec: rec}, JournalEntry{Kind: JournalLogCreated, Detail: rec.describe()})
	if err != nil {
		return nil, err
	}
	cmps = append(append(cmps, name.unchanged(), at.cluster.unchanged()), rememberIf...)
	ops = append(append(ops, put(prefixLogs+c.id, rec),
		put(name.key, nameRecord{version: current(), LogID: c.id}), told), rememberOp...)
	rev, ok, err := s.commit(ctx, cmps, ops)
	if err != nil || !ok {
		return nil, err
	}
	answer.ModRevision = rev
	if seen, ok := s.view.Log(c.id); ok {
		return &seen, nil
	}
	return &answer, nil
}

func (c *creation) record(ctx context.Context) logRecord {
	rec := logRecord{
		version: current(), Name: c.req.Name, AckQuorum: c.req.AckQuorum,
		CapacityBytes: c.req.CapacityBytes, ReplicaBytes: c.req.CapacityBytes + ReplicaOverheadBytes,
		SetVersion: 1, CreatedAt: time.Now().UTC(), Placement: c.req.Placement, Life: c.life,
	}
	rec.Owner, rec.Groups = ownerOfNew(ctx)
	for _, id := range c.req.Daemons {
		rec.Replicas = append(rec.Replicas, replicaRecord{
			ReplicaID: uuid.NewString(), DaemonID: id, State: ReplicaAllocated,
		})
	}
	return rec
}

// reserve takes bytes from each daemon, comparing all that says that it may.
// es has the daemon's record, its sign of life and its books, for each.
func reserve(daemons []string, es []entry, bytes int64) ([]clientv3.Cmp, []clientv3.Op, error) {
	var cmps []clientv3.Cmp
	var ops []clientv3.Op
	for i, id := range daemons {
		daemon, live, space := es[3*i], es[3*i+1], es[3*i+2]
		next, err := fit(id, daemon, live, space, bytes)
		if err != nil {
			return nil, nil, err
		}
		cmps = append(cmps, daemon.unchanged(), live.unchanged(), space.unchanged())
		ops = append(ops, put(space.key, next))
	}
	return cmps, ops, nil
}

// fit returns the daemon's books with bytes taken, or an UnfitError.
func fit(id string, daemon, live, space entry, bytes int64) (spaceRecord, error) {
	unfit := func(rule string) error { return &UnfitError{DaemonID: id, Rule: rule} }
	if !daemon.exists() || !space.exists() {
		return spaceRecord{}, unfit("unknown")
	}
	if !live.exists() {
		return spaceRecord{}, unfit("down")
	}
	rec, err := decode[daemonRecord](daemon.key, daemon.value)
	if err != nil {
		return spaceRecord{}, err
	}
	liveRec, err := decode[liveRecord](live.key, live.value)
	if err != nil {
		return spaceRecord{}, err
	}
	books, err := decode[spaceRecord](space.key, space.value)
	if err != nil {
		return spaceRecord{}, err
	}
	if rec.Draining {
		return spaceRecord{}, unfit("draining")
	}
	if liveRec.Health.readOnly() {
		return spaceRecord{}, unfit("read-only")
	}
	if free := min(unreserved(&rec, books.ReservedBytes), liveRec.FreeBytes); free < bytes {
		return spaceRecord{}, &UnfitError{DaemonID: id, Rule: "space", NeedBytes: bytes, FreeBytes: max(0, free)}
	}
	books.ReservedBytes += bytes
	return books, nil
}

// publicLog is the log as its record alone tells it.
func publicLog(id string, rec *logRecord) Log {
	t := newTables()
	out := t.log(id, &logRow{rec: rec})
	out.State = LogClosed
	return out
}
