package sim

import (
	"errors"
	"time"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/replog/core"
)

// link is one session between a writer and a node. Requests and answers arrive
// in order, each after a delay of its own. A broken link still delivers, up to
// some moment, the requests that were on their way.
type link struct {
	w       *world
	x       *writer
	n       *node
	m       member
	peer    core.Peer
	boot    int
	session *pmemlog.Session // the far end, once the hello has arrived
	open    bool             // the writer still listens
	until   time.Duration    // requests that arrive later are lost; 0: none
	there   time.Duration    // when the last request arrives
	back    time.Duration    // when the last answer arrives
}

var errBroken = errors.New("connection lost")

// delay is how long a message takes; now and then one takes very long.
func (l *link) delay() time.Duration {
	if l.w.faults && l.w.chance(0.02) {
		return l.w.between(0, 60*time.Millisecond)
	}
	return l.w.between(20*time.Microsecond, 300*time.Microsecond)
}

// ask sends a request. do runs at the far end, done at the near end with what it
// returned; an error ends the session. Now and then a request arrives twice.
func (l *link) ask(do func() error, done func()) {
	if s := l.x.seats[l.peer.Index]; s.held {
		s.queue = append(s.queue, func() { l.ask(do, done) })
		return
	}
	l.there = max(l.there, l.w.now+l.delay())
	l.w.after(l.there-l.w.now, func() {
		if !l.n.up() || l.n.boot != l.boot || (l.until > 0 && l.w.now > l.until) {
			l.lost()
			return
		}
		err := l.n.powered(do)
		if l.w.faults && l.w.chance(0.002) && l.n.up() {
			_ = l.n.powered(do) // what it changes must be nothing, or be refused
		}
		l.back = max(l.back, l.w.now+l.delay())
		l.w.after(l.back-l.w.now, func() { l.answer(err, done) })
	})
}

// answer waits for a writer that sleeps.
func (l *link) answer(err error, done func()) {
	if l.x.later(func() { l.answer(err, done) }) || !l.open {
		return
	}
	var fenced *pmemlog.FencedError
	switch {
	case errors.As(err, &fenced):
		l.open = false
		l.x.refused = max(l.x.refused, fenced.Promised.Epoch)
		l.x.event(func(c *core.Core) { c.Fenced(l.peer, fenced.Promised) })
	case err != nil:
		l.end(err)
	default:
		done()
	}
}

// lost is noticed by the writer some time later.
func (l *link) lost() {
	l.w.after(l.w.between(0, 20*time.Millisecond), func() { l.end(errBroken) })
}

// end is the end of the session at the writer; it dials again.
func (l *link) end(err error) {
	if !l.open {
		return
	}
	l.shut()
	l.x.event(func(c *core.Core) { c.Disconnected(l.peer, err) })
	l.x.dialLater(l.peer.Index)
}

// shut makes the writer deaf to the session. What is on its way may still
// arrive.
func (l *link) shut() {
	l.open = false
	l.until = l.w.now + l.w.between(1, 80*time.Millisecond)
}

// broke breaks the connection.
func (l *link) broke() {
	l.w.stats.Breaks++
	l.w.note("epoch %d: session with node %d breaks", l.x.term.Epoch, l.n.index)
	l.end(errBroken)
}
