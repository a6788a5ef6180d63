package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/gravenio/graven/agent"
	"github.com/gravenio/graven/pmemlog"
)

// benchFlags are the flags of `graven bench log` and `graven bench fabric`.
type benchFlags struct {
	depths   []int
	block    size
	replicas int
	ack      int
	media    []string
	rounds   int
	duration time.Duration
	dir      string
	why      string // stores on pmem last
	running  bool   // use the cluster that --api names
}

// Bounds of the benchmarks.
const (
	maxBenchDepth = 1024
	maxBenchBlock = 1 << 20
)

func newBench(a *app) *cobra.Command {
	return group("bench", "Measure a log, and the bare exchange beside it",
		"Measure a log, and the bare exchange of the same bytes beside it, on this machine.",
		newBenchLog(a), newBenchFabric(a), newBenchPMem(a), newBenchServe(a))
}

func newBenchLog(a *app) *cobra.Command {
	var fl benchFlags
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Measure appends to a log beside a bare exchange of the same bytes",
		Long: `Measure appends to a log of a cluster that is started for it and removed afterwards
(with --api on the command line: of that cluster). Each round measures the bare
exchange of ` + "`graven bench fabric`" + ` too, in turns with the log; the ratios are medians
over the rounds. CPU is user and system time of all processes on the path.`,
		Example: `  graven bench log
  graven bench log --depth 1,8,64 --media file --rounds 5 -o json`,
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		// Asked before the environment is applied: a GRAVEN_API that was set for
		// other commands must not put this load on that cluster.
		fl.running = cmd.Flags().Changed("api")
		return exactly()(cmd, args)
	}
	fl.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return a.bench(cmd.Context(), fl, true) }
	return cmd
}

func newBenchFabric(a *app) *cobra.Command {
	var fl benchFlags
	cmd := &cobra.Command{
		Use:   "fabric",
		Short: "Measure a bare exchange: blocks to some processes, answers from a quorum",
		Long: `Measure what this machine's TCP, processes and disk give without a log: a block is
sent to each of some processes, which answer 64 bytes, and an operation is done when
--ack of them have. On media file they write each block to a file and answer after
an fdatasync, one for all that wait.`,
		Example: `  graven bench fabric
  graven bench fabric --depth 1 --media volatile --replicas 1`,
		Args: exactly(),
	}
	fl.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return a.bench(cmd.Context(), fl, false) }
	return cmd
}

func (fl *benchFlags) register(cmd *cobra.Command) {
	fl.block = 4 << 10
	f := cmd.Flags()
	f.IntSliceVar(&fl.depths, "depth", []int{1, 32}, "operations under way at a time; several are measured one after the other")
	f.Var(&fl.block, "block", "payload of an operation, at most 1MiB")
	f.IntVar(&fl.replicas, "replicas", 3, "copies, each in a process of its own, 1 to 7")
	f.IntVar(&fl.ack, "ack", 0, "copies that an operation waits for (default a majority)")
	f.StringSliceVar(&fl.media, "media", []string{agent.MediaVolatile, agent.MediaFile}, "`MEDIA` to measure: volatile, file, pmem (with --dir on persistent memory; the bare exchange keeps its blocks in memory)")
	durabilityFlag(f, &fl.why)
	f.IntVar(&fl.rounds, "rounds", 3, "how often everything is measured, in turns")
	f.DurationVar(&fl.duration, "duration", 2*time.Second, "how long each measurement takes")
	f.StringVar(&fl.dir, "dir", "", "`FOLDER` on the disk to measure; what is made in it is removed (default the system's for temporary files)")
}

func (fl *benchFlags) check() error {
	if len(fl.depths) == 0 || len(fl.media) == 0 {
		return usagef("--depth and --media need at least one value")
	}
	for _, d := range fl.depths {
		if d < 1 || d > maxBenchDepth {
			return usagef("--depth is %d: must be 1 to %d", d, maxBenchDepth)
		}
	}
	for _, m := range fl.media {
		if m == "" {
			return usagef("--media is empty: must be volatile, file or pmem")
		}
		if err := oneOf("media", m, agent.MediaVolatile, agent.MediaFile, agent.MediaPmem); err != nil {
			return err
		}
	}
	if slices.Contains(fl.media, agent.MediaPmem) || fl.why != string(pmemlog.DurabilityAuto) {
		if err := checkPoolMedia(agent.MediaPmem, fl.why); err != nil {
			return err
		}
	}
	switch {
	case fl.block < 1 || fl.block > maxBenchBlock:
		return usagef("--block is %s: must be 1 byte to 1MiB", &fl.block)
	case fl.replicas < 1 || fl.replicas > 7:
		return usagef("--replicas is %d: must be 1 to 7", fl.replicas)
	case fl.rounds < 1 || fl.rounds > 1000:
		return usagef("--rounds is %d: must be 1 to 1000", fl.rounds)
	case fl.duration < time.Millisecond:
		return usagef("--duration is %v: must be at least 1ms", fl.duration)
	}
	majority := fl.replicas/2 + 1
	if fl.ack = cmp.Or(fl.ack, majority); fl.ack < majority || fl.ack > fl.replicas {
		return usagef("--ack is %d: must be %d, a majority of the replicas, to %d, all of them", fl.ack, majority, fl.replicas)
	}
	return nil
}

// ring returns the size of the ring, in bytes: the log's capacity, or the length
// of the bare exchange's files. All that is under way fits several times.
func (fl *benchFlags) ring() int64 {
	deepest := 0
	for _, d := range fl.depths {
		deepest = max(deepest, d)
	}
	const least, step = 64 << 20, 1 << 20
	need := 4 * int64(deepest) * (int64(fl.block) + 4<<10)
	return max(least, (need+step-1)/step*step)
}

// bench measures everything and shows the result.
func (a *app) bench(ctx context.Context, fl benchFlags, log bool) error {
	if err := fl.check(); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this binary: %w", err)
	}
	r := newBenchResult(&fl)
	for _, media := range fl.media {
		b := &bench{app: a, fl: &fl, self: self, media: media}
		if err := b.run(ctx, r, log); err != nil {
			return fmt.Errorf("media %s: %w", media, err)
		}
	}
	return a.showValue(r, r.rows)
}

// bench is the measuring of one medium.
type bench struct {
	*app
	fl    *benchFlags
	self  string // path of this binary
	media string
	dir   string // for temporary files
}

// run measures every depth in every round.
func (b *bench) run(ctx context.Context, r *benchResult, log bool) (err error) {
	if b.dir, err = os.MkdirTemp(b.fl.dir, "graven-bench-"); err != nil {
		return fmt.Errorf("--dir: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	var subjects []*subject
	defer func() {
		for _, s := range subjects {
			s.close()
		}
	}()
	fabric, err := b.startFabric(ctx)
	if err != nil {
		return err
	}
	subjects = append(subjects, fabric)
	if log {
		s, err := b.startLog(ctx)
		if err != nil {
			return err
		}
		subjects = append(subjects, s)
	}
	for _, s := range subjects {
		if err := b.warm(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return b.rounds(ctx, r, subjects)
}

// warm goes round the ring once, so that no page of it is touched for the first
// time while it is measured.
func (b *bench) warm(ctx context.Context, s *subject) error {
	lap := int(b.fl.ring() / (int64(b.fl.block) + 64))
	_, err := drive(ctx, s.lane, 32, math.MaxInt64, lap)
	return err
}

func (b *bench) rounds(ctx context.Context, r *benchResult, subjects []*subject) error {
	for round := range b.fl.rounds {
		for _, depth := range b.fl.depths {
			for i := range subjects {
				s := subjects[(i+round)%len(subjects)] // who is first has the other's wake: take turns
				m, err := s.measure(ctx, depth, b.fl.duration)
				if err != nil {
					return fmt.Errorf("%s at depth %d: %w", s.name, depth, err)
				}
				r.item(b.media, depth).add(s.name, m)
			}
		}
		note(b.err, "media %s: round %d of %d done", b.media, round+1, b.fl.rounds)
	}
	return nil
}
