package sim

import (
	"flag"
	"math/rand/v2"
	"strings"
	"testing"
)

var (
	deeper  = flag.Int("depth", 0, "how many more choices the exhaustive search looks ahead")
	choices = flag.String("choices", "", "choices that TestExhaustiveReplay repeats after the story of the search -search")
	named   = flag.String("search", "open", "the search whose story -choices go on from")
)

// search is one start and one budget of the exhaustive search.
type search struct {
	name  string
	story string // choices that lead to its start
	left  budget
	depth int // choices from there on
	hasty int // the same under -short
}

// The starts. Replicas are present and empty at first; daemons are n0 to n2.
const (
	nothing = "start:w1"
	// opened: the first writer has sealed all three.
	opened = nothing + " do:w1>n0 do:w1>n1 do:w1>n0 do:w1>n0 do:w1>n1 do:w1>n2 do:w1>n2"
	// passed: its record has come to n0 alone when the second opens on n1 and n2.
	passed = opened + " append:w1 do:w1>n0 start:w2 do:w2>n1 do:w2>n2 do:w2>n1 do:w2>n1 do:w2>n2"
	// loading: its record is acknowledged by n1 and n2 when the second, having heard
	// from n0 and n1, is about to load from n1.
	loading = opened + " append:w1 do:w1>n1 do:w1>n1 do:w1>n2 do:w1>n2 start:w2 do:w2>n0 do:w2>n1"
)

// searches are what TestExhaustive goes through, all of it.
func searches() []search {
	return []search{
		{name: "to-the-end", story: nothing, left: budget{records: 1}, depth: 99, hasty: 10},
		{name: "open", story: opened, left: budget{records: 3}, depth: 11, hasty: 8},
		{name: "crash", story: opened, left: budget{records: 3, crashes: 1}, depth: 8, hasty: 6},
		{name: "flip", story: opened, left: budget{records: 3, crashes: 1, flips: 1, hints: 1}, depth: 9, hasty: 6},
		{name: "links", story: opened, left: budget{records: 3, breaks: 1, late: 1}, depth: 8, hasty: 6},
		{name: "beginning-crash", story: nothing, left: budget{records: 3, crashes: 1}, depth: 9, hasty: 6},
		{name: "passed-crash", story: passed, left: budget{records: 3, crashes: 1}, depth: 7, hasty: 5},
		{name: "loading-crash", story: loading, left: budget{records: 2, crashes: 1}, depth: 9, hasty: 6},
	}
}

// start brings a new explorer to where the search begins.
func (s *search) start(t *testing.T) (*explorer, state) {
	t.Helper()
	e := newExplorer()
	st, broken, _ := e.run(e.begin(s.left), strings.Fields(s.story))
	if broken != nil {
		t.Fatalf("%s: %s violated by its story: %s", s.name, broken.Invariant, broken.Detail)
	}
	return e, st
}

// TestExhaustive goes through all that can happen to the small model within the
// depth. A violation comes with the shortest list of choices that leads to it;
// TestExhaustiveReplay repeats it.
func TestExhaustive(t *testing.T) {
	t.Parallel()
	for _, s := range searches() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			depth := s.depth
			if testing.Short() || raced {
				depth = s.hasty
			}
			e, st := s.start(t)
			e.explore(st, depth+*deeper)
			t.Log(&e.res)
			if broken := e.res.Violation; broken != nil {
				list := strings.Join(e.res.Choices, " ")
				t.Fatalf("%s: %s violated: %s\n%s-run TestExhaustiveReplay -v -search %s -choices %q", s.name, broken.Invariant, broken.Detail, told(t, &s, list), s.name, list)
			}
		})
	}
}

// told renders what happens in a list of choices.
func told(t *testing.T, s *search, list string) string {
	t.Helper()
	if *quiet {
		return ""
	}
	e, st := s.start(t)
	_, _, story := e.run(st, strings.Fields(list))
	return strings.Join(story, "\n") + "\n"
}

// TestExhaustiveReplay repeats -choices.
func TestExhaustiveReplay(t *testing.T) {
	if *choices == "" {
		t.Skip("needs -choices")
	}
	for _, s := range searches() {
		if s.name != *named {
			continue
		}
		e, st := s.start(t)
		st, broken, story := e.run(st, strings.Fields(*choices))
		if broken == nil {
			broken = e.audit(&st, smallWriters)
		}
		t.Logf("\n%s", strings.Join(story, "\n"))
		if broken != nil {
			t.Fatalf("%s: %s violated: %s", s.name, broken.Invariant, broken.Detail)
		}
		return
	}
	t.Fatalf("no search is named %q", *named)
}

// TestLookedUpIsTrue walks at random through states that were found by all sorts
// of ways, with daemons that take each step in truth: they must answer what was
// looked up, and be in the state that was looked up.
func TestLookedUpIsTrue(t *testing.T) {
	t.Parallel()
	left := budget{records: 3, crashes: 1, flips: 1, breaks: 1, late: 1, hints: 1}
	e := newExplorer()
	taken := 0
	for seed := range uint64(100) {
		var daemons [smallReplicas]*daemon
		for i := range daemons {
			daemons[i] = newDaemon(i)
		}
		e.watch = func(from, to int32, o op, answer int32) {
			if to == 0 {
				return
			}
			taken++
			d := daemons[e.daemons.all[from].index]
			rep := d.do(o, &e.requests.all[o.request])
			if got, want := keyOf(&rep), keyOf(&e.replies.all[answer]); got != want {
				t.Fatalf("seed %d: daemon %d answers %s, looked up was %s", seed, d.index, got, want)
			}
			if e.daemons.of[d.sum(e.counted)] != to {
				t.Fatalf("seed %d: daemon %d is in another state than was looked up", seed, d.index)
			}
		}
		walk(t, e, e.begin(left), seed)
	}
	if len(e.daemonDid) >= taken {
		t.Errorf("%d steps of daemons were taken for %d: nothing was looked up", len(e.daemonDid), taken)
	}
}

// walk takes choices at random.
func walk(t *testing.T, e *explorer, st state, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 40 {
		all := e.choices(&st)
		if len(all) == 0 {
			return
		}
		next, broken, ok := e.take(st, all[rng.IntN(len(all))])
		if broken != nil {
			t.Fatalf("seed %d: %s violated: %s", seed, broken.Invariant, broken.Detail)
		}
		if ok {
			st = next
		}
	}
}
