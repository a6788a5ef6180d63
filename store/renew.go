package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Renew renews a writer's lease and tells it where the daemons are now. A
// writer whose lease was lost gets a new one if nobody has opened the log
// since.
//
// Errors, each only after a linearizable read: ErrNotFound (the log was
// deleted), ErrSuperseded as a SupersededError, ErrEpochAhead, ErrWriterClosed;
// and ErrInvalid, ErrConflict (retry), ErrUnavailable. A writer stops only for
// what a replica tells it; ErrUnavailable is no reason.
func (s *Store) Renew(ctx context.Context, w WriterRef) (*RenewAnswer, error) {
	if err := checkClientKey(w.ClientKey); err != nil {
		return nil, err
	}
	ctx, cancel := s.call(ctx)
	defer cancel()
	ttl, read, err := s.renewWriter(ctx, w)
	if err != nil {
		return nil, err
	}
	return s.renewed(w, ttl, read)
}

// renewed is the answer to a writer whose lease was renewed. read is the log as
// etcd has it, or nil if the view knew the lease; a view that is behind it must
// not tell the writer of an earlier set, or of none.
func (s *Store) renewed(w WriterRef, ttl time.Duration, read *logEntries) (*RenewAnswer, error) {
	a, logID, rec := s.view.renewal(w)
	a.LeaseTTL, a.RenewEvery = ttl, ttl/3
	if read != nil && a.Revision < read.log.mod {
		logID, rec = read.id, &read.rec
		a.SetVersion, a.Replicas = rec.SetVersion, s.view.endpoints(rec.Replicas)
	}
	// The view may have seen a later open than the lease that was renewed; that
	// one's grant is not this writer's.
	if rec == nil || rec.Epoch != w.Epoch || rec.Writer == nil || rec.Writer.WriterID != w.WriterID || w.Nonce != "" && w.Nonce != rec.Nonce {
		return a, nil
	}
	ident, err := s.mustKnow()
	if err != nil {
		return nil, err
	}
	g, err := s.view.granting()
	if err != nil {
		return nil, err
	}
	a.Grant, err = g.write(ident.clusterID, logID, rec, cmp.Or(w.ClientKey, rec.ClientKey))
	return a, err
}

// renewal is what a writer wants to know of its log, and the log's record, or
// nil if there is none any more.
func (v *View) renewal(w WriterRef) (*RenewAnswer, string, *logRecord) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	a := &RenewAnswer{Revision: v.revision}
	id := v.t.idOf(w.Log)
	l := v.t.logs[id]
	if l == nil {
		return a, "", nil
	}
	a.SetVersion, a.Replicas = l.rec.SetVersion, v.t.endpoints(l.rec.Replicas)
	a.Steps = l.rec.replacing(id)
	return a, id, l.rec
}

func (t *tables) idOf(idOrName string) string {
	if isUUID(idOrName) {
		return idOrName
	}
	return t.names[idOrName]
}

// find returns the log's row by ID or name.
func (t *tables) find(idOrName string) *logRow {
	return t.logs[t.idOf(idOrName)]
}

// renewWriter renews the lease, and returns the log if it had to ask etcd for it.
func (s *Store) renewWriter(ctx context.Context, w WriterRef) (ttl time.Duration, l *logEntries, err error) {
	if lease, ok := s.view.writerLease(w); ok && s.view.mayRenew(ctx, w) {
		ttl, err := s.keeper.renew(ctx, lease)
		if err != nil || ttl > 0 {
			return ttl, nil, err
		}
	}
	err = retry(ctx, fmt.Errorf("renew log %s: %w", w.Log, ErrConflict), func() (bool, error) {
		if l, err = s.readLog(ctx, w.Log); err != nil {
			return false, err
		}
		if err := s.mayWrite(ctx, l, l.rec.recovering()); err != nil {
			return false, err
		}
		if err := l.checkWriter(w); err != nil {
			return false, err
		}
		if l.writerRec == nil {
			ttl, err = s.restoreWriter(ctx, l)
		} else {
			ttl, err = s.keeper.renew(ctx, l.writer.lease)
		}
		return ttl > 0, err
	})
	return ttl, l, err
}

func (v *View) writerLease(w WriterRef) (clientv3.LeaseID, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	l := v.t.find(w.Log)
	if l == nil || l.writer == nil || l.writer.rec.WriterID != w.WriterID || l.writer.rec.Epoch != w.Epoch ||
		(w.Nonce != "" && l.rec.Nonce != w.Nonce) {
		return 0, false
	}
	return l.writer.lease, true
}

// checkWriter returns nil if w is the log's newest writer and has not closed.
func (l *logEntries) checkWriter(w WriterRef) error {
	switch {
	case w.Epoch > l.rec.Epoch:
		return fmt.Errorf("log %s is in epoch %d, not %d: %w", l.id, l.rec.Epoch, w.Epoch, ErrEpochAhead)
	case w.Epoch < l.rec.Epoch, l.rec.Writer == nil, l.rec.Writer.WriterID != w.WriterID,
		w.Nonce != "" && l.rec.Nonce != w.Nonce:
		return &SupersededError{LogID: l.id, Epoch: l.rec.Epoch}
	case l.rec.ClosedEpoch == w.Epoch:
		return fmt.Errorf("log %s, epoch %d: %w", l.id, w.Epoch, ErrWriterClosed)
	}
	return nil
}

// restoreWriter gives the newest writer a lease again. It returns zero if the
// log has changed meanwhile.
func (s *Store) restoreWriter(ctx context.Context, l *logEntries) (time.Duration, error) {
	lease, ttl, err := s.grantLease(ctx, time.Duration(l.rec.TTLSeconds)*time.Second)
	if err != nil {
		return 0, err
	}
	writer := writerRecord{version: current(), Writer: *l.rec.Writer, TTLSeconds: l.rec.TTLSeconds}
	_, ok, err := s.commit(ctx,
		[]clientv3.Cmp{l.log.unchanged(), l.writer.unchanged()},
		[]clientv3.Op{put(l.writer.key, writer, clientv3.WithLease(lease))})
	if !ok {
		s.revokeLease(ctx, lease)
		return 0, err
	}
	return ttl, nil
}

// CloseLog ends a writer's hold on the log. Closing twice is no error. Errors:
// ErrNotFound, ErrSuperseded, ErrEpochAhead, ErrConflict, ErrUnavailable.
func (s *Store) CloseLog(ctx context.Context, w WriterRef) error {
	ctx, cancel := s.call(ctx)
	defer cancel()
	return retry(ctx, fmt.Errorf("close log %s: %w", w.Log, ErrConflict), func() (bool, error) {
		l, err := s.readLog(ctx, w.Log)
		if err != nil {
			return false, err
		}
		if err := s.mayWrite(ctx, l, l.rec.recovering()); err != nil {
			return false, err
		}
		switch err := l.checkWriter(w); {
		case errors.Is(err, ErrWriterClosed):
			return true, nil
		case err != nil:
			return false, err
		}
		l.rec.ClosedEpoch = w.Epoch
		_, ok, err := s.commit(ctx,
			[]clientv3.Cmp{l.log.unchanged(), l.writer.unchanged()},
			[]clientv3.Op{put(l.log.key, l.rec), clientv3.OpDelete(l.writer.key)})
		if ok {
			s.revokeLease(ctx, l.writer.lease)
		}
		return ok, err
	})
}
