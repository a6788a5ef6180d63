package fleet

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Process is a program that can be started over and over.
type Process struct {
	// Name is for people; the log is in a file of this name.
	Name string

	dir  string // of the log
	path string
	args []string

	mu      sync.Mutex
	cmd     *exec.Cmd // nil while it does not run
	waited  chan struct{}
	told    bool // to end
	died    []string
	starts  int
	stopped bool // SIGSTOP
}

func (f *Fleet) process(name, program string, args ...string) (*Process, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, fmt.Errorf("fleet: find %s: %w; the tests' TestMain puts it into the PATH", program, err)
	}
	p := &Process{Name: name, dir: f.dir, path: path, args: args}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.processes = append(f.processes, p)
	return p, nil
}

// Log is the file that has everything the process has said.
func (p *Process) Log() string { return filepath.Join(p.dir, p.Name+".log") }

// Args are its arguments, for a person who wants to run it.
func (p *Process) Args() []string { return p.args }

// Running says whether it runs, paused or not.
func (p *Process) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd != nil
}

// Starts is how often it was started.
func (p *Process) Starts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.starts
}

// Start starts it; it is an error if it runs.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return fmt.Errorf("fleet: %s runs already", p.Name)
	}
	log, err := os.OpenFile(p.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("fleet: log of %s: %w", p.Name, err)
	}
	defer log.Close()
	cmd := exec.Command(p.path, p.args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	waited, started := make(chan struct{}), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // it dies with the thread that started it
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.ended(cmd, cmd.Wait())
		}
		close(waited)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("fleet: start %s: %w", p.Name, err)
	}
	p.cmd, p.waited, p.told, p.stopped = cmd, waited, false, false
	p.starts++
	return nil
}

func (p *Process) ended(cmd *exec.Cmd, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd = nil
	if !p.told {
		p.died = append(p.died, fmt.Sprintf("%s (pid %d) ended by itself: %v; see %s", p.Name, cmd.Process.Pid, err, p.Log()))
	}
}

// Kill ends it without asking. It is no error if it does not run.
func (p *Process) Kill() error { return p.end(syscall.SIGKILL, time.Minute) }

// Stop ends it in order, waking it first if it is paused.
func (p *Process) Stop() error {
	if err := p.Resume(); err != nil {
		return err
	}
	return p.end(syscall.SIGTERM, 2*time.Minute)
}

func (p *Process) end(s syscall.Signal, patience time.Duration) error {
	p.mu.Lock()
	cmd, waited := p.cmd, p.waited
	p.told = true
	p.mu.Unlock()
	if cmd == nil {
		return nil
	}
	if err := cmd.Process.Signal(s); err != nil && p.Running() {
		return fmt.Errorf("fleet: signal %s: %w", p.Name, err)
	}
	select {
	case <-waited:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("fleet: %s did not end within %v of %v; see %s", p.Name, patience, s, p.Log())
	}
}

// Pause stops it where it is, as a machine that hangs does.
func (p *Process) Pause() error { return p.signal(syscall.SIGSTOP, true) }

// Resume lets it go on.
func (p *Process) Resume() error { return p.signal(syscall.SIGCONT, false) }

func (p *Process) signal(s syscall.Signal, stopped bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || p.stopped == stopped {
		return nil
	}
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("fleet: signal %s: %w", p.Name, err)
	}
	p.stopped = stopped
	return nil
}

// Wait waits until it has ended and returns nil, or ctx's error.
func (p *Process) Wait(ctx context.Context) error {
	p.mu.Lock()
	waited := p.waited
	p.mu.Unlock()
	if waited == nil {
		return nil
	}
	select {
	case <-waited:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("fleet: %s still runs: %w", p.Name, context.Cause(ctx))
	}
}

// Expect says that it may end by itself from now on.
func (p *Process) Expect() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = true
}
