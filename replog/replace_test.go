package replog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
	"github.com/gravenio/graven/replog/core"
)

// appending appends records from several goroutines until it is stopped, and
// returns how many were committed then.
func appending(t *testing.T, w *Writer, from, depth int) (stop func() int) {
	t.Helper()
	var next, acked atomic.Int64
	next.Store(int64(from))
	var mu sync.Mutex // the order of submits is that of the numbers
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range depth {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				mu.Lock()
				i := int(next.Add(1) - 1)
				ticket, err := w.Submit(testContext(t), format.Record{Payload: payload(i)})
				mu.Unlock()
				if err == nil {
					err = ticket.Wait(testContext(t))
				}
				if err != nil {
					t.Errorf("append %d: %v", i, err)
					return
				}
				acked.Add(1)
			}
		})
	}
	return func() int {
		close(done)
		wg.Wait()
		return int(acked.Load())
	}
}

func awaitReplaced(t *testing.T, w *Writer, learner format.ID) {
	t.Helper()
	eventually(t, "the learner is in the set", func() bool {
		for _, s := range w.Status() {
			if s.ID == learner && s.State == core.Present && s.Counts {
				return true
			}
		}
		return false
	})
}

func TestReplaceWhileAppending(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{spares: 2, capacity: 4 << 20})
	w := c.open(OpenRequest{})
	stop := appending(t, w, 0, 8)
	first, second := c.log.Replicas[1].ID, c.log.Replicas[0].ID
	a := c.replace(first, 3)
	awaitReplaced(t, w, a)
	b := c.replace(second, 4) // takes the place that the first one has left
	awaitReplaced(t, w, b)
	n := stop()
	if err := w.AwaitReplaced(testContext(t)); err != nil {
		t.Fatal(err)
	}
	settle(t, w)
	if v := w.Grant().SetVersion; v != 3 || len(w.Status()) != 3 {
		t.Fatalf("set version %d, %d replicas", v, len(w.Status()))
	}
	wantRecords(t, w, 0, n)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	// The replicas that were replaced know it; the others suffice.
	for i, id := range []format.ID{second, first} {
		if s, _ := newest(c.daemons[i].replica(id).Info().Slot.Seals); s.SetVersion < 2 {
			t.Errorf("the seal of the replica on d%d names set version %d", i, s.SetVersion)
		}
		c.daemons[i].stop()
	}
	w = c.open(OpenRequest{})
	wantRecords(t, w, 0, n)
}

func newest(seals []format.Seal) (format.Seal, bool) {
	return (&format.Report{Seals: seals}).NewestSeal()
}

// With the control plane down in the middle of a change nobody knows the set;
// appends go on, and an opener finds everything by the one or the other.
func TestReplaceOutcomeUnknown(t *testing.T) {
	t.Parallel()
	for _, applied := range []bool{false, true} {
		t.Run(fmt.Sprintf("applied=%v", applied), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, setup{spares: 1, capacity: 1 << 20})
			w := c.open(OpenRequest{})
			appendRecords(t, w, 0, 20)
			c.set(func(c *cluster) { c.lose = 1 << 30; c.refuse = !applied })
			learner := c.replace(c.log.Replicas[2].ID, 3)
			eventually(t, "the learner is known", func() bool {
				_, ok := w.Replacing()
				return ok
			})
			c.set(func(c *cluster) { c.deaf = true })
			eventually(t, "the change is joint", func() bool {
				w.mu.Lock()
				defer w.mu.Unlock()
				return w.core.Joint() || w.core.SetVersion() == 2 // or a renewal was quicker
			})
			appendRecords(t, w, 20, 40)
			if applied {
				eventually(t, "the set is changed", func() bool { return c.get(func(c *cluster) int { return int(c.state.version) }) == 2 })
			}
			appendRecords(t, w, 40, 60)
			c.set(func(c *cluster) { c.lose, c.refuse, c.deaf = 0, false, false })
			awaitReplaced(t, w, learner)
			appendRecords(t, w, 60, 80)
			wantRecords(t, w, 0, 80)
		})
	}
}

func TestReplaceAbandoned(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{spares: 1})
	w := c.open(OpenRequest{})
	appendRecords(t, w, 0, 10)
	c.set(func(c *cluster) { c.refuse = true })
	c.replace(c.log.Replicas[0].ID, 3)
	eventually(t, "the change is joint", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.core.Joint()
	})
	c.set(func(c *cluster) { c.state.learner, c.refuse = nil, false })
	if err := w.AwaitReplaced(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if n := len(w.Status()); n != 3 || w.Grant().SetVersion != 1 {
		t.Fatalf("%d replicas, set version %d", n, w.Grant().SetVersion)
	}
	appendRecords(t, w, 10, 20)
	wantRecords(t, w, 0, 20)
}

// A writer goes, and the next one carries on with the replacement that it finds.
func TestReplaceGoesOnWithTheNextWriter(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{spares: 1})
	w := c.open(OpenRequest{})
	appendRecords(t, w, 0, 30)
	c.daemons[3].stop()
	learner := c.replace(c.log.Replicas[1].ID, 3)
	eventually(t, "the learner is tried", func() bool {
		_, ok := w.Replacing()
		return ok
	})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := w.AwaitReplaced(ctx); err == nil || !strings.Contains(err.Error(), learner.String()) {
		t.Errorf("a replacement with a dead daemon: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c.daemons[3].start()
	w = c.open(OpenRequest{Recovering: true})
	if err := w.AwaitReplaced(testContext(t)); err != nil {
		t.Fatal(err)
	}
	awaitReplaced(t, w, learner)
	wantRecords(t, w, 0, 30)
}

// A replica that stays away is reported, and so is one that lags.
func TestAsksForReplacement(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	w := c.open(OpenRequest{}, func(o *Options) { o.ReplaceAfter = 30 * time.Millisecond })
	settle(t, w)
	appendRecords(t, w, 0, 3)
	if n := c.get(func(c *cluster) int { return len(c.asked) }); n != 0 {
		t.Fatalf("asked %d times for a replacement of what is well", n)
	}
	c.daemons[1].stop()
	eventually(t, "a replacement is asked for", func() bool { return c.get(func(c *cluster) int { return len(c.asked) }) > 0 })
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked[0] != c.log.Replicas[1].ID {
		t.Errorf("asked for a replacement of %v", c.asked)
	}
}

func TestHealthRemembersTheWorst(t *testing.T) {
	t.Parallel()
	h := health{}
	well := core.ReplicaStatus{Replica: core.Replica{ID: format.ID{1}, State: core.Present}, Counts: true}
	lagging := core.ReplicaStatus{Replica: core.Replica{ID: format.ID{2}, State: core.Present}, Counts: true, Lag: 101}
	away := core.ReplicaStatus{Replica: core.Replica{ID: format.ID{3}, State: core.Allocated}}
	learner := core.ReplicaStatus{Replica: core.Replica{ID: format.ID{4}, State: core.Learner}}
	if w, l := h.look([]core.ReplicaStatus{well, learner}, 100); w != nil || l != nil || len(h.since) != 0 {
		t.Errorf("%+v or %+v is unwell", w, l)
	}
	if w, _ := h.look([]core.ReplicaStatus{well, lagging}, 100); w == nil || w.ID != lagging.ID {
		t.Errorf("%+v is unwell, not the one that lags", w)
	}
	since := h.since[lagging.ID]
	learner.Stage = "away"
	if w, l := h.look([]core.ReplicaStatus{away, lagging, learner}, 100); w == nil || w.ID != lagging.ID || h.since[lagging.ID] != since || l == nil {
		t.Errorf("%+v is the worst, not the one that has been unwell for longest; learner %+v", w, l)
	}
	if h.look([]core.ReplicaStatus{well}, 100); len(h.since) != 0 {
		t.Errorf("remembers %v", h.since)
	}
}

// A learner whose daemon stays away is given up, so that another one is tried.
func TestGivesUpALearnerThatIsAway(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{spares: 2})
	w := c.open(OpenRequest{}, func(o *Options) { o.ReplaceAfter = 30 * time.Millisecond })
	appendRecords(t, w, 0, 3)
	c.daemons[3].stop()
	first := c.replace(c.log.Replicas[1].ID, 3)
	eventually(t, "the learner is given up", func() bool {
		return c.get(func(c *cluster) int { return len(c.given) }) > 0
	})
	if c.given[0] != first {
		t.Errorf("gave up %v", c.given)
	}
	awaitReplaced(t, w, c.replace(c.log.Replicas[1].ID, 4))
	wantRecords(t, w, 0, 3)
}

// With too few replicas appends fail after a while, saying which and why, and go
// on by themselves when enough are back.
func TestQuorumTimeout(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	w := c.open(OpenRequest{}, func(o *Options) { o.QuorumTimeout = 50 * time.Millisecond })
	appendRecords(t, w, 0, 10)
	c.daemons[0].stop()
	c.daemons[1].stop()
	_, err := w.Append(testContext(t), format.Record{Payload: payload(10)})
	if !errors.Is(err, ErrNoQuorum) {
		t.Fatalf("append without a quorum: %v", err)
	}
	for _, i := range []int{0, 1} {
		if !strings.Contains(err.Error(), c.log.Replicas[i].ID.String()) {
			t.Errorf("the error does not name replica %d: %v", i, err)
		}
	}
	if _, err := w.Append(testContext(t), format.Record{Payload: payload(11)}); !errors.Is(err, ErrNoQuorum) {
		t.Errorf("the next append: %v", err)
	}
	c.daemons[0].start()
	eventually(t, "appends go on", func() bool {
		_, err := w.Append(testContext(t), format.Record{Payload: payload(11)})
		return err == nil
	})
	wantRecords(t, w, 0, 12) // the one that failed has kept its place
}

// Two of three replicas are gone for good. The log opens when somebody accepts
// the loss, which is put on record, and what is lost is replaced.
func TestAcceptLoss(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{spares: 2})
	w := c.open(OpenRequest{})
	appendRecords(t, w, 0, 10)
	settle(t, w)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if err := c.daemons[i].pool.Delete(c.log.Replicas[i].ID); err != nil {
			t.Fatal(err)
		}
	}
	refused := make(chan core.Loss, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	o := c.options()
	o.AcceptLoss = func(_ context.Context, l core.Loss) bool {
		refused <- l
		return false
	}
	if _, err := Open(ctx, c, OpenRequest{Log: "vm-1"}, o); err == nil {
		t.Fatal("opened although the loss was not accepted")
	}
	if l := <-refused; len(l.Unknown) != 2 || l.Chosen != c.log.Replicas[2].ID || !l.Tried {
		t.Errorf("offered %+v", l)
	}
	o.AcceptLoss = func(context.Context, core.Loss) bool { return true }
	go func() { // what the control plane does when it is asked
		for i := range 2 {
			eventually(t, "a replacement is asked for", func() bool { return c.get(func(c *cluster) int { return len(c.asked) }) > 0 })
			c.mu.Lock()
			id := c.asked[0]
			c.mu.Unlock()
			c.replace(id, 3+i)
			return
		}
	}()
	c.set(func(c *cluster) { c.lose = 2 })
	w, err := Open(testContext(t), c, OpenRequest{Log: "vm-1"}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	wantRecords(t, w, 0, 10)
	appendRecords(t, w, 10, 20)
	if l := w.Loss(); l == nil || len(l.Unknown) != 2 {
		t.Errorf("gave up %+v", l)
	}
	if n := c.get(func(c *cluster) int { return len(c.losses) }); n == 0 {
		t.Error("the loss is not on record")
	}
}

// slowSeal is a session whose Seal waits.
type slowSeal struct {
	rdmaio.Session
	until func(ctx context.Context)
}

func (s slowSeal) Seal(ctx context.Context, in rdmaio.SealIn) error {
	s.until(ctx)
	return s.Session.Seal(ctx, in)
}

// After a loss was accepted only what is lost is replaced, however long the
// replica that the log goes on from takes to be sealed.
func TestTheChosenIsNotReplaced(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{spares: 2})
	w := c.open(OpenRequest{})
	appendRecords(t, w, 0, 10)
	settle(t, w)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for i := 1; i < 3; i++ {
		if err := c.daemons[i].pool.Delete(c.log.Replicas[i].ID); err != nil {
			t.Fatal(err)
		}
	}
	o := c.options()
	o.ReplaceAfter = -1
	o.AcceptLoss = func(context.Context, core.Loss) bool { return true }
	dial := o.Dial
	o.Dial = func(ctx context.Context, address string, h rdmaio.Hello, ev rdmaio.Events) (rdmaio.Session, rdmaio.Welcome, error) {
		s, wel, err := dial(ctx, address, h, ev)
		if err == nil {
			s = slowSeal{s, func(ctx context.Context) {
				renews := func() int { return c.get(func(c *cluster) int { return c.renews }) }
				for before := renews(); renews() < before+3 && ctx.Err() == nil; {
					time.Sleep(time.Millisecond)
				}
			}}
		}
		return s, wel, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	go func() {
		eventually(t, "a replacement is asked for", func() bool { return c.get(func(c *cluster) int { return len(c.asked) }) > 0 })
		cancel()
	}()
	if _, err := Open(ctx, c, OpenRequest{Log: "vm-1"}, o); err == nil {
		t.Fatal("opened with one replica of three")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.asked) != 1 || c.asked[0] == c.log.Replicas[0].ID {
		t.Errorf("asked for a replacement of %v", c.asked)
	}
}

// Two processes take one log from each other again and again: what either was
// told is committed stays, and the one that has lost it says so.
func TestTakeoverFight(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{capacity: 4 << 20})
	var mu sync.Mutex
	acked := map[string]bool{}
	fight := func(name string, rounds int) error {
		for round := range rounds {
			w, err := Open(testContext(t), c, OpenRequest{Log: "vm-1", Takeover: true}, c.options())
			if err != nil {
				if errors.Is(err, ErrFenced) || errors.Is(err, ErrSuperseded) {
					continue
				}
				return err
			}
			for i := 0; err == nil && i < 200; i++ {
				p := fmt.Sprintf("%s/%d/%d", name, round, i)
				if _, err = w.Append(testContext(t), format.Record{Payload: []byte(p)}); err == nil {
					mu.Lock()
					acked[p] = true
					mu.Unlock()
				}
			}
			if err != nil && !errors.Is(err, ErrFenced) {
				return fmt.Errorf("the writer that lost the log says: %w", err)
			}
			_ = w.Close() // it may have been taken over
		}
		return nil
	}
	errs := make(chan error, 2)
	for _, name := range []string{"a", "b"} {
		go func() { errs <- fight(name, 15) }()
	}
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	w := c.open(OpenRequest{Takeover: true})
	found := map[string]int{}
	if _, err := w.Read(w.TrimLSN(), func(_ format.Header, p []byte) error {
		found[string(p)]++
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for p := range acked {
		if found[p] != 1 {
			t.Errorf("%s was acknowledged and is there %d times", p, found[p])
		}
	}
	t.Logf("%d records were acknowledged, %d are in the log", len(acked), len(found))
}
