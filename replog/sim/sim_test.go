package sim

import (
	"flag"
	"fmt"
	"testing"
)

var (
	firstSeed = flag.Uint64("seed", 1, "first seed of the random simulation")
	seeds     = flag.Int("seeds", 300, "number of seeds of the random simulation")
	quiet     = flag.Bool("quiet", false, "print no trace of a violation")
)

// shapes are the replica sets and ack quorums that the worlds take in turn.
func shapes() []Config {
	return []Config{{Replicas: 3, Ack: 2}, {Replicas: 3, Ack: 2}, {Replicas: 3, Ack: 2}, {Replicas: 5, Ack: 3}, {Replicas: 3, Ack: 3}, {Replicas: 2, Ack: 2}, {Replicas: 1, Ack: 1}}
}

func worldOf(seed uint64) Config {
	s := shapes()
	cfg := s[seed%uint64(len(s))]
	cfg.Seed = seed
	return cfg
}

// TestSim runs worlds with the product's true rules: none may break a promise.
// A violation prints its seed and its trace; -seed S -seeds 1 replays it.
func TestSim(t *testing.T) {
	var sum Stats
	for i := range uint64(*seeds) {
		cfg := worldOf(*firstSeed + i)
		res := Run(cfg)
		sum.Add(res.Stats)
		if res.Violation == nil {
			continue
		}
		trace := ""
		if cfg.Trace = true; !*quiet {
			trace = fmt.Sprint(Run(cfg))
		}
		t.Fatalf("%v\n%s", res.Violation, trace)
	}
	t.Logf("seeds %d to %d: %+v", *firstSeed, *firstSeed+uint64(*seeds)-1, sum)
}

// TestReplay makes sure that a seed tells the same story twice.
func TestReplay(t *testing.T) {
	t.Parallel()
	for seed := range uint64(7) {
		cfg := worldOf(seed)
		cfg.Trace = true
		a, b := fmt.Sprint(Run(cfg)), fmt.Sprint(Run(cfg))
		if a != b || a == "" {
			t.Fatalf("seed %d ran in two ways:\n%s\nand\n%s", seed, a, b)
		}
	}
}
