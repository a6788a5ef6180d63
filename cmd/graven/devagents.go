package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gravenio/graven/agent"
	"github.com/gravenio/graven/store"
)

// stopBound is how long an agent may take to leave in order.
const stopBound = 8 * time.Second

// child is an agent's process.
type child struct {
	id       string
	args     []string // of the command that starts it, by hand too
	process  *os.Process
	stopping atomic.Bool
	done     chan struct{} // closed when it has ended
	err      error         // how; valid after done
}

// agentArgs is the command line of an agent. It is complete: what dev was told
// by the environment is in it.
func (d *dev) agentArgs(id string) []string {
	n := strings.TrimPrefix(id, "d")
	args := []string{
		"agent", "--id", id, "--dir", d.folder.pool(id), "--listen", "127.0.0.1:0", "--api", d.url,
		"--label", "host=" + id, "--label", "zone=z" + n,
		"--media", d.media, "--pool-size", d.pool.String(), "--ttl", d.ttl.String(),
	}
	if d.media == agent.MediaPmem {
		args = append(args, "--durability", d.durability)
	}
	return args
}

// startAgent starts an agent that gets SIGTERM when this process dies, whatever
// kills it: nobody would know of it any more. The kernel ties that to the thread
// that started it, so the thread waits for it, too.
func (d *dev) startAgent(id string) (*child, error) {
	secured, err := d.agentTLS(id)
	if err != nil {
		return nil, err
	}
	c := &child{id: id, args: append(d.agentArgs(id), secured...), done: make(chan struct{})}
	log, err := d.folder.logFile(id)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(d.self, c.args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = withoutSettings(os.Environ())
	cmd.ExtraFiles = []*os.File{d.folder.lock}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			c.err = cmd.Wait()
			close(c.done)
		}
	}()
	err = <-started
	_ = log.Close() // the child has its own
	if err != nil {
		return nil, fmt.Errorf("start agent %s: %w", id, err)
	}
	c.process = cmd.Process
	go d.mourn(c)
	return c, nil
}

// withoutSettings drops what would change the flags of a child.
func withoutSettings(env []string) []string {
	var out []string
	for _, v := range env {
		if !strings.HasPrefix(v, envPrefix+"_") {
			out = append(out, v)
		}
	}
	return out
}

// mourn reports an agent that ended unasked.
func (d *dev) mourn(c *child) {
	<-c.done
	if c.stopping.Load() {
		return
	}
	how := "ended"
	if c.err != nil {
		how = "ended (" + c.err.Error() + ")"
	}
	text := fmt.Sprintf("agent %s, pid %d, %s", c.id, c.process.Pid, how)
	if last := lastLine(d.logPath(c.id)); c.err != nil && last != "" && exited(c.err) {
		text += ": " + last
	}
	d.say(d.err, "%s\nstart it again with: %s\n(Ctrl-C here does not end what you start there)", text, d.command(c))
}

// exited tells an agent that gave up from one that was killed.
func exited(err error) bool {
	var e *exec.ExitError
	return errors.As(err, &e) && e.Exited()
}

// lastLine is the last line of an agent's log that says "error:", which is how a
// command ends that fails.
func lastLine(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	const tail = 8 << 10
	if st, err := f.Stat(); err == nil && st.Size() > tail {
		if _, err := f.Seek(-tail, io.SeekEnd); err != nil {
			return ""
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, tail))
	if err != nil {
		return ""
	}
	found := ""
	for line := range bytes.Lines(b) {
		if text, ok := strings.CutPrefix(string(line), "error: "); ok {
			found = strings.TrimSpace(text)
		}
	}
	return found
}

// stopAgents has all agents leave in order, and kills those that don't.
func (d *dev) stopAgents() {
	for _, c := range d.agents {
		c.stopping.Store(true)
		_ = c.process.Signal(syscall.SIGTERM) // it may have ended
	}
	deadline := time.NewTimer(stopBound)
	defer deadline.Stop()
	for _, c := range d.agents {
		select {
		case <-c.done:
		case <-deadline.C:
			d.say(d.err, "agents did not leave within %v: killing them", stopBound)
			for _, k := range d.agents {
				_ = k.process.Kill()
			}
			<-c.done
		}
	}
}

// incarnations returns what the control plane remembers of each daemon. A live
// record may be that of a process that was killed a moment ago.
func (d *dev) incarnations() map[string]uint64 {
	known := map[string]uint64{}
	daemons, _ := d.store.View().Daemons()
	for _, x := range daemons {
		known[x.DaemonID] = x.Incarnation
	}
	return known
}

// waitUp waits until each agent that runs is up in the control plane's view, and
// prints a line for each, in their order. It returns how many are.
func (d *dev) waitUp(ctx context.Context, before map[string]uint64) (int, error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	up := 0
	for _, c := range d.agents {
		x, err := d.waitAgent(ctx, c, before[c.id], tick.C)
		if err != nil {
			return up, err
		}
		if x != nil {
			d.introduce(c, x)
			up++
		}
	}
	if up == 0 {
		return 0, withHint(errors.New("no agent came up"), "see %s", d.folder.logs())
	}
	return up, nil
}

// waitAgent returns the daemon once it is up in a later incarnation than before,
// or nil if its process has ended; mourn says why then.
func (d *dev) waitAgent(ctx context.Context, c *child, before uint64, tick <-chan time.Time) (*store.Daemon, error) {
	for {
		if x, ok := d.store.View().Daemon(c.id); ok && x.State == store.DaemonUp && x.Incarnation > before {
			return &x, nil
		}
		select {
		case <-tick:
		case <-c.done:
			return nil, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// introduce prints an agent's line.
func (d *dev) introduce(c *child, x *store.Daemon) {
	address := net.JoinHostPort(x.TCPAddr, strconv.Itoa(x.TCPPort))
	d.say(d.out, "%-7s pid %-7d %s  %s", c.id, c.process.Pid, address, d.command(c))
}

// command is the shell command that starts the agent by hand.
func (d *dev) command(c *child) string {
	words := []string{shellWord(d.self)}
	for _, a := range c.args {
		words = append(words, shellWord(a))
	}
	return strings.Join(words, " ")
}

// shellWord quotes what a shell would take apart.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:=,@%+", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// announce says that the cluster is ready, how honest its medium is, and what to
// try next.
func (d *dev) announce(up int) {
	d.say(d.out, "ready %s after %.1f s: %d of %d daemons up, media %s (%s)",
		d.url, time.Since(d.began).Seconds(), up, d.daemons, d.media, mediaHonesty(d.media, d.durability))
	me := d.shortName()
	replicas, capacity := min(3, up), firstCapacity(d.pool)
	create := fmt.Sprintf("%s log create l1 --replicas %d --ack %d --capacity %s", me, replicas, replicas/2+1, &capacity)
	if d.media == agent.MediaVolatile {
		create += " --media volatile"
	}
	text := "\ntry, in another terminal:\n"
	switch {
	case d.tls:
		text += "  export GRAVEN_CONFIG=" + shellWord(d.folder.settings()) + "\n"
	case d.url != "http://"+defaultAPI:
		text += "  export GRAVEN_API=" + d.url + "\n"
	}
	d.say(d.out, "%s  %s\n  %s log append l1 %s\n  %s log read l1 | cmp - %s\n  %s log verify l1\n\nCtrl-C ends the cluster.",
		text, create, me, shellWord(d.self), me, shellWord(d.self), me)
}

// firstCapacity is a log's size to begin with: one that a pool has room for.
func firstCapacity(pool size) size { return min(256<<20, max(1<<20, pool/2&^(1<<20-1))) }

// shortName is how a person here would call this binary.
func (d *dev) shortName() string {
	if p, err := exec.LookPath("graven"); err == nil && p == d.self {
		return "graven"
	}
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, d.self); err == nil && !strings.HasPrefix(rel, "..") {
			if !strings.Contains(rel, "/") {
				rel = "./" + rel
			}
			return shellWord(rel)
		}
	}
	return shellWord(d.self)
}
