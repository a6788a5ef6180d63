package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"

	caller "github.com/gravenio/graven/identity"
)

// Limits of what a writer may have recorded.
const (
	maxDetail        = 2 << 10
	maxGivenUp       = 14
	maxGivenUpDetail = 512
)

// JournalEntry is something that happened once and that people must be able to
// find out. Nothing is decided by it.
type JournalEntry struct {
	EntryID string `json:"-"` // a UUIDv7, by the clock of the server that wrote it; the key says it
	// Revision is etcd's of the transaction that wrote it, and so its place in the
	// journal: clocks of servers differ.
	Revision int64       `json:"-"`
	At       time.Time   `json:"at"`
	Kind     JournalKind `json:"kind"`
	LogID    string      `json:"log_id,omitempty"`
	LogName  string      `json:"log_name,omitempty"`
	// DaemonID and ReplicaID are what it is about; for replacements the learner's.
	DaemonID  string    `json:"daemon_id,omitempty"`
	ReplicaID string    `json:"replica_id,omitempty"`
	Epoch     uint64    `json:"epoch,omitempty"`
	Detail    string    `json:"detail"`
	GivenUp   []GivenUp `json:"given_up,omitempty"`
	// Who asked, how that was proved, from where, and in which request; empty for
	// what the servers do by themselves.
	Who       string `json:"who,omitempty"`
	Via       string `json:"via,omitempty"`
	From      string `json:"from,omitempty"`
	RequestID string `json:"request_id,omitempty"`
	// Problem and Count are for refusals: what was answered, without its prefix,
	// and how often, where the entry stands for several.
	Problem string `json:"problem,omitempty"`
	Count   int    `json:"count,omitempty"`
}

// GivenUp is a replica without which a log was opened.
type GivenUp struct {
	ReplicaID string `json:"replica_id"`
	Detail    string `json:"detail"`
}

// note is the write of an entry about a learner, for the transaction that it
// tells of.
func (s *Store) note(ctx context.Context, l *logEntries, kind JournalKind, learner replicaRecord, detail string) (clientv3.Op, error) {
	return s.journal(ctx, l, JournalEntry{
		Kind: kind, DaemonID: learner.DaemonID, ReplicaID: learner.ReplicaID, Detail: detail,
	})
}

// journal is the write of an entry, completed from the log's record.
func (s *Store) journal(ctx context.Context, l *logEntries, e JournalEntry) (clientv3.Op, error) {
	e.LogID, e.LogName, e.Epoch = l.id, l.rec.Name, l.rec.Epoch
	return s.entry(ctx, signed(ctx, e))
}

// daemonEntry is the write of an entry about a daemon.
func (s *Store) daemonEntry(ctx context.Context, kind JournalKind, daemonID, format string, args ...any) (clientv3.Op, error) {
	return s.entry(ctx, signed(ctx, JournalEntry{Kind: kind, DaemonID: daemonID, Detail: clipDetail(fmt.Sprintf(format, args...))}))
}

// signed is the entry with who asked for it, from where, and when.
func signed(ctx context.Context, e JournalEntry) JournalEntry {
	if p, ok := caller.In(ctx); ok {
		e.Who = p.Name
		if p.Via != caller.ViaNothing {
			e.Via = string(p.Via)
		}
	}
	o := originOf(ctx)
	e.From, e.RequestID, e.At = o.Remote, o.RequestID, time.Now().UTC()
	return e
}

// entry is the write of a signed entry, for the transaction that it tells of. Its
// key is nobody else's, so nothing has to be compared.
func (s *Store) entry(ctx context.Context, e JournalEntry) (clientv3.Op, error) {
	lease, err := s.shared(ctx, &s.journalLease, s.opts.JournalTTL)
	if err != nil {
		return clientv3.Op{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return clientv3.Op{}, fmt.Errorf("store: make an ID for the journal: %w", err)
	}
	return put(prefixEvents+id.String(), journalRecord{version: current(), JournalEntry: e}, clientv3.WithLease(lease)), nil
}

// clipDetail keeps an entry within its bound.
func clipDetail(s string) string {
	if len(s) > maxDetail {
		s = strings.ToValidUTF8(s[:maxDetail-3], "") + "…"
	}
	return s
}

// RecordLogEvent writes into the journal what a writer did.
//
// Errors, those about the writer only after a linearizable read: ErrInvalid;
// ErrNotFound; ErrSuperseded, as a SupersededError; ErrEpochAhead;
// ErrWriterClosed; ErrConflict (retry); ErrIdempotencyMismatch; ErrUnavailable.
func (s *Store) RecordLogEvent(ctx context.Context, r LogEventRequest) error {
	if err := r.check(); err != nil {
		return err
	}
	ctx, cancel := s.call(ctx)
	defer cancel()
	hash := requestHash(ctx, "event", r)
	err := retry(ctx, fmt.Errorf("record an event of log %s: %w", r.Writer.Log, ErrConflict), func() (bool, error) {
		return s.tryRecord(ctx, r, hash)
	})
	return err
}

func (r *LogEventRequest) check() error {
	switch {
	case r.Kind != JournalDataLossAccepted && r.Kind != JournalLogRecovered:
		return invalid("kind", "must be %s or %s, not %q", JournalDataLossAccepted, JournalLogRecovered, clip(string(r.Kind)))
	case r.Writer.Nonce == "":
		return invalid("nonce", "must be that of the open")
	case r.Detail == "" || len(r.Detail) > maxDetail:
		return invalid("detail", "must be 1 to %d bytes, not %d", maxDetail, len(r.Detail))
	case len(r.GivenUp) > maxGivenUp:
		return invalid("given_up", "must be at most %d, not %d", maxGivenUp, len(r.GivenUp))
	}
	for _, g := range r.GivenUp {
		if err := checkUUID("given_up.replica_id", g.ReplicaID); err != nil {
			return err
		}
		if len(g.Detail) > maxGivenUpDetail {
			return invalid("given_up.detail", "must be at most %d bytes, not %d", maxGivenUpDetail, len(g.Detail))
		}
	}
	return checkIdempotencyKey(r.IdempotencyKey)
}

func (s *Store) tryRecord(ctx context.Context, r LogEventRequest, hash string) (bool, error) {
	l, err := s.readLog(ctx, r.Writer.Log, prefixIdem+r.IdempotencyKey)
	if err != nil {
		return false, err
	}
	if err := s.mayWrite(ctx, l, l.rec.recovering()); err != nil {
		return false, err
	}
	if answer, err := replay[struct{}](l.extra[0], hash); answer != nil || err != nil {
		return answer != nil, err
	}
	if err := l.checkWriter(r.Writer); err != nil {
		return false, err
	}
	entry, err := s.journal(ctx, l, JournalEntry{Kind: r.Kind, Detail: r.Detail, GivenUp: r.GivenUp})
	if err != nil {
		return false, err
	}
	rememberIf, rememberOp, err := s.remember(ctx, r.IdempotencyKey, hash, struct{}{})
	if err != nil {
		return false, err
	}
	_, ok, err := s.commit(ctx,
		append([]clientv3.Cmp{l.log.unchanged()}, rememberIf...),
		append([]clientv3.Op{entry}, rememberOp...))
	return ok, err
}
