package crc32c_test

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gravenio/graven/pmemlog/crc32c"
)

// library is the checksum that all others must equal.
var library = crc32.MakeTable(crc32.Castagnoli)

// guarded returns n bytes, the last of which stands before a page that can't be
// touched, and the first behind one if n is whole pages: a load beyond faults.
func guarded(t testing.TB, n int) []byte {
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
	return m[page+pages-n : page+pages : page+pages]
}

// random fills b, and prints where from.
func random(t testing.TB, b []byte) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return rng
}

func TestKnownSum(t *testing.T) {
	t.Parallel()
	if got := crc32c.Checksum([]byte("123456789")); got != 0xe3069283 {
		t.Errorf("the sum is %08x, must be e3069283", got)
	}
	if got := crc32c.Checksum(nil); got != 0 {
		t.Errorf("the sum of nothing is %08x", got)
	}
	if got := crc32c.Update(7, nil); got != 7 {
		t.Errorf("nothing has changed a sum to %08x", got)
	}
}

// TestEveryLengthAndPlace sums what begins at any byte of a line, and what ends where
// the memory does.
func TestEveryLengthAndPlace(t *testing.T) {
	t.Parallel()
	b := guarded(t, 8192)
	rng := random(t, b)
	for n := range 2200 {
		for _, p := range [][]byte{b[:n], b[len(b)-n:], b[n%67:][:n]} {
			crc := rng.Uint32()
			if got, want := crc32c.Update(crc, p), crc32.Update(crc, library, p); got != want {
				t.Fatalf("the sum of %d bytes behind %08x is %08x, must be %08x", n, crc, got, want)
			}
		}
	}
}

// TestLong is longer than what one call sums.
func TestLong(t *testing.T) {
	t.Parallel()
	const call = 64 << 10
	b := guarded(t, 5*call)
	rng := random(t, b)
	for _, n := range []int{call - 1, call, call + 1, call + 63, 2 * call, 2*call + 100, 5 * call} {
		crc := rng.Uint32()
		if got, want := crc32c.Update(crc, b[:n]), crc32.Update(crc, library, b[:n]); got != want {
			t.Errorf("the sum of %d bytes is %08x, must be %08x", n, got, want)
		}
	}
}

// TestEachBitCounts flips one at a time.
func TestEachBitCounts(t *testing.T) {
	t.Parallel()
	b := make([]byte, 700)
	random(t, b)
	seen := map[uint32]bool{crc32c.Checksum(b): true}
	for bit := range 8 * len(b) {
		b[bit/8] ^= 1 << (bit % 8)
		crc := crc32c.Checksum(b)
		if seen[crc] {
			t.Fatalf("bit %d of %d makes no difference that another does not make", bit, 8*len(b))
		}
		seen[crc] = true
		b[bit/8] ^= 1 << (bit % 8)
	}
}

func FuzzUpdate(f *testing.F) {
	for _, n := range []int{0, 1, 63, 64, 255, 256, 1000} {
		f.Add(uint32(n), make([]byte, n), 0)
	}
	f.Fuzz(func(t *testing.T, crc uint32, p []byte, at int) {
		want := crc32.Update(crc, library, p)
		if got := crc32c.Update(crc, p); got != want {
			t.Errorf("the sum is %08x, must be %08x", got, want)
		}
		at = max(0, min(at, len(p)))
		if got := crc32c.Update(crc32c.Update(crc, p[:at]), p[at:]); got != want {
			t.Errorf("the sum in two parts is %08x, must be %08x", got, want)
		}
	})
}

// sink keeps sums that nobody reads.
var sink uint32

// BenchmarkChecksum compares with the library: what it takes is in its own row.
func BenchmarkChecksum(b *testing.B) {
	sums := map[string]func([]byte) uint32{
		"crc32c": crc32c.Checksum,
		"hash":   func(p []byte) uint32 { return crc32.Checksum(p, library) },
	}
	for _, size := range []int{32, 64, 128, 256, 576, 4160, 64 << 10, 1 << 20} {
		p := make([]byte, size)
		for _, by := range []string{"hash", "crc32c"} {
			sum := sums[by]
			b.Run(fmt.Sprintf("size=%d/by=%s", size, by), func(b *testing.B) {
				b.SetBytes(int64(size))
				for b.Loop() {
					sink ^= sum(p)
				}
			})
		}
	}
}
