package pmemlog_test

import (
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

// hinting is a replica with a ring of 8 MiB, so that its hint falls behind as far as
// that of any.
func hinting(t *testing.T, kind pmemlog.Kind) (*pmemtest.Medium, *writer) {
	t.Helper()
	m := pmemtest.New(16<<20, pmemtest.Options{Kind: kind})
	p := get[*pmemlog.Pool](t)(pmemlog.Format(m, formatOptions()))
	t.Cleanup(func() { _ = p.Close() })
	return m, openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(1, 8<<20))), 1)
}

func kinds() []pmemlog.Kind { return []pmemlog.Kind{pmemlog.KindFile, pmemlog.KindPmem} }

// TestHintFallsBehind: appends leave the hint behind, by less than 256 KiB of what
// they have acknowledged, and move it by as much. It is the persistent one that counts,
// so what the power leaves is looked at.
func TestHintFallsBehind(t *testing.T) {
	t.Parallel()
	const lag, record, appends = 256 << 10, 4 << 10, 800
	for _, kind := range kinds() {
		m, w := hinting(t, kind)
		moved, last := 0, hintOnMedia(t, m).LSN
		for range appends {
			before := w.chain.LSN
			w.appendNow(record - 64)
			hint := hintOnMedia(t, m).LSN
			if hint > before || before >= hint+lag {
				t.Fatalf("%s: after an append at %d the persistent hint is %d: must be less than %d before that, and not beyond", kind, before, hint, lag)
			}
			if hint != last {
				moved++
			}
			last = hint
		}
		if most := appends*record/lag + 1; moved < most/2 || moved > most {
			t.Errorf("%s: the hint moved %d times in %d appends, want at most %d", kind, moved, appends, most)
		}
		must(t, w.s.Replica().PersistHint())
		if hint := hintOnMedia(t, m).LSN; hint != w.chain.LSN {
			t.Errorf("%s: the hint is %d behind PersistHint, the tail is %d", kind, hint, w.chain.LSN)
		}
	}
}

// TestHintNext: the next flush carries the hint along, once.
func TestHintNext(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds() {
		m, w := hinting(t, kind)
		for range 3 {
			w.appendNow(100)
			w.appendNow(100)
			w.appendNow(100)
			acked := w.chain.LSN
			w.s.Replica().HintNext()
			w.appendNow(100)
			w.appendNow(100)
			if hint := hintOnMedia(t, m).LSN; hint != acked {
				t.Errorf("%s: the persistent hint is %d, want %d, as the append that was told to has brought it", kind, hint, acked)
			}
		}
	}
}

// TestHintLineFollowsEachHeader: a line names the header that it belongs to, and tells
// if that header is lost. So the first append that has something to tell brings one.
func TestHintLineFollowsEachHeader(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds() {
		m, w := hinting(t, kind)
		for range 5 {
			w.appendNow(100)
			must(t, w.s.Trim(w.point())) // a header
			w.appendNow(100)
			acked := w.chain.LSN
			w.appendNow(100)
			if hint := hintOnMedia(t, m).LSN; hint != acked {
				t.Errorf("%s: the persistent hint is %d, want %d, as the second append behind a header brings it", kind, hint, acked)
			}
		}
	}
}
