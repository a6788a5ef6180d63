package agent

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
)

// dropped is a medium that notes what its cache was to give up.
type dropped struct {
	pmemlog.Medium
	off, n int64
}

func (m *dropped) DropCache(off, n int64) { m.off, m.n = off, n }

// A scrub reads the disk, not the system's cache, through what watches the medium,
// too.
func TestWatchedMediumDropsItsCache(t *testing.T) {
	t.Parallel()
	m := &dropped{}
	watched, ok := new(observer).watch(m).(interface{ DropCache(off, n int64) })
	if !ok {
		t.Fatal("the cache can't be dropped")
	}
	if watched.DropCache(7, 9); m.off != 7 || m.n != 9 {
		t.Errorf("bytes %d, %d", m.off, m.n)
	}
	if _, ok := new(observer).watch(&pmemlog.PMem{}).(interface{ DropCache(off, n int64) }); !ok {
		t.Error("that of persistent memory can't")
	}
}

// brittle is a medium that answers what it is told to.
type brittle struct {
	pmemlog.Medium
	write, sync error
}

func (m *brittle) WriteAt(p []byte, off int64) error {
	if m.write != nil {
		return m.write
	}
	return m.Medium.WriteAt(p, off)
}

func (m *brittle) Sync() error {
	if m.sync != nil {
		return m.sync
	}
	return m.Medium.Sync()
}

// logged returns an agent on a pool, and what it has logged.
func logged(t *testing.T, o Options) (*Agent, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	o.ID, o.Dir, o.PoolSize, o.Endpoints = "d1", t.TempDir(), poolSize, []string{"http://127.0.0.1:1"}
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	a, err := New(withRegistry(o))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a, &log
}

func makeReplica(t *testing.T, p *pmemlog.Pool) *pmemlog.Replica {
	t.Helper()
	r, err := p.Create(pmemlog.Spec{Cluster: newID(), Log: newID(), Replica: newID(), Capacity: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const saysFailed = "the pool has failed"

// A bad page that a fence meets is its replica's business, and not told as the
// failure of the pool, which is told once only.
func TestFaultInAFenceIsNoFailureOfThePool(t *testing.T) {
	t.Parallel()
	a, log := logged(t, Options{Media: MediaPmem, Durability: pmemlog.DurabilityFlush})
	r := makeReplica(t, a.pool)
	end := (a.pool.Replicas()[0].Offset + format.RingOffset + 32<<10) &^ 4095
	if err := os.Truncate(a.opts.poolPath(), end); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Attach(false).Fence(format.Fence{Epoch: 1, Nonce: 1}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(log.String(), saysFailed) {
		t.Errorf("the pool writes on (%v), yet it is said: %s", a.pool.Failure(), log)
	}
}

// A quota that is used up keeps a replica from being made, and nothing else. When
// the medium fails later, that is said, once.
func TestFailureOfThePoolIsToldOnce(t *testing.T) {
	t.Parallel()
	var m *brittle
	a, log := logged(t, Options{wrap: func(inner pmemlog.Medium) pmemlog.Medium {
		m = &brittle{Medium: inner}
		return m
	}})
	for _, full := range []error{unix.ENOSPC, unix.EDQUOT} {
		m.write = full
		if _, err := a.pool.Create(pmemlog.Spec{Cluster: newID(), Log: newID(), Replica: newID(), Capacity: 64 << 10}); !errors.Is(err, pmemlog.ErrNoSpace) {
			t.Errorf("%v: %v, want ErrNoSpace", full, err)
		}
		if strings.Contains(log.String(), saysFailed) {
			t.Errorf("%v: it is said: %s", full, log)
		}
	}
	m.write = nil
	r := makeReplica(t, a.pool)
	m.sync = unix.EIO
	for epoch := range uint64(2) {
		if _, err := r.Attach(false).Fence(format.Fence{Epoch: epoch + 1, Nonce: 1}); !errors.Is(err, pmemlog.ErrPoisoned) {
			t.Errorf("a fence on a failed pool: %v", err)
		}
	}
	if n := strings.Count(log.String(), saysFailed); n != 1 {
		t.Errorf("it is said %d times: %s", n, log)
	}
	select {
	case <-a.news:
	default:
		t.Error("the control plane is not told soon")
	}
}
