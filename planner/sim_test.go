package planner

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

var simSeed = flag.Uint64("seed", 0, "run the simulation of this seed only; 0 for random ones")

// TestSimulation lets things happen to clusters drawn at random, and then lets each
// come to rest: every plan keeps every promise all the while, and in the end nothing
// is left that could be repaired. A run's name is its seed.
func TestSimulation(t *testing.T) {
	t.Parallel()
	runs := 3 * worlds
	if testing.Short() {
		runs = worlds
	}
	if *simSeed != 0 {
		runs = 1
	}
	var seen tally
	t.Run("runs", func(t *testing.T) {
		for i := range runs {
			seed := *simSeed
			if seed == 0 {
				seed = rand.Uint64()/worlds*worlds + uint64(i%worlds)
			}
			t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, seed)
				w.run()
				seen.add(w.saw)
			})
		}
	})
	if *simSeed == 0 && !t.Failed() {
		seen.complete(t)
	}
}

// run is a time in which things happen, and one in which nothing does.
func (w *world) run() {
	steps := 200
	if w.many {
		steps = 30
	}
	for range steps {
		w.step()
		w.work()
		if w.oneIn(2) {
			w.harm()
		}
	}
	w.calmDown()
	for last, i := w.now, 0; w.now-last < 3*Hour; i++ { // longer than any rest
		if i > 5000 {
			w.fatalf("it does not come to rest")
		}
		if plan := w.step(); moves(&plan) {
			last = w.now
		}
		w.work()
	}
	w.atRest()
}

// moves says whether a plan begins or ends anything but scrubs, which never cease.
func moves(p *Plan) bool {
	return slices.ContainsFunc(p.Start, func(s Step) bool { return s.Kind != Scrub }) ||
		slices.ContainsFunc(p.Ends, func(e End) bool { return !strings.HasPrefix(e.ID, string(Scrub)) })
}

// calmDown ends the time in which things happen: nobody pauses, enough daemons are
// up for the brake, and what hangs goes on.
func (w *world) calmDown() {
	w.calm, w.paused = true, false
	clear(w.hangs)
	w.account()
	for i := range w.v.Daemons {
		d := &w.v.Daemons[i]
		d.Up = d.Up || w.braked()
		d.Draining = d.Draining && !w.many
	}
}

// atRest says that nothing is under way, and that what waits waits for what no
// time brings.
func (w *world) atRest() {
	w.account()
	plan := w.plan()
	for i := range w.v.Operators {
		if o := &w.v.Operators[i]; o.State == Running && o.Kind != Scrub {
			w.fatalf("operator %+v is left", *o)
		}
	}
	for i := range w.v.Logs {
		if r := w.v.Logs[i].learner(); r != nil {
			w.fatalf("learner %+v is left", *r)
		}
	}
	for _, s := range plan.Queue {
		if s.Kind != Scrub && w.m.why(w.m.causes[s.ID]) == "limits" {
			w.fatalf("%+v waits, and nothing is under way", s)
		}
	}
}

// tally counts over all runs what was seen to happen, so that the simulation does
// not become narrow unnoticed.
type tally struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *tally) add(saw map[string]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = make(map[string]int)
	}
	for what, n := range saw {
		c.n[what] += n
	}
}

func (c *tally) complete(t *testing.T) {
	t.Helper()
	var never []string
	for _, r := range []Reason{Lost, Missing, Damaged, Down, ReadOnly, FailureDomain, Draining, NoWriter, Due} {
		never = append(never, "begun: "+string(r))
	}
	for _, s := range []State{Done, Failed, Cancelled} {
		never = append(never, "ended: "+string(s))
	}
	for _, why := range []string{"more replicas", "paused", "brake", "limits", "no daemon fits"} {
		never = append(never, "waits: "+why)
	}
	never = append(never, "dropped", "more than is listed", "no progress", "a learner without an operator", "what it rests for")
	never = slices.DeleteFunc(never, func(what string) bool { return c.n[what] > 0 })
	if len(never) > 0 {
		t.Errorf("never seen: %q", never)
	}
	for _, what := range slices.Sorted(maps.Keys(c.n)) {
		t.Logf("%6d %s", c.n[what], what)
	}
}
