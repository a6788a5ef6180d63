package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog"
)

const (
	testBlock = 4096
	smallPool = "128MiB"
	smallLog  = "32MiB"
)

func skipShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs a cluster of processes")
	}
	t.Parallel()
}

// feed starts an append that reads what is written into the returned pipe.
func feed(t *testing.T, api, log string, args ...string) (*process, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	t.Cleanup(func() { _ = w.Close() })
	args = append([]string{"log", "append", log, "--api", api, "--depth", "32", "--progress", "json", "-o", "json"}, args...)
	return start(t, r, args...), w
}

// pour writes to an append's input and returns when all of it is committed. The
// last block is held back until the input ends, so it must not be part of one.
func pour(t *testing.T, p *process, w *os.File, data []byte, before int) {
	t.Helper()
	if err := w.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatalf("feed the append: %v\n%s", err, p.stderr())
	}
	want := int64(before + len(data))
	eventually(t, func() string {
		return fmt.Sprintf("committed %d of %d bytes: %s", committed(t, p).Bytes, want, p.stderr())
	},
		func() bool { return committed(t, p).Bytes >= want })
}

// committed is the last line of progress.
func committed(t *testing.T, p *process) progressLine {
	t.Helper()
	var last progressLine
	text := p.stderr()
	text = text[:strings.LastIndex(text, "\n")+1]
	for line := range strings.Lines(text) {
		var l progressLine
		if strings.HasPrefix(line, "{") {
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatalf("progress line %q: %v", line, err)
			}
			if l.Records < last.Records || l.Bytes < last.Bytes || l.CommitLSN < last.CommitLSN {
				t.Fatalf("progress goes back from %+v to %+v", last, l)
			}
			last = l
		}
	}
	return last
}

func summaryOf(t *testing.T, p *process) appendSummary {
	t.Helper()
	var s appendSummary
	if err := json.Unmarshal([]byte(p.stdout()), &s); err != nil {
		t.Fatalf("summary %q: %v", p.stdout(), err)
	}
	return s
}

func verify(t *testing.T, api, log string, args ...string) (replog.VerifyReport, int) {
	t.Helper()
	out, errs, status := graven(t, nil, append([]string{"log", "verify", log, "--api", api, "-o", "json"}, args...)...)
	var rep replog.VerifyReport
	if err := json.Unmarshal([]byte(out), &rep); err != nil {
		t.Fatalf("verify: %v\n%s%s", err, out, errs)
	}
	return rep, status
}

// A daemon is killed during an append: nothing is lost, it is seen to be down,
// and it comes back with the printed command.
func TestDaemonKilledDuringAppend(t *testing.T) {
	skipShort(t)
	c := startDev(t, t.TempDir(), "--ttl", "2s", "--pool-size", smallPool)
	must(t, "log", "create", "l1", "--capacity", smallLog, "--api", c.api)
	data := randomBytes(3, 2000*testBlock)
	half := 1000 * testBlock

	p, in := feed(t, c.api, "l1")
	pour(t, p, in, data[:half], 0)
	c.kill("d2")
	pour(t, p, in, data[half:], half)
	c.awaitState("d2", openapi.DaemonDown)
	_ = in.Close()
	if status := p.exit(t); status != 0 {
		t.Fatalf("append: exit status %d\n%s", status, p.stderr())
	}
	if s := summaryOf(t, p); !s.Complete || s.Bytes != int64(len(data)) || s.Records != 2000 {
		t.Errorf("summary %+v, want all of %d bytes", s, len(data))
	}
	compare(t, []byte(must(t, "log", "read", "l1", "--api", c.api)), data)

	_, command := c.agent("d2")
	c.dev.await(t, `agent d2, pid \d+, ended \(signal: killed\)\nstart it again with: .*agent --id d2 `)
	start(t, nil, command...)
	c.awaitState("d2", openapi.DaemonUp)
	if out := must(t, "log", "read", "l1", "--api", c.api); len(out) != len(data) {
		t.Errorf("read %d bytes, want %d", len(out), len(data))
	}
	// The read need not have waited for d2, and verify reports what it finds before it
	// recovers: what it leaves is what the next one finds.
	var rep replog.VerifyReport
	for range 2 {
		var status int
		if rep, status = verify(t, c.api, "l1"); status != 0 || !rep.Agree || len(rep.Replicas) != 3 {
			t.Fatalf("verify: exit status %d, %+v", status, rep)
		}
	}
	for _, r := range rep.Replicas {
		if r.Records != 2000 {
			t.Errorf("replica on %s holds %d records after the daemon's return, want 2000", r.DaemonID, r.Records)
		}
	}
}

// A writer is killed while a replica is behind. The next open makes them agree, which
// is in the journal, once; an open that finds all as it should be is not.
func TestRecoveryIsInTheJournal(t *testing.T) {
	skipShort(t)
	c := startDev(t, t.TempDir(), "--ttl", "2s", "--pool-size", smallPool)
	must(t, "operator", "pause", "--api", c.api) // no agent shall be first
	must(t, "log", "create", "l1", "--capacity", smallLog, "--api", c.api)
	data := randomBytes(6, 200*testBlock)
	half := 100 * testBlock
	p, in := feed(t, c.api, "l1")
	pour(t, p, in, data[:half], 0)
	c.kill("d2")
	pour(t, p, in, data[half:], half)
	_ = p.cmd.Process.Kill()
	p.exit(t)
	c.awaitState("d2", openapi.DaemonDown)
	_, command := c.agent("d2")
	start(t, nil, command...)
	c.awaitState("d2", openapi.DaemonUp)

	for range 2 {
		must(t, "log", "recover", "l1", "--takeover", "--api", c.api)
		var l openapi.JournalList
		if err := json.Unmarshal([]byte(must(t, "events", "ls", "--log", "l1", "--kind", "log-recovered", "-o", "json", "--api", c.api)), &l); err != nil {
			t.Fatal(err)
		}
		if len(l.Items) != 1 || l.Items[0].Epoch != 2 || !strings.HasPrefix(l.Items[0].Detail, "epoch 2 begins at LSN ") ||
			!strings.Contains(l.Items[0].Detail, "on d2 had missed what lies from LSN ") {
			t.Fatalf("the journal has %+v", l.Items)
		}
	}
	if out := must(t, "events", "ls", "--log", "l1", "--kind", "log-recovered", "--api", c.api); !strings.Contains(out, "epoch 2 begins at LSN ") {
		t.Errorf("for people: %s", out)
	}
	compare(t, []byte(must(t, "log", "read", "l1", "--api", c.api)), data)
}

// Everything is killed in mid-append; what was reported as committed is there.
func TestEverythingKilledDuringAppend(t *testing.T) {
	skipShort(t)
	dir := t.TempDir()
	c := startDev(t, dir, "--ttl", "2s", "--pool-size", smallPool)
	must(t, "log", "create", "l1", "--capacity", smallLog, "--api", c.api)
	data := randomBytes(4, 6000*testBlock)
	p := start(t, bytes.NewReader(data), "log", "append", "l1", "--api", c.api, "--progress", "json")
	eventually(t, func() string { return "no progress: " + p.stderr() }, func() bool { return committed(t, p).Records >= 500 })
	c.killAll("d1", "d2", "d3")
	_ = p.cmd.Process.Kill()
	p.exit(t)
	told := committed(t, p)

	c = startDev(t, dir, "--ttl", "2s", "--pool-size", smallPool)
	got := []byte(must(t, "log", "read", "l1", "--takeover", "--api", c.api))
	t.Logf("told of %d bytes, found %d", told.Bytes, len(got))
	if int64(len(got)) < told.Bytes {
		t.Fatalf("%d bytes were reported as committed, %d are there", told.Bytes, len(got))
	}
	compare(t, got, data[:len(got)])
	if rep, status := verify(t, c.api, "l1", "--takeover"); status != 0 || !rep.Agree {
		t.Errorf("verify: exit status %d, %+v", status, rep)
	}
}

// A byte of one replica flips on disk: verify says where, an open repairs it.
func TestFlippedByteIsFoundAndRepaired(t *testing.T) {
	skipShort(t)
	c := startDev(t, t.TempDir(), "--pool-size", smallPool)
	must(t, "log", "create", "l1", "--capacity", smallLog, "--api", c.api)
	data := randomBytes(5, 100*testBlock)
	file := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, "log", "append", "l1", file, "--api", c.api)
	const record = 40
	flip(t, filepath.Join(c.data, "d1"), data[record*testBlock:][:testBlock])

	lsn := record * format.RecordSize(testBlock)
	rep, status := verify(t, c.api, "l1")
	if status != 1 || rep.Agree {
		t.Errorf("verify with a flipped byte: exit status %d, agree %v", status, rep.Agree)
	}
	for _, r := range rep.Replicas {
		bad := len(r.Bad) > 0 && r.Bad[0].FromLSN == lsn
		if bad != (r.DaemonID == "d1") {
			t.Errorf("the flip is on d1 at LSN %d, replica found as %+v", lsn, r)
		}
	}
	compare(t, []byte(must(t, "log", "read", "l1", "--api", c.api)), data)
	if rep, status = verify(t, c.api, "l1"); status != 0 || !rep.Agree {
		t.Errorf("verify after the repair: exit status %d, %+v", status, rep)
	}
}

// flip changes a byte in the middle of the content, wherever a pool's file has it.
func flip(t *testing.T, pool string, content []byte) {
	t.Helper()
	found := 0
	err := filepath.WalkDir(pool, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		at := bytes.Index(b, content)
		if err != nil || at < 0 {
			return err
		}
		found++
		at += len(content) / 2
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt([]byte{b[at] ^ 0x10}, int64(at))
		return errors.Join(err, f.Close())
	})
	if err != nil || found != 1 {
		t.Fatalf("flip a byte in %s: found the record %d times, %v", pool, found, err)
	}
}

// The API server is stopped during an append: the append goes on, and a session
// that breaks meanwhile is made again.
func TestAppendGoesOnWithoutAPI(t *testing.T) {
	skipShort(t)
	c := startDev(t, t.TempDir(), "--daemons", "2", "--pool-size", smallPool)
	etcd := c.dev.await(t, `(?m)^etcd .* (http://\S+)$`)[1]
	srv := start(t, nil, "server", "--listen", "127.0.0.1:0", "--etcd-endpoints", etcd)
	api := "http://" + srv.await(t, `serving the API" address=(\S+)`)[1]
	d3 := []string{
		"agent", "--id", "d3", "--dir", filepath.Join(t.TempDir(), "d3"), "--listen", freeAddress(t),
		"--api", api, "--label", "host=d3", "--pool-size", smallPool,
	}
	third := start(t, nil, d3...)
	c.awaitState("d3", openapi.DaemonUp)
	// A dead address in front: the client fails over.
	must(t, "log", "create", "l1", "--capacity", smallLog, "--api", "127.0.0.1:1,"+api)
	data := randomBytes(6, 900*testBlock)
	third1, third2 := 300*testBlock, 600*testBlock

	p, in := feed(t, api, "l1")
	pour(t, p, in, data[:third1], 0)
	srv.signal(t, syscall.SIGKILL)
	srv.exit(t)
	third.signal(t, syscall.SIGKILL)
	third.exit(t)
	pour(t, p, in, data[third1:third2], third1)
	again := start(t, nil, d3...) // can't register anywhere; its address is known to the writer
	again.await(t, "fenced a replica")
	c.kill("d2") // from now on nothing commits without d3
	pour(t, p, in, data[third2:], third2)
	_ = in.Close()
	if status := p.exit(t); status != 0 {
		t.Fatalf("append: exit status %d\n%s", status, p.stderr())
	}
	// A new writer needs d3, and d3 serves none before it is registered again.
	start(t, nil, "server", "--listen", strings.TrimPrefix(api, "http://"), "--etcd-endpoints", etcd)
	c.awaitState("d3", openapi.DaemonUp)
	got := []byte(must(t, "log", "read", "l1", "--takeover", "--api", c.api))
	compare(t, got, data)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// A daemon that nothing but HTTP speaks for comes up, and goes down when it
// stops renewing.
func TestLeaseOverBareHTTP(t *testing.T) {
	skipShort(t)
	c := startDev(t, t.TempDir(), "--pool-size", smallPool)
	body := `{"pool_id":"5d3c2f4e-8f5a-4b7e-9a55-0d7f5b0c9a11","incarnation":1,"tcp_addr":"127.0.0.1","tcp_port":1,
		"capacity_bytes":1073741824,"free_bytes":1073741824,"media":"file","transports":["tcp"],"labels":{"host":"h9"},
		"replicas":[],"version":"curl","lease_ttl_seconds":5}`
	req, err := http.NewRequest(http.MethodPut, c.api+"/v1/daemons/d9", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	rsp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(rsp.Body)
	_ = rsp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if rsp.StatusCode != http.StatusOK {
		t.Fatalf("register: %s: %s", rsp.Status, answer)
	}
	c.awaitState("d9", openapi.DaemonUp)
	if out := must(t, "place", "--replicas", "4", "--size", "1MiB", "--api", c.api); !strings.Contains(out, "d9") {
		t.Errorf("a placement on 4 of 4 daemons lacks d9:\n%s", out)
	}
	c.awaitState("d9", openapi.DaemonDown)
}

// While a writer is live others read beside it, can't write, and take over only
// when told to; the old writer then says so and what it had committed.
func TestLiveWriterAndTakeover(t *testing.T) {
	skipShort(t)
	c := startDev(t, t.TempDir(), "--pool-size", smallPool)
	must(t, "log", "create", "l1", "--capacity", smallLog, "--api", c.api)
	data := randomBytes(7, 200*testBlock)
	p, in := feed(t, c.api, "l1")
	pour(t, p, in, data, 0)

	_, errs, status := graven(t, nil, "log", "append", "l1", "--api", c.api)
	if status != 1 || !strings.Contains(errs, "log append (process "+strconv.Itoa(p.cmd.Process.Pid)) || !strings.Contains(errs, "--takeover") {
		t.Errorf("append to a log in use: exit status %d\n%s", status, errs)
	}
	if _, errs, status = graven(t, nil, "log", "rm", "l1", "--api", c.api); status != 1 {
		t.Errorf("rm of a log in use: exit status %d\n%s", status, errs)
	}
	out, errs, status := graven(t, nil, "log", "read", "l1", "--api", c.api)
	if status != 0 || !strings.Contains(errs, "proven to be committed") {
		t.Errorf("read beside a writer: exit status %d\n%s", status, errs)
	}
	compare(t, []byte(out), data)
	if rep, status := verify(t, c.api, "l1"); status != 0 || !rep.Live || !rep.Agree {
		t.Errorf("verify beside a writer: exit status %d, %+v", status, rep)
	}

	must(t, "log", "read", "l1", "--takeover", "--api", c.api)
	_, _ = in.Write(data[:testBlock])
	_ = in.Close()
	if status := p.exit(t); status != 1 || !strings.Contains(p.stderr(), "took log l1 over") {
		t.Errorf("fenced append: exit status %d\n%s", status, p.stderr())
	}
	if s := summaryOf(t, p); s.Complete || s.Bytes != int64(len(data)) {
		t.Errorf("fenced append reports %+v, want %d bytes", s, len(data))
	}
}

// An append that is interrupted, or runs out of time, reports what is committed.
func TestInterruptedAppend(t *testing.T) {
	skipShort(t)
	c := startDev(t, t.TempDir(), "--pool-size", smallPool)
	must(t, "log", "create", "l1", "--capacity", smallLog, "--api", c.api)
	data := randomBytes(8, 50*testBlock)
	for name, end := range map[string]func(p *process){
		"interrupted":          func(p *process) { p.signal(t, syscall.SIGINT) },
		"--timeout has passed": func(*process) {},
	} {
		var args []string
		if strings.HasPrefix(name, "--timeout") {
			args = []string{"--timeout", "5s"}
		}
		p, in := feed(t, c.api, "l1", args...)
		pour(t, p, in, data, 0)
		end(p)
		if status := p.exit(t); status != 1 || !strings.Contains(p.stderr(), name) {
			t.Errorf("%s: exit status %d\n%s", name, status, p.stderr())
		}
		if s := summaryOf(t, p); s.Complete || s.Records != 50 {
			t.Errorf("%s: reports %+v, want 50 records", name, s)
		}
	}
}

// With too few daemons a command waits, says for whom, and ends when told to.
func TestWaitingForDaemons(t *testing.T) {
	skipShort(t)
	c := startDev(t, t.TempDir(), "--ttl", "2s", "--pool-size", smallPool)
	must(t, "log", "create", "l1", "--capacity", "1MiB", "--api", c.api)
	p, in := feed(t, c.api, "l1")
	pour(t, p, in, randomBytes(9, 10*testBlock), 0)
	_ = in.Close()
	p.exit(t)
	for _, id := range []string{"d1", "d2"} {
		c.kill(id)
		c.awaitState(id, openapi.DaemonDown)
	}
	for _, args := range [][]string{{"read", "l1"}, {"verify", "l1"}, {"append", "l1"}} {
		out, errs, status := graven(t, nil, append([]string{"log", "--api", c.api, "--timeout", "6s"}, args...)...)
		if status != 1 || !strings.Contains(errs, "note: log l1 needs 2 of its 3 replicas") || !strings.Contains(errs, "--timeout has passed") {
			t.Errorf("%s without a quorum: exit status %d\n%s%s", args[0], status, out, errs)
		}
	}
}
