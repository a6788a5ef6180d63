package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// lane is a path down which operations go in order. One goroutine uses it.
type lane interface {
	// submit begins an operation.
	submit(ctx context.Context) error
	// await waits until the oldest one is done and returns how many are, the
	// oldest first, that it has not counted before.
	await(ctx context.Context) (int, error)
}

// subject is what is measured: a lane and the processes behind it.
type subject struct {
	name  string
	lane  lane
	pids  []int // this one and those that do its work; empty where that is not known
	close func()
}

// sample is one measurement.
type sample struct {
	ops     int
	elapsed time.Duration
	cpu     time.Duration // of all processes; 0 where that is not known
	latency histogram
}

// measure keeps depth operations under way for a time.
func (s *subject) measure(ctx context.Context, depth int, d time.Duration) (*sample, error) {
	runtime.GC() // the garbage of what was measured before is not this one's
	before, err := cpuTime(s.pids)
	if err != nil {
		return nil, err
	}
	m, err := drive(ctx, s.lane, depth, d, 0)
	if err != nil {
		return nil, err
	}
	after, err := cpuTime(s.pids)
	m.cpu = after - before
	return m, err
}

// drive keeps depth operations under way, until the time has passed or, unless
// it is 0, the number is reached; then it waits for those under way. An
// operation's latency lasts from its submit until the driver has seen it done.
func drive(ctx context.Context, l lane, depth int, d time.Duration, limit int) (*sample, error) {
	m := &sample{}
	begun := make([]time.Time, depth)
	sent := 0
	start := time.Now()
	for now := start; ; {
		for sent-m.ops < depth && now.Sub(start) < d && (limit == 0 || sent < limit) {
			begun[sent%depth] = time.Now()
			if err := l.submit(ctx); err != nil {
				return nil, err
			}
			sent++
		}
		if m.ops == sent {
			m.elapsed = now.Sub(start)
			return m, nil
		}
		n, err := l.await(ctx)
		if err != nil {
			return nil, err
		}
		now = time.Now()
		for range n {
			m.latency.add(now.Sub(begun[m.ops%depth]))
			m.ops++
		}
	}
}

// cpuTime returns the user and system time that processes have taken, to the
// nanosecond: the kernel keeps a clock for each.
func cpuTime(pids []int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		var ts unix.Timespec
		clock := int32(^pid)<<3 | 2 // as clock_getcpuclockid(3) makes it
		if err := unix.ClockGettime(clock, &ts); err != nil {
			return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
		}
		sum += time.Duration(ts.Nano())
	}
	return sum, nil
}
