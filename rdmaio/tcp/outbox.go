package tcp

import (
	"bufio"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gravenio/graven/pmemlog/crc32c"
	"github.com/gravenio/graven/rdmaio"
)

const (
	directSegments = 64   // a post of more segments goes to the sender
	keepQueue      = 1024 // frames; a longer queue is let go when it has been sent
	plainBuffer    = 64 << 10
)

// outgoing is a frame on its way. A Write refers to its payload in place.
type outgoing struct {
	head header
	body []byte   // of a message
	segs [][]byte // of a Write
	sent int      // bytes that have gone out already; then nothing may be added
	wire [headerSize]byte
}

func (o *outgoing) encode() {
	if o.head.kind != kindWrite {
		o.head.length, o.head.crc = uint32(len(o.body)), crc32c.Checksum(o.body)
	}
	o.head.put(o.wire[:])
}

// outbox is the sending half of a session. A frame goes out from the calling
// goroutine as far as the socket takes it without waiting; what is left, and
// what comes after it, is finished by the sender goroutine.
type outbox struct {
	conn   net.Conn
	agreed uint8           // version of the protocol
	raw    syscall.RawConn // nil: all goes through the sender
	limit  uint64          // of the payload bytes that wait: the ring's capacity
	wake   chan struct{}

	mu        sync.Mutex
	queue     []outgoing
	spare     []outgoing
	waiting   uint64 // payload bytes in queue and in the sender's hands
	sending   bool   // the sender has work; everything else has to queue
	err       error  // no more is sent
	lastID    uint32
	lastFlush uint32

	// The arguments and results of a direct send, which would otherwise have to
	// be allocated with each closure. Guarded by mu.
	iov    [][]byte
	wire   [headerSize]byte
	wrote  int
	errno  error
	direct func(fd uintptr) bool

	// The sender's own.
	buffers net.Buffers
	scratch [][]byte
	plain   *bufio.Writer
}

func newOutbox(conn net.Conn, agreed uint8, limit uint64) *outbox {
	o := &outbox{conn: conn, agreed: agreed, raw: rawConn(conn), limit: limit, wake: make(chan struct{}, 1)}
	o.direct = func(fd uintptr) bool {
		o.wrote, o.errno = unix.Writev(int(fd), o.iov)
		return true
	}
	if o.raw == nil {
		o.plain = bufio.NewWriterSize(conn, plainBuffer)
	}
	return o
}

// write sends a Write of n bytes with a flush, or a Flush when n is zero.
func (o *outbox) write(lsn uint64, segs [][]byte, n int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return o.err
	}
	o.lastID++
	o.lastFlush = o.lastID
	h := header{version: o.agreed, kind: kindWrite, flags: flagFlush, id: o.lastID, length: uint32(n), arg: lsn}
	if n == 0 {
		h = header{version: o.agreed, kind: kindFlush, id: o.lastID}
	}
	if !o.sending && o.raw != nil && len(segs) <= directSegments {
		sent, err := o.sendDirect(h, segs)
		if err != nil || sent == headerSize+n {
			return err
		}
		o.push(outgoing{head: h, segs: append([][]byte(nil), segs...), sent: sent})
		return nil
	}
	if o.waiting+uint64(n) > o.limit {
		return refuse(rdmaio.ErrRange, "more than %d bytes posted and not sent: the ring does not hold that much", o.limit)
	}
	if !o.extend(h, segs) {
		o.push(outgoing{head: h, segs: append([][]byte(nil), segs...)})
	}
	return nil
}

// sendDirect tries to send a Write or a Flush and returns how many bytes the
// socket took.
func (o *outbox) sendDirect(h header, segs [][]byte) (int, error) {
	h.put(o.wire[:])
	o.iov = append(append(o.iov[:0], o.wire[:]), segs...)
	o.wrote, o.errno = 0, nil
	err := o.raw.Write(o.direct)
	clear(o.iov)
	if err == nil {
		err = o.errno
	}
	if err == nil {
		return o.wrote, nil
	}
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return 0, nil
	}
	return 0, o.broken(err)
}

// extend adds a Write to the last frame of the queue if it goes on where that
// one ends: what gathers behind a slow peer becomes few large frames.
func (o *outbox) extend(h header, segs [][]byte) bool {
	if len(o.queue) == 0 || h.kind != kindWrite {
		return false
	}
	last := &o.queue[len(o.queue)-1]
	if last.head.kind != kindWrite || last.sent > 0 || last.head.arg+uint64(last.head.length) != h.arg ||
		last.head.length+h.length > maxBatch {
		return false
	}
	last.head.id = h.id
	last.head.length += h.length
	last.segs = append(last.segs, segs...)
	o.waiting += uint64(h.length)
	return true
}

// message sends a small message and returns its id. prepare is told the id
// before anything is sent, so that the answer finds who waits for it.
func (o *outbox) message(k kind, arg uint64, body []byte, prepare func(id uint32)) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return o.err
	}
	o.lastID++
	prepare(o.lastID)
	o.push(outgoing{head: header{version: o.agreed, kind: k, id: o.lastID, arg: arg}, body: body})
	return nil
}

// push queues a frame and wakes the sender.
func (o *outbox) push(f outgoing) {
	o.queue = append(o.queue, f)
	if f.head.kind == kindWrite {
		o.waiting += uint64(f.head.length)
	}
	if !o.sending {
		o.sending = true
		o.wake <- struct{}{} // never blocks: the sender took the last one
	}
}

// run is the sender goroutine; it ends when the outbox is broken.
func (o *outbox) run() {
	for range o.wake {
		for {
			batch, ok := o.take()
			if !ok {
				break
			}
			err := o.send(batch)
			if !o.sent(batch, err) {
				return
			}
		}
		if o.ended() {
			return
		}
	}
}

func (o *outbox) take() ([]outgoing, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) == 0 || o.err != nil {
		o.sending = false
		return nil, false
	}
	batch := o.queue
	o.queue, o.spare = o.spare[:0], nil
	return batch, true
}

// send writes frames to the connection, waiting as long as it takes.
func (o *outbox) send(batch []outgoing) error {
	bufs := o.scratch[:0]
	for i := range batch {
		f := &batch[i]
		f.encode()
		at := len(bufs)
		bufs = append(bufs, f.wire[:])
		if f.head.kind == kindWrite {
			bufs = append(bufs, f.segs...)
		} else if len(f.body) > 0 {
			bufs = append(bufs, f.body)
		}
		for skip := f.sent; skip > 0; at++ {
			n := min(skip, len(bufs[at]))
			bufs[at] = bufs[at][n:]
			skip -= n
		}
	}
	err := o.deliver(bufs)
	clear(bufs)
	if o.scratch = bufs; cap(bufs) > keepQueue {
		o.scratch = nil
	}
	return err
}

func (o *outbox) deliver(bufs [][]byte) error {
	if o.plain == nil {
		o.buffers = bufs
		_, err := o.buffers.WriteTo(o.conn)
		o.buffers = nil
		return err
	}
	for _, b := range bufs {
		if _, err := o.plain.Write(b); err != nil {
			return err
		}
	}
	return o.plain.Flush()
}

// sent takes a batch back and reports whether the sender goes on.
func (o *outbox) sent(batch []outgoing, err error) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range batch {
		if batch[i].head.kind == kindWrite {
			o.waiting -= uint64(batch[i].head.length)
		}
	}
	clear(batch)
	if cap(batch) <= keepQueue {
		o.spare = batch[:0]
	}
	if err != nil {
		_ = o.broken(err) // those who post next are told
	}
	return o.err == nil
}

func (o *outbox) ended() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err != nil
}

// fail ends the outbox: nothing more is sent, and the sender goroutine returns
// as soon as the connection is closed. The first error stands, unless it only
// says that the connection was lost and now it is known why.
func (o *outbox) fail(err error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil || errors.Is(o.err, rdmaio.ErrLost) && !errors.Is(err, rdmaio.ErrLost) {
		o.err = err
	}
	o.queue = nil
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return o.err
}

// broken records that the connection takes no more. The far end may have said
// why before it closed, so the receiving side gets a moment to find that out.
func (o *outbox) broken(err error) error {
	if o.err == nil {
		o.err = lost(err)
	}
	_ = o.conn.SetReadDeadline(time.Now().Add(lastWords))
	return o.err
}
