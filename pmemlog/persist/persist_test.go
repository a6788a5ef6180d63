package persist_test

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gravenio/graven/pmemlog/persist"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// methods are all that this CPU has.
func methods(t testing.TB) []persist.CPU {
	t.Helper()
	var out []persist.CPU
	for m := persist.CLWB; m <= persist.Fence; m++ {
		c, err := persist.New(m)
		if errors.Is(err, persist.ErrUnsupported) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

// guarded returns n bytes between two pages that can't be touched: a flush, load
// or store beyond either end faults. The first or the last byte is at a page's
// edge, as asked.
func guarded(t testing.TB, n int, atEnd bool) []byte {
	t.Helper()
	page := unix.Getpagesize()
	pages := (n + page - 1) / page * page
	m, err := unix.Mmap(-1, 0, pages+2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(m) })
	for _, edge := range [][]byte{m[:page], m[page+pages:]} {
		if err := unix.Mprotect(edge, unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	if atEnd {
		return m[page+pages-n : page+pages : page+pages]
	}
	return m[page : page+n : page+n]
}

func TestDetectNamesTheBest(t *testing.T) {
	t.Parallel()
	best, err := persist.Detect()
	if runtime.GOARCH == "amd64" && err != nil {
		t.Fatal("every amd64 CPU has CLFLUSH:", err)
	}
	if err != nil {
		if !errors.Is(err, persist.ErrUnsupported) {
			t.Fatal(err)
		}
		return
	}
	c, err := persist.New(best)
	if err != nil || c.Method() != best {
		t.Errorf("New(%s): %v, %v", best, c.Method(), err)
	}
	for m := persist.CLWB; m < best; m++ {
		if _, err := persist.New(m); !errors.Is(err, persist.ErrUnsupported) {
			t.Errorf("%s was detected, though the better %s can be used: %v", best, m, err)
		}
	}
	if _, err := persist.New(99); !errors.Is(err, persist.ErrUnsupported) {
		t.Errorf("New(99): %v", err)
	}
}

// TestFlushStaysWithinItsLines flushes ranges of every alignment and length
// around a line, at both edges of a page that is followed by none: a line too
// many would fault.
func TestFlushStaysWithinItsLines(t *testing.T) {
	t.Parallel()
	for _, c := range methods(t) {
		for _, atEnd := range []bool{false, true} {
			b := guarded(t, 4096, atEnd)
			for i := range b {
				b[i] = byte(i)
			}
			for n := 0; n <= 4*persist.Line; n++ {
				for from := 0; from <= persist.Line; from++ {
					c.Flush(b[from : from+n])
					c.Flush(b[len(b)-n-from : len(b)-from])
				}
			}
			c.Flush(b)
			c.Flush(guarded(t, 300<<10+100, atEnd)) // in several calls
			c.Fence()
			for i := range b {
				if b[i] != byte(i) {
					t.Fatalf("%s changed byte %d", c.Method(), i)
				}
			}
		}
	}
}

// TestExpectTouchesNothing: lines that can't be touched are none of its business, and
// those that can stay as they are.
func TestExpectTouchesNothing(t *testing.T) {
	t.Parallel()
	for _, atEnd := range []bool{false, true} {
		b := guarded(t, 4096, atEnd)
		for n := range 5 * persist.Line {
			persist.Expect(b[:n])
			persist.Expect(b[len(b)-n:])
		}
		if !bytes.Equal(b, make([]byte, len(b))) {
			t.Error("what is expected has changed")
		}
	}
	gone := guarded(t, 4096, false)
	if err := unix.Mprotect(gone, unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	persist.Expect(gone)
}

func TestShortIsWholeLines(t *testing.T) {
	t.Parallel()
	for _, c := range methods(t) {
		if n := c.Short(); n < 0 || n%persist.Line != 0 || n > 4096 {
			t.Errorf("%s: short is up to %d bytes", c.Method(), n)
		}
	}
}

func upTo(n int) []int {
	var out []int
	for i := range n {
		out = append(out, i)
	}
	return out
}

func TestStreamCopiesWholeLines(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range methods(t) {
		for _, lines := range append(upTo(40), 1024, 1025, 3000) {
			n := lines * persist.Line
			dst := guarded(t, max(64, lines)*persist.Line, true)
			at := len(dst) - n
			for shift := range 9 { // of the source only
				src := guarded(t, n+shift, true)[shift:]
				for i := range src {
					src[i] = byte(rng.Uint32())
				}
				clear(dst)
				crc := rng.Uint32()
				c.Stream(dst[at:], src)
				if shift%2 == 1 {
					clear(dst)
					want := crc32.Update(crc, castagnoli, src)
					if got := c.StreamSum(dst[at:], src, crc); got != want {
						t.Fatalf("%s: the sum of %d lines is %08x, must be %08x", c.Method(), lines, got, want)
					}
				}
				c.Fence()
				if !bytes.Equal(dst[at:], src) || !bytes.Equal(dst[:at], make([]byte, at)) {
					t.Fatalf("%s: %d lines from a source at %d differ", c.Method(), lines, shift)
				}
			}
		}
	}
}

func TestStreamRefusesWhatIsNoLine(t *testing.T) {
	t.Parallel()
	c := methods(t)
	if len(c) == 0 {
		t.Skip("no method on this CPU")
	}
	b, src := guarded(t, 4096, false), make([]byte, 4096)
	for _, tt := range []struct{ dst, src []byte }{
		{b[:63], src[:63]}, {b[:64], src[:128]}, {b[8:72], src[:64]}, {b[:128], src[:64]},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a stream of %d bytes to %d was taken", len(tt.src), len(tt.dst))
				}
			}()
			c[0].Stream(tt.dst, tt.src)
		}()
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a stream of %d bytes to %d, with its sum, was taken", len(tt.src), len(tt.dst))
				}
			}()
			c[0].StreamSum(tt.dst, tt.src, 0)
		}()
	}
}

func BenchmarkPersist(b *testing.B) {
	dst := guarded(b, 16<<20, false)
	clear(dst)
	src := bytes.Repeat([]byte{7}, 1<<20)
	for _, c := range methods(b) {
		for _, size := range []int{64, 128, 256, 512, 1024, 2048, 4096, 65536, 1 << 20} {
			for _, how := range []string{"stream", "sum", "flush"} {
				b.Run(fmt.Sprintf("cpu=%s/how=%s/size=%d", c.Method(), how, size), func(b *testing.B) {
					b.SetBytes(int64(size))
					off := 0
					for b.Loop() {
						to := dst[off : off+size]
						switch how {
						case "stream":
							c.Stream(to, src[:size])
						case "sum":
							c.StreamSum(to, src[:size], 0)
						default:
							copy(to, src[:size])
							c.Flush(to)
						}
						c.Fence()
						if off += size; off+size > len(dst) {
							off = 0
						}
					}
				})
			}
		}
	}
}
