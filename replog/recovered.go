package replog

import (
	"context"
	"errors"

	"github.com/gravenio/graven/replog/core"
)

// What an open has made agree is told to the control plane, for people. Nothing
// waits for that but the end of the writer, and that not for long.

// notable says whether a recovery is worth an entry in the journal: once for an
// epoch, and not where the writer before has closed the log and a replica had only
// missed something, which every reopen may find.
func (w *Writer) notable(r *core.Recovery) bool {
	if r == nil {
		return false
	}
	for _, x := range r.Repaired {
		if x.Diverged || x.Damaged {
			return true
		}
	}
	return !w.grant.AfterClose
}

// recovered has a recovery recorded; the writer's lock is held.
func (w *Writer) recovered(r *core.Recovery) {
	if !w.notable(r) {
		return
	}
	w.recovery = r
	w.opts.Log.Info("the log is recovered: replicas had to be made to agree", "log", w.grant.Name, "epoch", w.grant.Term.Epoch,
		"lsn", r.T, "repaired", len(r.Repaired), "away", len(r.Away))
	w.running.Go(func() {
		pause := w.opts.pause()
		for {
			err := w.recordRecovery(w.ended, r)
			if err == nil || errors.Is(err, ErrSuperseded) || sleep(w.ended, pause) != nil {
				return
			}
		}
	})
}

// recordRecovery asks once. The control plane takes a recovery of an epoch once,
// however often it is told.
func (w *Writer) recordRecovery(ctx context.Context, r *core.Recovery) error {
	ctx, cancel := context.WithTimeout(ctx, w.opts.DialTimeout)
	defer cancel()
	err := w.control.RecordRecovery(ctx, w.Grant(), *r)
	if err != nil {
		w.opts.Log.Debug("record the recovery", "err", err)
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.recoveryTold = true
	return nil
}

// lastRecovery is for a writer that is about to close: what has not been told, be it
// that a replica is still being filled. The writer's lock is held.
func (w *Writer) lastRecovery() {
	if r := w.core.Recovery(); w.recovery == nil && w.notable(r) {
		w.recovery = r
	}
}

// tellLastRecovery tells it while the lease still lives.
func (w *Writer) tellLastRecovery(ctx context.Context) {
	w.mu.Lock()
	r, told := w.recovery, w.recoveryTold
	w.mu.Unlock()
	if r != nil && !told {
		_ = w.recordRecovery(ctx, r) // the log is recovered, whether anybody reads of it or not
	}
}
