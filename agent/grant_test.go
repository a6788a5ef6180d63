package agent

import (
	"errors"
	"slices"
	"testing"

	"github.com/gravenio/graven/grant"
	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/rdmaio"
)

// startReplacement returns the learner of a log of one replica.
func (c *cluster) startReplacement(log *openapi.Log, replica string) openapi.Replica {
	c.t.Helper()
	var learner openapi.Replica
	eventually(c.t, "a learner can be placed", func() bool {
		r, err := c.api.StartReplacementWithResponse(c.t.Context(), log.LogID, nil, openapi.StartReplacementRequest{Replica: replica})
		if err != nil {
			c.t.Fatal(err)
		}
		if r.JSON200 != nil {
			learner = r.JSON200.Replicas[len(r.JSON200.Replicas)-1]
		}
		return r.JSON200 != nil
	})
	return learner
}

// renewed returns the opened log as the renewal that knows the learner describes
// it.
func (c *cluster) renewed(o *openapi.OpenedLog, learner string) *openapi.OpenedLog {
	c.t.Helper()
	out := *o
	eventually(c.t, "a renewal brings a grant for the learner", func() bool {
		r, err := c.api.RenewLogWithResponse(c.t.Context(), o.LogID, openapi.WriterRequest{WriterID: o.WriterID, Epoch: o.Epoch, Nonce: o.Nonce})
		if err != nil || r.JSON200 == nil {
			c.t.Fatal(err, string(r.Body))
		}
		out.Grant, out.Replicas, out.SetVersion = r.JSON200.Grant, r.JSON200.Replicas, r.JSON200.SetVersion
		return out.Grant != "" && slices.ContainsFunc(out.Replicas, func(e openapi.Endpoint) bool { return e.ReplicaID == learner })
	})
	return &out
}

func indexOf(t *testing.T, o *openapi.OpenedLog, replica string) int {
	t.Helper()
	i := slices.IndexFunc(o.Replicas, func(e openapi.Endpoint) bool { return e.ReplicaID == replica })
	if i < 0 {
		t.Fatalf("%+v does not name replica %s", o.Replicas, replica)
	}
	return i
}

// A writer that is renewed with another grant, of the term that it has fenced
// already, comes back with that one; the learner is made by the grant that names
// it, and once it is present it is never made anew.
func TestRenewedGrant(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	first := start(t, c.options("d1"))
	c.untilState(first.ID(), openapi.DaemonUp)
	log := c.createLog("l", 1)
	old := c.open(log)
	w := write(t, first.Addr(), hello(t, old, 0), nil)
	w.commit("one")
	c.present(old)

	second, third := start(t, c.options("d2")), start(t, c.options("d3"))
	agents := map[string]*running{second.ID(): second, third.ID(): third}
	c.untilState(second.ID(), openapi.DaemonUp)
	c.untilState(third.ID(), openapi.DaemonUp)
	learner := c.startReplacement(log, old.Replicas[0].ReplicaID)
	now := c.renewed(old, learner.ReplicaID)
	if now.Grant == old.Grant {
		t.Fatal("the renewal brings the old grant")
	}

	w = write(t, first.Addr(), hello(t, now, indexOf(t, now, old.Replicas[0].ReplicaID)), nil)
	w.commit("two")
	keys := first.trust.keys()
	first.trust.setRing(grant.Ring{}) // the term is fenced, and by this grant: that is enough
	w = write(t, first.Addr(), w.hello, nil)
	w.commit("three")
	first.trust.setRing(keys)

	holder := agents[learner.DaemonID]
	h := hello(t, now, indexOf(t, now, learner.ReplicaID))
	if h.Create {
		t.Fatal("a learner is made only if the writer asks for it")
	}
	refused := func(name string, h rdmaio.Hello, want error) {
		t.Helper()
		if conn, _, err := dial(holder.Addr(), h, noEvents()); !errors.Is(err, want) {
			if err == nil {
				_ = conn.Close()
			}
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
	refused("a learner that has not been made", h, rdmaio.ErrUnknownLog)
	h.Create, h.Grant = true, old.Grant
	refused("a grant that does not name the learner", h, rdmaio.ErrGrant)
	h.Grant = now.Grant
	conn, welcome, err := dial(holder.Addr(), h, noEvents())
	if err != nil || !welcome.Created {
		t.Fatalf("welcome %+v: %v", welcome, err)
	}
	_ = conn.Close()

	promote := *now
	promote.Replicas = []openapi.Endpoint{now.Replicas[indexOf(t, now, learner.ReplicaID)]}
	c.present(&promote)
	next := c.startReplacement(log, learner.ReplicaID) // so that a renewal brings a newer grant
	now = c.renewed(old, next.ReplicaID)
	h = hello(t, now, indexOf(t, now, learner.ReplicaID))
	if err := holder.pool.Delete(h.Replica); err != nil { // the loss
		t.Fatal(err)
	}
	h.Create = true // a writer in error
	refused("a replica that is present", h, rdmaio.ErrReplicaMissing)
}
