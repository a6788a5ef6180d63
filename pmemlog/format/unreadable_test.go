package format

import (
	"errors"
	"testing"
)

var errBadPage = errors.New("bad page")

// holed is a ring of which some bytes can't be read. It counts what is asked.
type holed struct {
	Ring
	bad     map[int64]error // by page
	views   int
	stopped bool
}

func (h *holed) View(off int64, n int) ([]byte, error) {
	h.views++
	for page := off / beyondPage; page*beyondPage < off+int64(n); page++ {
		if err := h.bad[page]; err != nil {
			h.stopped = errors.Is(err, ErrStopped)
			return nil, err
		}
	}
	return h.Ring.View(off, n)
}

// A page that can't be read hides its own records and none beside them.
func TestRecordsBesideABadPageTestify(t *testing.T) {
	t.Parallel()
	const capacity = 1 << 20
	full := newLog(capacity)
	full.commit = 4096
	full.add(1, capacity/128)
	const all, inPage = capacity / 128, beyondPage / 128
	for name, tt := range map[string]struct {
		pages  []int64
		beyond uint64
	}{
		"the first page":     {[]int64{0}, all - inPage},
		"one in the middle":  {[]int64{0, 100}, all - 2*inPage},
		"two side by side":   {[]int64{0, 100, 101}, all - 3*inPage},
		"the last":           {[]int64{0, 255}, all - 2*inPage},
		"the ends of chunks": {[]int64{0, 63, 64, 127}, all - 4*inPage},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src := &holed{Ring: full.Ring, bad: map[int64]error{}}
			for _, p := range tt.pages {
				src.bad[p] = errBadPage
			}
			res := scan(t, src, ScanInput{})
			if res.Last.LSN != 0 || !errors.Is(res.Stop, errBadPage) || res.Beyond != tt.beyond || !res.Suspect() {
				t.Errorf("tail %d (%v), %d records beyond, want 0 and %d", res.Last.LSN, res.Stop, res.Beyond, tt.beyond)
			}
		})
	}
}

// A medium of which nothing can be read any more costs a look a page, and no
// memory.
func TestUnreadableRingIsBounded(t *testing.T) { //nolint:paralleltest // it counts allocations
	const capacity, pages = 4 << 20, 4 << 20 / beyondPage
	src := &holed{Ring: make(Ring, capacity), bad: map[int64]error{}}
	for p := range int64(pages) {
		src.bad[p] = errBadPage
	}
	s := scanner{src: src}
	s.begin()
	// Of several runs, since it counts what the runtime itself allocates, too.
	if allocs := testing.AllocsPerRun(10, func() {
		src.views = 0
		if err := s.lookBeyond(); err != nil {
			t.Error(err)
		}
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	if src.views > pages+8 {
		t.Errorf("%d looks at %d pages", src.views, pages)
	}
}

func TestSourceStopsTheScan(t *testing.T) {
	t.Parallel()
	const capacity = 1 << 20
	l := newLog(capacity).add(1, 64) // two pages
	for name, page := range map[string]int64{"in the log": 1, "behind it": 200} {
		src := &holed{Ring: l.Ring, bad: map[int64]error{page: ErrStopped}}
		if _, err := Scan(src, ScanInput{}, nil); !errors.Is(err, ErrStopped) {
			t.Errorf("%s: %v", name, err)
		}
		if !src.stopped {
			t.Errorf("%s: the page was never asked for", name)
		}
	}
}

func TestBoundarySaysWhyTheLogEnds(t *testing.T) {
	t.Parallel()
	l := newLog(1<<20).add(1, 64)
	src := &holed{Ring: l.Ring, bad: map[int64]error{1: errBadPage}}
	if _, err := Boundary(src, TrimPoint{}, 40*128); !errors.Is(err, errBadPage) {
		t.Errorf("behind a bad page: %v", err)
	}
	if _, err := Boundary(l.Ring, TrimPoint{}, 64); !errors.Is(err, ErrNoRecord) {
		t.Errorf("within a record: %v", err)
	}
}
