package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// benchProcess is a process that a benchmark has started.
type benchProcess struct {
	name    string
	process *os.Process
	lines   chan string // of its output; closed at its end
	done    chan struct{}
	errs    bytes.Buffer // what it wrote to stderr; valid after done
}

// startProcess runs this binary. Ctrl-C at a terminal does not reach the process:
// the benchmark ends it, when it needs it no more. If the benchmark is killed,
// the kernel ends it.
func startProcess(ctx context.Context, self string, args []string) (*benchProcess, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	p := &benchProcess{name: strings.Join(args[:2], " "), lines: make(chan string, 64), done: make(chan struct{})}
	cmd := exec.Command(self, args...)
	cmd.Env = withoutSettings(os.Environ())
	cmd.Stderr = &p.errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the signal comes when this thread ends
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		defer close(p.done)
		for in := bufio.NewScanner(out); in.Scan(); {
			select {
			case p.lines <- in.Text():
			default: // nobody reads any more
			}
		}
		close(p.lines)
		_ = cmd.Wait() // it was asked to end, or await has reported it
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start graven %s: %w", p.name, err)
	}
	p.process = cmd.Process
	return p, nil
}

// await returns the next line that matches, with its groups.
func (p *benchProcess) await(ctx context.Context, pattern string) ([]string, error) {
	re := regexp.MustCompile(pattern)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				<-p.done
				return nil, fmt.Errorf("graven %s ended: %s", p.name, strings.TrimSpace(p.errs.String()))
			}
			if m := re.FindStringSubmatch(line); m != nil {
				return m, nil
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// stopProcesses has processes end in order, and kills those that don't.
func stopProcesses(processes []*benchProcess) {
	var wait sync.WaitGroup
	for _, p := range processes {
		_ = p.process.Signal(syscall.SIGTERM) // it may have ended
		wait.Go(func() {
			select {
			case <-p.done:
			case <-time.After(2 * stopBound): // a dev gives its agents one
				_ = p.process.Kill()
				<-p.done
			}
		})
	}
	wait.Wait()
}
