package main

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"time"
)

// What is measured, by the names of the JSON.
const (
	benchLog    = "log"
	benchFabric = "fabric"
)

// benchResult is the result of the benchmarks.
type benchResult struct {
	Version  string       `json:"version"`
	CPUs     int          `json:"cpus"`
	Block    int64        `json:"block_bytes"`
	Replicas int          `json:"replicas"`
	Ack      int          `json:"ack_quorum"`
	Rounds   int          `json:"rounds"`
	Seconds  float64      `json:"seconds_per_measurement"`
	Items    []*benchItem `json:"items"`
}

// benchItem is one medium at one depth.
type benchItem struct {
	Media  string       `json:"media"`
	Depth  int          `json:"depth"`
	Log    *benchFigure `json:"log,omitempty"`
	Fabric *benchFigure `json:"fabric,omitempty"`
	Ratio  *benchRatio  `json:"ratio,omitempty"`

	figures map[string][]benchFigure // of each round
}

// benchFigure is one measurement, or the median of several.
type benchFigure struct {
	Rate float64 `json:"ops_per_second"`
	P50  float64 `json:"p50_seconds"`
	P99  float64 `json:"p99_seconds"`
	CPU  float64 `json:"cpu_seconds_per_op,omitempty"` // absent where it is not known
}

// benchRatio is the log's figures over those of the bare exchange, each the
// median over the rounds.
type benchRatio struct {
	Rate float64 `json:"ops_per_second"`
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	CPU  float64 `json:"cpu_per_op,omitempty"`
}

func newBenchResult(fl *benchFlags) *benchResult {
	return &benchResult{
		Version: version, CPUs: runtime.NumCPU(), Block: int64(fl.block), Replicas: fl.replicas,
		Ack: fl.ack, Rounds: fl.rounds, Seconds: fl.duration.Seconds(),
	}
}

func (r *benchResult) item(media string, depth int) *benchItem {
	for _, i := range r.Items {
		if i.Media == media && i.Depth == depth {
			return i
		}
	}
	i := &benchItem{Media: media, Depth: depth, figures: map[string][]benchFigure{}}
	r.Items = append(r.Items, i)
	return i
}

// add takes one round's measurement in.
func (i *benchItem) add(name string, m *sample) {
	f := benchFigure{
		Rate: float64(m.ops) / m.elapsed.Seconds(),
		P50:  m.latency.quantile(0.50).Seconds(), P99: m.latency.quantile(0.99).Seconds(),
		CPU: m.cpu.Seconds() / float64(m.ops),
	}
	i.figures[name] = append(i.figures[name], f)
	log, fabric := i.figures[benchLog], i.figures[benchFabric]
	i.Log, i.Fabric = medianFigure(log), medianFigure(fabric)
	n := min(len(log), len(fabric))
	if n == 0 {
		return
	}
	ratio := func(of func(f *benchFigure) float64) float64 {
		return median(n, func(round int) float64 { return of(&log[round]) / of(&fabric[round]) })
	}
	i.Ratio = &benchRatio{Rate: ratio(rateOf), P50: ratio(p50Of), P99: ratio(p99Of), CPU: ratio(cpuOf)}
}

func rateOf(f *benchFigure) float64 { return f.Rate }
func p50Of(f *benchFigure) float64  { return f.P50 }
func p99Of(f *benchFigure) float64  { return f.P99 }
func cpuOf(f *benchFigure) float64  { return f.CPU }

// medianFigure takes the median of each figure by itself.
func medianFigure(rounds []benchFigure) *benchFigure {
	if len(rounds) == 0 {
		return nil
	}
	of := func(get func(f *benchFigure) float64) float64 {
		return median(len(rounds), func(round int) float64 { return get(&rounds[round]) })
	}
	return &benchFigure{Rate: of(rateOf), P50: of(p50Of), P99: of(p99Of), CPU: of(cpuOf)}
}

// median returns the middle one of n values, or the mean of the two.
func median(n int, value func(i int) float64) float64 {
	values := make([]float64, n)
	for i := range values {
		values[i] = value(i)
	}
	slices.Sort(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

func (r *benchResult) rows(t *table) {
	fmt.Fprintf(t.w, "%s blocks, %d replicas, %d acknowledge; %d CPUs; medians of %d rounds of %v\n\n",
		humanSize(r.Block), r.Replicas, r.Ack, r.CPUs, r.Rounds, seconds(r.Seconds))
	t.row("MEDIA", "DEPTH", "", "OPS/S", "P50", "P99", "CPU/OP")
	for _, i := range r.Items {
		i.figure(t, benchLog, i.Log)
		i.figure(t, benchFabric, i.Fabric)
		if i.Ratio != nil {
			t.row(i.Media, i.Depth, "log/fabric", times(i.Ratio.Rate), times(i.Ratio.P50), times(i.Ratio.P99), times(i.Ratio.CPU))
		}
	}
}

func (i *benchItem) figure(t *table, name string, f *benchFigure) {
	if f == nil {
		return
	}
	cpu := ""
	if f.CPU > 0 {
		cpu = spell(f.CPU)
	}
	t.row(i.Media, i.Depth, name, strconv.FormatFloat(f.Rate, 'f', 0, 64), spell(f.P50), spell(f.P99), cpu)
}

// spell writes seconds with three digits.
func spell(s float64) string { return roundDuration(time.Duration(s * float64(time.Second))).String() }

func times(ratio float64) string {
	if ratio == 0 {
		return ""
	}
	return strconv.FormatFloat(ratio, 'f', 2, 64) + "x"
}
