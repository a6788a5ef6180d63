package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gravenio/graven/agent"
)

// fakeLibPMem is a program that says what pmem_baseline says.
func fakeLibPMem(t *testing.T, script string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, libpmemProgram), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestBenchPMemEndToEnd(t *testing.T) {
	t.Parallel()
	dir, pmemDir := t.TempDir(), t.TempDir()
	out := must(t, "bench", "pmem", "--ring", "4MiB", "--open-ring", "4MiB", "--appenders", "3", "--duration", "5ms", "--rounds", "2",
		"--dir", dir, "--pmem-dir", pmemDir, "--baseline", fakeLibPMem(t, `echo "$4 $5 1000.5"`), "-o", "json")
	r := &pmemResult{}
	if err := json.Unmarshal([]byte(out), r); err != nil {
		t.Fatalf("%v in:\n%s", err, out)
	}
	const onEach, onVolatile, onFile = 6, 1, 4
	if len(r.Items) != 3*onEach+onVolatile+onFile || r.Rounds != 2 || r.CPUs < 1 || r.Ring != 4<<20 {
		t.Fatalf("result:\n%s", out)
	}
	for _, i := range r.Items {
		if i.Graven == nil || i.Graven.Rate <= 0 || i.Graven.Time <= 0 || i.Graven.Bytes <= 0 {
			t.Errorf("%s: %+v", i.name(), i.Graven)
		}
		if (i.Scale > 0) != (i.Appenders > 1) {
			t.Errorf("%s: %v times one appender", i.name(), i.Scale)
		}
		if i.Beside == benchFio && i.Missing != "" { // it need not be installed
			continue
		}
		if i.Missing != "" || i.Baseline == nil || i.Ratio == nil || i.Ratio.Rate <= 0 || i.Ratio.Time <= 0 || i.Ratio.Bytes <= 0 {
			t.Errorf("%s beside %s: %+v, ratio %+v, missing %q", i.name(), i.Beside, i.Baseline, i.Ratio, i.Missing)
		}
		if i.Beside == benchLibPM && math.Abs(i.Baseline.Time-1000.5e-9) > 1e-12 {
			t.Errorf("%s: libpmem takes %v s, said 1000.5 ns", i.name(), i.Baseline.Time)
		}
	}
	checkEmpty(t, dir)
	checkEmpty(t, pmemDir)
}

func TestBenchPMemSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	out := must(t, "bench", "pmem", "--ring", "4MiB", "--open-ring", "4MiB", "--duration", "1ms", "--rounds", "1", "--media", "volatile",
		"--dir", t.TempDir(), "--pmem-dir", t.TempDir(), "--baseline", t.TempDir())
	for _, want := range []string{"missing: no pmem_baseline in ", "run make bench-baseline", "4 MiB rings", "volatile  append", "volatile  scan", "volatile  open", "graven/crc32c"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
}

func TestBenchPMemBaselineFails(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]string{
		"echo cannot map >&2; exit 1": "pmem_baseline: exit status 1: cannot map",
		"echo append 64":              `said "append 64\n", want append 64 and nanoseconds`,
		"echo copy 64 100":            "want append 64",
	} {
		var out, errs bytes.Buffer
		dir, pmemDir := t.TempDir(), t.TempDir()
		status := run(t.Context(), []string{
			"bench", "pmem", "--ring", "4MiB", "--open-ring", "4MiB", "--duration", "1ms", "--media", "volatile",
			"--dir", dir, "--pmem-dir", pmemDir, "--baseline", fakeLibPMem(t, script),
		}, streams{out: &out, err: &errs})
		if status != exitFailed || !strings.Contains(errs.String(), want) {
			t.Errorf("%s: exit status %d, said %q, want %q", script, status, errs.String(), want)
		}
		checkEmpty(t, dir)
		checkEmpty(t, pmemDir)
	}
}

func TestBenchPMemInterrupted(t *testing.T) {
	t.Parallel()
	dir, pmemDir := t.TempDir(), t.TempDir()
	p := start(t, nil, "bench", "pmem", "--ring", "4MiB", "--open-ring", "4MiB", "--appenders", "2", "--duration", "1ms", "--rounds", "1000", "--dir", dir, "--pmem-dir", pmemDir)
	p.await(t, `round 1 of 1000 done`)
	p.signal(t, syscall.SIGINT)
	if status := p.exit(t); status != exitFailed || !strings.Contains(p.stderr(), "interrupted") {
		t.Errorf("exit status %d:\n%s", status, p.stderr())
	}
	checkEmpty(t, dir)
	checkEmpty(t, pmemDir)
}

func TestBenchPMemFlags(t *testing.T) {
	t.Parallel()
	good := pmemBenchFlags{
		media: []string{agent.MediaFile}, appenders: 2, ring: 4 << 20, openRing: 4 << 20, rounds: 1, duration: time.Second, durability: "auto",
	}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*pmemBenchFlags){
		"--media needs at least one":           func(fl *pmemBenchFlags) { fl.media = nil },
		"--media is empty":                     func(fl *pmemBenchFlags) { fl.media = []string{""} },
		`--media is "tape"`:                    func(fl *pmemBenchFlags) { fl.media = []string{"tape"} },
		`--durability is "hope"`:               func(fl *pmemBenchFlags) { fl.durability = "hope" },
		"--appenders is 1: must be 2 to 256":   func(fl *pmemBenchFlags) { fl.appenders = 1 },
		"--ring is 1MiB: must be 4MiB":         func(fl *pmemBenchFlags) { fl.ring = 1 << 20 },
		"--open-ring is 65GiB: must be 4MiB":   func(fl *pmemBenchFlags) { fl.openRing = 65 << 30 },
		"--rounds is 0":                        func(fl *pmemBenchFlags) { fl.rounds = 0 },
		"--duration is 1µs: must be at least ": func(fl *pmemBenchFlags) { fl.duration = time.Microsecond },
	} {
		fl := good
		change(&fl)
		if err := fl.check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// A disk that takes longer for a write than --duration is measured all the same.
func TestFioIsGivenTimeForAWrite(t *testing.T) {
	t.Parallel()
	slow := func(write time.Duration) func(context.Context, time.Duration) (work, error) {
		return patiently(func(_ context.Context, d time.Duration) (work, error) {
			if d < write {
				return work{}, fmt.Errorf("%w: none in %v", errNoWrites, d)
			}
			return work{ops: 1, elapsed: d}, nil
		})
	}
	if w, err := slow(5*time.Millisecond)(t.Context(), time.Millisecond); err != nil || w.elapsed != 8*time.Millisecond {
		t.Errorf("a slow disk: %+v, %v", w, err)
	}
	if _, err := slow(time.Hour)(t.Context(), time.Millisecond); !errors.Is(err, errNoWrites) {
		t.Errorf("a stuck disk: %v", err)
	}
}

func TestParseFio(t *testing.T) {
	t.Parallel()
	w, err := parseFio([]byte("note: both iodepth >= 1\n" + `{"jobs":[{"error":0,"write":{"io_bytes":819200,"total_ios":200,"iops":400.0}}]}`))
	if err != nil || w.ops != 200 || w.bytes != 819200 || w.elapsed != 500*time.Millisecond {
		t.Errorf("%+v, %v", w, err)
	}
	for _, text := range []string{"", "fio: failed", "{", `{"jobs":[]}`, `{"jobs":[{"error":28,"write":{"total_ios":1,"iops":1}}]}`, `{"jobs":[{"write":{"total_ios":0,"iops":0}}]}`} {
		if w, err := parseFio([]byte(text)); err == nil {
			t.Errorf("%q was taken for %+v", text, w)
		}
	}
}
