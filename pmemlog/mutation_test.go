package pmemlog_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mutationTries bounds the random losses at each boundary under which a missing
// call must show. With all calls the same losses do no harm.
const mutationTries = 12

// watched are the tests that notice a site which no crash of a simulated medium
// can show.
func watched() map[string]string {
	return map[string]string{
		"device.go:device.zero#1":         "^TestCreateSyncsAsItZeroes$",
		"file.go:File.Sync#1":             "^TestFileSyncIsWritten$",
		"header.go:Replica.renewHeader#1": "Scrub",
		"mapping.go:mapping.Flush#1":      "^TestMsyncIsWritten$",
		"mapping.go:mapping.Stream#1":     "^TestMsyncIsWritten$",
		"mapping.go:mapping.Zero#2":       "^TestMsyncIsWritten$",
		"mapping.go:mapping.Rewrite#1":    "^TestRewriteIsWritten$",
		"directory.go:formatDirectory#1":  "^TestFormatPersistsOnePartAfterTheOther$",
		"superblock.go:layOut#1":          "^TestClaimIsWholeOrNothing$",
	}
}

// unnoticed are the sites that no test can notice, with the reason.
func unnoticed() map[string]string {
	const (
		folder = "whether the disk has a file's name or its blocks shows only when a real disk loses power"
		cpu    = "what an instruction has made the CPU's caches do shows only when a real machine loses power; package persist tests that it is the right instruction"
		dax    = "only a device-dax gets here, which takes the hardware"
	)
	return map[string]string{
		"device.go:device.writeAndSync#1": "only volatile pools take what has arrived without being asked to persist it, and they have nothing to make persistent",
		"mapping.go:mapping.Fence#1":      cpu,
		"mapping.go:mapping.Flush#2":      cpu,
		"mapping.go:mapping.Zero#1":       dax,
		"mapping.go:mapping.put#1":        dax,
		"newfile.go:publish#1":            folder,
		"pmemfile.go:mapNew#1":            folder,
	}
}

// TestMutation takes away, one at a time, each call that makes something
// persistent, and expects the crash tests to notice. A call that could be taken
// away without effect would be redundant, or the tests too weak. The calls are
// found in the source, so a new one needs no entry here.
func TestMutation(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the tests once more and runs them for every sync, flush and fence")
	}
	t.Parallel()
	all := findSites(t)
	binary := buildMutants(t, all)
	t.Run("all-calls", func(t *testing.T) {
		t.Parallel()
		if noticed := runMutant(t, binary, "", ""); noticed != "" {
			t.Fatal(noticed)
		}
	})
	tests, reasons := watched(), unnoticed()
	for _, m := range mutants(all) {
		test, reason := ofSite(tests, m), ofSite(reasons, m)
		t.Run(m, func(t *testing.T) {
			t.Parallel()
			if reason != "" {
				t.Skip("can't be noticed: " + reason)
			}
			noticed := runMutant(t, binary, m, test)
			for again := 0; noticed == "" && test != "" && again < 4; again++ { // the system may have written in time, unasked
				noticed = runMutant(t, binary, m, test)
			}
			if noticed == "" {
				t.Fatalf("without the call %s nothing was lost", m)
			}
			t.Logf("without the call: %s", noticed)
		})
	}
	maps.Copy(tests, reasons)
	for name := range tests {
		if !slices.Contains(mutants(all), name) {
			t.Errorf("%s is no call that makes something persistent: it has moved, mend the table", name)
		}
	}
}

// ofSite looks a mutant up, or the site of which it leaves out one round.
func ofSite(table map[string]string, mutant string) string {
	site, _, _ := strings.Cut(mutant, "@")
	return cmp.Or(table[mutant], table[site])
}

// mutants names what can be left out: each site, and of one in a loop the first
// round and the second by themselves.
func mutants(all sites) []string {
	var names []string
	for _, file := range slices.Sorted(maps.Keys(all)) {
		for _, s := range all[file] {
			names = append(names, s.name)
			if s.looped {
				names = append(names, s.name+"@1", s.name+"@2")
			}
		}
	}
	return names
}

// leaveOut is the source that the mutated package has beside its own.
const leaveOut = `package pmemlog

import (
	"fmt"
	"os"
)

var leftOut = os.Getenv("PMEMLOG_LEAVE_OUT")

func unlessLeftOut(site string, round *int, call func() error) error {
	if round != nil {
		*round++
		if leftOut == fmt.Sprintf("%s@%d", site, *round) {
			return nil
		}
	}
	if leftOut == site {
		return nil
	}
	return call()
}
`

// buildMutants builds the tests of a package in which the environment says which
// site to leave out. The product itself has no such switch.
func buildMutants(t *testing.T, all sites) string {
	t.Helper()
	here, dir := get[string](t)(os.Getwd()), t.TempDir()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	put := func(name, source string) {
		to := filepath.Join(dir, name)
		must(t, os.WriteFile(to, []byte(source), 0o600))
		overlay.Replace[filepath.Join(here, name)] = to
	}
	put("leave_out.go", leaveOut)
	for name, list := range all {
		put(name, mutate(string(get[[]byte](t)(os.ReadFile(name))), list))
	}
	config, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "pmemlog.test")
	must(t, os.WriteFile(config, get[[]byte](t)(json.Marshal(overlay)), 0o600))
	build := exec.Command("go", "test", "-c", "-ldflags=-s -w", "-overlay", config, "-o", binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the mutants: %v\n%s", err, out)
	}
	return binary
}

// mutate wraps each site of a source.
func mutate(source string, list []site) string {
	edits := map[int]string{} // what is put in at which byte
	for _, s := range list {
		round := "nil"
		if s.looped {
			round = "&rounds" + fmt.Sprint(s.begin)
			edits[s.body] += fmt.Sprintf(" var rounds%d int;", s.begin)
		}
		before, after := "func() error { return ", " })"
		if s.silent {
			before, after = "func() error { ", "; return nil })"
		}
		edits[s.begin] += fmt.Sprintf("unlessLeftOut(%q, %s, %s", s.name, round, before)
		edits[s.end] += after
	}
	var out strings.Builder
	at := 0
	for _, next := range slices.Sorted(maps.Keys(edits)) {
		out.WriteString(source[at:next] + edits[next])
		at = next
	}
	return out.String() + source[at:]
}

// runMutant runs the crash tests, or another one, without a site, and returns what
// they notice first.
func runMutant(t *testing.T, binary, leftOut, test string) string {
	t.Helper()
	run := exec.Command(binary, "-test.run", cmp.Or(test, "^TestCrash"), "-test.v", "-test.failfast", "-test.parallel=1",
		"-test.timeout=5m", "-seed", fmt.Sprint(baseSeed()), "-tries", fmt.Sprint(mutationTries))
	run.Env = append(os.Environ(), "PMEMLOG_LEAVE_OUT="+leftOut, "GOMAXPROCS=1")
	out, err := run.CombinedOutput()
	if err == nil && test != "" && bytes.Contains(out, []byte("--- SKIP: ")) {
		t.Skipf("%s is skipped here:\n%s", test, out)
	}
	if err == nil {
		return ""
	}
	if !bytes.Contains(out, []byte("--- FAIL: ")) {
		t.Fatalf("the mutated tests ended without naming what failed: %v\n%s", err, out)
	}
	return firstComplaint(string(out))
}

// firstComplaint returns what a failed test said first, with its name.
func firstComplaint(out string) string {
	name, said := "", ""
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if said == "" && strings.Contains(line, "_test.go:") {
			said = line[:min(len(line), 400)]
		}
		if failed, ok := strings.CutPrefix(line, "--- FAIL: "); ok && name == "" {
			name = failed
		}
	}
	return name + " " + said
}
