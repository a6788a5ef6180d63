package agent

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gravenio/graven/grant"
	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
)

// A writer goes on and reconnects while the control plane is away, even to an
// agent that has been started meanwhile.
func TestOutageStopsNoWriter(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	o := c.options("d1")
	a := start(t, o)
	c.untilState(a.ID(), openapi.DaemonUp)
	log := c.createLog("l", 1)
	opened := c.open(log)
	w := write(t, a.Addr(), hello(t, opened, 0), nil)
	w.commit("one")
	next := hello(t, c.open(log), 0) // another writer's grant, not used before the control plane goes away
	eventually(t, "the grant keys are on disk", func() bool {
		_, ring, err := loadKeys(o.Dir, opened.ClusterID)
		return err == nil && len(ring.Keys) > 0
	})

	c.gate.shut.Store(true)
	w.commit("two")
	_ = w.Close()
	w = write(t, a.Addr(), hello(t, opened, 0), nil)
	w.commit("three")
	_ = w.Close()
	a.end()

	a = start(t, o) // with the keys that it has on disk
	if _, _, err := dial(a.Addr(), next, noEvents()); !errors.Is(err, rdmaio.ErrBusy) {
		t.Errorf("a new writer, before the pool is known to be the newest: %v", err)
	}
	w = write(t, a.Addr(), hello(t, opened, 0), nil)
	w.commit("four")
	if got := w.payloads(); !slices.Equal(got, []string{"one", "two", "three", "four"}) {
		t.Errorf("the log holds %q", got)
	}
	if d := c.daemon(a.ID()); d.Incarnation != 1 {
		t.Errorf("the gate let a registration through: incarnation %d", d.Incarnation)
	}
	c.gate.shut.Store(false)
	eventually(t, "the new incarnation is registered", func() bool { return c.daemon(a.ID()).Incarnation == 2 })
}

// A daemon that is killed has lost nothing that it acknowledged when it comes
// back.
func TestKilledDaemonKeepsWhatItAcknowledged(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	dir := t.TempDir()
	run := func() (*exec.Cmd, net.Addr) {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir, childID+"="+c.name+"d1", childAPI+"="+c.gate.url)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		addr, err := net.ResolveTCPAddr("tcp", strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		return cmd, addr
	}
	kill := func(cmd *exec.Cmd) {
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed
	}

	var want []string
	cmd, addr := run()
	c.untilState(c.name+"d1", openapi.DaemonUp)
	log := c.createLog("l", 1)
	for life := range 3 {
		opened := c.open(log)
		w := write(t, addr, hello(t, opened, 0), nil)
		if got := w.payloads(); !slices.Equal(got, want) {
			t.Fatalf("after %d kills the log holds %q, want %q", life, got, want)
		}
		if life == 0 {
			c.present(opened)
		}
		for i := range 20 {
			p := "life " + strconv.Itoa(life) + " record " + strconv.Itoa(i)
			w.commit(p)
			want = append(want, p)
		}
		kill(cmd)
		cmd, addr = run()
		eventually(t, "the next incarnation is registered", func() bool { return c.daemon(c.name+"d1").Incarnation == int64(life+2) })
	}
	w := write(t, addr, hello(t, c.open(log), 0), nil)
	if got := w.payloads(); !slices.Equal(got, want) {
		t.Errorf("the log holds %q, want %q", got, want)
	}
	kill(cmd)
}

// A removed log's space comes back, its sessions end, and nobody makes it anew
// with an old grant.
func TestRemovedLogFreesSpace(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := start(t, c.options("d1"))
	empty := c.untilState(a.ID(), openapi.DaemonUp).FreeBytes
	log := c.createLog("l", 1)
	opened := c.open(log)
	h := hello(t, opened, 0)
	w := write(t, a.Addr(), h, nil)
	w.commit("x")
	c.present(opened)
	if got := free(a.pool.Free()); got != empty-ringSize-format.RingOffset {
		t.Errorf("free are %d bytes, want %d less a replica", got, empty)
	}
	eventually(t, "the control plane has heard of the replica", func() bool { return c.daemon(a.ID()).ReplicaCount == 1 })

	r, err := c.api.CloseLogWithResponse(t.Context(), log.LogID, openapi.WriterRequest{WriterID: opened.WriterID, Epoch: opened.Epoch, Nonce: opened.Nonce})
	if err != nil || openapi.Check(r) != nil {
		t.Fatal(err, openapi.Check(r))
	}
	d, err := c.api.DeleteLogWithResponse(t.Context(), log.LogID, nil)
	if err != nil || openapi.Check(d) != nil {
		t.Fatal(err, openapi.Check(d))
	}
	eventually(t, "the space is free again", func() bool {
		d := c.daemon(a.ID())
		return d.FreeBytes == empty && d.ReservedBytes == 0 && d.ReplicaCount == 0
	})
	if got := free(a.pool.Free()); got != empty {
		t.Errorf("the pool has %d bytes free, want %d", got, empty)
	}
	if err := w.until(w.chain.LSN + 1); !errors.Is(err, rdmaio.ErrUnknownLog) { // without asking
		t.Errorf("the writer of the removed replica got %v", err)
	}
	if _, _, err := dial(a.Addr(), h, noEvents()); !errors.Is(err, rdmaio.ErrUnknownLog) {
		t.Errorf("the old grant got %v", err)
	}
}

// A control plane that was set back may condemn a replica that has since become
// a member of a newer set: its data is the log's, and it is kept.
func TestMemberOfANewerSetIsKept(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := start(t, c.options("d1"))
	opened := c.open(c.createLog("l", 1))
	h := hello(t, opened, 0)
	w := write(t, a.Addr(), h, nil)
	w.commit("x")
	if err := w.Reseal(t.Context(), 7, []format.ID{h.Replica}); err != nil {
		t.Fatal(err)
	}
	r := removal{replica: h.Replica, log: h.Log, setVersion: 6}
	if err := a.catalog.remove(r); err == nil || !strings.Contains(err.Error(), "set version 7") {
		t.Fatalf("removal by set version 6: %v", err)
	}
	w.commit("y") // its writer goes on
	r.setVersion = 7
	if err := a.catalog.remove(r); err != nil {
		t.Fatal(err)
	}
	if err := a.catalog.remove(r); !errors.Is(err, pmemlog.ErrNotFound) {
		t.Errorf("removal of what is gone: %v", err)
	}
}

// A region that is gone is never made anew for a replica that was present.
func TestPresentReplicaIsNeverMadeAnew(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := start(t, c.options("d1"))
	c.untilState(a.ID(), openapi.DaemonUp)
	log := c.createLog("l", 1)
	opened := c.open(log)
	w := write(t, a.Addr(), hello(t, opened, 0), nil)
	c.present(opened)
	_ = w.Close()
	if err := a.pool.Delete(id(t, opened.Replicas[0].ReplicaID)); err != nil { // the loss
		t.Fatal(err)
	}
	h := hello(t, c.open(log), 0)
	h.Create = true // a writer in error
	if _, _, err := dial(a.Addr(), h, noEvents()); !errors.Is(err, rdmaio.ErrReplicaMissing) {
		t.Errorf("got %v, want %v", err, rdmaio.ErrReplicaMissing)
	}
}

func TestHelloIsChecked(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a, other := start(t, c.options("d1")), start(t, c.options("d2"))
	c.untilState(a.ID(), openapi.DaemonUp)
	c.untilState(other.ID(), openapi.DaemonUp)
	log := c.createLog("l", 2)
	old := c.open(log)
	opened := c.open(log)
	agents := map[string]*running{a.ID(): a, other.ID(): other}
	first, second := agents[opened.Replicas[0].DaemonID], agents[opened.Replicas[1].DaemonID]
	good := hello(t, opened, 0)
	w := write(t, first.Addr(), good, nil)
	w.commit("x")

	forged := sign(t, opened, first.ID(), nil)
	for _, test := range []struct {
		name string
		to   *running
		edit func(*rdmaio.Hello)
		want error
	}{
		{"another cluster", first, func(h *rdmaio.Hello) { h.Cluster = newID() }, rdmaio.ErrUnknownLog},
		{"another log", first, func(h *rdmaio.Hello) { h.Log = newID() }, rdmaio.ErrUnknownLog},
		{"a reader of another log", first, func(h *rdmaio.Hello) { h.Log, h.ReadOnly, h.Create = newID(), true, false }, rdmaio.ErrUnknownLog},
		{"an unknown replica", first, func(h *rdmaio.Hello) { h.Replica = newID() }, rdmaio.ErrGrant},
		{"a reader of an unknown replica", first, func(h *rdmaio.Hello) { h.Replica, h.ReadOnly, h.Create = newID(), true, false }, rdmaio.ErrUnknownLog},
		{"another capacity", first, func(h *rdmaio.Hello) { h.Capacity *= 2 }, rdmaio.ErrUnknownLog},
		{"another epoch than the grant's", first, func(h *rdmaio.Hello) { h.Term.Epoch++ }, rdmaio.ErrGrant},
		{"another nonce than the grant's", first, func(h *rdmaio.Hello) { h.Term.Nonce++ }, rdmaio.ErrGrant},
		{"a replica of another daemon", second, nil, rdmaio.ErrGrant},
		{"no grant", first, func(h *rdmaio.Hello) { h.Grant = "" }, rdmaio.ErrGrant},
		{"half a grant", first, func(h *rdmaio.Hello) { h.Grant = h.Grant[:len(h.Grant)/2] }, rdmaio.ErrGrant},
		{"a grant signed by a stranger", first, func(h *rdmaio.Hello) { h.Grant = forged }, rdmaio.ErrGrant},
		{"an older epoch", first, func(h *rdmaio.Hello) { *h = hello(t, old, 0) }, rdmaio.ErrFenced},
		{"a replica that has not been made", second, func(h *rdmaio.Hello) { *h = hello(t, opened, 1); h.Create = false }, rdmaio.ErrUnknownLog},
		{"a replica larger than the pool", second, func(h *rdmaio.Hello) { *h = hello(t, opened, 1); h.Capacity = 1 << 40 }, rdmaio.ErrNoSpace},
		{"a ring of an odd size", second, func(h *rdmaio.Hello) { *h = hello(t, opened, 1); h.Capacity = 4097 }, rdmaio.ErrRange},
	} {
		h := good
		if test.edit != nil {
			test.edit(&h)
		}
		if _, _, err := dial(test.to.Addr(), h, noEvents()); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, err, test.want)
		}
	}
	if got := free(second.pool.Free()); got != second.pool.Free().Total {
		t.Errorf("refused Hellos took %d bytes", second.pool.Free().Total-got)
	}
	w.commit("y") // and disturbed nobody

	reader := good
	reader.Grant, reader.ReadOnly, reader.Term, reader.Create = "", true, format.Fence{}, false
	conn, welcome, err := dial(first.Addr(), reader, noEvents())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if welcome.Daemon != first.ID() || welcome.Media != MediaFile || welcome.FlushMode != "ack" || welcome.Created {
		t.Errorf("welcome %+v", welcome)
	}
	w.commit("z") // a reader ends no writer
}

// sign makes a grant like the opened log's with a key of the test's own.
func sign(t *testing.T, o *openapi.OpenedLog, daemon string, edit func(*grant.Claims)) string {
	t.Helper()
	key, err := grant.NewKey(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	claims := grant.Claims{
		Cluster: o.ClusterID, LogID: o.LogID, Epoch: uint64(o.Epoch), Nonce: o.Nonce, Rights: grant.RightWrite,
		Replicas: []grant.Replica{{ReplicaID: o.Replicas[0].ReplicaID, DaemonID: daemon, State: "allocated"}},
	}
	if edit != nil {
		edit(&claims)
	}
	token, err := grant.Sign(key, claims)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// A grant whose term has been fenced stays good for reconnecting when its key is
// known no more; any other grant of that key is refused.
func TestFencedGrantOutlivesItsKey(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := start(t, c.options("d1"))
	c.untilState(a.ID(), openapi.DaemonUp)
	log := c.createLog("l", 1)
	opened := c.open(log)
	w := write(t, a.Addr(), hello(t, opened, 0), nil)
	w.commit("one")
	next := c.open(log)
	a.trust.setRing(grant.Ring{})
	w = write(t, a.Addr(), hello(t, opened, 0), nil)
	w.commit("two")
	if _, _, err := dial(a.Addr(), hello(t, next, 0), noEvents()); !errors.Is(err, rdmaio.ErrGrant) {
		t.Errorf("another grant got %v", err)
	}
}

// A fence ends the older writer: it is told so without asking, and what it had
// under way counts for nothing.
func TestFenceEndsOlderSessions(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := start(t, c.options("d1"))
	c.untilState(a.ID(), openapi.DaemonUp)
	log := c.createLog("l", 1)
	older := write(t, a.Addr(), hello(t, c.open(log), 0), nil)
	older.commit("one")
	newer := write(t, a.Addr(), hello(t, c.open(log), 0), nil)
	if err := older.until(older.chain.LSN + 1); !errors.Is(err, rdmaio.ErrSessionEnded) {
		t.Errorf("the older writer got %v", err)
	}
	eventually(t, "one session is left", func() bool { return a.metrics.sessions.Load() == 1 })
	newer.commit("three")
	if got := newer.payloads(); !slices.Equal(got, []string{"one", "three"}) {
		t.Errorf("the log holds %q", got)
	}
}

// The set in a seal changes on the medium, beside appends that go on.
func TestReseal(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := start(t, c.options("d1"))
	c.untilState(a.ID(), openapi.DaemonUp)
	w := write(t, a.Addr(), hello(t, c.open(c.createLog("l", 1)), 0), nil)
	w.commit("one")
	if told := a.registration().Seals; len(told) != 0 {
		t.Errorf("of a first set the control plane hears %+v", told)
	}
	set := []format.ID{w.hello.Replica, {7}}
	if err := w.Reseal(t.Context(), 5, set); err != nil {
		t.Fatal(err)
	}
	w.commit("two")
	info, err := w.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seals := info.Slot.Seals
	if len(seals) != 1 || seals[0].SetVersion != 5 || seals[0].Fence() != w.hello.Term || !slices.Equal(info.Slot.Set, set) {
		t.Errorf("the replica holds %+v, set %v", seals, info.Slot.Set)
	}
	told := a.registration().Seals
	if len(told) != 1 || told[0].ReplicaID != w.hello.Replica.String() || told[0].SetVersion != 5 ||
		!slices.Equal(told[0].Set, []string{set[0].String(), set[1].String()}) {
		t.Errorf("the control plane hears %+v", told)
	}
	if err := w.Reseal(t.Context(), 4, set); !errors.Is(err, rdmaio.ErrRange) {
		t.Errorf("an older set: %v, want %v", err, rdmaio.ErrRange)
	}
}

// Peers that speak garbage, or claim 4 GiB, are told off; nobody else notices.
func TestGarbageAtThePort(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := start(t, c.options("d1"))
	c.untilState(a.ID(), openapi.DaemonUp)
	w := write(t, a.Addr(), hello(t, c.open(c.createLog("l", 1)), 0), nil)
	w.commit("before")

	huge := make([]byte, 32) // a Hello's header, as rdmaio/tcp draws it
	copy(huge, "GrvT")
	huge[5] = 1
	binary.LittleEndian.PutUint32(huge[12:], 1<<32-1)
	binary.LittleEndian.PutUint32(huge[28:], castagnoli(huge[:28]))
	for name, bytes := range map[string][]byte{
		"HTTP":                []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n0123456789"),
		"zeroes":              make([]byte, 4096),
		"a header of 4 GiB":   huge,
		"half a header":       huge[:16],
		"text without an end": []byte(strings.Repeat("x", 100<<10)),
	} {
		conn, err := net.Dial("tcp", a.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write(bytes) // it may be cut off
		if name == "half a header" {
			_ = conn.(*net.TCPConn).CloseWrite()
		}
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, conn)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the agent does not hang up", name)
		}
		_ = conn.Close()
	}
	w.commit("after")
}

// A volatile pool serves, and says what it is.
func TestVolatile(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	o := c.options("d1")
	o.Media, o.Dir = MediaVolatile, ""
	a := start(t, o)
	if d := c.untilState(a.ID(), openapi.DaemonUp); d.Media != openapi.MediaVolatile {
		t.Errorf("media %q", d.Media)
	}
	r, err := c.api.CreateLogWithResponse(t.Context(), nil, openapi.CreateLogRequest{
		Name: c.name + "l", Replicas: 1, CapacityBytes: ringSize,
		Placement: openapi.PlacementRules{Labels: map[string]string{"test": c.name}, Media: openapi.MediaVolatile},
	})
	if err != nil || r.JSON201 == nil {
		t.Fatal(err, string(r.Body))
	}
	w := write(t, a.Addr(), hello(t, c.open(r.JSON201), 0), nil)
	w.commit("x")
}
