package main

import (
	"net"
	"strings"
	"syscall"
	"testing"
)

// A killed dev takes its agents with it; the next one finds everything.
func TestKilledDevLeavesNoAgents(t *testing.T) {
	skipShort(t)
	dir := t.TempDir()
	c := startDev(t, dir, "--pool-size", smallPool)
	must(t, "log", "create", "l1", "--capacity", smallLog, "--api", c.api)
	var pids []int
	for _, id := range []string{"d1", "d2", "d3"} {
		pid, _ := c.agent(id)
		pids = append(pids, pid)
	}
	c.dev.signal(t, syscall.SIGKILL)
	c.dev.exit(t)
	// Started while they still leave: it waits for them.
	c = startDev(t, dir, "--pool-size", smallPool)
	for _, pid := range pids {
		if !pidGone(pid) {
			t.Errorf("agent %d of the killed dev still runs", pid)
		}
	}
	if out := must(t, "log", "ls", "--api", c.api); !strings.Contains(out, "l1") {
		t.Errorf("the second start lacks log l1:\n%s", out)
	}
}

// Ctrl-C on a terminal reaches dev and its agents at the same time.
func TestDevEndsInOrder(t *testing.T) {
	skipShort(t)
	c := startDev(t, t.TempDir(), "--pool-size", smallPool)
	var pids []int
	for _, id := range []string{"d1", "d2", "d3"} {
		pid, _ := c.agent(id)
		pids = append(pids, pid)
		if err := syscall.Kill(pid, syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
	}
	c.dev.signal(t, syscall.SIGINT)
	if status := c.dev.exit(t); status != 0 || !strings.Contains(c.dev.stdout(), "stopped") {
		t.Errorf("exit status %d\n%s%s", status, c.dev.stdout(), c.dev.stderr())
	}
	for _, pid := range pids {
		if !pidGone(pid) {
			t.Errorf("agent %d outlived dev", pid)
		}
	}
}

func TestSecondDevIsRefused(t *testing.T) {
	skipShort(t)
	dir := t.TempDir()
	c := startDev(t, dir, "--pool-size", smallPool)
	_, errs, status := graven(t, nil, "dev", "--data", dir, "--api", "127.0.0.1:0")
	if status != 1 || !strings.Contains(errs, "another graven dev (process ") || !strings.Contains(errs, "hint: ") {
		t.Errorf("second dev in one folder: exit status %d\n%s", status, errs)
	}
	_, port, err := net.SplitHostPort(strings.TrimPrefix(c.api, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	_, errs, status = graven(t, nil, "dev", "--data", t.TempDir(), "--api", "127.0.0.1:"+port)
	if status != 1 || !strings.Contains(errs, "port "+port+" is in use") || !strings.Contains(errs, "--api") {
		t.Errorf("dev on an occupied port: exit status %d\n%s", status, errs)
	}
	// A second agent on a pool that is served already.
	_, command := c.agent("d1")
	_, errs, status = graven(t, nil, command...)
	if status != 1 || !strings.Contains(errs, "error: ") {
		t.Errorf("second agent on a pool: exit status %d\n%s", status, errs)
	}
	t.Logf("second agent says: %s", errs)
}
