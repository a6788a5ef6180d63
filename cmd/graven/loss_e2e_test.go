package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gravenio/graven/openapi"
)

// join starts another agent in the cluster, as dev starts its own.
func (c *cluster) join(id string) {
	c.t.Helper()
	_, command := c.agent("d1")
	for i, word := range command {
		switch {
		case word == "d1":
			command[i] = id
		case strings.HasSuffix(word, "/d1"):
			command[i] = filepath.Join(c.data, id)
		case strings.HasPrefix(word, "host="), strings.HasPrefix(word, "zone="):
			command[i] = word[:len("host=")] + id
		}
	}
	start(c.t, nil, command...)
	c.awaitState(id, openapi.DaemonUp)
}

// restart starts a killed agent again, with the command that dev printed, and
// returns once it has registered.
func (c *cluster) restart(ids ...string) {
	c.t.Helper()
	var again []*process
	for _, id := range ids {
		_, command := c.agent(id)
		again = append(again, start(c.t, nil, command...))
	}
	for _, p := range again {
		p.await(c.t, "msg=registered")
	}
}

// wipe kills an agent and deletes its pool.
func (c *cluster) wipe(id string) {
	c.t.Helper()
	c.kill(id)
	if err := os.RemoveAll(filepath.Join(c.data, id)); err != nil {
		c.t.Fatalf("%v", err)
	}
}

// log is what the API says of a log.
func (c *cluster) log(name string) openapi.Log {
	c.t.Helper()
	var l openapi.Log
	if err := json.Unmarshal([]byte(must(c.t, "log", "show", name, "--api", c.api, "-o", "json")), &l); err != nil {
		c.t.Fatalf("log show: %v", err)
	}
	return l
}

// daemonsOf returns where the log's replicas are.
func (c *cluster) daemonsOf(name string) []string {
	c.t.Helper()
	var ids []string
	for _, r := range c.log(name).Replicas {
		ids = append(ids, r.DaemonID)
	}
	slices.Sort(ids)
	return ids
}

// revision is what a watch has to begin behind to see all that comes now.
func (c *cluster) revision() string {
	c.t.Helper()
	var s openapi.Status
	if err := json.Unmarshal([]byte(must(c.t, "status", "--api", c.api, "-o", "json")), &s); err != nil {
		c.t.Fatalf("status: %v", err)
	}
	return strconv.FormatInt(s.View.Revision, 10)
}

// A replica moves to another daemon while the log is written to: nothing fails,
// nothing is lost.
func TestReplaceDuringAppend(t *testing.T) {
	skipShort(t)
	c := startDev(t, t.TempDir(), "--daemons", "5", "--ttl", "2s", "--pool-size", smallPool)
	must(t, "log", "create", "l1", "--capacity", smallLog, "--api", c.api)
	before := c.daemonsOf("l1")
	from, to := before[1], ""
	for _, id := range []string{"d1", "d2", "d3", "d4", "d5"} {
		if !slices.Contains(before, id) {
			to = id
		}
	}
	data, step := randomBytes(10, 6000*testBlock), 100*testBlock
	p, in := feed(t, c.api, "l1")
	sent := 0
	more := func() {
		if sent < len(data) {
			pour(t, p, in, data[sent:sent+step], sent)
			sent += step
		}
	}
	more()
	replace := start(t, nil, "log", "replace", "l1", "--from", from, "--to", to, "--api", c.api)
	eventually(t, func() string { return "the replacement is not done: " + replace.stderr() }, func() bool {
		more()
		select {
		case <-replace.waited:
			return true
		default:
			return false
		}
	})
	if status := replace.exit(t); status != 0 {
		t.Fatalf("replace: exit status %d\n%s", status, replace.stderr())
	}
	more()
	_ = in.Close()
	if status := p.exit(t); status != 0 {
		t.Fatalf("append: exit status %d\n%s", status, p.stderr())
	}
	s := summaryOf(t, p)
	if !s.Complete || s.Bytes != int64(sent) || s.MaxSeconds < s.P999Seconds || s.P999Seconds < s.P99Seconds || s.P50Seconds <= 0 {
		t.Errorf("summary %+v, want all of %d bytes", s, sent)
	}
	t.Logf("%d appends while the replica moved from %s to %s: max %v", s.Records, from, to, seconds(s.MaxSeconds))

	after := c.daemonsOf("l1")
	if slices.Contains(after, from) || !slices.Contains(after, to) || len(after) != 3 {
		t.Errorf("replicas on %v, want %s in place of %s", after, to, from)
	}
	if rep, status := verify(t, c.api, "l1"); status != 0 || !rep.Agree || len(rep.Replicas) != 3 {
		t.Errorf("verify: exit status %d, %+v", status, rep)
	}
	compare(t, []byte(must(t, "log", "read", "l1", "--api", c.api)), data[:sent])
}

// A daemon that has lost its pool is not let in again; its replica is made anew
// elsewhere.
func TestLostPoolIsReplaced(t *testing.T) {
	skipShort(t)
	c := startDev(t, t.TempDir(), "--ttl", "2s", "--pool-size", smallPool)
	must(t, "log", "create", "l1", "--capacity", "8MiB", "--api", c.api)
	c.join("d4")
	data := randomBytes(11, 900*testBlock)
	first, second := 300*testBlock, 600*testBlock
	p, in := feed(t, c.api, "l1")
	pour(t, p, in, data[:first], 0)

	c.wipe("d1")
	_, command := c.agent("d1")
	out, errs, status := graven(t, nil, command...)
	if status == 0 || !strings.Contains(errs, "pool-wiped") || !strings.Contains(errs, "if that pool is lost for good") {
		t.Errorf("an agent without its pool: exit status %d\n%s%s", status, out, errs)
	}
	pour(t, p, in, data[first:second], first)
	_, errs, status = graven(t, nil, "log", "replace", "l1", "--from", "d1", "--api", c.api)
	if status != 0 {
		t.Fatalf("replace: exit status %d\n%s", status, errs)
	}
	pour(t, p, in, data[second:], second)
	_ = in.Close()
	if status := p.exit(t); status != 0 {
		t.Fatalf("append: exit status %d\n%s", status, p.stderr())
	}
	if got := c.daemonsOf("l1"); !slices.Equal(got, []string{"d2", "d3", "d4"}) {
		t.Errorf("replicas on %v", got)
	}
	if rep, status := verify(t, c.api, "l1"); status != 0 || !rep.Agree {
		t.Errorf("verify: exit status %d, %+v", status, rep)
	}
	compare(t, []byte(must(t, "log", "read", "l1", "--api", c.api)), data)
}

// Two processes take a log from each other again and again. What either has
// reported as committed is there, once.
func TestTwoWritersFight(t *testing.T) {
	skipShort(t)
	c := startDev(t, t.TempDir(), "--pool-size", smallPool)
	must(t, "log", "create", "l1", "--capacity", smallLog, "--api", c.api)
	const width, records, rounds = 32, 1500, 4
	told := map[string]bool{}
	var mu sync.Mutex
	var fighters sync.WaitGroup
	for _, name := range []string{"a", "b"} {
		fighters.Go(func() {
			for round := range rounds {
				var input bytes.Buffer
				for i := range records {
					fmt.Fprintf(&input, "%-*s\n", width-1, fmt.Sprintf("%s/%d/%d", name, round, i))
				}
				text := input.String()
				p := start(t, &input, "log", "append", "l1", "--takeover", "--api", c.api, "-o", "json", "--block", strconv.Itoa(width), "--depth", "8")
				if status := p.exit(t); status != 0 && !strings.Contains(p.stderr(), "another writer") && !strings.Contains(p.stderr(), "fenced") {
					t.Errorf("%s, round %d: exit status %d\n%s", name, round, status, p.stderr())
				}
				if p.stdout() == "" {
					continue // fenced before it had opened the log
				}
				n := summaryOf(t, p).Records
				mu.Lock()
				for i := range n {
					told[text[i*width:(i+1)*width]] = true
				}
				mu.Unlock()
			}
		})
	}
	fighters.Wait()
	got := must(t, "log", "read", "l1", "--api", c.api)
	found := map[string]int{}
	for len(got) >= width {
		found[got[:width]]++
		got = got[width:]
	}
	if len(got) > 0 || len(told) == 0 {
		t.Errorf("%d bytes at the end, %d records reported", len(got), len(told))
	}
	for r := range told {
		if found[r] != 1 {
			t.Errorf("%s was reported as committed, and is there %d times", strings.TrimSpace(r), found[r])
		}
	}
	t.Logf("%d of %d records were reported as committed, %d are in the log", len(told), 2*rounds*records, len(found))
}

// Without a quorum an append fails after --quorum-timeout and names the daemons;
// when they are back, the log is recovered with all that was reported.
func TestQuorumLost(t *testing.T) {
	skipShort(t)
	c := startDev(t, t.TempDir(), "--ttl", "2s", "--pool-size", smallPool)
	must(t, "log", "create", "l1", "--capacity", "8MiB", "--api", c.api)
	data, first := randomBytes(12, 500*testBlock), 400*testBlock
	p, in := feed(t, c.api, "l1", "--quorum-timeout", "2s")
	pour(t, p, in, data[:first], 0)
	c.kill("d1")
	c.kill("d2")
	go func() { _, _ = in.Write(data[first:]) }() // it ends with the pipe
	if status := p.exit(t); status != 1 {
		t.Fatalf("append without a quorum: exit status %d\n%s", status, p.stderr())
	}
	for _, want := range []string{"too few replicas work", " on d1:", " on d2:", "hint: start those daemons again", "graven log recover l1"} {
		if !strings.Contains(p.stderr(), want) {
			t.Errorf("the append does not say %q:\n%s", want, p.stderr())
		}
	}
	told := summaryOf(t, p)
	if told.Complete || told.Bytes < int64(first) {
		t.Errorf("the append reports %+v", told)
	}

	c.restart("d1", "d2")
	var res recoverResult
	if err := json.Unmarshal([]byte(must(t, "log", "recover", "l1", "--api", c.api, "-o", "json")), &res); err != nil {
		t.Fatal(err)
	}
	if res.CommitLSN < told.CommitLSN || res.GivenUp != nil || len(res.Replicas) != 3 || res.Epoch == 0 {
		t.Errorf("recover reports %+v, the append ended at LSN %d", res, told.CommitLSN)
	}
	for _, r := range res.Replicas {
		if !r.TakesPart || r.DurableLSN != res.CommitLSN || r.DaemonID == r.ReplicaID {
			t.Errorf("after the recovery: %+v", r)
		}
	}
	got := []byte(must(t, "log", "read", "l1", "--api", c.api))
	if int64(len(got)) < told.Bytes {
		t.Fatalf("%d bytes were reported as committed, %d are there", told.Bytes, len(got))
	}
	compare(t, got, data[:len(got)])
}

// Two of three pools are gone for good. Somebody has to say that what only they
// held is given up; it is on record, and what is lost is replaced.
func TestAcceptDataLoss(t *testing.T) {
	skipShort(t)
	c := startDev(t, t.TempDir(), "--ttl", "2s", "--pool-size", smallPool)
	must(t, "log", "create", "l1", "--capacity", "8MiB", "--api", c.api)
	data, half := randomBytes(13, 400*testBlock), 200*testBlock
	p, in := feed(t, c.api, "l1")
	pour(t, p, in, data[:half], 0)
	c.kill("d3")
	pour(t, p, in, data[half:], half)
	_ = in.Close()
	if status := p.exit(t); status != 0 {
		t.Fatalf("append: exit status %d\n%s", status, p.stderr())
	}
	c.restart("d3") // it lacks the second half
	c.wipe("d1")
	c.wipe("d2")
	c.join("d4")
	c.join("d5")
	since := c.revision()
	args := []string{"log", "recover", "l1", "--api", c.api}

	_, errs, status := graven(t, nil, append(args, "--timeout", "1s")...)
	if status != 1 || !strings.Contains(errs, " on d1:") || !strings.Contains(errs, " on d2:") || !strings.Contains(errs, "--accept-data-loss") {
		t.Errorf("recover: exit status %d\n%s", status, errs)
	}
	args = append(args, "--accept-data-loss")
	if _, errs, status = graven(t, nil, args...); status != 2 || !strings.Contains(errs, "--yes answers in advance") {
		t.Errorf("without a terminal: exit status %d\n%s", status, errs)
	}
	unasked := c.log("l1")
	if out, errs, status := answering(t, "no\n", args...); status != 1 || out != "" ||
		!strings.Contains(errs, "Type the log's name to give this up for good:") || !strings.Contains(errs, "nothing was given up") {
		t.Errorf("answering no: exit status %d\n%s%s", status, out, errs)
	}
	if l := c.log("l1"); l.SetVersion != unasked.SetVersion || len(l.Replicas) != 3 || l.Writer != nil {
		t.Errorf("after a no the log is %+v", l)
	}

	out, errs, status := graven(t, nil, append(args, "--yes", "-o", "json")...)
	if status != 0 {
		t.Fatalf("recover: exit status %d\n%s", status, errs)
	}
	for _, want := range []string{"go on from the one on d3", "  d1 (replica ", "  d2 (replica ", "the loss is recorded in the journal"} {
		if !strings.Contains(errs, want) {
			t.Errorf("recover does not say %q:\n%s", want, errs)
		}
	}
	var res recoverResult
	if err := json.Unmarshal([]byte(out), &res); err != nil {
		t.Fatal(err)
	}
	if g := res.GivenUp; g == nil || g.Chosen != "d3" || len(g.Unknown) != 2 || g.LSN != res.CommitLSN || res.away() != nil {
		t.Errorf("recover reports %+v", res)
	}
	if got := c.daemonsOf("l1"); !slices.Equal(got, []string{"d3", "d4", "d5"}) {
		t.Errorf("replicas on %v", got)
	}
	got := []byte(must(t, "log", "read", "l1", "--api", c.api))
	if len(got) < half || len(got) == len(data) {
		t.Errorf("%d bytes are there, d3 was told of at least %d and not of all %d", len(got), half, len(data))
	}
	compare(t, got, data[:len(got)])
	if rep, status := verify(t, c.api, "l1"); status != 0 || !rep.Agree {
		t.Errorf("verify: exit status %d, %+v", status, rep)
	}

	watch := start(t, nil, "watch", "--since", since, "--api", c.api)
	watch.await(t, `journal log l1 data-loss-accepted: .*; gave up replica .*; gave up replica `)
	if n := strings.Count(watch.stdout(), "data-loss-accepted"); n != 1 {
		t.Errorf("the journal has %d losses", n)
	}
}

// answering runs a command with a terminal as its standard input, on which
// somebody types an answer once there is a question.
func answering(t *testing.T, answer string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	user, terminal := openTerminal(t)
	p := start(t, terminal, args...)
	p.await(t, "Type the log's name")
	if _, err := io.WriteString(user, answer); err != nil {
		t.Fatal(err)
	}
	status = p.exit(t)
	return p.stdout(), p.stderr(), status
}

// openTerminal returns both ends of a pseudoterminal.
func openTerminal(t *testing.T) (user, terminal *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatalf("open a pseudoterminal: %v", err)
	}
	t.Cleanup(func() { _ = user.Close() })
	n, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	if err := errors.Join(err, unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0)); err != nil {
		t.Fatalf("unlock a pseudoterminal: %v", err)
	}
	terminal, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatalf("open a pseudoterminal: %v", err)
	}
	t.Cleanup(func() { _ = terminal.Close() })
	return user, terminal
}
