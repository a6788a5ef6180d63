package replog

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gravenio/graven/replog/core"
)

// A control plane that was set back to before a replacement is asked again until it
// has heard of the newer set; an open never goes on with the old one.
func TestOpenWaitsForTheNewerSet(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{spares: 1})
	w := c.open(OpenRequest{})
	appendRecords(t, w, 0, 3)
	settle(t, w)
	c.snapshot()
	awaitReplaced(t, w, c.replace(c.log.Replicas[0].ID, 3))
	appendRecords(t, w, 3, 5)
	settle(t, w)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var truth state
	c.set(func(c *cluster) {
		truth = c.state.clone()
		c.state = c.backup.clone()
		c.state.leased = false
		c.opens = 0
	})
	if _, err := Open(testContext(t), c, OpenRequest{Log: "vm-1"}, c.options()); !errors.Is(err, core.ErrSetBehind) {
		t.Fatalf("an open with the old set: %v", err)
	}
	if n := c.get(func(c *cluster) int { return c.opens }); n < 2 {
		t.Errorf("it was asked %d times", n)
	}
	c.set(func(c *cluster) { c.opens, c.learns = 0, &truth })
	wantRecords(t, c.open(OpenRequest{}), 0, 5)
}

// errNotHere is what a control plane answers that knows of a newer set, and not yet
// where all of it is.
var errNotHere = fmt.Errorf("%w: the daemon of a replica is not here yet", core.ErrSetBehind)

// Behind a restore the control plane may know of the newer set before it knows where all
// of it is, and then grants nothing: it is asked again, but not for a recovery, which
// others wait behind.
func TestOpenWaitsForTheNewerSetsDaemons(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	c.set(func(c *cluster) {
		c.onOpen = func(OpenRequest) error {
			if c.opens <= 3 {
				return errNotHere
			}
			return nil
		}
	})
	w := c.open(OpenRequest{})
	if n := c.get(func(c *cluster) int { return c.opens }); n != 4 {
		t.Errorf("it was asked %d times, want 4", n)
	}
	appendRecords(t, w, 0, 3)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c.set(func(c *cluster) { c.opens = 0 })
	if _, err := Open(testContext(t), c, OpenRequest{Log: "vm-1", Recovering: true}, c.options()); !errors.Is(err, core.ErrSetBehind) {
		t.Errorf("a recovery: %v", err)
	}
	if n := c.get(func(c *cluster) int { return c.opens }); n != 1 {
		t.Errorf("a recovery has asked %d times", n)
	}
}

// An open that was fenced takes over from itself. While it waits for the newer set it
// has given that lease back, and takes the log over from nobody else.
func TestOpenThatWaitsTakesOverFromNobody(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	w := c.open(OpenRequest{})
	appendRecords(t, w, 0, 3)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c.snapshot()
	if err := c.open(OpenRequest{}).Close(); err != nil {
		t.Fatal(err)
	}
	var asked []OpenRequest
	c.restore()
	c.set(func(c *cluster) {
		c.opens = 0
		c.onOpen = func(r OpenRequest) error {
			asked = append(asked, r)
			switch c.opens {
			case 2: // behind the one that the replicas have fenced
				return errNotHere
			case 3: // somebody else comes first
				if c.state.leased {
					t.Error("the lease of the attempt that was fenced is still held")
				}
				c.state.leased = true
			}
			return nil
		}
	})
	if _, err := Open(testContext(t), c, OpenRequest{Log: "vm-1"}, c.options()); !errors.Is(err, ErrInUse) {
		t.Errorf("an open of a log that somebody else has opened meanwhile: %v", err)
	}
	c.set(func(*cluster) {
		if len(asked) != 3 || !asked[1].Takeover || asked[1].MinEpoch == 0 || asked[2].Takeover || asked[2].MinEpoch != asked[1].MinEpoch {
			t.Errorf("it has asked %+v", asked)
		}
	})
}

// unwilling is a control plane that never grants.
type unwilling struct {
	Control
	opens int
}

func (r *unwilling) Open(context.Context, OpenRequest) (Grant, error) {
	r.opens++
	return Grant{}, errNotHere
}

// Where nothing says how long leases are, it waits for as many of the usual length, and
// no longer; nor when nobody waits for it.
func TestOpenStopsWaitingForTheNewerSet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun, c := time.Now(), &unwilling{}
		if _, err := Open(t.Context(), c, OpenRequest{Log: "vm-1"}, Options{}); !errors.Is(err, core.ErrSetBehind) {
			t.Errorf("after its time: %v", err)
		}
		if took := time.Since(begun); took < learnLeases*usualRenewal || took > learnLeases*usualRenewal+5*time.Second || c.opens < 5 {
			t.Errorf("it has asked %d times in %v", c.opens, took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun = time.Now()
		if _, err := Open(ctx, c, OpenRequest{Log: "vm-1"}, Options{}); !errors.Is(err, core.ErrSetBehind) || time.Since(begun) != time.Second {
			t.Errorf("when nobody waits any more: %v after %v", err, time.Since(begun))
		}
	})
}
