package tcp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/gravenio/graven/rdmaio"
)

const (
	maxRefusals = 16               // connections at a time that are told that there is no room; others are just closed
	lingering   = time.Second      // for a peer to read why its session ended
	acceptPause = time.Second / 10 // after an error of accept that may pass, such as too many open files
)

// Listener is the far end: it serves a host's replicas to those who dial.
type Listener struct {
	ln   net.Listener
	host rdmaio.Host
	opts Options
	bufs sync.Pool // for answers to Read

	mu         sync.Mutex
	conns      map[net.Conn]struct{}
	handshakes int
	sessions   int
	refusals   int
	closed     bool
	wg         sync.WaitGroup
}

// NewListener returns a listener that owns ln: Run closes it. Nothing is
// accepted before Run.
func NewListener(ln net.Listener, host rdmaio.Host, opts Options) (*Listener, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	if opts.TLS != nil {
		opts.TLS = serverTLS(opts.TLS)
	}
	l := &Listener{ln: ln, host: host, opts: opts, conns: map[net.Conn]struct{}{}}
	l.bufs.New = func() any { return new([maxBytes]byte) }
	return l, nil
}

// Addr returns the address that is listened on.
func (l *Listener) Addr() net.Addr { return l.ln.Addr() }

// Run accepts and serves until the context ends, then closes all connections
// and returns when every session's goroutines have ended, which takes as long
// as their targets' calls. It may be called once. The error is that of a
// listening socket that failed.
func (l *Listener) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, l.close)
	err := l.accept(ctx)
	cancel()
	l.close()
	stop()
	l.wg.Wait()
	return err
}

func (l *Listener) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	_ = l.ln.Close() // a second time changes nothing
	for conn := range l.conns {
		_ = conn.Close()
	}
}

func (l *Listener) accept(ctx context.Context) error {
	for {
		conn, err := l.ln.Accept()
		switch {
		case err == nil:
			l.admit(ctx, conn)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept at %v: %w", l.ln.Addr(), err)
		default:
			l.opts.Logger.Warn("accepting a connection failed, trying again", "addr", l.ln.Addr(), "err", err)
			pause(ctx, acceptPause)
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// admit gives a connection its goroutine, or says that there is no room.
func (l *Listener) admit(ctx context.Context, conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	serve := l.serve
	switch {
	case l.closed:
		_ = conn.Close()
		return
	case l.handshakes < l.opts.MaxHandshakes:
		l.handshakes++
	case l.refusals < maxRefusals:
		l.refusals++
		serve = l.turnAway
	default:
		_ = conn.Close()
		return
	}
	l.conns[conn] = struct{}{}
	l.wg.Go(func() {
		serve(ctx, conn)
		l.mu.Lock()
		delete(l.conns, conn)
		l.mu.Unlock()
		_ = conn.Close()
	})
}

// turnAway tells a peer that there is no room.
func (l *Listener) turnAway(_ context.Context, conn net.Conn) {
	if l.opts.TLS == nil { // a handshake would be more work than there is room for
		sayWhy(conn, newReplies(conn, l.opts.speaks.lowest, l.opts.BusyEvery), refuse(rdmaio.ErrBusy, "%d others are opening a session just now", l.opts.MaxHandshakes))
	}
	l.less(&l.refusals)
}

func (l *Listener) less(n *int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*n--
}

// promote turns a handshake into a session if there is room for one.
func (l *Listener) promote() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sessions >= l.opts.MaxSessions {
		return refuse(rdmaio.ErrBusy, "%d sessions are open, no more are allowed", l.sessions)
	}
	l.sessions++
	return nil
}

// serve is the life of one connection.
func (l *Listener) serve(ctx context.Context, plain net.Conn) {
	conn := plain
	if l.opts.TLS != nil {
		conn = secureConn{Conn: tls.Server(plain, l.opts.TLS), plain: plain}
	}
	s := newSession(l, conn)
	defer s.out.stop()
	err := s.handshake(ctx, plain)
	l.less(&l.handshakes)
	if err == nil {
		err = s.serve()
		l.less(&l.sessions)
	}
	if err == nil || ctx.Err() != nil {
		return
	}
	l.log(conn, err)
	if errors.Is(err, rdmaio.ErrTLS) {
		tellPlain(plain, s, err)
		return
	}
	if !errors.Is(err, rdmaio.ErrLost) {
		sayWhy(conn, s.out, err)
	}
}

// log writes why a connection ended, once. That a session was refused or ended
// by another one is nothing to worry about.
func (l *Listener) log(conn net.Conn, err error) {
	level := slog.LevelInfo
	if errors.Is(err, rdmaio.ErrFrame) || errors.Is(err, rdmaio.ErrTooLarge) || errors.Is(err, rdmaio.ErrVersion) || errors.Is(err, rdmaio.ErrTLS) {
		level = slog.LevelWarn
	}
	l.opts.Logger.Log(context.Background(), level, "session over", "peer", conn.RemoteAddr(), "err", err)
}

// sayWhy sends the error that ends a session, behind the replies that wait, and
// gives the peer a moment to close: closing on bytes that were not read would
// take the error back.
func sayWhy(conn net.Conn, out *replies, err error) {
	if conn.SetDeadline(time.Now().Add(lingering)) != nil {
		return
	}
	out.add(header{kind: kindError}, encodeError(rdmaio.AsError(err)))
	if out.flush() != nil {
		return
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() != nil {
		return
	}
	for b := make([]byte, firstBuffer); ; {
		if _, err := conn.Read(b); err != nil {
			return
		}
	}
}
