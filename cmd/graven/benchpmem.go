package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/gravenio/graven/agent"
	"github.com/gravenio/graven/pmemlog"
)

// pmemBenchFlags are the flags of `graven bench pmem`.
type pmemBenchFlags struct {
	media      []string
	appenders  int
	ring       size
	openRing   size
	rounds     int
	duration   time.Duration
	dir        string
	pmemDir    string
	durability string
	baseline   string
}

// Bounds of `graven bench pmem`.
const (
	minPMemRing   = 4 << 20
	maxPMemRing   = 64 << 30
	maxAppenders  = 256
	appenderRing  = 1 << 20 // of each of many appenders, in bytes
	pmemBatchSize = 1 << 20 // of records that are appended at once, in bytes
)

func newBenchPMem(a *app) *cobra.Command {
	fl := pmemBenchFlags{ring: 64 << 20, openRing: 1 << 30}
	cmd := &cobra.Command{
		Use:   "pmem",
		Short: "Measure a pool on each medium beside libpmem, fio and a bare checksum",
		Long: `Measure appends to a pool, scans of it and its opening, by the calls that an agent
makes, without a network. Beside them, in turns and in the same run: libpmem (the
program that ` + "`make bench-baseline`" + ` builds: CRC32C and pmem_memcpy_persist of the same
bytes), fio (a write and an fdatasync of the same size, with as many jobs as there
are appenders; for many to one log, one that writes as much as all of them) and
Go's CRC32C. What is not installed is said to be missing.`,
		Example: `  make build bench-baseline && bin/graven bench pmem
  graven bench pmem --media file --dir /mnt/disk --rounds 5 -o json
  graven bench pmem --media pmem --pmem-dir /mnt/pmem0`,
		Args: exactly(),
	}
	f := cmd.Flags()
	f.StringSliceVar(&fl.media, "media", []string{agent.MediaPmem, agent.MediaVolatile, agent.MediaFile}, "`MEDIA` to measure: pmem, volatile, file")
	f.IntVar(&fl.appenders, "appenders", 64, "how many append to one pool on media file at a time, beside one alone; 2 to 256")
	f.Var(&fl.ring, "ring", "bytes that appends go round in, at least 4MiB")
	f.Var(&fl.openRing, "open-ring", "ring of the pool in memory whose opening is measured, at least 4MiB")
	f.IntVar(&fl.rounds, "rounds", 3, "how often everything is measured, in turns")
	f.DurationVar(&fl.duration, "duration", 500*time.Millisecond, "how long each measurement takes")
	f.StringVar(&fl.dir, "dir", "", "`FOLDER` on the disk to measure; what is made in it is removed (default the system's for temporary files)")
	f.StringVar(&fl.pmemDir, "pmem-dir", "/dev/shm", "`FOLDER` on persistent memory; on other memory its instructions are measured all the same, and the result says so")
	durabilityFlag(f, &fl.durability)
	f.StringVar(&fl.baseline, "baseline", "", "`FOLDER` of pmem_baseline (default this program's)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return a.benchPMem(cmd.Context(), fl) }
	return cmd
}

func (fl *pmemBenchFlags) check() error {
	if len(fl.media) == 0 {
		return usagef("--media needs at least one value")
	}
	for _, m := range fl.media {
		if m == "" {
			return usagef("--media is empty: must be pmem, volatile or file")
		}
		if err := checkPoolMedia(m, string(pmemlog.DurabilityAuto)); err != nil {
			return err
		}
	}
	if err := checkPoolMedia(agent.MediaPmem, fl.durability); err != nil {
		return err
	}
	switch {
	case fl.appenders < 2 || fl.appenders > maxAppenders:
		return usagef("--appenders is %d: must be 2 to %d", fl.appenders, maxAppenders)
	case fl.ring < minPMemRing || fl.ring > maxPMemRing:
		return usagef("--ring is %s: must be 4MiB to 64GiB", &fl.ring)
	case fl.openRing < minPMemRing || fl.openRing > maxPMemRing:
		return usagef("--open-ring is %s: must be 4MiB to 64GiB", &fl.openRing)
	case fl.rounds < 1 || fl.rounds > 1000:
		return usagef("--rounds is %d: must be 1 to 1000", fl.rounds)
	case fl.duration < time.Millisecond:
		return usagef("--duration is %v: must be at least 1ms", fl.duration)
	}
	return nil
}

// pmemBench is one run of `graven bench pmem`.
type pmemBench struct {
	*app
	fl      *pmemBenchFlags
	result  *pmemResult
	dir     string // for temporary files, on the disk
	pmemDir string // and on persistent memory
	vouched bool   // stores to pmemDir are persistent
	pools   []*pmemlog.Pool
	cases   []*pmemCase
}

// pmemCase is something to measure, and what is measured beside it.
type pmemCase struct {
	item     *pmemItem
	measure  measurement
	baseline measurement // nil if it is missing
}

// measurement does something for a time, at least once.
type measurement func(ctx context.Context, d time.Duration) (work, error)

// work is what a measurement has done.
type work struct {
	ops     int
	bytes   int64 // of all operations: payload, or what was scanned
	elapsed time.Duration
}

// benchPMem measures everything and shows the result.
func (a *app) benchPMem(ctx context.Context, fl pmemBenchFlags) (err error) {
	if err := fl.check(); err != nil {
		return err
	}
	b := &pmemBench{app: a, fl: &fl, result: newPMemResult(&fl)}
	defer func() { err = errors.Join(err, b.close()) }()
	if b.dir, err = os.MkdirTemp(fl.dir, "graven-bench-"); err != nil {
		return fmt.Errorf("--dir: %w", err)
	}
	if b.pmemDir, err = os.MkdirTemp(fl.pmemDir, "graven-bench-"); err != nil {
		return fmt.Errorf("--pmem-dir: %w", err)
	}
	for _, media := range fl.media {
		if err := b.prepare(media); err != nil {
			return fmt.Errorf("media %s: %w", media, err)
		}
	}
	if err := b.rounds(ctx); err != nil {
		return err
	}
	b.result.scale()
	return a.showValue(b.result, b.result.rows)
}

// rounds measures every case in every round.
func (b *pmemBench) rounds(ctx context.Context) error {
	for round := range b.fl.rounds {
		for _, c := range b.cases {
			if err := c.round(ctx, round, b.fl.duration); err != nil {
				return fmt.Errorf("%s: %w", c.item.name(), err)
			}
		}
		note(b.err, "round %d of %d done", round+1, b.fl.rounds)
	}
	return nil
}

// round measures both sides once: who is first has the other's wake, so they
// take turns.
func (c *pmemCase) round(ctx context.Context, round int, d time.Duration) error {
	sides := []struct {
		name    string
		measure measurement
	}{{benchGraven, c.measure}, {c.item.Beside, c.baseline}}
	for i := range sides {
		side := sides[(i+round)%len(sides)]
		if side.measure == nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		w, err := side.measure(ctx, d)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", side.name, err)
		}
		c.item.add(side.name, w)
	}
	return nil
}

func (b *pmemBench) close() error {
	var errs []error
	for _, p := range b.pools {
		errs = append(errs, p.Close())
	}
	for _, dir := range []string{b.dir, b.pmemDir} {
		if dir != "" {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

// makePool makes a pool of a medium with room for so many bytes of rings.
func (b *pmemBench) makePool(media string, room int64) (*pmemlog.Pool, error) {
	opts := pmemlog.FormatOptions{PoolID: benchID(1), ClusterID: benchID(2), Size: room + 32<<20}
	var p *pmemlog.Pool
	var err error
	switch media {
	case agent.MediaFile:
		p, err = pmemlog.CreateFilePool(filepath.Join(b.dir, "pool"), opts)
	case agent.MediaPmem:
		p, err = b.makePMem(opts)
	default:
		p, err = makeVolatile(opts)
	}
	if err != nil {
		return nil, err
	}
	b.pools = append(b.pools, p)
	return p, nil
}

// makePMem makes a pool on persistent memory, or on memory that is taken for it:
// that costs the same instructions, and the result says what it was.
func (b *pmemBench) makePMem(opts pmemlog.FormatOptions) (*pmemlog.Pool, error) {
	path := filepath.Join(b.pmemDir, "pool")
	d := pmemlog.Durability(b.fl.durability)
	p, err := pmemlog.CreatePMemPool(path, opts, d)
	if d == pmemlog.DurabilityAuto && errors.Is(err, pmemlog.ErrNotPersistent) {
		b.result.Notes = append(b.result.Notes, fmt.Sprintf("nobody vouches that stores to %s are persistent: on pmem, what the instructions cost was measured", b.fl.pmemDir))
		return pmemlog.CreatePMemPool(path, opts, pmemlog.DurabilityFlush)
	}
	b.vouched = err == nil && d == pmemlog.DurabilityAuto
	return p, err
}

func makeVolatile(opts pmemlog.FormatOptions) (*pmemlog.Pool, error) {
	m, err := pmemlog.NewVolatile(opts.Size)
	if err != nil {
		return nil, err
	}
	p, err := pmemlog.Format(m, opts)
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return p, nil
}
