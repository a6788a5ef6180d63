package main

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gravenio/graven/openapi"
)

func TestSizes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "512B": 512, "4096": 4096, "4KiB": 4096, "4 KiB": 4096, "256MiB": 256 << 20, "4GiB": 4 << 30, "1TiB": 1 << 40,
		"9223372036854775807": math.MaxInt64,
	} {
		got, err := parseSize(text)
		if err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "KiB", "-1", "1.5GiB", "4KB", "4k", "4kib", "4 4KiB", "0x10", "9223372036854775808", "9007199254740992KiB", "1KiBKiB"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("parseSize(%q) = %d, want an error", text, got)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 4096: "4 KiB", 1536: "1.5 KiB", 256 << 20: "256 MiB", 5 << 40: "5 TiB"} {
		if got := humanSize(n); got != want {
			t.Errorf("humanSize(%d) = %q, want %q", n, got, want)
		}
	}
}

// FuzzSize: what is read is written so that it reads the same.
func FuzzSize(f *testing.F) {
	for _, s := range []string{"", "0", "4KiB", "1TiB", "99999999999999999999", "-4", "4 MiB", "B"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := parseSize(text)
		if err != nil {
			return
		}
		if n < 0 {
			t.Fatalf("%q reads as %d", text, n)
		}
		s := size(n)
		if m, err := parseSize(s.String()); err != nil || m != n {
			t.Fatalf("%q reads as %d, is written as %q, reads as %d, %v", text, n, s.String(), m, err)
		}
	})
}

func TestHistogram(t *testing.T) {
	t.Parallel()
	var h histogram
	if got := h.quantile(0.5); got != 0 {
		t.Errorf("quantile of nothing = %v", got)
	}
	for i := 1; i <= 1000; i++ {
		h.add(time.Duration(i) * time.Microsecond)
	}
	if got := h.quantile(1); got != time.Millisecond || h.most != time.Millisecond {
		t.Errorf("the longest is %v, quantile(1) = %v, want 1ms", h.most, got)
	}
	h.add(-1)
	h.add(math.MaxInt64)
	if h.most != math.MaxInt64 {
		t.Errorf("the longest is %v", h.most)
	}
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Microsecond, 0.99: 990 * time.Microsecond} {
		if got := h.quantile(q); got < want*97/100 || got > want*104/100 {
			t.Errorf("quantile(%v) = %v, want about %v", q, got, want)
		}
	}
	for _, n := range []uint64{0, 1, 31, 32, 33, 1000, 1 << 40, math.MaxUint64} {
		b := bucketOf(n)
		if top := bucketTop(b); top < n || b > 0 && bucketTop(b-1) >= n {
			t.Errorf("%d is in bucket %d, which ends at %d", n, b, top)
		}
	}
}

func TestTrimSteps(t *testing.T) {
	t.Parallel()
	var s trimSteps
	s.last = 100
	s.mark(150, 100) // too near
	s.mark(200, 100)
	s.mark(299, 100)
	s.mark(420, 100)
	var got []uint64
	for lsn, ok := s.next(); ok; lsn, ok = s.next() {
		got = append(got, lsn)
	}
	if want := []uint64{200, 420}; !slices.Equal(got, want) {
		t.Errorf("steps %v, want %v", got, want)
	}
}

func TestShellWord(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"/usr/bin/graven": "/usr/bin/graven", "zone=z1": "zone=z1", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "$HOME": "'$HOME'",
	} {
		if got := shellWord(in); got != want {
			t.Errorf("shellWord(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestProblemsAreExplained(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		problem openapi.Problem
		status  int
		want    []string
	}{
		{
			openapi.Problem{Type: openapi.ProblemInvalidRequest, Detail: "bad", Fields: []openapi.FieldProblem{{Name: "name", Rule: "must be short"}}},
			exitUsage,
			[]string{"error: bad (invalid-request)", "  name: must be short", "hint: see `graven x --help`"},
		},
		{
			openapi.Problem{Type: openapi.ProblemNoPlacement, Detail: "no", Placement: &openapi.PlacementProblem{
				Rule: "media", Replicas: 3, Daemons: 4, Eligible: 1, Domains: 1, Removed: map[string]int{"media": 2, "down": 1},
			}},
			exitFailed,
			[]string{"asked for 3, fit 1 of 4 daemons in 1 failure domains; rule not met: media", "down ruled out 1", "media ruled out 2", "hint: "},
		},
		{
			openapi.Problem{Type: openapi.ProblemLogInUse, Title: "in use", Writer: &openapi.Writer{Host: "h1", PID: 12, Epoch: 3}},
			exitFailed,
			[]string{"error: in use (log-in-use)", "unnamed (process 12 on h1), epoch 3", "--takeover"},
		},
		{openapi.Problem{Type: openapi.ProblemBlank, Title: "Internal", Status: 500, RequestID: "r1"}, exitFailed, []string{"request r1"}},
	} {
		err := &openapi.ProblemError{Problem: tt.problem}
		var b strings.Builder
		report(&b, "graven x", err)
		for _, w := range tt.want {
			if !strings.Contains(b.String(), w) {
				t.Errorf("%s: %q lacks %q", tt.problem.Type, b.String(), w)
			}
		}
		if got := exitStatus(err); got != tt.status {
			t.Errorf("%s: exit status %d, want %d", tt.problem.Type, got, tt.status)
		}
	}
}

func TestLastLine(t *testing.T) {
	t.Parallel()
	name := t.TempDir() + "/log"
	if got := lastLine(name); got != "" {
		t.Errorf("of no file: %q", got)
	}
	writeFile(t, name, strings.Repeat("level=INFO\n", 4000)+"error: first\nhint: x\nerror: pool is locked\nhint: y\n")
	if got := lastLine(name); got != "pool is locked" {
		t.Errorf("got %q", got)
	}
}
