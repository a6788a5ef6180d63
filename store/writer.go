package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gravenio/graven/grant"
)

// logEntries is a log and its writer as etcd has them.
type logEntries struct {
	id          string
	log, writer entry
	extra       []entry
	rec         logRecord
	writerRec   *writerRecord // nil if no writer's lease lives
	asOf        moment
}

// readLog reads a log by ID or name, with more keys at the same revision.
func (s *Store) readLog(ctx context.Context, idOrName string, more ...string) (*logEntries, error) {
	id, err := s.resolve(ctx, idOrName)
	if err != nil {
		return nil, err
	}
	es, at, err := s.readAt(ctx, append([]string{prefixLogs + id, prefixWriters + id}, more...)...)
	if err != nil {
		return nil, err
	}
	l := &logEntries{id: id, log: es[0], writer: es[1], extra: es[2:], asOf: at}
	if !l.log.exists() {
		return nil, fmt.Errorf("log %s: %w", clip(idOrName), ErrNotFound)
	}
	if l.rec, err = decode[logRecord](l.log.key, l.log.value); err != nil {
		return nil, err
	}
	if l.writer.exists() {
		w, err := decode[writerRecord](l.writer.key, l.writer.value)
		if err != nil {
			return nil, err
		}
		l.writerRec = &w
	}
	return l, nil
}

func (s *Store) resolve(ctx context.Context, idOrName string) (string, error) {
	if isUUID(idOrName) {
		return idOrName, nil
	}
	if err := checkID("log", idOrName); err != nil {
		return "", err
	}
	es, _, err := s.read(ctx, prefixNames+idOrName)
	if err != nil {
		return "", err
	}
	if !es[0].exists() {
		return "", fmt.Errorf("log %s: %w", idOrName, ErrNotFound)
	}
	rec, err := decode[nameRecord](es[0].key, es[0].value)
	return rec.LogID, err
}

// OpenLog gives the caller the log's next epoch, a nonce, and a grant for them.
//
// Errors: ErrInvalid; ErrNotFound; ErrLogInUse, as an InUseError, while
// another writer's lease lives, except for a takeover or where that one only
// recovers and this one does not; ErrSetBehind; ErrConflict (retry); ErrIdempotencyMismatch;
// ErrUnavailable.
func (s *Store) OpenLog(ctx context.Context, r OpenLogRequest) (*OpenAnswer, error) {
	if r.LeaseTTL == 0 {
		r.LeaseTTL = s.opts.WriterTTL
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	ctx, cancel := s.call(ctx)
	defer cancel()
	o := opening{req: r, hash: requestHash(ctx, "open", r)}
	var answer *OpenAnswer
	err := retry(ctx, fmt.Errorf("open log %s: %w", r.Log, ErrConflict), func() (done bool, err error) {
		answer, err = s.tryOpen(ctx, &o)
		return answer != nil, err
	})
	// The answer may have been lost alone. Under a key, the repetition will find it
	// and go on under this lease; without one, the repetition is another open, for
	// which this one must not stand in the way.
	if !o.leaseTaken && (r.IdempotencyKey == "" || !errors.Is(err, ErrUnavailable)) {
		s.revokeLease(ctx, o.lease)
	}
	return answer, err
}

func (r *OpenLogRequest) check() error {
	for _, f := range []struct{ field, text string }{{"name", r.Name}, {"host", r.Host}} {
		if len(f.text) > maxLabelValue {
			return invalid("writer."+f.field, "must be at most %d bytes", maxLabelValue)
		}
	}
	if r.PID < 0 {
		return invalid("writer.pid", "must not be negative")
	}
	if r.MinEpoch > MaxEpoch {
		return invalid("min_epoch", "must be at most %d", MaxEpoch)
	}
	if err := checkTTL("lease_ttl_seconds", r.LeaseTTL); err != nil {
		return err
	}
	if err := checkClientKey(r.ClientKey); err != nil {
		return err
	}
	return checkIdempotencyKey(r.IdempotencyKey)
}

// opening is one open through all its attempts.
type opening struct {
	req        OpenLogRequest
	ident      *identity
	hash       string
	lease      clientv3.LeaseID
	ttl        time.Duration
	leaseTaken bool
}

func (s *Store) tryOpen(ctx context.Context, o *opening) (*OpenAnswer, error) {
	l, err := s.readLog(ctx, o.req.Log, prefixIdem+o.req.IdempotencyKey, keyGrantKey, keyPeriod)
	if err != nil {
		return nil, err
	}
	if err := s.mayWrite(ctx, l, o.req.Recovering && !o.req.Takeover); err != nil {
		return nil, err
	}
	if answer, err := replay[OpenAnswer](l.extra[0], o.hash); answer != nil || err != nil {
		return answer, err
	}
	if w := l.writerRec; w != nil && !o.req.Takeover && (!w.Recovering || o.req.Recovering) {
		return nil, &InUseError{LogID: l.id, Writer: w.Writer}
	}
	if o.ident, err = s.identityIn(ctx, l.asOf); err != nil {
		return nil, err
	}
	if adopted, err := s.adopt(ctx, l); adopted || err != nil {
		return nil, again(err)
	}
	if o.lease == 0 {
		if o.lease, o.ttl, err = s.grantLease(ctx, o.req.LeaseTTL); err != nil {
			return nil, err
		}
	}
	rec, writer, err := o.next(l)
	if err != nil {
		return nil, err
	}
	g, err := grantsOf(l.extra[1], l.extra[2])
	if err != nil {
		return nil, err
	}
	answer, err := s.openAnswer(o, g, l.id, &rec)
	if err != nil {
		return nil, err
	}
	answer.AfterClose = l.rec.Epoch > 0 && l.rec.ClosedEpoch == l.rec.Epoch
	rememberIf, rememberOp, err := s.remember(ctx, o.req.IdempotencyKey, o.hash, answer)
	if err != nil {
		return nil, err
	}
	told, err := s.journal(ctx, &logEntries{id: l.id, rec: rec}, o.tell(l, &rec))
	if err != nil {
		return nil, err
	}
	_, ok, err := s.commit(ctx,
		append(o.unchanged(l), rememberIf...),
		append([]clientv3.Op{told, put(l.log.key, rec), put(l.writer.key, writer, clientv3.WithLease(o.lease))}, rememberOp...))
	if errors.Is(err, errLeaseLost) {
		s.revokeLease(ctx, o.lease) // it may be this one
		o.lease = 0
	}
	if err != nil || !ok {
		return nil, err
	}
	o.leaseTaken = true
	s.revokeLease(ctx, l.writer.lease)
	return answer, nil
}

// unchanged is what the open was decided on: the log, its writer, the keys
// that its grant is signed with, and the life of etcd.
func (*opening) unchanged(l *logEntries) []clientv3.Cmp {
	return []clientv3.Cmp{l.log.unchanged(), l.writer.unchanged(), l.extra[1].unchanged(), l.asOf.cluster.unchanged()}
}

// next is the log's record in the new epoch, and its writer. Each life of etcd
// has epochs of its own: one that was restored from a backup knows nothing of
// those that were handed out after it.
func (o *opening) next(l *logEntries) (logRecord, writerRecord, error) {
	rec := l.rec
	rec.enterLife(o.ident.life)
	rec.Epoch = max(rec.Epoch+1, o.ident.life<<lifeShift, o.req.MinEpoch)
	if rec.Epoch > MaxEpoch {
		return rec, writerRecord{}, invalid("min_epoch", "the log has no epochs left")
	}
	nonce := make([]byte, grant.NonceDigits/2)
	rand.Read(nonce) // never fails
	rec.Nonce = hex.EncodeToString(nonce)
	w := Writer{
		WriterID: uuid.NewString(), Name: o.req.Name, Host: o.req.Host, PID: o.req.PID,
		Epoch: rec.Epoch, Recovering: o.req.Recovering, Since: time.Now().UTC(),
	}
	rec.ClientKey = o.req.ClientKey
	rec.Writer, rec.TTLSeconds = &w, int64(o.ttl/time.Second)
	return rec, writerRecord{version: current(), Writer: w, TTLSeconds: rec.TTLSeconds}, nil
}

// enterLife takes a record into the present life of etcd. Of one that a backup
// brought back it is not believed that a replica has promised nothing: present
// it is, so that its region is never made anew.
func (l *logRecord) enterLife(life uint64) {
	if l.Life >= life {
		return
	}
	l.Life = life
	l.Replicas = slices.Clone(l.Replicas)
	for i := range l.Replicas {
		if r := &l.Replicas[i]; r.State == ReplicaAllocated {
			r.State = ReplicaPresent
		}
	}
}

func (s *Store) openAnswer(o *opening, g *granting, logID string, rec *logRecord) (*OpenAnswer, error) {
	token, err := g.write(o.ident.clusterID, logID, rec, rec.ClientKey)
	if err != nil {
		return nil, err
	}
	return &OpenAnswer{
		LogID: logID, Name: rec.Name, WriterID: rec.Writer.WriterID, Epoch: rec.Epoch, Nonce: rec.Nonce,
		SetVersion: rec.SetVersion, AckQuorum: rec.AckQuorum, CapacityBytes: rec.CapacityBytes,
		Replicas: s.view.endpoints(rec.Replicas), Grant: token,
		LeaseTTL: o.ttl, RenewEvery: o.ttl / 3, ClusterID: o.ident.clusterID,
	}, nil
}

func (v *View) endpoints(replicas []replicaRecord) []Endpoint {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.t.endpoints(replicas)
}
