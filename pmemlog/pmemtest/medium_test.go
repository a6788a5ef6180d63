package pmemtest_test

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

var _ pmemlog.Medium = (*pmemtest.Medium)(nil)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// outcomes crashes clones of a medium and counts what their first n bytes are.
func outcomes(m *pmemtest.Medium, n int) map[string]int {
	rng := rand.New(rand.NewPCG(1, 2))
	seen := map[string]int{}
	for range 500 {
		seen[string(m.Clone().Crash(rng).Image()[:n])]++
	}
	return seen
}

func TestSyncedBytesSurvive(t *testing.T) {
	t.Parallel()
	m := pmemtest.New(4096, pmemtest.Options{})
	must(t, m.WriteAt([]byte("synced"), 0))
	must(t, m.Sync())
	must(t, m.WriteAt([]byte("other"), 1000))
	if seen := outcomes(m, 6); seen["synced"] != 500 {
		t.Errorf("what survived: %v", seen)
	}
	for _, tt := range []struct {
		off  int64
		n    int
		want bool
	}{{0, 64, true}, {0, 960, true}, {0, 961, false}, {960, 1, false}, {1023, 1, false}, {990, 64, false}, {1024, 64, true}} {
		if m.Persistent(tt.off, tt.n) != tt.want {
			t.Errorf("%d bytes at %d persistent: %v", tt.n, tt.off, !tt.want)
		}
	}
}

func TestLinesTearBetweenWords(t *testing.T) {
	t.Parallel()
	m := pmemtest.New(4096, pmemtest.Options{})
	must(t, m.WriteAt([]byte("aaaaaaaabbbbbbbb"), 0))
	must(t, m.WriteAt([]byte("cccccccc"), 0)) // a second version of the first word
	zero := "\x00\x00\x00\x00\x00\x00\x00\x00"
	seen := outcomes(m, 16)
	for _, first := range []string{zero, "aaaaaaaa", "cccccccc"} {
		for _, second := range []string{zero, "bbbbbbbb"} {
			if seen[first+second] == 0 {
				t.Errorf("never seen: %q", first+second)
			}
			delete(seen, first+second)
		}
	}
	if len(seen) != 0 {
		t.Errorf("torn within a word: %v", seen)
	}
}

func TestSectorsDoNotTear(t *testing.T) {
	t.Parallel()
	m := pmemtest.New(4096, pmemtest.Options{Unit: pmemtest.Sector})
	must(t, m.WriteAt(bytes.Repeat([]byte{1}, 1024), 0))
	seen := map[byte]int{}
	for image := range outcomes(m, 1024) {
		if bytes.Count([]byte(image[:512]), []byte(image[:1])) != 512 {
			t.Error("a sector is torn")
		}
		seen[image[0]<<1|image[512]]++
	}
	if len(seen) != 4 {
		t.Errorf("of two sectors only these survived: %v", seen)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	m := pmemtest.New(4096, pmemtest.Options{Log: true})
	m.FailNextSync(pmemtest.ErrInjected)
	m.FailNextWrite(pmemtest.ErrInjected)
	if err := m.WriteAt([]byte{1}, 0); !errors.Is(err, pmemtest.ErrInjected) {
		t.Errorf("write: %v", err)
	}
	must(t, m.WriteAt([]byte{1}, 0))
	if err := m.Sync(); !errors.Is(err, pmemtest.ErrInjected) || m.Persistent(0, 1) {
		t.Errorf("sync: %v", err)
	}
	m.FlipBit(0, 7)
	if b := m.Clone().CrashKeepingUnsynced().Image(); b[0] != 0x81 {
		t.Errorf("flipped: %x", b[0])
	}
	m.FailReads(10, 20)
	if err := m.ReadAt(make([]byte, 11), 0); !errors.Is(err, pmemtest.ErrInjected) {
		t.Errorf("read: %v", err)
	}
	must(t, m.ReadAt(make([]byte, 10), 0))
	must(t, m.Sync())
	if e := m.Events(); len(e) != 2 || e[0] != (pmemtest.Event{Op: pmemtest.OpWrite, Len: 1}) || e[1].Op != pmemtest.OpSync || m.Syncs() != 1 {
		t.Errorf("events %v", e)
	}
	m.CutAtSync(2)
	must(t, m.Sync())
	must(t, m.WriteAt([]byte{9}, 5))
	if err := m.Sync(); !errors.Is(err, pmemtest.ErrPowerless) || !m.Dead() {
		t.Errorf("the second sync: %v", err)
	}
	if err := m.ReadAt(make([]byte, 1), 0); !errors.Is(err, pmemtest.ErrPowerless) {
		t.Errorf("read without power: %v", err)
	}
	if b := m.CrashClean().Image(); b[5] != 0 || b[0] != 0x81 {
		t.Errorf("survived: %v", b[:6])
	}
}

func TestSameSeedSameLoss(t *testing.T) {
	t.Parallel()
	m := pmemtest.New(1<<16, pmemtest.Options{})
	for i := range int64(500) {
		must(t, m.WriteAt([]byte{byte(i)}, i*100))
	}
	a := m.Clone().Crash(rand.New(rand.NewPCG(7, 7))).Image()
	b := m.Clone().Crash(rand.New(rand.NewPCG(7, 7))).Image()
	if !bytes.Equal(a, b) {
		t.Error("two crashes with one seed differ")
	}
}

// all is what readers see, what is persistent, what a sync would make so, and
// what some crashes would leave.
func all(t *testing.T, m *pmemtest.Medium) []byte {
	t.Helper()
	synced := m.Clone()
	must(t, synced.Sync())
	out := slices.Concat(m.Image(), m.Clone().CrashClean().Image(), synced.CrashClean().Image())
	for seed := range uint64(8) {
		out = append(out, m.Clone().Crash(rand.New(rand.NewPCG(seed, 5))).Image()...)
	}
	return out
}

// TestCopiesAreApart writes to a medium and its copies in every order: what one
// of them writes, syncs or flips, no other sees.
func TestCopiesAreApart(t *testing.T) {
	t.Parallel()
	const size = 3*4096 + 100
	changes := []func(m *pmemtest.Medium, b byte) error{
		func(m *pmemtest.Medium, b byte) error { return m.WriteAt([]byte{b, b}, 4095) }, // across pages
		func(m *pmemtest.Medium, b byte) error { return m.WriteAt([]byte{b}, 4096) },
		func(m *pmemtest.Medium, b byte) error { return m.WriteAt([]byte{b}, size-1) },
		func(m *pmemtest.Medium, b byte) error { m.FlipBit(4096, uint(b%8)); return nil },
		func(m *pmemtest.Medium, _ byte) error { return m.Sync() },
		func(m *pmemtest.Medium, b byte) error { return m.WriteAt(bytes.Repeat([]byte{b}, 8192), 0) },
	}
	copies := map[string]func(*pmemtest.Medium) *pmemtest.Medium{
		"clone":          (*pmemtest.Medium).Clone,
		"clean":          func(m *pmemtest.Medium) *pmemtest.Medium { return m.Clone().CrashClean() },
		"crash":          func(m *pmemtest.Medium) *pmemtest.Medium { return m.Clone().Crash(rand.New(rand.NewPCG(3, 4))) },
		"keeps unsynced": func(m *pmemtest.Medium) *pmemtest.Medium { return m.Clone().CrashKeepingUnsynced() },
	}
	for name, duplicate := range copies {
		for before := range len(changes) + 1 {
			m := pmemtest.Of(bytes.Repeat([]byte{0xaa}, size), pmemtest.Options{})
			for i, change := range changes[:before] {
				must(t, change(m, byte(i+1)))
			}
			other := duplicate(m)
			for i, pair := range [][2]*pmemtest.Medium{{m, other}, {other, m}} {
				kept := all(t, pair[1])
				for j, change := range changes {
					must(t, change(pair[0], byte(16+2*j+i)))
					if !bytes.Equal(all(t, pair[1]), kept) {
						t.Errorf("%s after %d changes: change %d of one is seen in the other", name, before, j)
					}
				}
			}
		}
	}
}

// TestCopiesAreApartInGoroutines is for the race detector: what copies share no
// one writes.
func TestCopiesAreApartInGoroutines(t *testing.T) {
	t.Parallel()
	m := pmemtest.Of(bytes.Repeat([]byte{0xaa}, 8192), pmemtest.Options{})
	var wg sync.WaitGroup
	for i := range byte(4) {
		other := m.Clone()
		wg.Go(func() {
			for off := range int64(8192 / 64) {
				if err := errors.Join(other.WriteAt([]byte{i}, 64*off), other.Sync()); err != nil {
					t.Error(err)
				}
				other = other.Clone().CrashClean()
			}
		})
		must(t, m.WriteAt([]byte{i}, int64(i)))
	}
	wg.Wait()
}

// reference is a medium written down the plain way: every version of every word
// that a crash may leave.
type reference struct {
	now   []byte
	words []map[string]bool
}

func newReference(size int) *reference {
	r := &reference{now: make([]byte, size), words: make([]map[string]bool, size/8)}
	r.sync(0, size)
	return r
}

func (r *reference) word(i int) string { return string(r.now[8*i : 8*i+8]) }

func (r *reference) sync(from, to int) {
	for i := from / 8; i < to/8; i++ {
		r.words[i] = map[string]bool{r.word(i): true}
	}
}

func (r *reference) write(p []byte, off int) {
	copy(r.now[off:], p)
	for i := off / 8; 8*i < off+len(p); i++ {
		r.words[i][r.word(i)] = true
	}
}

func (r *reference) flip(off int, bit uint) {
	r.now[off] ^= 1 << bit
	flipped := map[string]bool{}
	for w := range r.words[off/8] {
		b := []byte(w)
		b[off%8] ^= 1 << bit
		flipped[string(b)] = true
	}
	r.words[off/8] = flipped
}

// TestEveryVersionAndNoOther crashes media after random writes, syncs and flips,
// and wants of each word every version that may survive, and no other.
func TestEveryVersionAndNoOther(t *testing.T) {
	t.Parallel()
	const from, size = 896, 1152 // across pages
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 9))
		m, ref := pmemtest.New(size, pmemtest.Options{}), newReference(size)
		switch seed % 3 {
		case 1:
			m = m.CrashClean()
		case 2:
			m = pmemtest.Of(make([]byte, size), pmemtest.Options{})
		}
		for range 12 {
			switch off := from + rng.IntN(size-from); rng.IntN(8) {
			case 0:
				must(t, m.Sync())
				ref.sync(0, size)
			case 1:
				bit := uint(rng.IntN(8))
				m.FlipBit(int64(off), bit)
				ref.flip(off, bit)
			default:
				p := bytes.Repeat([]byte{byte(rng.IntN(256))}, 1+rng.IntN(size-off))
				must(t, m.WriteAt(p, int64(off)))
				ref.write(p, off)
			}
		}
		if !bytes.Equal(m.Image(), ref.now) {
			t.Fatalf("seed %d: readers see other bytes than were written", seed)
		}
		seen := make([]map[string]bool, size/8)
		for i := range seen {
			seen[i] = map[string]bool{}
		}
		for range 400 {
			image := m.Crash(rng).Image() // what one crash leaves, the next does not see
			for i := range seen {
				seen[i][string(image[8*i:8*i+8])] = true
			}
		}
		for i := range seen {
			if !maps.Equal(seen[i], ref.words[i]) {
				t.Fatalf("seed %d, word %d: survived %x, might %x", seed, i, slices.Sorted(maps.Keys(seen[i])), slices.Sorted(maps.Keys(ref.words[i])))
			}
		}
	}
}

// TestLies: what a sync has lied about is gone, whatever later syncs do; what is
// written again is not.
func TestLies(t *testing.T) {
	t.Parallel()
	for _, kind := range []pmemlog.Kind{pmemlog.KindFile, pmemlog.KindPmem} {
		m := pmemtest.New(4096, pmemtest.Options{Kind: kind})
		commit := func(b byte, off int64) { // one sync, or one fence
			must(t, m.WriteAt(bytes.Repeat([]byte{b}, 128), off))
			must(t, m.Sync())
		}
		commit(1, 0)
		m.LieAtSync(2)
		commit(2, 1024)
		commit(3, 2048)
		commit(4, 3072)
		if m.Image()[2048] != 3 || m.Persistent(2048, 128) || !m.Persistent(3072, 128) || m.Syncs() != 4 {
			t.Errorf("kind %s: after a lie: %d syncs", kind, m.Syncs())
		}
		left := m.Clone().Crash(rand.New(rand.NewPCG(1, 1))).Image()
		if left[0] != 1 || left[1024] != 2 || left[2048] != 0 || left[3072] != 4 {
			t.Errorf("kind %s: left are %d %d %d %d", kind, left[0], left[1024], left[2048], left[3072])
		}
		commit(3, 2048)
		m.LieFromSync(2)
		commit(5, 0)
		commit(6, 1024)
		commit(7, 3072)
		left = m.Crash(rand.New(rand.NewPCG(1, 1))).Image()
		if left[0] != 5 || left[1024] != 2 || left[2048] != 3 || left[3072] != 4 {
			t.Errorf("kind %s: from now on: left are %d %d %d %d", kind, left[0], left[1024], left[2048], left[3072])
		}
	}
}

func TestCutAtEvent(t *testing.T) {
	t.Parallel()
	m := pmemtest.New(4096, pmemtest.Options{})
	must(t, m.WriteAt([]byte{1}, 0))
	m.CutAtEvent(2)
	must(t, m.WriteAt([]byte{2}, 1))
	if err := m.WriteAt([]byte{3}, 2); !errors.Is(err, pmemtest.ErrPowerless) || !m.Dead() {
		t.Errorf("the second event: %v", err)
	}
	if b := m.CrashKeepingUnsynced().Image(); b[0] != 1 || b[1] != 2 || b[2] != 0 {
		t.Errorf("left are %v", b[:3])
	}
}
