package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gravenio/graven/agent"
)

func TestBenchLogEndToEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out := must(t, "bench", "log", "--duration", "100ms", "--rounds", "1", "--depth", "1,4", "--dir", dir, "-o", "json")
	r := decodeBench(t, out)
	if r.Block != 4096 || r.Replicas != 3 || r.Ack != 2 || r.CPUs < 1 || len(r.Items) != 4 {
		t.Fatalf("result:\n%s", out)
	}
	for _, i := range r.Items {
		checkFigure(t, i, "log", i.Log)
		checkFigure(t, i, "fabric", i.Fabric)
		if i.Ratio == nil || i.Ratio.Rate <= 0 || i.Ratio.P50 <= 0 || i.Ratio.P99 <= 0 || i.Ratio.CPU <= 0 {
			t.Errorf("media %s depth %d: ratio %+v", i.Media, i.Depth, i.Ratio)
		}
	}
	checkEmpty(t, dir)
}

func TestBenchFabricEndToEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out := must(t, "bench", "fabric", "--duration", "20ms", "--rounds", "2", "--depth", "3", "--block", "100000",
		"--replicas", "2", "--ack", "2", "--dir", dir)
	for _, want := range []string{"97.7 KiB blocks, 2 replicas, 2 acknowledge", "volatile  3", "file      3"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
	checkEmpty(t, dir)
}

// TestBenchOnRunningCluster also shows that the log is gone afterwards.
func TestBenchOnRunningCluster(t *testing.T) {
	t.Parallel()
	c := startDev(t, t.TempDir(), "--daemons", "3", "--media", "volatile")
	out := must(t, "bench", "log", "--api", c.api, "--duration", "50ms", "--rounds", "1", "--depth", "2", "--media", "volatile", "-o", "json")
	r := decodeBench(t, out)
	if len(r.Items) != 1 || r.Items[0].Log == nil || r.Items[0].Log.Rate <= 0 || r.Items[0].Log.CPU != 0 {
		t.Errorf("result:\n%s", out)
	}
	if out := must(t, "log", "ls", "--api", c.api, "-o", "json"); strings.Contains(out, "bench") {
		t.Errorf("the log is still there:\n%s", out)
	}
}

func TestBenchInterrupted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, nil, "bench", "log", "--duration", "50ms", "--rounds", "1000", "--media", "file", "--dir", dir)
	p.await(t, `round 1 of 1000 done`)
	p.signal(t, syscall.SIGINT)
	if status := p.exit(t); status != exitFailed {
		t.Errorf("exit status %d:\n%s", status, p.stderr())
	}
	if !strings.Contains(p.stderr(), "interrupted") {
		t.Errorf("stderr:\n%s", p.stderr())
	}
	checkEmpty(t, dir)
}

func TestBenchWrongUsage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ args, want string }{
		{"log --depth 0", "--depth is 0: must be 1 to 1024"},
		{"log --depth 1,2000", "--depth is 2000"},
		{"log --block 2MiB", "--block is 2MiB"},
		{"log --replicas 8", "--replicas is 8: must be 1 to 7"},
		{"log --ack 1", "--ack is 1: must be 2, a majority of the replicas, to 3"},
		{"fabric --media tape", "media"},
		{"fabric --media ,", "--media is empty"},
		{"fabric --rounds 0", "--rounds is 0"},
		{"fabric --duration 0s", "--duration is 0s"},
		{"fabric now", `unexpected argument "now"`},
		{"serve --ring 1KiB", "at most --ring"},
	} {
		var out, errs bytes.Buffer
		status := run(t.Context(), append([]string{"bench"}, strings.Fields(tt.args)...), streams{out: &out, err: &errs})
		if status != exitUsage || !strings.Contains(errs.String(), tt.want) {
			t.Errorf("bench %s: exit status %d, said %q; want %q", tt.args, status, errs.String(), tt.want)
		}
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		values []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{5, 1}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 9, 2}, 3}} {
		if got := median(len(tt.values), func(i int) float64 { return tt.values[i] }); got != tt.want {
			t.Errorf("median of %v is %v, want %v", tt.values, got, tt.want)
		}
	}
}

func decodeBench(t *testing.T, out string) *benchResult {
	t.Helper()
	r := &benchResult{}
	if err := json.Unmarshal([]byte(out), r); err != nil {
		t.Fatalf("%v in:\n%s", err, out)
	}
	return r
}

func checkFigure(t *testing.T, i *benchItem, name string, f *benchFigure) {
	t.Helper()
	if f == nil || f.Rate <= 0 || f.P50 <= 0 || f.P99 < f.P50 || f.CPU <= 0 {
		t.Errorf("media %s depth %d: %s %+v", i.Media, i.Depth, name, f)
	}
}

func checkEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left in the folder: %v (%v)", left, err)
	}
}

// BenchmarkLog appends 4 KiB records to a log with three replicas, two
// acknowledging, in processes of their own. The figures are for benchstat;
// `graven bench log` sets them in relation to what the machine gives.
func BenchmarkLog(b *testing.B) {
	fl := benchFlags{depths: []int{1, 32}, block: 4 << 10, replicas: 3, ack: 2, duration: time.Second, rounds: 1, media: []string{agent.MediaVolatile}, why: "auto"}
	self, err := exec.LookPath("graven")
	if err != nil {
		b.Fatal(err)
	}
	for _, media := range []string{agent.MediaVolatile, agent.MediaFile} {
		b.Run("media="+media, func(b *testing.B) {
			m := &bench{app: &app{streams: streams{err: os.Stderr}}, fl: &fl, self: self, media: media, dir: b.TempDir()}
			s, err := m.startLog(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			defer s.close()
			if err := m.warm(b.Context(), s); err != nil {
				b.Fatal(err)
			}
			for _, depth := range fl.depths {
				b.Run(fmt.Sprintf("depth=%d", depth), func(b *testing.B) { benchLane(b, s, depth) })
			}
		})
	}
}

func benchLane(b *testing.B, s *subject, depth int) {
	b.SetBytes(4 << 10)
	b.ReportAllocs()
	before, err := cpuTime(s.pids)
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	m, err := drive(b.Context(), s.lane, depth, time.Hour, b.N)
	b.StopTimer()
	after, cpuErr := cpuTime(s.pids)
	if err != nil || cpuErr != nil {
		b.Fatal(err, cpuErr)
	}
	b.ReportMetric(float64((after-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(m.latency.quantile(0.50).Nanoseconds()), "p50-ns")
	b.ReportMetric(float64(m.latency.quantile(0.99).Nanoseconds()), "p99-ns")
}
