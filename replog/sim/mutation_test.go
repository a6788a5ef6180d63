package sim

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// patch weakens one rule at one place of the product's source.
type patch struct {
	file string // relative to the module
	old  string // stands in it exactly once
	new  string
}

// mutation is one rule, weakened wherever it is enforced.
type mutation struct {
	rule    string
	patches []patch
}

// mutationSeeds bounds the worlds in which a weakened rule must show, beside the
// scenarios. The true rules keep all promises in the same worlds.
const mutationSeeds = 2000

// TestMutation weakens the rules of append and open one at a time and expects
// the simulation to notice. A rule that could be taken away without effect would
// be redundant, or the simulation too weak.
func TestMutation(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a simulation for every rule")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("true-rules", func(t *testing.T) {
		t.Parallel()
		if broken := runMutated(t, root, mutation{}); broken != "" {
			t.Fatal(broken)
		}
	})
	for _, m := range mutations() {
		t.Run(strings.ReplaceAll(m.rule, " ", "-"), func(t *testing.T) {
			t.Parallel()
			broken := runMutated(t, root, m)
			if broken == "" {
				t.Fatalf("without the rule %q all promises were kept in %d worlds", m.rule, mutationSeeds)
			}
			t.Logf("without the rule %q: %s", m.rule, broken)
			isPromise(t, broken)
		})
	}
}

// isPromise says that what was broken is one of the promises.
func isPromise(t *testing.T, broken string) {
	t.Helper()
	if !regexp.MustCompile(`: (I[1-6]|liveness) violated`).MatchString(broken) {
		t.Error("that is none of the promises")
	}
}

// runMutated returns the violation that a simulation of the weakened source
// finds, or nothing.
func runMutated(t *testing.T, root string, m mutation) string {
	binary := buildMutated(t, root, m)
	if broken := play(t, binary, "-test.run", "^TestScenario$"); broken != "" {
		return broken
	}
	return play(t, binary, "-test.run", "^TestSim$", "-seeds", fmt.Sprint(mutationSeeds))
}

// buildMutated builds the tests of the weakened source and returns the binary.
func buildMutated(t *testing.T, root string, m mutation) string {
	t.Helper()
	dir := t.TempDir()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for i, p := range m.patches {
		path := filepath.Join(root, p.file)
		from := path
		if earlier, ok := overlay.Replace[path]; ok {
			from = earlier
		}
		src, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(src), p.old); n != 1 {
			t.Fatalf("%s has %d places that read %q: the rule has moved, mend the mutation", p.file, n, p.old)
		}
		to := filepath.Join(dir, fmt.Sprintf("%d.go", i))
		if err := os.WriteFile(to, []byte(strings.Replace(string(src), p.old, p.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[path] = to
	}
	list, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	config, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "sim.test")
	if err := os.WriteFile(config, list, 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "test", "-c", "-ldflags=-s -w", "-overlay", config, "-o", binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the mutation: %v\n%s", err, out)
	}
	return binary
}

// play runs a part of the simulation and returns the violation that it finds;
// of several, one that is more than a log which does not go on.
func play(t *testing.T, binary string, args ...string) string {
	out, err := exec.Command(binary, append(args, "-quiet", "-test.timeout", "5m")...).CombinedOutput()
	if err == nil {
		return ""
	}
	broken := ""
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "violated") && (broken == "" || strings.Contains(broken, ": liveness violated")) {
			broken = strings.TrimSpace(line)
		}
	}
	if broken != "" {
		return broken
	}
	t.Fatalf("the mutated simulation ended without naming an invariant: %v\n%s", err, out)
	return ""
}

// TestMutationsFit says at once, and in the quick tests too, which mutation has
// lost its place.
func TestMutationsFit(t *testing.T) {
	t.Parallel()
	for _, m := range mutations() {
		changed := map[string]string{}
		for _, p := range m.patches {
			src, ok := changed[p.file]
			if !ok {
				b, err := os.ReadFile(filepath.Join("..", "..", p.file))
				if err != nil {
					t.Fatal(err)
				}
				src = string(b)
			}
			if n := strings.Count(src, p.old); n != 1 {
				t.Errorf("%s: %s has %d places that read %q", m.rule, p.file, n, p.old)
			}
			changed[p.file] = strings.Replace(src, p.old, p.new, 1)
		}
	}
}
