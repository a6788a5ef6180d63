package tcp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/gravenio/graven/rdmaio"
)

// errHungUp says that the peer closed between two frames.
var errHungUp = fmt.Errorf("%w: closed by the peer", rdmaio.ErrLost)

// session is the far end of a connection: one goroutine that receives and lets
// the target do, and the flusher's if flushing takes time.
type session struct {
	l       *Listener
	conn    net.Conn
	in      *reader
	out     *replies
	target  rdmaio.Target
	flusher *flusher
	cheap   bool            // flushing takes no longer than telling the flusher
	append  rdmaio.Appender // nil unless it is cheap and the target can

	due   bool   // a flush was asked for and not yet begun
	dueID uint32 // the newest such request

	ended atomic.Pointer[error] // what the target says has ended the session
}

func newSession(l *Listener, conn net.Conn) *session {
	return &session{l: l, conn: conn, in: newReader(conn, client), out: newReplies(conn, l.opts.speaks.lowest, l.opts.BusyEvery)}
}

// handshake receives the Hello and has the host admit it.
func (s *session) handshake(ctx context.Context, plain net.Conn) error {
	if err := tune(plain, s.l.opts.DeadAfter); err != nil {
		return lost(err)
	}
	h, err := s.hello(ctx)
	if err != nil {
		return err
	}
	if err := s.l.promote(); err != nil {
		return err
	}
	s.out.begin()
	target, w, err := s.l.host.Hello(ctx, h.Hello)
	s.out.end()
	if err != nil {
		s.l.less(&s.l.sessions)
		return err
	}
	s.target, s.cheap = target, target.FlushIsCheap()
	if s.cheap {
		s.append, _ = target.(rdmaio.Appender)
	}
	s.flusher = newFlusher(target, s.out, s.wake)
	if e, ok := target.(rdmaio.Ender); ok {
		e.OnEnd(func(err error) {
			s.ended.Store(&err)
			s.wake()
		})
	}
	w.Version = uint32(s.in.agreed)
	s.out.add(header{kind: kindWelcome}, encodeWelcome(&w))
	return nil
}

// wake makes the receiving goroutine look why it should go on.
func (s *session) wake() { _ = s.conn.SetReadDeadline(time.Unix(1, 0)) }

func (s *session) hello(ctx context.Context) (hello, error) {
	if err := s.conn.SetDeadline(time.Now().Add(s.l.opts.HelloTimeout)); err != nil {
		return hello{}, lost(err)
	}
	var peer rdmaio.Peer
	if secure, ok := s.conn.(secureConn); ok {
		var err error
		if peer, err = secure.greetClient(ctx); err != nil {
			return hello{}, err
		}
	}
	s.in.only = kindHello
	_, body, err := s.in.next()
	if err != nil {
		return hello{}, received(err)
	}
	h, agreed, err := decodeHello(body, s.l.opts.speaks)
	if err != nil {
		return hello{}, err
	}
	h.Peer = peer
	s.in.only, s.in.agreed = 0, agreed
	s.out.agree(agreed)
	if err := s.conn.SetDeadline(time.Time{}); err != nil {
		return hello{}, lost(err)
	}
	return h, nil
}

// serve handles frames until the peer is gone or has done something that ends
// the session, and returns what; nil when the peer has closed in good order.
func (s *session) serve() error {
	defer s.target.Close()
	defer s.flusher.stop()
	err := s.out.flush()
	for err == nil {
		if err = s.step(); err == nil && !s.in.ready() {
			err = s.pause()
		}
	}
	if failed := s.flusher.failure(); failed != nil {
		return failed
	}
	if ended := s.ended.Load(); ended != nil {
		return *ended
	}
	if !errors.Is(err, errHungUp) {
		return err
	}
	if err := s.settle(); err != nil { // it may only have closed its sending half
		return err
	}
	return s.out.flush()
}

// step receives and handles one frame.
func (s *session) step() error {
	h, body, err := s.in.next()
	if err != nil {
		if errors.Is(err, io.EOF) {
			return errHungUp
		}
		return received(err)
	}
	s.out.begin()
	defer s.out.end()
	switch h.kind {
	case kindWrite:
		return s.write(h, body)
	case kindFlush:
		s.due, s.dueID = true, h.id
		return nil
	default:
		return s.answer(h, body)
	}
}

// write has the target take the bytes and, when a flush is due and nothing more
// has come that it could serve, too, flush them at once.
func (s *session) write(h header, body []byte) error {
	flush := h.flags&flagFlush != 0
	if flush && s.append != nil && !s.in.ready() {
		durable, err := s.append.Append(h.arg, body)
		if err != nil {
			return err
		}
		s.due = false
		s.out.add(header{kind: kindFlushed, id: h.id, arg: durable}, nil)
		return nil
	}
	if err := s.target.Write(h.arg, body); err != nil {
		return err
	}
	if flush {
		s.due, s.dueID = true, h.id
	}
	return nil
}

// pause is called before the session waits for more: it begins the flush that
// is due and sends what has been gathered.
func (s *session) pause() error {
	if s.due && !s.cheap {
		s.due = false
		s.flusher.ask(s.dueID)
	}
	if err := s.flushNow(); err != nil {
		return err
	}
	return s.out.flush()
}

func (s *session) flushNow() error {
	if !s.due {
		return nil
	}
	s.due = false
	durable, err := s.target.Flush()
	if err != nil {
		return err
	}
	s.out.add(header{kind: kindFlushed, id: s.dueID, arg: durable}, nil)
	return nil
}

// settle finishes all flushes that were asked for.
func (s *session) settle() error {
	if err := s.flusher.settle(); err != nil {
		return err
	}
	return s.flushNow()
}

// answer carries out a request, after what was asked before it. A refusal is
// the answer; only the end of the session is an error.
func (s *session) answer(h header, body []byte) error {
	if err := s.settle(); err != nil {
		return err
	}
	if h.kind == kindRead {
		return s.read(h, body)
	}
	k, reply, err := s.do(h, body)
	return s.reply(h.id, k, reply, err)
}

func (s *session) reply(id uint32, k kind, body []byte, err error) error {
	switch {
	case errors.Is(err, rdmaio.ErrSessionEnded) || errors.Is(err, rdmaio.ErrFrame):
		return err
	case err != nil:
		s.out.add(header{kind: kindError, id: id}, encodeError(rdmaio.AsError(err)))
	default:
		s.out.add(header{kind: k, id: id}, body)
	}
	return nil
}

func (s *session) do(h header, body []byte) (kind, []byte, error) {
	switch h.kind {
	case kindFence:
		r, err := s.target.Fence()
		if err != nil {
			return 0, nil, err
		}
		reply, err := encodeReport(&r)
		return kindReport, reply, err
	case kindInfo:
		i, err := s.target.Info()
		if err != nil {
			return 0, nil, err
		}
		reply, err := encodeInfo(&i)
		return kindState, reply, err
	default:
		return kindDone, nil, s.change(h, body)
	}
}

// change carries out a request that is answered with Done.
func (s *session) change(h header, body []byte) error {
	switch h.kind {
	case kindAlign:
		return s.target.Align(h.arg)
	case kindReset, kindTrim:
		at, err := decodeTrim(h.arg, body)
		if err != nil {
			return err
		}
		if h.kind == kindReset {
			return s.target.Reset(at)
		}
		return s.target.Trim(at)
	case kindSeal:
		in, err := decodeSeal(h.arg, body)
		if err != nil {
			return err
		}
		return s.target.Seal(in)
	case kindReseal:
		set, err := decodeReseal(body)
		if err != nil {
			return err
		}
		return s.target.Reseal(h.arg, set)
	default:
		return refuse(rdmaio.ErrFrame, "unexpected frame: %v", h.kind)
	}
}

func (s *session) read(h header, body []byte) error {
	n, err := decodeRead(body)
	if err != nil {
		return err
	}
	buf := s.l.bufs.Get().(*[maxBytes]byte)
	defer s.l.bufs.Put(buf)
	err = s.target.Read(h.arg, buf[:n])
	return s.reply(h.id, kindBytes, buf[:n], err)
}
