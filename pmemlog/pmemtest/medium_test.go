package pmemtest_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
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
	if !m.Persistent(0, 64) || m.Persistent(990, 64) {
		t.Error("Persistent")
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
