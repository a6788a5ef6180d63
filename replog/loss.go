package replog

import (
	"context"
	"fmt"

	"github.com/gravenio/graven/replog/core"
)

// offerLoss asks whether the log shall go on without what is missing, once every
// replica has been tried and there is no other way.
func (w *Writer) offerLoss(ctx context.Context) {
	for {
		w.mu.Lock()
		over := w.core.Phase() > core.Recovering
		loss, ok := w.core.Loss()
		changed := w.changed
		w.mu.Unlock()
		if over && !w.canFallBack() {
			return
		}
		if ok && loss.Tried {
			if w.opts.AcceptLoss(ctx, loss) {
				w.event((*core.Core).AcceptLoss)
				wakeUp(w.renewNow) // and with it, replace what is lost
			}
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// canFallBack says whether the core may begin to choose anew: the replica that
// it loads from may be lost.
func (w *Writer) canFallBack() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.core.Phase() == core.Loading
}

// gaveUp has the loss recorded; the writer's lock is held.
func (w *Writer) gaveUp(l *core.Loss) {
	if w.loss != nil {
		return
	}
	w.loss = l
	w.opts.Log.Warn("the log goes on, and what was acknowledged may be missing", "log", w.grant.Name, "from", l.Last, "unknown", len(l.Unknown))
	w.running.Go(func() {
		pause := w.opts.pause()
		for {
			call, cancel := context.WithTimeout(w.ended, w.opts.DialTimeout)
			err := w.control.RecordLoss(call, w.Grant(), *l)
			cancel()
			if err == nil {
				close(w.recorded)
				return
			}
			w.opts.Log.Debug("record the loss", "err", err)
			if sleep(w.ended, pause) != nil {
				return
			}
		}
	})
}

// Loss returns what was given up when the log was opened, or nil.
func (w *Writer) Loss() *core.Loss {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.loss
}

// lossRecorded waits until the control plane has a record of what was given up:
// a loss that nobody can read of later would be a silent one.
func (w *Writer) lossRecorded(ctx context.Context) error {
	if w.Loss() == nil {
		return nil
	}
	select {
	case <-w.recorded:
		return nil
	case <-w.ended.Done():
		return w.Err()
	case <-ctx.Done():
		return fmt.Errorf("record what was given up: %w", context.Cause(ctx))
	}
}
