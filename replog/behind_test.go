package replog

import (
	"errors"
	"testing"

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
