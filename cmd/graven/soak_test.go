package main

import (
	"flag"
	"testing"
	"time"

	"github.com/gravenio/graven/internal/soak"
)

var (
	soakFor  = flag.Duration("soak", 10*time.Second, "how long TestSoak works; `make soak` takes SOAKTIME")
	soakSeed = flag.Uint64("soakseed", 0, "seed of TestSoak; 0 takes one from the clock")
)

// Many clients work on a cluster whose servers, agents and etcd members are
// killed, hung and stopped. Then everything is compared, exactly.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes most of a minute")
	}
	seed := *soakSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	report, err := soak.Run(t.Context(), soak.Options{
		Dir: t.ArtifactDir(), For: *soakFor, Seed: seed, Logf: t.Logf,
	})
	t.Log(report)
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	if len(report.Differences) > 0 {
		t.Errorf("seed %d: %d differences", seed, len(report.Differences))
	}
}
