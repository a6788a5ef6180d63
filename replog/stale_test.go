package replog

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog/core"
)

// behind is a control plane whose renewals come from a server that has not heard
// of the learner.
type behind struct {
	*cluster
	stale atomic.Bool
}

func (b *behind) Renew(ctx context.Context, g Grant) (Renewed, error) {
	now, err := b.cluster.Renew(ctx, g)
	if err == nil && b.stale.Load() {
		now.SetVersion = 1
		now.Replicas = nil
		for _, r := range b.log.Replicas {
			r.State = core.Present
			now.Replicas = append(now.Replicas, r)
		}
	}
	return now, err
}

// deafAfterPromote applies a promote, falls behind, and never answers it.
type deafAfterPromote struct {
	*behind
	applied chan struct{}
}

func (d *deafAfterPromote) Promote(ctx context.Context, g Grant, id format.ID) (uint64, error) {
	if _, err := d.cluster.Promote(ctx, g, id); err == nil && d.stale.CompareAndSwap(false, true) {
		close(d.applied)
	}
	<-ctx.Done()
	return 0, ctx.Err()
}

// A change of the set has been applied, its answer is on its way, and a renewal
// shows the log as it was before the learner. What is acknowledged meanwhile must
// be in both sets.
func TestOldRenewalDoesNotEndJoint(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{spares: 1})
	d := &deafAfterPromote{behind: &behind{cluster: c}, applied: make(chan struct{})}
	w, err := Open(testContext(t), d, OpenRequest{Log: "vm-1"}, c.options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() }) // it is taken over
	appendRecords(t, w, 0, 10)
	settle(t, w)
	c.replace(c.log.Replicas[2].ID, 3)
	<-d.applied
	renewed := c.get(func(c *cluster) int { return c.renews })
	eventually(t, "old renewals come", func() bool { return c.get(func(c *cluster) int { return c.renews }) > renewed+2 })
	c.daemons[1].stop()
	c.daemons[3].stop()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := w.Append(ctx, format.Record{Payload: payload(10)}); err == nil {
		t.Error("a record was acknowledged by one member of the new set")
	}
	c.daemons[1].start()
	c.daemons[3].start()
	if v := w.Grant().SetVersion; v != 1 {
		t.Errorf("the writer takes the set to have version %d", v)
	}
}

// A learner that a server behind does not show, and then shows again, is filled
// all the same.
func TestLearnerThatComesAndGoes(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{spares: 1})
	b := &behind{cluster: c}
	w, err := Open(testContext(t), b, OpenRequest{Log: "vm-1"}, c.options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() }) // the outcome is looked at
	appendRecords(t, w, 0, 3)
	c.daemons[3].stop()
	learner := c.replace(c.log.Replicas[1].ID, 3)
	known := func(want bool) func() bool {
		return func() bool { _, ok := w.Replacing(); return ok == want }
	}
	eventually(t, "the learner is known", known(true))
	b.stale.Store(true)
	eventually(t, "the learner is gone", known(false))
	b.stale.Store(false)
	eventually(t, "the learner is back", known(true))
	c.daemons[3].start()
	awaitReplaced(t, w, learner)
	wantRecords(t, w, 0, 3)
}

// Between two renewals one learner is given up and another one comes: connected,
// or away.
func TestOneLearnerAfterTheOther(t *testing.T) {
	t.Parallel()
	for _, away := range []bool{false, true} {
		c := newCluster(t, setup{spares: 2})
		w := c.open(OpenRequest{})
		appendRecords(t, w, 0, 3)
		c.set(func(c *cluster) { c.refuse = true })
		if away {
			c.daemons[3].stop()
		}
		first := c.replace(c.log.Replicas[1].ID, 3)
		eventually(t, "the first one is filled, or tried", func() bool {
			for _, s := range w.Status() {
				if s.ID == first && (s.Stage == "member" || away && s.Reason != nil) {
					return true
				}
			}
			return false
		})
		second := c.replace(c.log.Replicas[1].ID, 4)
		c.set(func(c *cluster) { c.refuse = false })
		awaitReplaced(t, w, second)
		wantRecords(t, w, 0, 3)
	}
}

// Without a quorum an append that waits for space fails in time, too.
func TestQuorumTimeoutOfAFullLog(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	w := c.open(OpenRequest{}, func(o *Options) { o.QuorumTimeout, o.WaitForSpace = 50*time.Millisecond, true })
	c.daemons[0].stop()
	c.daemons[1].stop()
	var err error
	for err == nil {
		_, err = w.Submit(testContext(t), format.Record{Payload: make([]byte, 4000)})
	}
	if !errors.Is(err, ErrNoQuorum) {
		t.Errorf("submit to a full log without a quorum: %v", err)
	}
}
