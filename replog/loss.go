package replog

import (
	"context"
	"fmt"
	"sync"

	"github.com/gravenio/graven/replog/core"
)

// offerLoss asks whether the log shall go on without what is missing, once every
// replica has been tried and there is no other way: again if it has become
// another loss, and not after a refusal.
func (w *Writer) offerLoss(ctx context.Context) {
	for {
		w.mu.Lock()
		phase := w.core.Phase()
		loss, ok := w.core.Loss()
		changed := w.changed
		w.mu.Unlock()
		if phase > core.Loading {
			return
		}
		if ok && loss.Tried {
			if !w.askAboutLoss(ctx, loss) {
				return
			}
			w.event(func(c *core.Core) { c.AcceptLoss(loss) })
			wakeUp(w.renewNow) // and with it, replace what is lost
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// askAboutLoss asks, and gives up waiting for the answer when the log opens after
// all.
func (w *Writer) askAboutLoss(ctx context.Context, l core.Loss) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	watching.Go(func() {
		for {
			w.mu.Lock()
			opening, changed := w.core.Phase() <= core.Loading, w.changed
			w.mu.Unlock()
			if !opening {
				cancel()
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	})
	return w.opts.AcceptLoss(ctx, l)
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
				w.event((*core.Core).LossRecorded)
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
