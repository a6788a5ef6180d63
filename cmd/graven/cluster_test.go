package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gravenio/graven/identity"
	"github.com/gravenio/graven/openapi"
)

// patience is how long a test waits for what must happen; what takes longer
// hangs.
const patience = 60 * time.Second

// tester is what the harness needs of a test or a script.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
	Cleanup(f func())
}

// process is a running graven whose output is kept.
type process struct {
	cmd  *exec.Cmd
	name string

	mu     sync.Mutex
	out    bytes.Buffer // stdout
	err    bytes.Buffer // stderr
	grown  chan struct{}
	waited chan struct{}
	result error
}

// start runs graven; the process is killed, if it still runs, when the test ends.
func start(t tester, stdin io.Reader, args ...string) *process {
	t.Helper()
	path, err := exec.LookPath("graven")
	if err != nil {
		t.Fatalf("find graven: %v", err)
	}
	p := &process{cmd: exec.Command(path, args...), name: strings.Join(args, " "), grown: make(chan struct{}), waited: make(chan struct{})}
	p.cmd.Stdin = stdin
	p.cmd.Stdout, p.cmd.Stderr = &capture{p: p, buf: &p.out}, &capture{p: p, buf: &p.err}
	// Whoever inherits the output, as an agent of a killed dev does, must not
	// keep Wait from returning.
	p.cmd.WaitDelay = time.Second
	// It dies with the thread that started it, so that a test that is killed
	// leaves nothing running.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.result = p.cmd.Wait()
		}
		close(p.waited)
	}()
	if err := <-started; err != nil {
		t.Fatalf("start graven %s: %v", p.name, err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.waited
	})
	return p
}

// capture appends to a process's buffer and wakes who waits for it to grow.
type capture struct {
	p   *process
	buf *bytes.Buffer
}

func (c *capture) Write(b []byte) (int, error) {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	close(c.p.grown)
	c.p.grown = make(chan struct{})
	return c.buf.Write(b)
}

func (p *process) stdout() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

func (p *process) stderr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err.String()
}

// await returns the first match of the pattern in stdout or stderr, with its
// groups.
func (p *process) await(t tester, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.After(patience)
	for {
		p.mu.Lock()
		grown := p.grown
		m := re.FindStringSubmatch(p.out.String())
		if m == nil {
			m = re.FindStringSubmatch(p.err.String())
		}
		p.mu.Unlock()
		if m != nil {
			return m
		}
		select {
		case <-grown:
		case <-p.waited:
			if m := re.FindStringSubmatch(p.stdout() + p.stderr()); m != nil {
				return m
			}
			t.Fatalf("graven %s ended (%v) without saying %q:\n%s%s", p.name, p.result, pattern, p.stdout(), p.stderr())
		case <-deadline:
			t.Fatalf("graven %s never said %q:\n%s%s", p.name, pattern, p.stdout(), p.stderr())
		}
	}
}

// exit waits for the end and returns the exit status, -1 for a killed process.
func (p *process) exit(t tester) int {
	t.Helper()
	select {
	case <-p.waited:
	case <-time.After(patience):
		t.Fatalf("graven %s does not end:\n%s%s", p.name, p.stdout(), p.stderr())
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) signal(t tester, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("signal graven %s: %v", p.name, err)
	}
}

// graven runs a command to its end and returns what it wrote and its status.
func graven(t tester, stdin io.Reader, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	p := start(t, stdin, args...)
	status = p.exit(t)
	return p.stdout(), p.stderr(), status
}

// must is graven for a command that has to succeed.
func must(t tester, args ...string) string {
	t.Helper()
	out, errs, status := graven(t, nil, args...)
	if status != 0 {
		t.Fatalf("graven %s: exit status %d\n%s%s", strings.Join(args, " "), status, out, errs)
	}
	return out
}

// cluster is a running `graven dev`.
type cluster struct {
	t    tester
	dev  *process
	data string
	api  string
	own  identity.Files // what the test proves who it is by; none without --tls
}

// startDev starts a cluster in the folder and waits until it is ready.
func startDev(t tester, data string, args ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, data: data}
	c.dev = start(t, nil, append([]string{"dev", "--data", data, "--api", "127.0.0.1:0"}, args...)...)
	c.api = c.dev.await(t, `(?m)^ready (https?://\S+)`)[1]
	if strings.HasPrefix(c.api, "https:") {
		c.own = c.files("admin")
	}
	t.Cleanup(func() {
		_ = c.stop()
		c.checkLogs()
	})
	return c
}

// files are those of somebody whose certificate is in the cluster's folder.
func (c *cluster) files(name string) identity.Files {
	in := func(file string) string { return filepath.Join(c.data, "tls", file) }
	return identity.Files{CA: in("ca.crt"), Cert: in(name + ".crt"), Key: in(name + ".key")}
}

// as are the flags by which a command is somebody's.
func (c *cluster) as(name string) []string {
	f := c.files(name)
	return []string{"--api", c.api, "--tls-ca", f.CA, "--tls-cert", f.Cert, "--tls-key", f.Key}
}

// checkLogs looks for what no process of the cluster may ever say.
func (c *cluster) checkLogs() {
	c.t.Helper()
	files, _ := filepath.Glob(filepath.Join(c.data, "logs", "*.log"))
	for _, name := range files {
		b, _ := os.ReadFile(name)
		for _, bad := range []string{"DATA RACE", "panic:", "fatal error:"} {
			if _, after, found := bytes.Cut(b, []byte(bad)); found {
				c.t.Fatalf("%s: %s%s", name, bad, after)
			}
		}
	}
}

// stop ends the cluster in order.
func (c *cluster) stop() error {
	_ = c.dev.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.dev.waited:
	case <-time.After(patience):
		return fmt.Errorf("graven dev does not end:\n%s%s", c.dev.stdout(), c.dev.stderr())
	}
	if st := c.dev.cmd.ProcessState; !st.Success() && st.ExitCode() >= 0 {
		return fmt.Errorf("graven dev ended with %v:\n%s%s", st, c.dev.stdout(), c.dev.stderr())
	}
	return nil
}

// agent returns the process ID and the command line that dev printed for a daemon.
func (c *cluster) agent(id string) (pid int, command []string) {
	c.t.Helper()
	m := c.dev.await(c.t, `(?m)^`+id+` +pid (\d+) +\S+ +\S+ (agent --id `+id+` .*)$`)
	pid, err := strconv.Atoi(m[1])
	if err != nil {
		c.t.Fatalf("pid of %s: %v", id, err)
	}
	return pid, strings.Fields(m[2])
}

func (c *cluster) kill(id string) {
	c.t.Helper()
	pid, _ := c.agent(id)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		c.t.Fatalf("kill %s: %v", id, err)
	}
}

// killAll kills dev and every agent, without asking anybody.
func (c *cluster) killAll(ids ...string) {
	c.t.Helper()
	pids := []int{c.dev.cmd.Process.Pid}
	for _, id := range ids {
		pid, _ := c.agent(id)
		pids = append(pids, pid)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			c.t.Fatalf("kill %d: %v", pid, err)
		}
	}
	<-c.dev.waited
}

// awaitState waits until the API shows a daemon in a state.
func (c *cluster) awaitState(id string, want openapi.DaemonState) {
	c.t.Helper()
	client, err := (&app{endpoints: c.api, credentials: credentials{files: c.own}}).dialer()
	if err != nil {
		c.t.Fatalf("%v", err)
	}
	defer client.Close()
	api := client.API()
	var last openapi.DaemonState
	eventually(c.t, func() string { return fmt.Sprintf("%s is %s, not %s", id, last, want) }, func() bool {
		rsp, err := api.GetDaemonWithResponse(context.Background(), id)
		if err == nil && rsp.JSON200 != nil {
			last = rsp.JSON200.State
		}
		return last == want
	})
}

// eventually polls until ok; there is no event to wait for across processes.
func eventually(t tester, what func() string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// randomBytes is the same for the same seed.
func randomBytes(seed uint64, n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

// compare fails unless both are the same; it names the first difference.
func compare(t *testing.T, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("byte %d of %d differs (want %d bytes)", i, len(got), len(want))
		}
	}
	t.Fatalf("%d bytes, want %d", len(got), len(want))
}

// pidGone says whether a process that is not our child has ended.
func pidGone(pid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	return os.IsNotExist(err) || !running(pid)
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
