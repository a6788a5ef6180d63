package tcp

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// enoughReplies is how many bytes of replies are gathered before they are sent
// in any case.
const enoughReplies = 32 << 10

// replies is the sending half of a session at the far end. Replies gather while
// there is more to read, and go out together. Whoever is at work for longer
// than a moment has a Busy sent now and then, so that the peer can tell a slow
// daemon from a dead one.
type replies struct {
	conn  net.Conn
	every time.Duration

	mu     sync.Mutex
	agreed uint8 // version of the protocol; before that, the lowest spoken here
	buf    []byte
	err    error // of the connection; what comes later is dropped
	sent   uint32

	working atomic.Int32
	armed   atomic.Bool
	timer   *time.Timer
	seen    uint32 // what sent was at the last tick; the timer's own
}

func newReplies(conn net.Conn, lowest uint8, every time.Duration) *replies {
	r := &replies{conn: conn, agreed: lowest, every: every}
	r.timer = time.AfterFunc(time.Hour, r.tick)
	r.timer.Stop()
	return r
}

// add queues a reply. A large body is sent at once and from its place.
func (r *replies) add(h header, body []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h.version = r.agreed
	if len(body) >= enoughReplies {
		r.buf = h.seal(r.buf, body)
		_ = r.flushLocked() // r.err remembers
		r.write(body)
		return
	}
	r.buf = appendFrame(r.buf, h, body)
	if len(r.buf) >= enoughReplies {
		_ = r.flushLocked() // r.err remembers
	}
}

// agree sets the version of all that is added from now on.
func (r *replies) agree(version uint8) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.agreed = version
}

// flush sends what has gathered and returns the connection's error, if it has
// failed.
func (r *replies) flush() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.flushLocked()
}

func (r *replies) flushLocked() error {
	if len(r.buf) > 0 {
		r.write(r.buf)
		r.buf = r.buf[:0]
	}
	return r.err
}

func (r *replies) write(b []byte) {
	if r.err != nil {
		return
	}
	if _, err := r.conn.Write(b); err != nil {
		r.err = lost(err)
	}
	r.sent++
}

// begin and end enclose work that somebody waits for.
func (r *replies) begin() {
	r.working.Add(1)
	if !r.armed.Load() && r.armed.CompareAndSwap(false, true) {
		r.timer.Reset(r.every)
	}
}

func (r *replies) end() { r.working.Add(-1) }

func (r *replies) stop() {
	r.armed.Store(true) // nobody starts it again
	r.timer.Stop()
}

// tick sends Busy if the work at hand has had nothing sent for a while.
func (r *replies) tick() {
	if r.working.Load() == 0 {
		r.armed.Store(false)
		if r.working.Load() > 0 && r.armed.CompareAndSwap(false, true) {
			r.timer.Reset(r.every)
		}
		return
	}
	r.mu.Lock()
	if r.sent == r.seen {
		r.buf = appendFrame(r.buf, header{version: r.agreed, kind: kindBusy}, nil)
		_ = r.flushLocked() // r.err remembers
	}
	r.seen = r.sent
	failed := r.err != nil
	r.mu.Unlock()
	if !failed {
		r.timer.Reset(r.every)
	}
}
