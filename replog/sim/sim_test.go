package sim

import (
	"flag"
	"testing"
)

var (
	firstSeed = flag.Uint64("seed", 1, "first seed of the random simulation")
	seeds     = flag.Int("seeds", 200, "number of seeds of the random simulation")
)

func TestSim(t *testing.T) {
	var sum Stats
	for i := range uint64(*seeds) {
		res := Run(Config{Seed: *firstSeed + i})
		if res.Violation != nil {
			t.Fatalf("%v\n%s", res.Violation, Run(Config{Seed: *firstSeed + i, Trace: true}))
		}
		sum.Events += res.Stats.Events
		sum.Opens += res.Stats.Opens
		sum.Acks += res.Stats.Acks
		sum.Crashes += res.Stats.Crashes
		sum.Cuts += res.Stats.Cuts
		sum.Breaks += res.Stats.Breaks
		sum.Flips += res.Stats.Flips
		sum.Trims += res.Stats.Trims
	}
	t.Logf("%+v", sum)
}
