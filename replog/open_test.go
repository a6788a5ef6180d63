package replog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog/core"
)

// TestOpenSaysWhatItWaitsFor: each replica, and what is wrong with it.
func TestOpenSaysWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	w := c.open(OpenRequest{})
	settle(t, w)
	appendRecords(t, w, 0, 3)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c.daemons[1].stop()
	if err := c.daemons[2].pool.Delete(c.log.Replicas[2].ID); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	_, err := Open(ctx, c, OpenRequest{Log: "vm-1"}, c.options())
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("open: %v", err)
	}
	for _, want := range []string{
		"vm-1", "2 of 3 replicas needed", c.log.Replicas[0].ID.String() + ": answers, holds 1/",
		c.log.Replicas[1].ID.String(), "refused", c.log.Replicas[2].ID.String(), "region can't be found",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing from: %v", want, err)
		}
	}
	// The lease was given back, so nobody has to take it over.
	c.daemons[1].start()
	wantRecords(t, c.open(OpenRequest{}), 0, 3)
}

func TestOpenFails(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	for name, o := range map[string]Options{
		"Window":   {Window: -1},
		"RetryMax": {RetryFirst: time.Second, RetryMax: time.Millisecond},
	} {
		if _, err := Open(testContext(t), c, OpenRequest{}, o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c.set(func(c *cluster) { c.down = true })
	if _, err := Open(testContext(t), c, OpenRequest{Log: "vm-1"}, c.options()); !errors.Is(err, errDown) || !strings.Contains(err.Error(), "open log vm-1") {
		t.Errorf("control plane down: %v", err)
	}
	c.set(func(c *cluster) { c.down, c.log.AckQuorum = false, 1 })
	if _, err := Open(testContext(t), c, OpenRequest{Log: "vm-1"}, c.options()); err == nil || !strings.Contains(err.Error(), "ack quorum 1 of 3") {
		t.Errorf("bad grant: %v", err)
	}
	if c.get(func(c *cluster) int { return map[bool]int{true: 1}[c.state.leased] }) == 1 {
		t.Error("the lease was kept")
	}
}

// TestRestoredControlPlane: epochs are handed out twice.
func TestRestoredControlPlane(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	w := c.open(OpenRequest{})
	settle(t, w)
	appendRecords(t, w, 0, 5)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c.snapshot() // of epoch 1
	for range 4 {
		w = c.open(OpenRequest{Takeover: true})
	}
	settle(t, w)
	appendRecords(t, w, 5, 10) // in epoch 5
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c.restore()
	opens := c.get(func(c *cluster) int { return c.opens })
	w = c.open(OpenRequest{}) // is granted epoch 2, which the replicas refuse
	if got := w.Grant().Term.Epoch; got < 6 {
		t.Fatalf("opened in epoch %d", got)
	}
	if got := c.get(func(c *cluster) int { return c.opens }) - opens; got != 2 {
		t.Errorf("%d calls of Open", got)
	}
	wantRecords(t, w, 0, 10)
	appendRecords(t, w, 10, 12)

	// The very epoch that the replicas have promised, under another nonce.
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c.set(func(c *cluster) { c.state.term.Epoch-- })
	w = c.open(OpenRequest{})
	wantRecords(t, w, 0, 12)
}

// superseding is a control plane that has granted the log to somebody else
// before the one who opens can do anything.
type superseding struct{ *cluster }

func (s superseding) Open(ctx context.Context, r OpenRequest) (Grant, error) {
	g, err := s.cluster.Open(ctx, r)
	s.set(func(c *cluster) { c.state.term.Epoch++; c.nonce++; c.state.term.Nonce = c.nonce })
	return g, err
}

// TestSupersededOpenerGivesUp: it must not fight for a higher epoch.
func TestSupersededOpenerGivesUp(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	w := c.open(OpenRequest{})
	settle(t, w)
	appendRecords(t, w, 0, 3)
	w = c.open(OpenRequest{Takeover: true})
	c.set(func(c *cluster) { c.state.term.Epoch = 0 })
	opens := c.get(func(c *cluster) int { return c.opens })
	got, err := Open(testContext(t), superseding{c}, OpenRequest{Log: "vm-1", Takeover: true}, c.options())
	if !errors.Is(err, ErrFenced) || got != nil {
		t.Fatalf("%v, %v", got, err)
	}
	if got := c.get(func(c *cluster) int { return c.opens }) - opens; got != 1 {
		t.Fatalf("%d calls of Open", got)
	}
	_ = w
}

func TestPresentIsAskedUntilKnown(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	c.lose = 3
	w := c.open(OpenRequest{})
	settle(t, w)
	if got := c.get(func(c *cluster) int { return c.made }); got < 4 {
		t.Fatalf("%d calls, three answers were lost", got)
	}
	for i, s := range c.view().Replicas {
		if s.State != core.Present {
			t.Errorf("replica %d is %v", i, s.State)
		}
	}
}

// TestNothingMoreToRecord: the replicas that woke the recorder may have gone with
// the call before. It must still be there for the next one.
func TestNothingMoreToRecord(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	c.daemons[2].stop()
	w := c.open(OpenRequest{})
	eventually(t, "two replicas are recorded", func() bool {
		v := c.view()
		return v.Replicas[0].State == core.Present && v.Replicas[1].State == core.Present && len(w.record) == 0
	})
	w.record <- struct{}{}
	eventually(t, "the recorder has woken", func() bool { return len(w.record) == 0 })
	c.daemons[2].start()
	settle(t, w)
}

// TestSupersededBeforePresent: what is not recorded must not count.
func TestSupersededBeforePresent(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	_, err := Open(testContext(t), superseding{c}, OpenRequest{Log: "vm-1"}, c.options())
	if !errors.Is(err, ErrFenced) {
		t.Fatal(err)
	}
}

// TestChosenDiesWhileLoaded: the log is opened from another replica.
func TestChosenDiesWhileLoaded(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{proxied: true, capacity: 1 << 20})
	w := c.open(OpenRequest{})
	settle(t, w)
	var want [][]byte
	for i := range 12 {
		want = append(want, bytes.Repeat([]byte{byte(i)}, 50<<10))
		if _, err := w.Append(testContext(t), format.Record{Payload: want[i]}); err != nil {
			t.Fatal(err)
		}
	}
	settle(t, w)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c.proxies[0].ToClient(faults(300<<10, nil)) // the first of equals is chosen
	w = c.open(OpenRequest{})
	i := 0
	_, err := w.Read(0, func(_ format.Header, p []byte) error {
		if !bytes.Equal(p, want[i]) {
			return fmt.Errorf("record %d is another", i)
		}
		i++
		return nil
	})
	if err != nil || i != len(want) {
		t.Fatalf("%d of %d records: %v", i, len(want), err)
	}
}

// refusing never records a replica as present.
type refusing struct{ *cluster }

func (refusing) MakePresent(context.Context, Grant, []format.ID) error {
	return errors.New("no such log")
}

// TestOpenSaysWhyNothingIsPresent: the replicas are well, the control plane is not.
func TestOpenSaysWhyNothingIsPresent(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	_, err := Open(ctx, refusing{c}, OpenRequest{Log: "vm-1"}, c.options())
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "not recorded it as present") || !strings.Contains(err.Error(), "no such log") {
		t.Fatalf("%v", err)
	}
}
