package main

import (
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/gravenio/graven/openapi"
)

// holders are the daemons that have a replica of the log.
func holders(t *testing.T, shown string) []string {
	t.Helper()
	l, err := decoded[openapi.Log]([]byte(shown))
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, r := range l.Replicas {
		ids = append(ids, r.DaemonID)
	}
	return ids
}

// twoOnBoth are two daemons that have replicas of both logs.
func twoOnBoth(one, other string) (first, second string) {
	both := strings.Fields(one)
	both = slices.DeleteFunc(both, func(id string) bool { return !slices.Contains(strings.Fields(other), id) })
	return both[0], both[1]
}

// A daemon is drained: the replica of a log that is written moves by its writer,
// that of a closed one by an agent. Then it can be removed. Another one is lost
// with its host: its replicas are given up, replaced as soon as there is room,
// and its agent stops when it returns. Everybody proves who he is: the logs are a
// client's, the daemons work for them by their own certificates, and what is done
// to daemons is an admin's. (docs/operations.md does the same without identities.)
func TestE2EDrainAndLose(t *testing.T) {
	skipShort(t)
	c := startDev(t, t.TempDir(), "--daemons", "4", "--ttl", "3s", "--pool-size", smallPool, "--media", "volatile", "--tls")
	issue := func(role, name string) {
		must(t, "ca", "issue", role, name, "--dir", filepath.Join(c.data, "tls"), "--out", filepath.Join(c.data, "tls"), "--host", "127.0.0.1")
	}
	issue("client", "alice")
	admin := func(args ...string) string { return must(t, append(args, c.as("admin")...)...) }
	run := func(args ...string) string { return must(t, append(args, c.as("alice")...)...) }
	on := func(log string) string { return strings.Join(holders(t, run("log", "show", log, "-o", "json")), " ") }
	for _, log := range []string{"written", "closed"} {
		run("log", "create", log, "--replicas", "3", "--ack", "2", "--capacity", smallLog, "--media", "volatile")
	}
	data := randomBytes(7, 64*testBlock)
	old := filepath.Join(t.TempDir(), "data")
	writeFile(t, old, string(data))
	run("log", "append", "closed", old)
	p, in := feed(t, c.api, "written", c.as("alice")...)
	half := len(data) / 2
	pour(t, p, in, data[:half], 0)

	drained, lost := twoOnBoth(on("written"), on("closed"))
	if out := admin("daemon", "drain", drained, "--wait", "--timeout", "60s"); !strings.Contains(out, "draining") {
		t.Errorf("drained:\n%s", out)
	}
	for _, log := range []string{"written", "closed"} {
		if ids := on(log); strings.Contains(ids, drained) {
			t.Errorf("log %s is on %s", log, ids)
		}
	}
	if ops := admin("operator", "ls", "--kind", "drain", "--daemon", drained); strings.Contains(ops, "failed") {
		t.Errorf("operators:\n%s", ops)
	}
	pour(t, p, in, data[half:], half)
	if _, stderr, status := graven(t, nil, append([]string{"daemon", "rm", drained}, c.as("admin")...)...); status != 1 || !strings.Contains(stderr, "live") {
		t.Errorf("a live daemon was removed: %d, %s", status, stderr)
	}
	c.leave(drained)
	admin("daemon", "rm", drained)
	if list := admin("daemon", "ls"); strings.Contains(list, drained) {
		t.Errorf("daemons:\n%s", list)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if status := p.exit(t); status != 0 {
		t.Fatalf("the writer ended with %d: %s", status, p.stderr())
	}

	pid, command := c.agent(lost)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.awaitState(lost, openapi.DaemonDown)
	admin("daemon", "rm", lost, "--lost")
	if _, stderr, status := graven(t, nil, command...); status != 1 || !strings.Contains(stderr, "given up as lost") {
		t.Errorf("a daemon that was given up returns: %d, %s", status, stderr)
	}
	issue("daemon", "d5")
	_, other := c.agent(drained)
	spare := strings.Fields(strings.ReplaceAll(strings.Join(other, " "), drained, "d5"))
	d5 := start(t, nil, spare...)
	defer func() {
		d5.signal(t, syscall.SIGTERM)
		d5.exit(t)
	}()
	for _, log := range []string{"written", "closed"} {
		eventually(t, func() string {
			return log + ": " + on(log) + "\n" + admin("operator", "ls")
		}, func() bool {
			ids := on(log)
			return strings.Contains(ids, "d5") && !strings.Contains(ids, lost)
		})
		got, stderr, status := graven(t, nil, append([]string{"log", "read", log}, c.as("alice")...)...)
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
