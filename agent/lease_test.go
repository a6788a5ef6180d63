package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
)

// A lease that expires deletes nothing; the agent registers again under the same
// incarnation, and its replica is still what it was.
func TestLeaseExpiresAndComesBack(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := start(t, c.options("d1"))
	before := c.untilState(a.ID(), openapi.DaemonUp)
	log := c.createLog("l", 1)
	w := write(t, a.Addr(), hello(t, c.open(log), 0), nil)
	w.commit("before")

	c.gate.shut.Store(true)
	c.untilState(a.ID(), openapi.DaemonDown)
	w.commit("meanwhile") // the control plane's silence stops no writer
	c.gate.shut.Store(false)
	after := c.untilState(a.ID(), openapi.DaemonUp)

	if before.Incarnation != 1 || after.Incarnation != 1 {
		t.Errorf("incarnations %d and %d, want 1: it is the same process", before.Incarnation, after.Incarnation)
	}
	w.commit("after")
	if got := c.daemon(a.ID()); got.ReplicaCount != 1 || len(got.Quarantined)+len(got.Missing) != 0 {
		t.Errorf("after the lease came back: %+v", got)
	}
}

// The incarnation is in the pool before the control plane hears of it, and
// grows by one with each start.
func TestIncarnationIsDurableFirst(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	o := c.options("d1")
	for want := int64(1); want <= 3; want++ {
		seen := make(chan [2]int64, 16)
		c.gate.onRequest(func(r *http.Request, body []byte) {
			if r.Method == http.MethodPut {
				told := decode[openapi.RegisterRequest](t, body).Incarnation
				seen <- [2]int64{told, int64(incarnationOnDisk(t, o.Dir))}
			}
		})
		a := start(t, o)
		got := <-seen
		if got != [2]int64{want, want} {
			t.Errorf("start %d: told incarnation %d while %d was on disk", want, got[0], got[1])
		}
		eventually(t, "this start is registered", func() bool { // the view may still have the one before
			d := c.daemon(a.ID())
			return d != nil && d.State == openapi.DaemonUp && d.Incarnation == want
		})
		a.confirmed()
		a.end()
	}
}

// incarnationOnDisk reads the superblock's both copies, and returns the lower.
func incarnationOnDisk(t *testing.T, dir string) uint64 {
	b, err := os.ReadFile(filepath.Join(dir, PoolFile))
	if err != nil {
		t.Error(err)
		return 0
	}
	return min(binary.LittleEndian.Uint64(b[32:]), binary.LittleEndian.Uint64(b[4096+32:]))
}

// An agent that leaves in order is down at once, not when its lease ends.
func TestLeavesInOrder(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	o := c.options("d1")
	o.LeaseTTL = maxTTL
	a := start(t, o)
	c.untilState(a.ID(), openapi.DaemonUp)
	a.end()
	c.untilState(a.ID(), openapi.DaemonDown)
}

func TestEndpointsFailOver(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	o := c.options("d1")
	dead := newGate(t, c.url)
	dead.shut.Store(true)
	o.Endpoints = []string{dead.url, c.gate.url}
	a := start(t, o)
	c.untilState(a.ID(), openapi.DaemonUp)

	c.gate.shut.Store(true) // and back to the first
	dead.shut.Store(false)
	before := dead.heartbeats.Load()
	eventually(t, "heartbeats go to the other endpoint", func() bool { return dead.heartbeats.Load() > before })
	c.untilState(a.ID(), openapi.DaemonUp)
}

// refusedWith checks that an agent ended because of a refusal of that type.
func refusedWith(t *testing.T, err error, want openapi.ProblemType) {
	t.Helper()
	var refused *RefusedError
	if !errors.Is(err, ErrRefused) || !errors.As(err, &refused) || refused.Type != want {
		t.Fatalf("ended with %v, want a refusal of type %s", err, want)
	}
	if refused.Advice == "" || !strings.Contains(err.Error(), refused.Advice) {
		t.Errorf("%v does not say what to do", err)
	}
}

func TestStaleIncarnationStopsServing(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := start(t, c.options("d1"))
	c.untilState(a.ID(), openapi.DaemonUp)
	newer := a.registration()
	newer.Incarnation++
	newer.TCPPort = 1
	r, err := c.api.RegisterDaemonWithResponse(t.Context(), a.ID(), newer)
	if err != nil || r.JSON200 == nil {
		t.Fatal(err, string(r.Body))
	}
	refusedWith(t, a.wait(), openapi.ProblemStaleIncarnation)
	if _, _, err := dial(a.Addr(), hello(t, &openapi.OpenedLog{
		ClusterID: r.JSON200.ClusterID, LogID: newID().String(), Nonce: "0000000000000001", Epoch: 1,
		Replicas: []openapi.Endpoint{{ReplicaID: newID().String()}},
	}, 0), noEvents()); err == nil {
		t.Error("it still serves")
	}
}

func TestWipedPoolIsRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	o := c.options("d1")
	a := start(t, o)
	c.untilState(a.ID(), openapi.DaemonUp)
	a.end()
	if err := os.RemoveAll(o.Dir); err != nil {
		t.Fatal(err)
	}
	refusedWith(t, start(t, o).wait(), openapi.ProblemPoolWiped)
}

func TestRolledBackPoolIsRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	o := c.options("d1")
	a := start(t, o)
	c.untilState(a.ID(), openapi.DaemonUp)
	a.confirmed()
	a.end()
	path := filepath.Join(o.Dir, PoolFile)
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		a := start(t, o)
		c.untilState(a.ID(), openapi.DaemonUp)
		a.confirmed()
		a.end()
	}
	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 { // it doesn't catch up by being started again, as a supervisor would
		refusedWith(t, start(t, o).wait(), openapi.ProblemPoolRolledBack)
	}
}

func TestDeletedDaemonStops(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := start(t, c.options("d1"))
	c.untilState(a.ID(), openapi.DaemonUp)
	c.gate.shut.Store(true)
	c.untilState(a.ID(), openapi.DaemonDown)
	eventually(t, "the daemon can be deleted", func() bool {
		r, err := c.api.DeleteDaemonWithResponse(t.Context(), a.ID(), &openapi.DeleteDaemonParams{})
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode() == http.StatusNoContent
	})
	c.gate.shut.Store(false)
	refusedWith(t, a.wait(), openapi.ProblemDaemonGone)
}

// An agent whose pool belongs to another cluster ends, and that other cluster
// never hears of it.
func TestOtherClusterIsRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	o := c.options("d1")
	a := start(t, o)
	c.untilState(a.ID(), openapi.DaemonUp)
	eventually(t, "the pool is bound", func() bool { return a.pool.Identity().Daemon != "" })
	a.end()

	other, err := newControlPlane(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := other.close(); err != nil {
			t.Error(err)
		}
	})
	o.Endpoints = []string{other.url}
	if err := start(t, o).wait(); !errors.Is(err, ErrOtherCluster) || !strings.Contains(err.Error(), c.store.ClusterID()) {
		t.Errorf("ended with %v, want ErrOtherCluster with both IDs", err)
	}
	r, err := other.api.GetDaemonWithResponse(context.Background(), o.ID)
	if err != nil || r.StatusCode() != http.StatusNotFound {
		t.Errorf("the other cluster knows the daemon: %v %s", err, r.Body)
	}
}

// An address that another live daemon has is waited for as long as a dead one's
// lease could last, and then refused.
func TestAddressInUse(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	first := start(t, c.options("d1"))
	c.untilState(first.ID(), openapi.DaemonUp)
	o := c.options("d2")
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	a.addr = first.Addr()
	a.incarnation.Store(1)
	l := newLease(a)
	defer l.api.Close()
	if _, err := l.tryRegister(t.Context()); !openapi.IsProblem(err, openapi.ProblemAddressInUse) {
		t.Fatalf("registered with %v", err)
	} else {
		refusedWith(t, final(err, false), openapi.ProblemAddressInUse)
	}
	first.end()
	if err := l.register(t.Context()); err != nil {
		t.Errorf("the address is free now: %v", err)
	}
}

// An agent that was killed after it had registered, and before it had written that
// down, has the same number at its next start. On another port it waits for the
// end of its own lease.
func TestKilledBeforeItsStartWasPersistent(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	o := c.options("d1")
	o.LeaseTTL = shortTTL
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for i, port := range []int{7101, 7102} {
		n, err := a.pool.NextIncarnation()
		if err != nil {
			t.Fatal(err)
		}
		a.incarnation.Store(n)
		a.addr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 77), Port: port}
		l := newLease(a)
		defer l.api.Close()
		_, err = l.tryRegister(t.Context())
		if i == 0 {
			if err != nil {
				t.Fatal(err)
			}
			continue // it is killed here, with its lease
		}
		if !openapi.IsProblem(err, openapi.ProblemPoolCloned) {
			t.Fatalf("registered with %v", err)
		}
		if err := l.register(t.Context()); err != nil {
			t.Errorf("the lease is over now: %v", err)
		}
	}
}

// Of two agents that serve copies of one pool, the second is refused, however often
// it is started, and the first goes on.
func TestACopiedPoolIsRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	o := c.options("d1")
	a := start(t, o)
	a.confirmed()
	a.end()
	copied := o
	copied.Dir = filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(copied.Dir, os.DirFS(o.Dir)); err != nil {
		t.Fatal(err)
	}
	a = start(t, o)
	a.confirmed()
	for range 2 {
		err := start(t, copied).wait()
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Type != openapi.ProblemPoolCloned {
			t.Errorf("an agent on a copy of the pool ended with %v", err)
		}
	}
	if d := c.untilState(a.ID(), openapi.DaemonUp); !strings.HasSuffix(a.addr.String(), fmt.Sprint(":", d.TCPPort)) {
		t.Errorf("the daemon is at port %d, and serves at %s", d.TCPPort, a.addr)
	}
	a.end()
}

// What the pool holds and the control plane does not know is kept and served to
// nobody.
func TestUnknownReplicaIsQuarantined(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	o := c.options("d1")
	a := start(t, o)
	c.untilState(a.ID(), openapi.DaemonUp)
	eventually(t, "the pool is bound", func() bool { return a.pool.Identity().Daemon != "" })
	cluster := a.pool.Identity().Cluster
	a.end()

	pool, err := pmemlog.OpenFilePool(filepath.Join(o.Dir, PoolFile))
	if err != nil {
		t.Fatal(err)
	}
	stray := pmemlog.Spec{Cluster: cluster, Log: newID(), Replica: newID(), Capacity: ringSize}
	if _, err := pool.Create(stray); err != nil {
		t.Fatal(err)
	}
	if err := pool.Close(); err != nil {
		t.Fatal(err)
	}

	a = start(t, o)
	var d *openapi.Daemon
	eventually(t, "the replica is quarantined", func() bool {
		d = c.daemon(a.ID())
		return slices.Contains(d.Quarantined, stray.Replica.String())
	})
	if want := ringSize + format.RingOffset; d.QuarantinedBytes != int64(want) {
		t.Errorf("%d bytes are quarantined, want %d", d.QuarantinedBytes, want)
	}
	h := hello(t, &openapi.OpenedLog{
		ClusterID: cluster.String(), LogID: stray.Log.String(), Nonce: "0000000000000001", CapacityBytes: ringSize,
		Replicas: []openapi.Endpoint{{ReplicaID: stray.Replica.String()}},
	}, 0)
	h.ReadOnly, h.Create = true, false
	eventually(t, "a reader of it is refused", func() bool { // the answer may still be on its way to the agent
		conn, _, err := dial(a.Addr(), h, noEvents())
		if err == nil {
			_ = conn.Close()
		}
		return err != nil && strings.Contains(err.Error(), "quarantined")
	})
	if _, err := a.pool.Replica(stray.Replica); err != nil {
		t.Errorf("the replica is gone: %v", err)
	}
}
