package agent

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gravenio/graven/pmemlog/format"
)

func bareLane() *lane {
	return &lane{wake: make(chan struct{}, 1), rests: map[format.ID]*rest{}}
}

// A log that can't be recovered is tried again, though it is asked for all the
// time, not before a pause that grows; one that is done rests, too, and one that
// is under way is not begun a second time. The clock is simulated.
func TestLaneRests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := bareLane()
		s := step{log: newID(), replica: newID()}
		again := func(err error, long time.Duration) (n int) {
			for begun := time.Now(); time.Since(begun) < long; time.Sleep(100 * time.Millisecond) {
				l.asked([]step{s})
				if next, ok := l.next(); ok {
					if next != s || !l.busy() {
						t.Errorf("got %+v, busy %v", next, l.busy())
					}
					l.asked([]step{s})
					if _, ok := l.next(); ok {
						t.Error("it is begun while it is under way")
					}
					l.finished(&s, err)
					n++
				}
			}
			return n
		}
		failed := errors.New("no")
		if n := again(failed, time.Minute); n < 4 || n > 8 {
			t.Errorf("tried %d times in the first minute", n)
		}
		if n := again(failed, time.Hour); n < 40 || n > 90 {
			t.Errorf("tried %d times in the hour after", n)
		}
		time.Sleep(2 * longestRest)
		if n := again(nil, doneRest); n != 1 {
			t.Errorf("begun %d times within the rest of one that was done", n)
		}
	})
}

// What is no longer asked for leaves the queue, the rest keeps its order, and
// nothing grows without bound.
func TestLaneIsBounded(t *testing.T) {
	t.Parallel()
	l := bareLane()
	var steps []step
	for range 2 * maxRests {
		steps = append(steps, step{log: newID(), replica: newID()})
	}
	l.asked(steps)
	if len(l.waiting) != maxWaiting {
		t.Errorf("%d wait, at most %d", len(l.waiting), maxWaiting)
	}
	l.asked([]step{steps[5], steps[2]})
	for _, want := range []step{steps[2], steps[5]} {
		if got, ok := l.next(); !ok || got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if s, ok := l.next(); ok {
		t.Errorf("%+v waits, and nobody asks for it", s)
	}
	for i := range steps {
		l.finished(&steps[i], errors.New("no"))
	}
	if len(l.rests) != maxRests {
		t.Errorf("%d rests, at most %d", len(l.rests), maxRests)
	}
}
