package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gravenio/graven/agent"
)

// libpmemProgram is what `make bench-baseline` builds.
const libpmemProgram = "pmem_baseline"

// baseline is what a case is measured beside.
type baseline struct {
	name    string
	missing string      // why it can't be measured
	measure measurement // nil if it is missing
}

// beside returns the baseline of appends on a medium.
func (b *pmemBench) beside(media, what string, size, appenders int) baseline {
	if media == agent.MediaFile {
		return b.fio(size, appenders)
	}
	if what == pmemBatch {
		return b.libpmem("copy", size)
	}
	return b.libpmem("append", size)
}

// libpmem measures with the program in C: CRC32C and pmem_memcpy_persist of the
// same payload, or its copy with non-temporal stores alone.
func (b *pmemBench) libpmem(what string, size int) baseline {
	out := baseline{name: benchLibPM}
	path, err := b.findProgram()
	if err != nil {
		out.missing = err.Error()
		return out
	}
	ring := max(int64(b.fl.ring)>>20, 2)
	out.measure = func(ctx context.Context, d time.Duration) (work, error) {
		ms := strconv.FormatFloat(d.Seconds()*1000, 'f', -1, 64)
		cmd := exec.CommandContext(ctx, path, b.pmemDir, ms, strconv.FormatInt(ring, 10), what, strconv.Itoa(size))
		if !b.vouched {
			cmd.Env = append(os.Environ(), "PMEM_IS_PMEM_FORCE=1") // it would use msync
		}
		text, err := output(cmd)
		if err != nil {
			return work{}, err
		}
		return parseLibPMem(text, what, size)
	}
	return out
}

func (b *pmemBench) findProgram() (string, error) {
	dir := b.fl.baseline
	if dir == "" {
		self, err := os.Executable()
		if err != nil {
			return "", err
		}
		dir = filepath.Dir(self)
	}
	path := filepath.Join(dir, libpmemProgram)
	if _, err := exec.LookPath(path); err != nil {
		return "", fmt.Errorf("no %s in %s: run make bench-baseline, which needs libpmem-dev, and name its folder with --baseline", libpmemProgram, dir)
	}
	return path, nil
}

// parseLibPMem reads a line such as "append 4096 385.21": nanoseconds an operation.
func parseLibPMem(text []byte, what string, size int) (work, error) {
	var gotWhat string
	var gotSize int
	var ns float64
	_, err := fmt.Sscan(string(text), &gotWhat, &gotSize, &ns)
	if err != nil || gotWhat != what || gotSize != size || ns <= 0 {
		return work{}, fmt.Errorf("%s said %q, want %s %d and nanoseconds", libpmemProgram, text, what, size)
	}
	const ops = 1e6 // the program says how long one takes, not how many there were
	return work{ops: ops, bytes: ops * int64(size), elapsed: time.Duration(ns * ops)}, nil
}

// fio measures writes of a size, each with an fdatasync, into files that are
// written through beforehand and in the system's cache, as the regions of a pool are.
func (b *pmemBench) fio(size, jobs int) baseline {
	out := baseline{name: benchFio}
	path, err := exec.LookPath("fio")
	if err != nil {
		out.missing = "no fio on the PATH: install it"
		return out
	}
	file := max(int64(b.fl.ring), pmemBatchSize)
	if jobs > 1 {
		file = appenderRing
	}
	out.measure = patiently(func(ctx context.Context, d time.Duration) (work, error) {
		text, err := output(exec.CommandContext(ctx, path,
			fmt.Sprintf("--name=fio-%d-%d", size, jobs), "--directory="+b.dir, "--rw=write", "--ioengine=psync", "--fdatasync=1",
			fmt.Sprintf("--bs=%d", size), fmt.Sprintf("--size=%d", file/int64(size)*int64(size)), fmt.Sprintf("--numjobs=%d", jobs),
			"--overwrite=1", "--fallocate=none", "--invalidate=0", "--time_based", fmt.Sprintf("--runtime=%dus", d.Microseconds()),
			"--group_reporting", "--output-format=json"))
		if err != nil {
			return work{}, err
		}
		return parseFio(text)
	})
	return out
}

// fioAtOnce measures what the disk takes for as many writes of a size in one, with one
// fdatasync: more than that nobody gets who writes them one behind the other. An
// operation is one of the many.
func (b *pmemBench) fioAtOnce(size, many int) baseline {
	out := b.fio(size*many, 1)
	one := out.measure
	if one == nil {
		return out
	}
	out.measure = func(ctx context.Context, d time.Duration) (work, error) {
		w, err := one(ctx, d)
		w.ops *= many
		return w, err
	}
	return out
}

var errNoWrites = errors.New("fio reported no writes")

// fioPatience bounds how long fio is given for its first write.
const fioPatience = 4 * time.Second

// patiently measures for longer where the disk takes longer for a write than was given.
func patiently(measure func(context.Context, time.Duration) (work, error)) func(context.Context, time.Duration) (work, error) {
	return func(ctx context.Context, d time.Duration) (w work, err error) {
		for {
			if w, err = measure(ctx, d); !errors.Is(err, errNoWrites) || 2*d > fioPatience {
				return w, err
			}
			d *= 2
		}
	}
}

// parseFio reads what fio reports of all its jobs.
func parseFio(text []byte) (work, error) {
	var report struct {
		Jobs []struct {
			Error int `json:"error"`
			Write struct {
				Bytes   int64   `json:"io_bytes"`
				Ops     int     `json:"total_ios"`
				PerSec  float64 `json:"iops"`
				Runtime float64 `json:"runtime"` // milliseconds
			} `json:"write"`
		} `json:"jobs"`
	}
	start := strings.IndexByte(string(text), '{') // notes may stand before it
	if start < 0 {
		return work{}, fmt.Errorf("fio reported no JSON: %q", text)
	}
	if err := json.Unmarshal(text[start:], &report); err != nil {
		return work{}, fmt.Errorf("fio's report: %w", err)
	}
	switch {
	case len(report.Jobs) != 1 || report.Jobs[0].Error != 0:
		return work{}, fmt.Errorf("fio reported an error: %+v", report.Jobs)
	case report.Jobs[0].Write.Ops < 1 || report.Jobs[0].Write.PerSec <= 0:
		return work{}, fmt.Errorf("%w: %+v", errNoWrites, report.Jobs)
	}
	w := report.Jobs[0].Write
	return work{ops: w.Ops, bytes: w.Bytes, elapsed: time.Duration(float64(w.Ops) / w.PerSec * float64(time.Second))}, nil
}

// output runs a program; its error says what the program said. An interrupt is
// handed on, so that the program's own processes end, too.
func output(cmd *exec.Cmd) ([]byte, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C at a terminal comes by way of this process
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopBound
	text, err := cmd.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return nil, fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, strings.TrimSpace(string(failed.Stderr)))
	}
	return text, err
}
