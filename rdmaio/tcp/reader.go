package tcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/gravenio/graven/rdmaio"
)

const (
	firstBuffer = 16 << 10  // bytes that a connection starts with
	burstBuffer = 256 << 10 // up to which it grows when reads fill it
)

// reader cuts a connection into frames. One buffer holds what has arrived;
// bodies are slices of it, so nothing is copied on the way to a target. It
// grows by doubling, and only when it is full of bytes that have arrived.
type reader struct {
	src    io.Reader
	from   side
	only   kind  // if set, no frame of another kind is let in
	agreed uint8 // version that frames must have; 0 lets in any
	buf    []byte
	r, w   int  // what has arrived and was not yet taken is buf[r:w]
	full   bool // the last read filled the buffer: more was waiting

	reads atomic.Uint32 // that returned bytes; wraps
}

func newReader(src io.Reader, from side) *reader {
	return &reader{src: src, from: from, buf: make([]byte, firstBuffer)}
}

// next returns the next frame. The body is valid until the call after. io.EOF
// means that the far end closed between two frames.
func (rd *reader) next() (header, []byte, error) {
	if err := rd.need(headerSize); err != nil {
		return header{}, nil, err
	}
	h, err := parseHeader(rd.buf[rd.r:rd.r+headerSize], rd.from, rd.agreed)
	if err != nil {
		return header{}, nil, err
	}
	if rd.only != 0 && h.kind != rd.only {
		return header{}, nil, refuse(rdmaio.ErrFrame, "%v, but %v has to come first", h.kind, rd.only)
	}
	n := headerSize + int(h.length)
	if err := rd.need(n); err != nil {
		return header{}, nil, err
	}
	body := rd.buf[rd.r+headerSize : rd.r+n : rd.r+n]
	rd.r += n
	return h, body, h.checkBody(body)
}

// ready reports whether the next frame is there already, as far as its header
// can be believed; a bad one counts as there.
func (rd *reader) ready() bool {
	b := rd.buf[rd.r:rd.w]
	return len(b) >= headerSize && uint64(len(b)) >= headerSize+uint64(binary.LittleEndian.Uint32(b[12:]))
}

// need waits until n bytes have arrived.
func (rd *reader) need(n int) error {
	for rd.w-rd.r < n {
		rd.room(n)
		got, err := rd.src.Read(rd.buf[rd.w:])
		rd.w += got
		rd.full = rd.w == len(rd.buf)
		if got > 0 {
			rd.reads.Add(1)
			continue
		}
		if err != nil {
			return rd.cut(err)
		}
	}
	return nil
}

// room makes space behind w for more of the n bytes that are wanted from r on.
func (rd *reader) room(n int) {
	if rd.full && len(rd.buf) < max(n, burstBuffer) {
		rd.full = false
		bigger := make([]byte, 2*len(rd.buf))
		rd.w = copy(bigger, rd.buf[rd.r:rd.w])
		rd.r, rd.buf = 0, bigger
		return
	}
	if rd.r == rd.w || rd.r+n > len(rd.buf) {
		rd.w = copy(rd.buf, rd.buf[rd.r:rd.w])
		rd.r = 0
	}
}

func (rd *reader) cut(err error) error {
	if rd.r == rd.w {
		return err
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w in the middle of a frame: %w", rdmaio.ErrLost, err)
}
