package pmemlog_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

// unaligned writes bytes of any place and length; what the pool itself writes is
// whole lines.
func unaligned(rng *rand.Rand) pmemlog.Span {
	p := make([]byte, 1+rng.IntN(300))
	for i := range p {
		p[i] = byte(rng.Uint32())
	}
	return pmemlog.Span{Off: int64(rng.IntN(3000)), Bytes: p}
}

// On persistent memory a write is persistent when it has returned.
func TestCrashMemoryWrite(t *testing.T) {
	t.Parallel()
	for try := range *crashTries {
		rng := seeded(t, baseSeed()<<32+uint64(try))
		m := pmemtest.New(4096, pmemtest.Options{Kind: pmemlog.KindPmem})
		for range 20 {
			if s, o := unaligned(rng), unaligned(rng); rng.IntN(2) == 0 {
				must(t, m.WriteAt(s.Bytes, s.Off))
			} else {
				must(t, m.Persist([]pmemlog.Span{s, o}))
			}
			if !bytes.Equal(m.Clone().Crash(rng).Image(), m.Image()) {
				t.Fatalf("seed %d try %d: what was written is not persistent", baseSeed(), try)
			}
		}
	}
}

func TestCrashMemoryZero(t *testing.T) {
	t.Parallel()
	for try := range *crashTries {
		rng := seeded(t, baseSeed()<<32+uint64(try))
		m := pmemtest.New(4096, pmemtest.Options{Kind: pmemlog.KindPmem})
		must(t, m.WriteAt(bytes.Repeat([]byte{7}, 4096), 0))
		off := rng.Int64N(4000)
		must(t, m.PMem().Zero(off, 1+rng.Int64N(4096-off)))
		if !bytes.Equal(m.Clone().Crash(rng).Image(), m.Image()) {
			t.Fatalf("seed %d try %d: what was zeroed is not persistent", baseSeed(), try)
		}
	}
}

// What a process that was killed has left in the cache is persistent once it has
// been written back, wherever in a write it was killed.
func TestCrashMemoryWriteBack(t *testing.T) {
	t.Parallel()
	for try := range *crashTries {
		for event := 1; ; event++ {
			rng := seeded(t, baseSeed()<<32+uint64(try))
			m := pmemtest.New(4096, pmemtest.Options{Kind: pmemlog.KindPmem})
			m.CutAtEvent(event)
			s := unaligned(rng)
			returned := m.WriteAt(s.Bytes, s.Off) == nil
			m = m.CrashKeepingUnsynced()
			must(t, m.WriteBack(s.Off, int64(len(s.Bytes))))
			must(t, m.Persist(nil))
			if !bytes.Equal(m.Clone().Crash(rng).Image(), m.Image()) {
				t.Fatalf("seed %d try %d, killed before event %d: what was written back is not persistent", baseSeed(), try, event)
			}
			if returned {
				break
			}
		}
	}
}
