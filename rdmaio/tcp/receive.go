package tcp

import (
	"sync/atomic"
	"time"

	"github.com/gravenio/graven/rdmaio"
)

// receive handles what the far end sends and returns why that is over.
func (c *Conn) receive() error {
	for {
		h, body, err := c.in.next()
		if err != nil {
			return received(err)
		}
		if err := c.handle(h, body); err != nil {
			return err
		}
	}
}

func (c *Conn) handle(h header, body []byte) error {
	switch {
	case h.kind == kindBusy:
		return nil // that it came is what counts
	case h.kind == kindFlushed:
		c.alive.flushed.Store(h.id)
		if c.ev.Flushed != nil {
			c.ev.Flushed(h.arg)
		}
		return nil
	case h.kind == kindError && h.id == 0:
		return decodeError(body)
	default:
		return c.reply(h, body)
	}
}

// reply hands an answer to its request, under the lock so that a request which
// is given up meanwhile either gets it whole or not at all.
func (c *Conn) reply(h header, body []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.pending[h.id]
	if !ok {
		return nil // given up
	}
	err := r.answer(h, body)
	if err == nil {
		delete(c.pending, h.id)
	}
	return err
}

// silentTicks is into how many parts DeadAfter is divided.
const silentTicks = 4

// liveness ends a session whose far end owes an answer and is silent. Its timer
// runs only while something is owed, and no operation ever touches a clock.
type liveness struct {
	c       *Conn
	period  time.Duration
	flushed atomic.Uint32 // id of the last flush that was answered
	armed   atomic.Bool

	timer *time.Timer
	// Of the timer's function alone.
	reads  uint32
	silent int
}

func (l *liveness) init(c *Conn) {
	l.c, l.period = c, c.opts.DeadAfter/silentTicks
	l.timer = time.AfterFunc(time.Hour, l.tick)
	l.timer.Stop()
}

// watch makes sure that the timer runs; called when an answer is owed.
func (l *liveness) watch() {
	if !l.armed.Load() && l.armed.CompareAndSwap(false, true) {
		l.timer.Reset(l.period)
	}
}

func (l *liveness) stop() {
	l.armed.Store(true) // nobody starts it again
	l.timer.Stop()
}

func (l *liveness) tick() {
	if !l.owed() {
		l.silent = 0
		l.armed.Store(false)
		if l.owed() {
			l.watch()
		}
		return
	}
	if reads := l.c.in.reads.Load(); reads != l.reads {
		l.reads, l.silent = reads, 0
	} else if l.silent++; l.silent >= silentTicks {
		l.c.abort(refuse(rdmaio.ErrLost, "no word from the far end for %v", l.c.opts.DeadAfter))
		return
	}
	l.timer.Reset(l.period)
}

func (l *liveness) owed() bool {
	l.c.out.mu.Lock()
	flush := l.c.out.lastFlush
	l.c.out.mu.Unlock()
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	return l.c.err == nil && (flush != l.flushed.Load() || len(l.c.pending) > 0)
}
