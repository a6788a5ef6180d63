package tcp

import (
	"bytes"
	"errors"
	"testing"

	"github.com/gravenio/graven/rdmaio"
)

// FuzzMessages gives any bytes to every decoder: none may panic, and what one
// accepts is what its encoder would have written.
func FuzzMessages(f *testing.F) {
	for _, body := range sampleBodies(f) {
		f.Add(body)
		f.Add(body[:len(body)/2])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, again := range decoders() {
			if out, ok := again(b); ok && !bytes.Equal(out, b) {
				t.Errorf("%s: %x was accepted, but is encoded as %x", name, b, out)
			}
		}
	})
}

// decoders decode and encode again; false when the bytes were refused.
func decoders() map[string]func([]byte) ([]byte, bool) {
	return map[string]func([]byte) ([]byte, bool){
		"Hello": func(b []byte) ([]byte, bool) {
			h, _, err := decodeHello(b, ours())
			out, again := encodeHello(&h)
			if h.highest > version && len(b) > len(out) { // a later version may say more
				out = append(out, b[len(out):]...)
			}
			return out, err == nil && again == nil
		},
		"Welcome": func(b []byte) ([]byte, bool) {
			w, err := decodeWelcome(b, ours())
			return encodeWelcome(&w), err == nil
		},
		"Report": func(b []byte) ([]byte, bool) {
			r, err := decodeReport(b)
			out, again := encodeReport(&r)
			return out, err == nil && again == nil
		},
		"Seal": func(b []byte) ([]byte, bool) {
			s, err := decodeSeal(5, b)
			out, again := encodeSeal(&s)
			return out, err == nil && again == nil
		},
		"Reseal": func(b []byte) ([]byte, bool) {
			set, err := decodeReseal(b)
			out, again := encodeReseal(set)
			return out, err == nil && again == nil
		},
		"State": func(b []byte) ([]byte, bool) {
			i, err := decodeInfo(b)
			if err != nil {
				return nil, false
			}
			out, err := encodeInfo(&i)
			return out, err == nil
		},
		"trim point": func(b []byte) ([]byte, bool) {
			p, err := decodeTrim(9, b)
			return appendTrim(nil, p), err == nil
		},
		"Error": func(b []byte) ([]byte, bool) {
			var e *rdmaio.Error
			err := decodeError(b)
			return nil, !errors.As(err, &e) // any bytes yield a typed error
		},
	}
}

// sampleBodies are good messages of each kind.
func sampleBodies(tb testing.TB) [][]byte {
	tb.Helper()
	r, i, s := someReport(), someInfo(), someSeal()
	h, err := encodeHello(&hello{lowest: version, highest: version + 1, Hello: someHello()})
	if err != nil {
		tb.Fatal(err)
	}
	report, err := encodeReport(&r)
	if err != nil {
		tb.Fatal(err)
	}
	info, err := encodeInfo(&i)
	if err != nil {
		tb.Fatal(err)
	}
	seal, err := encodeSeal(&s)
	if err != nil {
		tb.Fatal(err)
	}
	reseal, err := encodeReseal(someReport().Set)
	if err != nil {
		tb.Fatal(err)
	}
	return [][]byte{
		h, append(bytes.Clone(h), "and more"...), report, info, seal, reseal, make([]byte, resealBody),
		encodeWelcome(&rdmaio.Welcome{Version: version, Daemon: "d1", Media: "file"}),
		encodeError(&rdmaio.Error{Kind: rdmaio.ErrFenced, Detail: "x"}),
		appendTrim(nil, r.Trim),
	}
}

// FuzzReader gives any stream of bytes to a reader: it never panics, never
// yields a frame whose checksums are wrong or whose version is not the one that
// was agreed, and its buffer never grows beyond
// what has arrived.
func FuzzReader(f *testing.F) {
	for i, body := range sampleBodies(f) {
		frame := appendFrame(nil, header{version: version, kind: kindHello, id: uint32(i)}, body)
		f.Add(append(frame, frame...), uint8(0))
	}
	f.Add(appendFrame(nil, header{version: version, kind: kindFence, id: 1}, nil), uint8(version))
	f.Add(appendFrame(nil, header{version: version + 1, kind: kindFence, id: 1}, nil), uint8(version))
	claim := make([]byte, headerSize)
	(&header{version: version, kind: kindWrite, length: maxWrite}).put(claim)
	f.Add(append(claim, "and then little"...), uint8(version))
	f.Fuzz(func(t *testing.T, b []byte, agreed uint8) {
		rd := newReader(bytes.NewReader(b), client)
		rd.agreed = agreed
		taken := 0
		for {
			h, body, err := rd.next()
			if err != nil {
				break
			}
			if agreed != 0 && h.version != agreed {
				t.Errorf("%v of version %d was let in, agreed is %d", h.kind, h.version, agreed)
			}
			taken += headerSize + len(body)
			if len(body) > int(kinds[h.kind].max) || h.checkBody(body) != nil {
				t.Errorf("%v of %d bytes was let in", h.kind, len(body))
			}
		}
		if taken > len(b) {
			t.Errorf("%d bytes taken out of %d", taken, len(b))
		}
		if len(rd.buf) > max(firstBuffer, 2*len(b)) {
			t.Errorf("a buffer of %d bytes for %d that arrived", len(rd.buf), len(b))
		}
	})
}
