package replog

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog/core"
)

// dies ends a writer as a kill does: it says nothing to the control plane.
func dies(w *Writer) { w.stop() }

// behindOne is a cluster whose last replica has missed the last records.
func behindOne(t *testing.T) (*cluster, *Writer) {
	t.Helper()
	c := newCluster(t, setup{})
	w := c.open(OpenRequest{})
	appendRecords(t, w, 0, 10)
	settle(t, w)
	c.daemons[2].stop()
	appendRecords(t, w, 10, 20)
	return c, w
}

func (c *cluster) told() []core.Recovery {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recoveries
}

// What an open has made agree after a writer has died is told once, and nothing of
// opens that find all as it should be.
func TestRecoveryIsTold(t *testing.T) {
	t.Parallel()
	c, w := behindOne(t)
	end := w.Commit()
	dies(w)
	c.daemons[2].start()
	w = c.open(OpenRequest{Takeover: true})
	settle(t, w)
	eventually(t, "the recovery is told", func() bool { return len(c.told()) > 0 })
	got := c.told()[0]
	if got.T != end || len(got.Repaired) != 1 || len(got.Away) != 0 {
		t.Fatalf("told of %+v, want the end at %d", got, end)
	}
	if r := got.Repaired[0]; r.ID != c.log.Replicas[2].ID || r.From == 0 || r.From >= end || r.Held != r.From || r.Diverged || r.Damaged {
		t.Errorf("repaired %+v", r)
	}
	// Later opens: after a close, and after a death that has left nothing to repair.
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		w = c.open(OpenRequest{Takeover: true})
		settle(t, w)
		dies(w)
	}
	if got := c.told(); len(got) != 1 {
		t.Errorf("told of %+v", got[1:])
	}
}

// A replica that had missed something when the log was closed is brought up to date
// by every reopen: nobody wants to read of that. What diverged is another matter.
func TestACloseLeavesLittleToTell(t *testing.T) {
	t.Parallel()
	c, w := behindOne(t)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c.daemons[2].start()
	w = c.open(OpenRequest{})
	settle(t, w)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := c.told(); len(got) != 0 {
		t.Errorf("told of %+v", got)
	}
	w = &Writer{grant: Grant{AfterClose: true}}
	for what, r := range map[string]core.Repaired{"diverged": {Diverged: true}, "damaged": {Damaged: true}} {
		if !w.notable(&core.Recovery{Repaired: []core.Repaired{{}, r}}) {
			t.Errorf("a replica that had %s is passed over", what)
		}
	}
	if w.notable(nil) {
		t.Error("nothing is told")
	}
}

// A control plane that takes no entries delays nothing. It is told again until it
// does, the same each time, and by a writer that closes.
func TestRecoveryWaitsForNobody(t *testing.T) {
	t.Parallel()
	c, w := behindOne(t)
	dies(w)
	c.daemons[2].start()
	c.set(func(c *cluster) { c.recoveryErr, c.recoveryHit = errors.New("the answer was lost"), true })
	w = c.open(OpenRequest{Takeover: true})
	appendRecords(t, w, 20, 30)
	eventually(t, "it is told again", func() bool { return len(c.told()) > 2 })
	c.set(func(c *cluster) { c.recoveryErr = nil })
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	all := c.told()
	for _, r := range all {
		if !reflect.DeepEqual(r, all[0]) {
			t.Errorf("told of %+v, and of %+v", r, all[0])
		}
	}
}

// A writer that closes before it was answered tells what there is, before its lease
// ends.
func TestRecoveryIsToldAtTheClose(t *testing.T) {
	t.Parallel()
	c, w := behindOne(t)
	dies(w)
	c.daemons[2].start()
	c.set(func(c *cluster) { c.hangs = 1 })
	w = c.open(OpenRequest{Takeover: true})
	settle(t, w)
	eventually(t, "it is being told", func() bool { return c.get(func(c *cluster) int { return c.hangs }) == 0 })
	for range 2 {
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got := c.told(); len(got) != 1 || got[0].Repaired[0].ID != c.log.Replicas[2].ID {
			t.Errorf("told of %+v", got)
		}
	}
}

// Nor does it wait for a replica that says nothing.
func TestRecoveryWithoutTheSilent(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{proxied: true})
	w := c.open(OpenRequest{})
	appendRecords(t, w, 0, 10)
	settle(t, w)
	c.proxies[1].Refuse(true)
	c.proxies[1].Cut()
	appendRecords(t, w, 10, 20)
	dies(w)
	c.proxies[1].Refuse(false)
	c.proxies[2].Hold(true)
	w = c.open(OpenRequest{Takeover: true})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	ids := c.log.Replicas
	if got := c.told(); len(got) != 1 || len(got[0].Repaired) != 1 || got[0].Repaired[0].ID != ids[1].ID || !slices.Equal(got[0].Away, []format.ID{ids[2].ID}) {
		t.Errorf("told of %+v", got)
	}
}

// One whose log another writer has taken has nothing to tell any more.
func TestRecoveryOfAnotherWriter(t *testing.T) {
	t.Parallel()
	c, w := behindOne(t)
	dies(w)
	c.daemons[2].start()
	c.set(func(c *cluster) { c.recoveryErr = errors.New("not now") })
	first := c.open(OpenRequest{Takeover: true})
	settle(t, first)
	c.set(func(c *cluster) { c.state.term = format.Fence{Epoch: 99, Nonce: 99} })
	eventually(t, "it is superseded", func() bool { return first.Err() != nil })
	c.set(func(c *cluster) { c.recoveryErr = nil })
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if got := c.told(); len(got) != 0 {
		t.Errorf("told of %+v", got)
	}
}
