package agent

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gravenio/graven/pmemlog"
)

const (
	// beat is how often a replica's hint is looked at while flushes go on.
	beat = 5 * time.Millisecond
	// slowFlush is how long a flush takes behind which no beat is waited for: the next
	// one carries the hint along. What a quicker one has acknowledged is hinted within
	// a beat and the two flushes that the line may wait for, or within two beats, and
	// neither is more than 10 ms; but for a flush that turns out slow behind quick ones.
	slowFlush = 2 * time.Millisecond
)

// hint has what a replica has acknowledged hinted in time: the next flush carries the
// hint along, or, where none comes, it is persisted by itself. Its timer runs only
// while there is something to persist, and a flush costs no more than two counts.
type hint struct {
	replica interface {
		HintLag() bool
		HintNext()
		PersistHint() error
	}
	log   *slog.Logger
	timer *time.Timer

	flushes atomic.Uint64 // that have ended, and made more persistent
	durable atomic.Uint64 // what the last one returned
	armed   atomic.Bool

	mu      sync.Mutex // held while the timer's function runs
	seen    uint64     // flushes by the last beat
	stopped bool
}

func (h *hint) init(r *pmemlog.Replica, log *slog.Logger) {
	h.replica, h.log = r, log
	h.timer = time.AfterFunc(time.Hour, h.tick)
	h.timer.Stop()
}

// flushed is called after each flush, with the LSN that it returned. One that had
// nothing to do carries nothing along, and is as good as none.
func (h *hint) flushed(durable uint64, took time.Duration) {
	if h.durable.Swap(durable) != durable {
		h.flushes.Add(1)
		if took >= slowFlush {
			h.replica.HintNext()
		}
	}
	h.arm()
}

func (h *hint) arm() {
	if !h.armed.Load() && h.armed.CompareAndSwap(false, true) {
		h.timer.Reset(beat)
	}
}

// tick asks the next flush to carry the hint if one has come since the last tick, and
// persists it if none has.
func (h *hint) tick() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped {
		return
	}
	if n := h.flushes.Load(); n != h.seen {
		h.seen = n
		h.replica.HintNext()
		h.timer.Reset(beat)
		return
	}
	h.persist()
	h.armed.Store(false)
	if h.flushes.Load() != h.seen {
		h.arm()
	}
}

// persist writes the hint if it lags.
func (h *hint) persist() {
	if !h.replica.HintLag() {
		return
	}
	// A failed medium is everybody's business and reported as such.
	if err := h.replica.PersistHint(); err != nil && !errors.Is(err, pmemlog.ErrPoisoned) && !errors.Is(err, pmemlog.ErrClosed) {
		h.log.Warn("hint could not be persisted", "err", err)
	}
}

// stop ends the timer, once what it runs has ended, for good.
func (h *hint) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopped = true
	h.timer.Stop()
}
