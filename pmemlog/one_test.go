package pmemlog

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/gravenio/graven/pmemlog/format"
)

// sizes are payloads, in bytes, of records that go through the cache and past it.
var sizes = []int{100, 1000}

// oneWriter is a writer whose next append brings no hint line, unless one is asked for,
// so that it takes the way of one record.
func oneWriter(t *testing.T, p *Pool, hinting bool) *pageWriter {
	t.Helper()
	w := newPageWriter(t, p, 1)
	noError(t, w.s.Seal(SealIn{Seals: []format.Seal{{Epoch: 2, Nonce: 1}}, Set: []format.ID{pageID(1)}}))
	w.chain.Epoch = 2
	noError(t, w.append(100)) // the first behind a header brings one
	noError(t, w.append(100))
	if hinting {
		w.s.r.hintWanted.Store(true)
	}
	if w.s.r.hintDue() != hinting {
		t.Fatalf("a hint is due: %v, want %v", !hinting, hinting)
	}
	return w
}

// wrongRecords are records that may not follow a chain in the ring of a pageWriter.
func wrongRecords(right []byte, chain format.Chain, size int) map[string]struct {
	record []byte
	want   error
} {
	made := func(change func(h *format.Header)) []byte {
		h, err := format.DecodeHeader(right)
		if err != nil {
			panic(err)
		}
		change(&h)
		rec := make([]byte, format.RecordSize(int(h.Length)))
		format.EncodeHeader(rec, &h)
		return rec
	}
	flipped := bytes.Clone(right)
	flipped[format.HeaderSize+size/2] ^= 1
	return map[string]struct {
		record []byte
		want   error
	}{
		"a bit of its payload flipped": {flipped, format.ErrCRC},
		"behind another record":        {made(func(h *format.Header) { h.Prev++ }), format.ErrChain},
		"of another place":             {made(func(h *format.Header) { h.LSN += 64 }), format.ErrLSN},
		"of an older epoch":            {made(func(h *format.Header) { h.Epoch = 1 }), format.ErrEpoch},
		"of an epoch to come":          {made(func(h *format.Header) { h.Epoch++ }), ErrChain},
		"cut":                          {right[:len(right)-64], format.ErrLength},
		"with more behind it":          {append(bytes.Clone(right), make([]byte, 64)...), ErrChain},
		"of no record":                 {make([]byte, len(right)), ErrChain},
	}
}

// Whatever may not follow is refused, moves nothing, and does not stand in the way of
// what may, whether a hint goes along or not.
func TestAppendOfAWrongRecord(t *testing.T) {
	t.Parallel()
	for _, size := range sizes {
		for _, hinting := range []bool{false, true} {
			p, _ := openPages(t, false)
			w := oneWriter(t, p, hinting)
			before, at := w.chain, w.chain.LSN
			w.ring.Append(&w.chain, 0, format.Record{Payload: bytes.Repeat([]byte{7}, size)})
			right := w.ring[at:w.chain.LSN]
			for name, c := range wrongRecords(right, before, size) {
				t.Run(fmt.Sprintf("%d bytes/hint %v/%s", size, hinting, name), func(t *testing.T) {
					w.s.r.hintWanted.Store(hinting)
					if _, err := w.s.Append(at, c.record); !errors.Is(err, ErrChain) || !errors.Is(err, c.want) {
						t.Errorf("refused with: %v", err)
					}
					if i := w.s.r.Info(); i.Tail != at || i.Durable != at || i.Failure != nil {
						t.Errorf("it has moved: %+v", i)
					}
				})
			}
			if end, err := w.s.Append(at, right); err != nil || end != w.chain.LSN {
				t.Errorf("the right record behind them: %d, %v", end, err)
			}
			rep, err := w.s.Fence(format.Fence{Epoch: 2, Nonce: 1})
			if noError(t, err); rep.Tail != w.chain.LSN {
				t.Errorf("a scan finds records up to %d, want %d", rep.Tail, w.chain.LSN)
			}
		}
	}
}

// A record that is too long for what is left of the ring does not reach what lies behind
// the ring.
func TestAppendAcrossTheEndOfTheRing(t *testing.T) {
	t.Parallel()
	for _, size := range sizes {
		for _, hinting := range []bool{false, true} {
			p, on := openPages(t, false)
			w := oneWriter(t, p, false)
			for format.ToEnd(w.chain.LSN, pageRing) > 384 {
				noError(t, w.append(64))
			}
			noError(t, w.s.Trim(format.TrimPoint{LSN: w.chain.LSN, Epoch: w.chain.Epoch, CRC: w.chain.CRC}))
			noError(t, w.append(64)) // takes 128 bytes
			noError(t, w.append(64)) // and the hint that is due behind the trim
			w.s.r.hintWanted.Store(hinting)
			if w.s.r.hintDue() != hinting {
				t.Fatalf("a hint is due: %v", !hinting)
			}
			image := bytes.Clone(on.data)
			h := format.Header{Kind: format.KindData, Length: uint32(size), Prev: w.chain.CRC, LSN: w.chain.LSN, Epoch: 2}
			rec := make([]byte, format.RecordSize(size))
			format.EncodeHeader(rec, &h)
			if _, err := w.s.Append(w.chain.LSN, rec); !errors.Is(err, ErrChain) {
				t.Errorf("refused with: %v", err)
			}
			hint := w.s.r.entry.offset + format.HintOffset
			copy(image[hint:hint+4096], on.data[hint:hint+4096])
			if !bytes.Equal(image, on.data) {
				t.Error("something has been written")
			}
		}
	}
}

// A page that can't be stored to does not end the process. Where it can be written whole
// the record is; else its replica fails, and no other.
func TestAppendOfOneRecordIntoABadPage(t *testing.T) {
	t.Parallel()
	for _, size := range sizes {
		for _, clears := range []bool{true, false} {
			t.Run(fmt.Sprintf("%d bytes/clears %v", size, clears), func(t *testing.T) {
				t.Parallel()
				p, on := openPages(t, clears)
				other := newPageWriter(t, p, 2)
				w := oneWriter(t, p, false)
				for w.s.r.ringOffset(w.chain.LSN)%4096 != 0 || w.s.r.hintDue() {
					noError(t, w.append(1)) // 64 bytes
				}
				bad(t, on, w.s.r.ringOffset(w.chain.LSN))
				err := w.append(size)
				i := w.s.r.Info()
				if clears {
					rep, ferr := w.s.Fence(format.Fence{Epoch: 2, Nonce: 1})
					if noError(t, ferr); err != nil || i.Failure != nil || rep.Tail != w.chain.LSN {
						t.Errorf("%v; the replica says %v; a scan ends at %d", err, i.Failure, rep.Tail)
					}
				} else if !errors.Is(err, ErrUnwritable) || !errors.Is(i.Failure, ErrUnwritable) {
					t.Errorf("%v; the replica says %v", err, i.Failure)
				}
				noError(t, p.Failure())
				noError(t, other.append(size))
			})
		}
	}
}
