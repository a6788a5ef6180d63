package agent

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gravenio/graven/pmemlog"
)

// quiet is how long after the last flush a replica's hint is persisted by
// itself. Until then the next flush may carry it along for nothing.
const quiet = 10 * time.Millisecond

// hint persists a replica's hint when its flushes have paused, or as long after
// the first one that may have left it behind. Its timer runs only while there is
// something to persist, and a flush costs no more than a look at the clock.
type hint struct {
	steady  bool // a flush may leave more behind than itself, so no pause is waited for
	replica interface {
		HintLag() bool
		PersistHint() error
	}
	log   *slog.Logger
	timer *time.Timer
	begun time.Time

	last  atomic.Int64 // when the last flush ended, since begun
	armed atomic.Bool

	mu      sync.Mutex // held while the timer's function runs
	stopped bool
}

func (h *hint) init(r *pmemlog.Replica, log *slog.Logger) {
	h.replica, h.log, h.begun = r, log, time.Now()
	h.steady = r != nil && r.Info().Media == pmemlog.KindPmem
	h.timer = time.AfterFunc(time.Hour, h.tick)
	h.timer.Stop()
}

// flushed is called after each flush.
func (h *hint) flushed() {
	h.last.Store(int64(time.Since(h.begun)))
	if !h.armed.Load() && h.armed.CompareAndSwap(false, true) {
		h.timer.Reset(quiet)
	}
}

func (h *hint) tick() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped {
		return
	}
	last := h.last.Load()
	if since := time.Since(h.begun) - time.Duration(last); since < quiet && !h.steady {
		h.timer.Reset(quiet - since)
		return
	}
	h.persist()
	h.armed.Store(false)
	if h.last.Load() != last && h.armed.CompareAndSwap(false, true) {
		h.timer.Reset(quiet)
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
