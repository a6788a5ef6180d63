package sim

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	firstSeed = flag.Uint64("seed", 1, "first seed of the random simulation")
	seeds     = flag.Int("seeds", 300, "number of seeds of the random simulation")
	lasting   = flag.Duration("for", 0, "run fresh seeds for this long instead of a number of them, and report")
	quiet     = flag.Bool("quiet", false, "print no trace of a violation")
)

// TestMain lets garbage gather: a world's heap is tiny, and collecting it all the
// time costs more than the world.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}

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
	if *lasting > 0 {
		soak(t, *firstSeed, *lasting)
		return
	}
	var sum Stats
	for i := range uint64(*seeds) {
		cfg := worldOf(*firstSeed + i)
		res := Run(cfg)
		sum.Add(res.Stats)
		if res.Violation != nil {
			t.Fatalf("%v\n%s", res.Violation, traceOf(cfg))
		}
	}
	t.Logf("seeds %d to %d: %+v", *firstSeed, *firstSeed+uint64(*seeds)-1, sum)
}

func traceOf(cfg Config) string {
	if *quiet {
		return ""
	}
	cfg.Trace = true
	return fmt.Sprint(Run(cfg))
}

// soak runs seeds on all cores until the time is over, it is interrupted, or a
// promise is broken, and says how far it has come.
func soak(t *testing.T, first uint64, d time.Duration) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	begun := time.Now()
	var mu sync.Mutex
	var sum Stats
	var done int
	report := func() {
		mu.Lock()
		defer mu.Unlock()
		took := time.Since(begun)
		fmt.Printf("%8s  %d seeds from %d, %.0f events/s  %+v\n", took.Round(time.Second), done, first, float64(sum.Events)/took.Seconds(), sum)
	}
	var next atomic.Uint64
	next.Store(first)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for ctx.Err() == nil {
				cfg := worldOf(next.Add(1) - 1)
				res := Run(cfg)
				mu.Lock()
				sum.Add(res.Stats)
				done++
				mu.Unlock()
				if res.Violation != nil {
					t.Errorf("%v\n%s", res.Violation, traceOf(cfg))
					cancel()
				}
			}
		})
	}
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
			report()
		case <-ctx.Done():
		}
	}
	wg.Wait()
	report()
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
