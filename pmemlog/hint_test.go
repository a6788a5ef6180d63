package pmemlog_test

import (
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

// TestHintFallsBehindByAPage: appends to persistent memory leave the hint behind, by
// less than a page of what they have acknowledged, and move it a page at a time. It is
// the persistent one that counts, so what the power leaves is looked at.
func TestHintFallsBehindByAPage(t *testing.T) {
	t.Parallel()
	const page, record = 4096, 320
	m := pmemtest.New(1<<20, pmemtest.Options{Kind: pmemlog.KindPmem})
	p := get[*pmemlog.Pool](t)(pmemlog.Format(m, formatOptions()))
	t.Cleanup(func() { _ = p.Close() })
	r := get[*pmemlog.Replica](t)(p.Create(spec(1, 256<<10)))
	w := openWriter(t, r, 1)
	moved, last := 0, hintOnMedia(t, m).LSN
	for range 400 {
		before := w.chain.LSN
		w.appendNow(record - 64)
		hint := hintOnMedia(t, m).LSN
		if hint > before || before >= hint+page {
			t.Fatalf("after an append at %[2]d the persistent hint is %[1]d: must be less than a page before that, and not beyond", hint, before)
		}
		if hint != last {
			moved++
		}
		last = hint
	}
	if most := 400*record/page + 1; moved < most/2 || moved > most {
		t.Errorf("the hint moved %d times in 400 appends, want at most %d", moved, most)
	}
	must(t, r.PersistHint())
	if hint := hintOnMedia(t, m).LSN; hint != w.chain.LSN {
		t.Errorf("the hint is %d behind PersistHint, the tail is %d", hint, w.chain.LSN)
	}
}

// TestHintLineFollowsEachHeader: a line names the header that it belongs to, and tells
// if that header is lost. So the first append that has something to tell brings one.
func TestHintLineFollowsEachHeader(t *testing.T) {
	t.Parallel()
	m := pmemtest.New(1<<20, pmemtest.Options{Kind: pmemlog.KindPmem})
	p := get[*pmemlog.Pool](t)(pmemlog.Format(m, formatOptions()))
	t.Cleanup(func() { _ = p.Close() })
	w := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(1, 256<<10))), 1)
	for range 5 {
		w.appendNow(100)
		must(t, w.s.Trim(w.point())) // a header
		w.appendNow(100)
		acked := w.chain.LSN
		w.appendNow(100)
		if hint := hintOnMedia(t, m).LSN; hint != acked {
			t.Errorf("the persistent hint is %d, want %d, as the second append behind a header brings it", hint, acked)
		}
	}
}
