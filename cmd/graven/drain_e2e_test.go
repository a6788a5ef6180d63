package main

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/gravenio/graven/openapi"
)

// holders are the daemons that have a replica of the log.
func holders(t *testing.T, api, log string) []string {
	t.Helper()
	l, err := decoded[openapi.Log]([]byte(must(t, "log", "show", log, "--api", api, "-o", "json")))
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, r := range l.Replicas {
		ids = append(ids, r.DaemonID)
	}
	return ids
}

// A daemon is drained: the replica of a log that is written moves by its writer,
// that of a closed one by an agent. Then it can be removed. Another one is lost
// with its host: its replicas are given up, replaced as soon as there is room,
// and its agent stops when it returns.
func TestE2EDrainAndLose(t *testing.T) {
	skipShort(t)
	c := startDev(t, t.TempDir(), "--daemons", "4", "--ttl", "3s", "--pool-size", smallPool, "--media", "volatile")
	run := func(args ...string) string { return must(t, append(args, "--api", c.api)...) }
	for _, log := range []string{"written", "closed"} {
		run("log", "create", log, "--replicas", "3", "--ack", "2", "--capacity", smallLog, "--media", "volatile")
	}
	data := randomBytes(7, 64*testBlock)
	old := filepath.Join(t.TempDir(), "data")
	writeFile(t, old, string(data))
	run("log", "append", "closed", old)
	p, in := feed(t, c.api, "written")
	half := len(data) / 2
	pour(t, p, in, data[:half], 0)

	if out := run("daemon", "drain", "d2", "--wait", "--timeout", "60s"); !strings.Contains(out, "draining") {
		t.Errorf("drained:\n%s", out)
	}
	for _, log := range []string{"written", "closed"} {
		if ids := strings.Join(holders(t, c.api, log), " "); strings.Contains(ids, "d2") {
			t.Errorf("log %s is on %s", log, ids)
		}
	}
	if ops := run("operator", "ls", "--kind", "drain", "--daemon", "d2"); strings.Contains(ops, "failed") {
		t.Errorf("operators:\n%s", ops)
	}
	pour(t, p, in, data[half:], half)
	if _, stderr, status := graven(t, nil, "daemon", "rm", "d2", "--api", c.api); status != 1 || !strings.Contains(stderr, "live") {
		t.Errorf("a live daemon was removed: %d, %s", status, stderr)
	}
	c.leave("d2")
	run("daemon", "rm", "d2")
	if list := run("daemon", "ls"); strings.Contains(list, "d2") {
		t.Errorf("daemons:\n%s", list)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if status := p.exit(t); status != 0 {
		t.Fatalf("the writer ended with %d: %s", status, p.stderr())
	}

	pid, command := c.agent("d3")
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.awaitState("d3", openapi.DaemonDown)
	run("daemon", "rm", "d3", "--lost")
	if _, stderr, status := graven(t, nil, command...); status != 1 || !strings.Contains(stderr, "given up as lost") {
		t.Errorf("a daemon that was given up returns: %d, %s", status, stderr)
	}
	_, other := c.agent("d1")
	spare := strings.Fields(strings.ReplaceAll(strings.Join(other, " "), "d1", "d5"))
	d5 := start(t, nil, spare...)
	defer func() {
		d5.signal(t, syscall.SIGTERM)
		d5.exit(t)
	}()
	for _, log := range []string{"written", "closed"} {
		eventually(t, func() string {
			return log + ": " + strings.Join(holders(t, c.api, log), " ") + "\n" + run("operator", "ls")
		}, func() bool {
			ids := strings.Join(holders(t, c.api, log), " ")
			return strings.Contains(ids, "d5") && !strings.Contains(ids, "d3")
		})
		got, stderr, status := graven(t, nil, "log", "read", log, "--api", c.api)
		if status != 0 {
			t.Fatalf("read %s: %d, %s", log, status, stderr)
		}
		compare(t, []byte(got), data)
	}
}

// leave has an agent leave in order.
func (c *cluster) leave(id string) {
	c.t.Helper()
	pid, _ := c.agent(id)
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		c.t.Fatalf("stop %s: %v", id, err)
	}
	c.awaitState(id, openapi.DaemonDown)
}
