package main

import (
	"fmt"
	"runtime"
	"strconv"
)

// pmemResult is the result of `graven bench pmem`.
type pmemResult struct {
	Version string      `json:"version"`
	CPUs    int         `json:"cpus"`
	Rounds  int         `json:"rounds"`
	Seconds float64     `json:"seconds_per_measurement"`
	Ring    int64       `json:"ring_bytes"`
	Notes   []string    `json:"notes,omitempty"`
	Items   []*pmemItem `json:"items"`
}

// pmemItem is one thing that was measured on one medium.
type pmemItem struct {
	Media     string `json:"media"`
	What      string `json:"what"` // append, one log, batch, scan or open
	Size      int64  `json:"size_bytes"`
	Appenders int    `json:"appenders"`

	Graven   *pmemFigure `json:"graven,omitempty"`
	Beside   string      `json:"beside"` // libpmem, fio or crc32c
	Baseline *pmemFigure `json:"baseline,omitempty"`
	Missing  string      `json:"missing,omitempty"` // why there is no baseline
	Ratio    *pmemRatio  `json:"ratio,omitempty"`
	Scale    float64     `json:"times_one_appender,omitempty"` // records a second over those of one appender

	figures map[string][]pmemFigure // of each round
}

// pmemFigure is one measurement, or the median of several.
type pmemFigure struct {
	Rate  float64 `json:"ops_per_second"`
	Time  float64 `json:"seconds_per_op"` // elapsed over operations, of all appenders
	Bytes float64 `json:"bytes_per_second"`
}

// pmemRatio is graven's figures over the baseline's, each the median over the
// rounds.
type pmemRatio struct {
	Rate  float64 `json:"ops_per_second"`
	Time  float64 `json:"seconds_per_op"`
	Bytes float64 `json:"bytes_per_second"`
}

func newPMemResult(fl *pmemBenchFlags) *pmemResult {
	return &pmemResult{Version: version, CPUs: runtime.NumCPU(), Rounds: fl.rounds, Seconds: fl.duration.Seconds(), Ring: int64(fl.ring)}
}

// name says what is measured, for people.
func (i *pmemItem) name() string {
	return fmt.Sprintf("media %s: %s of %s by %d", i.Media, i.What, humanSize(i.Size), i.Appenders)
}

// add takes one round's measurement in.
func (i *pmemItem) add(name string, w work) {
	s := w.elapsed.Seconds()
	i.figures[name] = append(i.figures[name], pmemFigure{Rate: float64(w.ops) / s, Time: s / float64(w.ops), Bytes: float64(w.bytes) / s})
	graven, beside := i.figures[benchGraven], i.figures[i.Beside]
	i.Graven, i.Baseline = medianPMem(graven), medianPMem(beside)
	n := min(len(graven), len(beside))
	if n == 0 {
		return
	}
	ratio := func(of func(f *pmemFigure) float64) float64 {
		return median(n, func(round int) float64 { return of(&graven[round]) / of(&beside[round]) })
	}
	i.Ratio = &pmemRatio{Rate: ratio(pmemRateOf), Time: ratio(pmemTimeOf), Bytes: ratio(pmemBytesOf)}
}

func pmemRateOf(f *pmemFigure) float64  { return f.Rate }
func pmemTimeOf(f *pmemFigure) float64  { return f.Time }
func pmemBytesOf(f *pmemFigure) float64 { return f.Bytes }

// medianPMem takes the median of each figure by itself.
func medianPMem(rounds []pmemFigure) *pmemFigure {
	if len(rounds) == 0 {
		return nil
	}
	of := func(get func(f *pmemFigure) float64) float64 {
		return median(len(rounds), func(round int) float64 { return get(&rounds[round]) })
	}
	return &pmemFigure{Rate: of(pmemRateOf), Time: of(pmemTimeOf), Bytes: of(pmemBytesOf)}
}

func (r *pmemResult) rows(t *table) {
	fmt.Fprintf(t.w, "%s rings; %d CPUs; medians of %d rounds of %v\n", humanSize(r.Ring), r.CPUs, r.Rounds, seconds(r.Seconds))
	for _, n := range r.Notes {
		fmt.Fprintf(t.w, "note: %s\n", n)
	}
	for _, missing := range r.missing() {
		fmt.Fprintf(t.w, "missing: %s\n", missing)
	}
	fmt.Fprintln(t.w)
	t.row("MEDIA", "WHAT", "SIZE", "BY", "", "OPS/S", "TIME/OP", "BYTES/S")
	for _, i := range r.Items {
		i.figure(t, benchGraven, i.Graven)
		i.figure(t, i.Beside, i.Baseline)
		switch {
		case i.Ratio != nil:
			i.row(t, benchGraven+"/"+i.Beside, times(i.Ratio.Rate), times(i.Ratio.Time), times(i.Ratio.Bytes))
		case i.Missing != "":
			i.row(t, i.Beside, "missing", "", "")
		}
		if i.Scale > 0 {
			i.row(t, "many/one", times(i.Scale), "", "")
		}
	}
}

// scale says how much more many appenders get done than one.
func (r *pmemResult) scale() {
	for _, many := range r.Items {
		for _, one := range r.Items {
			if many.Appenders > 1 && one.Appenders == 1 && one.What == pmemAppend && one.Media == many.Media && one.Size == many.Size && one.Graven != nil && many.Graven != nil {
				many.Scale = many.Graven.Rate / one.Graven.Rate
			}
		}
	}
}

// missing lists why baselines are, each reason once.
func (r *pmemResult) missing() []string {
	var out []string
	seen := map[string]bool{}
	for _, i := range r.Items {
		if i.Missing != "" && !seen[i.Missing] {
			seen[i.Missing] = true
			out = append(out, i.Missing)
		}
	}
	return out
}

func (i *pmemItem) figure(t *table, name string, f *pmemFigure) {
	if f != nil {
		i.row(t, name, strconv.FormatFloat(f.Rate, 'f', 0, 64), spell(f.Time), humanSize(int64(f.Bytes)))
	}
}

func (i *pmemItem) row(t *table, name string, figures ...any) {
	t.row(append([]any{i.Media, i.What, humanSize(i.Size), i.Appenders, name}, figures...)...)
}
