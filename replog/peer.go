package replog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
	"github.com/gravenio/graven/replog/core"
)

// peer keeps a session with one replica: it dials, asks what the core wants to
// know, and dials again when the session is over. Sends don't pass through its
// goroutine; they are posted by whoever made the core want them.
type peer struct {
	w     *Writer
	index int
	id    format.ID
	log   func(msg string, args ...any)

	// Guarded by the writer's lock.
	address string
	daemon  string
	session uint64
	conn    rdmaio.Session          // nil without one
	asked   []core.Effect           // for the peer's goroutine, in order
	wake    chan struct{}           // there is something in asked
	hangUp  context.CancelCauseFunc // ends the session, and what it waits for
	used    bool                    // a completion has come in this session
	closing chan struct{}           // closed when a session that was cut reads the mirror no more
	redial  chan struct{}           // the address has changed: don't wait any longer
	retire  context.CancelFunc      // the replica takes no part any more
	life    context.Context         // until then, or the writer's end

	sends  sends
	report format.Report
}

// newPeer returns the peer of a replica. Its sessions are numbered on from the
// given one.
func newPeer(w *Writer, index int, r Replica, session uint64) *peer {
	p := &peer{
		w: w, index: index, id: r.ID, address: r.Address, daemon: r.Daemon, session: session,
		wake: make(chan struct{}, 1), redial: make(chan struct{}, 1),
	}
	p.sends.posted.L = &w.mu
	log := w.opts.Log.With("log", w.grant.Name, "replica", r.ID, "daemon", r.Daemon)
	p.log = log.Debug
	p.life, p.retire = context.WithCancel(w.ended)
	return p
}

var (
	errUnreachable = errors.New("replog: daemon has no address: it is not registered")
	errCut         = errors.New("replog: session cut")
)

// run keeps a session until the replica is retired or the writer ends. Being fenced alone makes no session a good
// one: it costs the daemon a scan of the ring, and what comes next may fail each
// time.
func (p *peer) run() {
	ctx := p.life
	defer p.left()
	pause := p.w.opts.pause()
	for ctx.Err() == nil {
		begun := time.Now()
		used, err := p.serve(ctx)
		if ctx.Err() != nil {
			return
		}
		p.log("session over", "why", err)
		if used || time.Since(begun) > p.w.opts.RetryMax {
			pause.Reset()
		}
		timer := time.NewTimer(pause.NextBackOff())
		select {
		case <-timer.C:
		case <-p.redial:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// serve is one session from dial to end. It reports whether it was of any use.
func (p *peer) serve(ctx context.Context) (used bool, err error) {
	ctx, hangUp := context.WithCancelCause(ctx)
	defer hangUp(nil)
	p.w.mu.Lock()
	if err := ctx.Err(); err != nil { // retired meanwhile: another peer may number its sessions on
		p.w.mu.Unlock()
		return false, err
	}
	p.session++
	me := core.Peer{Index: p.index, Session: p.session}
	p.asked, p.hangUp, p.used = p.asked[:0], hangUp, false
	address := p.address
	hello := p.hello()
	p.w.mu.Unlock()

	conn, err := p.dial(ctx, address, hello, me)
	if err != nil {
		p.over(me, err)
		return false, err
	}
	p.w.event(func(c *core.Core) {
		p.conn = conn
		c.Connected(me)
	})
	for err == nil {
		var e core.Effect
		if e, err = p.next(ctx); err == nil {
			err = p.carryOut(ctx, conn, e)
		}
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	p.w.mu.Lock()
	p.detach()
	used = p.used
	p.w.mu.Unlock()
	_ = conn.Close() // its error is the one that ended it
	p.over(me, err)
	return used, err
}

func (p *peer) dial(ctx context.Context, address string, h rdmaio.Hello, me core.Peer) (rdmaio.Session, error) {
	if address == "" {
		return nil, errUnreachable
	}
	patience := p.w.opts.DialTimeout
	if h.Create { // the daemon writes the whole region before it answers
		patience += time.Duration(h.Capacity/slowestCreate) * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, _, err := p.w.opts.Dial(ctx, address, h, rdmaio.Events{
		Flushed: func(durable uint64) {
			p.w.event(func(c *core.Core) {
				p.used = true
				c.Flushed(me, durable)
			})
		},
		Ended: func(err error) { p.end(me, err) },
	})
	return conn, err
}

// slowestCreate is the pace, in bytes a second, at which a daemon must be able
// to write a new region.
const slowestCreate = 16 << 20

// over tells the core that the session is over, or was never had.
func (p *peer) over(me core.Peer, err error) {
	p.w.event(func(c *core.Core) {
		if p.closing != nil {
			close(p.closing)
			p.closing = nil
		}
		var refused *rdmaio.Error
		if errors.As(err, &refused) && errors.Is(refused, rdmaio.ErrFenced) {
			c.Fenced(me, refused.Fenced)
			return
		}
		c.Disconnected(me, err)
		p.w.signalChanged()
		p.w.lookAtQuorumLocked()
	})
}

// end makes the peer's goroutine see that the session is over.
func (p *peer) end(me core.Peer, err error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if p.session == me.Session {
		p.hangUp(err)
	}
}

// next waits for what the core asks next of the session.
func (p *peer) next(ctx context.Context) (core.Effect, error) {
	for {
		p.w.mu.Lock()
		if len(p.asked) > 0 && ctx.Err() == nil {
			e := p.asked[0]
			p.asked = append(p.asked[:0], p.asked[1:]...)
			p.w.mu.Unlock()
			return e, nil
		}
		p.w.mu.Unlock()
		select {
		case <-p.wake:
		case <-ctx.Done():
			return core.Effect{}, context.Cause(ctx)
		}
	}
}

// ask hands an effect to the peer's goroutine; the writer's lock is held.
func (p *peer) ask(e *core.Effect) {
	if p.conn != nil && e.Peer.Session == p.session {
		p.asked = append(p.asked, *e)
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// cut ends the session; the writer's lock is held. closing says when nothing of
// it reads the mirror any more. That is also waited for when the session has
// ended by itself and is being closed right now.
func (p *peer) cut(e *core.Effect) {
	if e.Peer.Session != p.session {
		return
	}
	if p.closing == nil {
		p.closing = make(chan struct{})
	}
	p.hangUp(fmt.Errorf("%w: %w", errCut, e.Err))
}

// move follows a daemon to another address; the writer's lock is held.
func (p *peer) move(address string) {
	if address == "" || address == p.address {
		return
	}
	p.address = address
	select {
	case p.redial <- struct{}{}:
	default:
	}
}

// hello is what a session of the peer begins with; the writer's lock is held.
func (p *peer) hello() rdmaio.Hello {
	g := &p.w.grant
	return rdmaio.Hello{
		Cluster: g.Cluster, Log: g.Log, Replica: p.id,
		Term: g.Term, Capacity: g.Capacity, Grant: g.Token,
		Create: p.w.core.MayMake(p.index), Daemon: p.daemon,
	}
}

// left takes the peer off the list of those that are about to end.
func (p *peer) left() {
	p.retire()
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.w.leaving = slices.DeleteFunc(p.w.leaving, func(o *peer) bool { return o == p })
}
