package agent

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/pmemlog/pmemtest"
	"github.com/gravenio/graven/rdmaio"
)

// recorder is a real file that keeps beside it what the last fdatasync that
// returned has made persistent, and counts them.
type recorder struct {
	pmemlog.Medium
	mu      sync.Mutex
	synced  []byte // what a power cut would leave
	pending []written
	syncs   int
}

type written struct {
	off int64
	p   []byte
}

func newRecorder(t *testing.T, m pmemlog.Medium) *recorder {
	t.Helper()
	r := &recorder{Medium: m, synced: make([]byte, m.Size())}
	if err := m.ReadAt(r.synced, 0); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *recorder) WriteAt(p []byte, off int64) error {
	err := r.Medium.WriteAt(p, off)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending = append(r.pending, written{off, bytes.Clone(p)})
	return err
}

func (r *recorder) Sync() error {
	r.mu.Lock()
	covered := len(r.pending) // what is written from here on may be missed
	r.mu.Unlock()
	err := r.Medium.Sync()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		return err
	}
	for _, w := range r.pending[:covered] {
		copy(r.synced[w.off:], w.p)
	}
	r.pending = append(r.pending[:0], r.pending[covered:]...)
	r.syncs++
	return nil
}

// look calls f with the number of syncs and what they have made persistent.
func (r *recorder) look(f func(syncs int, synced []byte)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(r.syncs, r.synced)
}

// Nothing is acknowledged that was not synced: for every acknowledgement of
// every session, the acknowledged bytes are among those that a completed
// fdatasync has covered. Several sessions write at once, with several flushes
// on their way, so that syncs are shared.
func TestNothingIsAcknowledgedUnsynced(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	o := c.options("d1")
	var rec *recorder
	o.wrap = func(m pmemlog.Medium) pmemlog.Medium {
		rec = newRecorder(t, m)
		return rec
	}
	a := start(t, o)
	c.untilState(a.ID(), openapi.DaemonUp)

	const logs, records = 3, 100
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var wg sync.WaitGroup
	var mu sync.Mutex
	acks, bytesAcked := 0, uint64(0)
	bySync := map[int]uint64{} // bytes acknowledged, by the syncs before
	before := 0
	rec.look(func(syncs int, _ []byte) { before = syncs })
	for i := range logs {
		w := durableWriter(t, c, a, fmt.Sprintf("l%d", i), rec, func(syncs int, n uint64) {
			mu.Lock()
			defer mu.Unlock()
			acks, bytesAcked = acks+1, bytesAcked+n
			bySync[syncs] += n
		})
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() {
			for range records {
				payload := make([]byte, rng.IntN(4096))
				for i := range payload {
					payload[i] = byte(rng.Uint32())
				}
				lsn := w.append(payload)
				if rng.IntN(4) == 0 {
					if err := w.until(lsn); err != nil {
						t.Error(err)
						return
					}
				}
			}
			if err := w.until(w.chain.LSN); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	after := 0
	rec.look(func(syncs int, _ []byte) { after = syncs })
	mu.Lock()
	defer mu.Unlock()
	t.Logf("%d fdatasyncs, %d acknowledgements of %d bytes, in %d groups", after-before, acks, bytesAcked, len(bySync))
	if bytesAcked == 0 || after == before {
		t.Error("nothing was acknowledged, so nothing was shown")
	}
}

// durableWriter opens a log of one replica and checks each of its
// acknowledgements against what has been synced.
func durableWriter(t *testing.T, c *cluster, a *running, name string, rec *recorder, acked func(syncs int, n uint64)) *writer {
	t.Helper()
	h := hello(t, c.open(c.createLog(name, 1)), 0)
	var w *writer
	var region int64
	last := uint64(0)
	ready := make(chan struct{})
	w = write(t, a.Addr(), h, func(durable uint64) {
		<-ready
		rec.look(func(syncs int, synced []byte) {
			for lsn := last; lsn < durable; {
				n := min(durable-lsn, w.ring.ToEnd(lsn))
				at := region + format.RingOffset + int64(lsn%h.Capacity)
				if !bytes.Equal(synced[at:at+int64(n)], w.ring.At(lsn, int(n))) {
					t.Errorf("%s: LSN %d was acknowledged, and after %d fdatasyncs [%d, %d) is not on the medium", name, durable, syncs, lsn, durable)
				}
				lsn += n
			}
			acked(syncs, durable-last)
		})
		last = durable
	})
	rec.look(func(_ int, synced []byte) { region = regionOf(synced, h.Replica) })
	if region < 0 {
		t.Fatal("no region of the replica on the medium")
	}
	close(ready)
	return w
}

// regionOf finds a replica's region by its header slot.
func regionOf(b []byte, replica format.ID) int64 {
	for at := 0; at+format.SlotSize <= len(b); at += format.SlotSize {
		if s, err := format.DecodeSlot(b[at : at+format.SlotSize]); err == nil && s.Replica == replica {
			return int64(at)
		}
	}
	return -1
}

// onPowerless puts a medium that can lose power in the place of a pool's file.
func onPowerless(t *testing.T, into **pmemtest.Medium) func(pmemlog.Medium) pmemlog.Medium {
	return func(m pmemlog.Medium) pmemlog.Medium {
		b := make([]byte, m.Size())
		if err := m.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		p := pmemtest.New(m.Size(), pmemtest.Options{Unit: pmemtest.Sector})
		if err := errors.Join(p.WriteAt(b, 0), p.Sync(), m.Close()); err != nil {
			t.Fatal(err)
		}
		*into = p
		return p
	}
}

// When the power goes, at any moment, the replica still holds all that it has
// acknowledged before, and its hint says so or less.
func TestPowerCutKeepsWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	o := c.options("d1")
	o.PoolSize = 2 << 20
	var medium *pmemtest.Medium
	o.wrap = onPowerless(t, &medium)
	a := start(t, o)
	c.untilState(a.ID(), openapi.DaemonUp)

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng, losses := rand.New(rand.NewPCG(seed, 0)), rand.New(rand.NewPCG(seed, 1)) // one each for the test and the callback
	h := hello(t, c.open(c.createLog("l", 1)), 0)
	ready := make(chan struct{})
	var cuts atomic.Int32 // the last callback may still run when the test has all it waits for
	w := write(t, a.Addr(), h, func(durable uint64) {
		<-ready
		left := medium.Clone().Crash(losses)
		pool, err := pmemlog.Open(left)
		if err != nil {
			t.Errorf("after a power cut: %v", err)
			return
		}
		r, err := pool.Replica(h.Replica)
		if err != nil {
			t.Errorf("after a power cut: %v", err)
			return
		}
		report, err := r.Attach(false).Fence(format.Fence{Epoch: h.Term.Epoch + 1, Nonce: 1})
		if err != nil || report.Tail < durable || report.Suspect() {
			t.Errorf("LSN %d was acknowledged; after a power cut the replica holds %d, suspect %v (%v)", durable, report.Tail, report.Suspect(), err)
		}
		cuts.Add(1)
	})
	close(ready)
	for range 40 {
		lsn := w.append(make([]byte, rng.IntN(2000)))
		if rng.IntN(3) == 0 {
			if err := w.until(lsn); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.until(w.chain.LSN); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d power cuts", cuts.Load())
	if cuts.Load() == 0 {
		t.Error("the power never went")
	}
}

// slow is a medium whose syncs hang while the gate is held.
type slow struct {
	pmemlog.Medium
	gate sync.RWMutex
	hang chan struct{} // one token for each sync that has begun to hang
}

func (s *slow) Sync() error {
	if !s.gate.TryRLock() {
		signal(s.hang)
		s.gate.RLock()
	}
	defer s.gate.RUnlock()
	return s.Medium.Sync()
}

// A medium that hangs stops no renewal: the daemon stays up and says that it is
// degraded.
func TestRenewalsGoOnWhileTheMediumHangs(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	o := c.options("d1")
	var medium *slow
	o.wrap = func(m pmemlog.Medium) pmemlog.Medium {
		medium = &slow{Medium: m, hang: make(chan struct{}, 1)}
		return medium
	}
	a := start(t, o)
	c.untilState(a.ID(), openapi.DaemonUp)
	log := c.createLog("l", 1)
	w := write(t, a.Addr(), hello(t, c.open(log), 0), nil)
	w.commit("before")

	medium.gate.Lock()
	lsn := w.append([]byte("hangs"))
	<-medium.hang
	// What else needs the medium hangs too: a fence, the making of a replica.
	more := c.open(c.createLog("m", 1))
	hung := make(chan error, 1)
	go func() {
		_, _, err := dial(a.Addr(), hello(t, more, 0), noEvents())
		hung <- err
	}()
	before := c.gate.heartbeats.Load()
	eventually(t, "the lease was renewed six times", func() bool { return c.gate.heartbeats.Load() >= before+6 })
	eventually(t, "the daemon calls itself degraded", func() bool {
		return c.daemon(a.ID()).Health.State == openapi.HealthDegraded
	})
	c.untilState(a.ID(), openapi.DaemonUp)
	medium.gate.Unlock()
	if err := w.until(lsn); err != nil {
		t.Error(err)
	}
	if err := <-hung; err != nil {
		t.Error(err)
	}
	eventually(t, "the daemon is well again", func() bool { return c.daemon(a.ID()).Health.State == openapi.HealthOK })
}

// A medium that fails makes the daemon read-only, at once and for good, and the
// writer hears it. What it holds can still be read.
func TestFailedMediumIsReadOnly(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	o := c.options("d1")
	o.LeaseTTL = maxTTL // so that only news makes a heartbeat
	var medium *pmemtest.Medium
	o.wrap = onPowerless(t, &medium)
	a := start(t, o)
	c.untilState(a.ID(), openapi.DaemonUp)
	h := hello(t, c.open(c.createLog("l", 1)), 0)
	w := write(t, a.Addr(), h, nil)
	w.commit("kept")
	eventually(t, "no hint is to be persisted", func() bool {
		r, err := a.pool.Replica(h.Replica)
		return err == nil && !r.HintLag()
	})
	medium.FailNextSync(errors.New("a cable was pulled"))
	lsn := w.append([]byte("lost"))
	if err := w.until(lsn); !errors.Is(err, rdmaio.ErrMedium) {
		t.Errorf("the writer got %v, want %v", err, rdmaio.ErrMedium)
	}
	eventually(t, "the control plane knows that it is read-only", func() bool {
		return c.daemon(a.ID()).Health.State == openapi.HealthReadOnly
	})
	if reason := a.Health().Reason; reason == "" {
		t.Error("it gives no reason")
	}
	h.ReadOnly = true
	reader, _, err := dial(a.Addr(), h, noEvents())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	info, err := reader.Info(t.Context())
	if err != nil || info.Failure == "" {
		t.Errorf("Info says %q (%v)", info.Failure, err)
	}
	got := make([]byte, format.RecordSize(len("kept")))
	if err := reader.Read(t.Context(), 0, got); err != nil || !bytes.Equal(got, w.ring.At(0, len(got))) {
		t.Errorf("what was acknowledged is not read back (%v)", err)
	}
}

// The hint catches up by itself when the flushes pause.
func TestHintCatchesUp(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := start(t, c.options("d1"))
	c.untilState(a.ID(), openapi.DaemonUp)
	h := hello(t, c.open(c.createLog("l", 1)), 0)
	w := write(t, a.Addr(), h, nil)
	lsn := w.commit("x")
	r, err := a.pool.Replica(h.Replica)
	if err != nil {
		t.Fatal(err)
	}
	want := format.Position{Epoch: h.Term.Epoch, LSN: lsn}
	eventually(t, "the hint is persisted", func() bool { return r.Info().Slot.Hint == want })
}
