package tcp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gravenio/graven/rdmaio"
)

// lastWords is how long a connection that takes no more bytes is still read.
const lastWords = time.Second

// Conn is the near end of a session. Its methods are those of
// [rdmaio.Session], where concurrency and errors are described.
type Conn struct {
	conn     net.Conn
	opts     Options
	ev       rdmaio.Events
	readOnly bool

	out   *outbox
	in    *reader
	slots chan struct{} // one for each request under way
	alive liveness

	mu      sync.Mutex
	pending map[uint32]*request
	closed  bool  // Close was called
	err     error // why the session is over
	done    chan struct{}
}

var _ rdmaio.Session = (*Conn)(nil)

// Dial connects to a listener, host:port, and opens a session. The context
// bounds all of it and nothing after it. A refusal is the listener's, by
// rdmaio's kinds; ErrLost means that there was no answer.
//
// The session has two goroutines of its own until it ends; it must be closed.
// Reconnecting is the caller's: a new session begins with a fence.
func Dial(ctx context.Context, addr string, h rdmaio.Hello, ev rdmaio.Events, opts Options) (*Conn, rdmaio.Welcome, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, rdmaio.Welcome{}, err
	}
	body, err := encodeHello(&hello{lowest: uint32(opts.speaks.lowest), highest: uint32(opts.speaks.highest), Hello: h})
	if err != nil {
		return nil, rdmaio.Welcome{}, err
	}
	conn, err := connect(ctx, addr, h.Daemon, &opts)
	if err != nil {
		return nil, rdmaio.Welcome{}, fmt.Errorf("dial %s: %w", addr, err)
	}
	in := newReader(conn, server)
	w, err := greet(ctx, conn, in, body, &opts)
	if err != nil {
		_ = conn.Close() // the refusal says more
		return nil, rdmaio.Welcome{}, fmt.Errorf("open a session at %s: %w", addr, err)
	}
	return begin(conn, in, &h, ev, opts), w, nil
}

// begin starts the session on a connection whose Hello has been accepted.
func begin(conn net.Conn, in *reader, h *rdmaio.Hello, ev rdmaio.Events, opts Options) *Conn {
	c := &Conn{
		conn: conn, opts: opts, ev: ev, readOnly: h.ReadOnly,
		out: newOutbox(conn, in.agreed, h.Capacity), in: in,
		slots:   make(chan struct{}, opts.MaxPending),
		pending: map[uint32]*request{},
		done:    make(chan struct{}),
	}
	c.alive.init(c)
	go c.run()
	return c
}

func connect(ctx context.Context, addr, daemon string, opts *Options) (net.Conn, error) {
	cfg, err := opts.dialTLS(daemon, addr)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, lost(err)
	}
	if err := tune(conn, opts.DeadAfter); err != nil {
		return nil, errors.Join(lost(err), conn.Close())
	}
	if cfg == nil {
		return conn, nil
	}
	s := secureConn{Conn: tls.Client(conn, cfg), plain: conn}
	if err := s.greetServer(ctx, opts.DeadAfter); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return s, nil
}

// greet says Hello and waits for the answer, as long as the far end shows
// that it is at work and the context allows.
func greet(ctx context.Context, conn net.Conn, in *reader, body []byte, opts *Options) (rdmaio.Welcome, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	w, err := exchangeHello(conn, in, body, opts)
	if !stop() {
		return rdmaio.Welcome{}, context.Cause(ctx)
	}
	if err != nil {
		return rdmaio.Welcome{}, err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return rdmaio.Welcome{}, lost(err)
	}
	in.agreed = uint8(w.Version)
	return w, nil
}

func exchangeHello(conn net.Conn, in *reader, body []byte, opts *Options) (rdmaio.Welcome, error) {
	if err := conn.SetDeadline(time.Now().Add(opts.DeadAfter)); err != nil {
		return rdmaio.Welcome{}, lost(err)
	}
	if _, err := conn.Write(appendFrame(nil, header{version: opts.speaks.lowest, kind: kindHello}, body)); err != nil {
		return rdmaio.Welcome{}, lost(err)
	}
	for {
		if err := conn.SetReadDeadline(time.Now().Add(opts.DeadAfter)); err != nil {
			return rdmaio.Welcome{}, lost(err)
		}
		h, body, err := in.next()
		switch {
		case err != nil:
			return rdmaio.Welcome{}, received(err)
		case h.kind == kindBusy:
		case h.kind == kindError:
			return rdmaio.Welcome{}, decodeError(body)
		case h.kind == kindWelcome:
			return decodeWelcome(body, opts.speaks)
		default:
			return rdmaio.Welcome{}, refuse(rdmaio.ErrFrame, "unexpected frame: %v", h.kind)
		}
	}
}

// received makes an error of reading one of rdmaio's kinds.
func received(err error) error {
	var typed *rdmaio.Error
	switch {
	case errors.As(err, &typed) || errors.Is(err, rdmaio.ErrLost):
		return err
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: closed by the far end", rdmaio.ErrLost)
	default:
		return lost(err)
	}
}

// run is the session: it receives until there is nothing to receive any more,
// and ends everything else.
func (c *Conn) run() {
	sender := make(chan struct{})
	go func() {
		defer close(sender)
		c.out.run()
	}()
	err := c.receive()
	_ = c.conn.Close() // whatever it says, the session is over
	err = c.out.fail(err)
	<-sender
	c.alive.stop()
	c.end(err)
	close(c.done)
}

// end answers all who wait and reports the end, unless Close asked for it.
func (c *Conn) end(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	err = c.err
	pending := c.pending
	c.pending = nil
	report := !c.closed && c.ev.Ended != nil
	c.mu.Unlock()
	for _, r := range pending {
		r.finish(err)
	}
	if report {
		c.ev.Ended(err)
	}
}

// abort ends the session with an error of the near end's.
func (c *Conn) abort(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	c.mu.Unlock()
	_ = c.out.fail(err)
	_ = c.conn.Close()
}

// Close ends the session and returns when nothing of it touches segments or
// calls back any more. It must not be called from a callback.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.abort(rdmaio.ErrClosed)
	<-c.done
	return nil
}
