package crc32c_test

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"testing"
	"unsafe"

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

// TestStream stores what it sums, all of it, and nothing beside it.
func TestStream(t *testing.T) {
	t.Parallel()
	streams(t)
	src, dst := guarded(t, 300<<10), guarded(t, 300<<10)
	rng := random(t, src)
	for _, n := range []int{0, 64, 128, 192, 256, 320, 512, 1024 + 64, 64 << 10, 64<<10 + 64, 300 << 10} {
		clear(dst)
		crc, to, from := rng.Uint32(), dst[len(dst)-n:], src[len(src)-n:]
		if got, want := crc32c.Stream(crc, to, from), crc32.Update(crc, library, from); got != want {
			t.Errorf("the sum of %d bytes is %08x, must be %08x", n, got, want)
		}
		if !bytes.Equal(to, from) || !bytes.Equal(dst[:len(dst)-n], make([]byte, len(dst)-n)) {
			t.Errorf("%d bytes are not what has been streamed", n)
		}
	}
	if got := crc32c.Stream(7, dst[:64], src[1:65]); got != crc32.Update(7, library, src[1:65]) {
		t.Errorf("the sum of what is not aligned is %08x", got)
	}
}

// streams skips where nothing can be streamed.
func streams(t *testing.T) {
	t.Helper()
	if !crc32c.Streams() {
		t.Skip("this CPU has no AVX-512 with VPCLMULQDQ")
	}
}

func TestStreamRefusesWhatIsNoLine(t *testing.T) {
	t.Parallel()
	b, src := guarded(t, 4096), make([]byte, 4096)
	for _, tt := range []struct{ dst, src []byte }{
		{b[:63], src[:63]},
		{b[:64], src[:128]},
		{b[:128], src[:64]},
		{b[8:72], src[:64]},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a stream of %d bytes to %d was taken", len(tt.src), len(tt.dst))
				}
			}()
			crc32c.Stream(0, tt.dst, tt.src)
		}()
	}
}

// TestFaultIsThePanicOfACaller: the pages of a mapping whose file has been cut off.
func TestFaultIsThePanicOfACaller(t *testing.T) {
	t.Parallel()
	page := unix.Getpagesize()
	f, err := os.Create(filepath.Join(t.TempDir(), "mapped"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(int64(2 * page)); err != nil {
		t.Fatal(err)
	}
	m, err := unix.Mmap(int(f.Fd()), 0, 2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(m) }()
	if err := f.Truncate(int64(page)); err != nil {
		t.Fatal(err)
	}
	gone := uintptr(unsafe.Pointer(&m[page]))
	touch := func(what string, do func()) {
		t.Helper()
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
		defer func() {
			at, ok := recover().(interface{ Addr() uintptr })
			if !ok || at.Addr() < gone || at.Addr() >= gone+uintptr(page) {
				t.Errorf("%s: no fault there, but %v", what, at)
			}
		}()
		do()
	}
	ours := guarded(t, 2*page)
	for _, n := range []int{page + 1, page + 64, page + 300, 2 * page} {
		touch("sum", func() { crc32c.Checksum(m[:n]) })
	}
	if crc32c.Streams() {
		touch("stream from it", func() { crc32c.Stream(0, ours, m) })
		touch("stream to it", func() { crc32c.Stream(0, m, ours) })
	}
	if got, want := crc32c.Checksum(m[:page]), crc32.Checksum(make([]byte, page), library); got != want {
		t.Errorf("behind a fault the sum is %08x, must be %08x", got, want)
	}
}

// narrow has a process do without wide registers.
const narrow = "GODEBUG=cpu.avx512vpclmulqdq=off"

// TestWithoutWideRegisters runs the tests once more as a CPU would that lacks them.
func TestWithoutWideRegisters(t *testing.T) {
	t.Parallel()
	if !crc32c.Streams() {
		t.Skip("they are what this run is without")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^Test(KnownSum|EveryLength|Long|EachBit|Stream|Fault)", "-test.v")
	cmd.Env = append(os.Environ(), narrow)
	text, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(text, []byte("--- SKIP: TestStream ")) || !bytes.Contains(text, []byte("--- PASS: TestEveryLength")) {
		t.Errorf("%v\n%s", err, text)
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
