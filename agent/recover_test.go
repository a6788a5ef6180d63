package agent

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/replog"
)

// A replica of a log that nobody writes is replaced by the agents alone: the
// learner's fills it and has it promoted, the replaced one's frees its region.
func TestClosedLogIsRecovered(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.start(f.name+"d1", f.name+"d2", f.name+"d3")
	log := f.closedLog("l")
	told := f.listen()
	spare := f.spare(nil)
	learner := f.replace(log)
	f.replaced(log, learner)

	eventually(t, "success is reported", func() bool { return told.find(true) != nil })
	if res := told.find(true); res.ReplicaID != learner.ReplicaID {
		t.Errorf("reported %+v, want learner %s", res, learner.ReplicaID)
	}
	if res := told.find(false); res != nil {
		t.Errorf("reported %+v", res)
	}
	f.outcomes(spare, 1, 0, 0)
	old := f.agents[log.Replicas[0].DaemonID]
	eventually(t, "the replaced region is gone", func() bool {
		d := f.daemon(old.ID())
		return len(old.pool.Replicas()) == 0 && d.ReservedBytes == 0 && d.ReplicaCount == 0
	})

	// The old replica is not needed any more, and the new one is: with it gone
	// there is one more to be unknown.
	old.end()
	f.agents[log.Replicas[1].DaemonID].end()
	f.holds(log, "l")
}

// stalled is a medium that takes no writes while it is held.
type stalled struct {
	pmemlog.Medium
	gate *sync.RWMutex
}

func (m stalled) WriteAt(p []byte, off int64) error {
	m.gate.RLock()
	defer m.gate.RUnlock()
	return m.Medium.WriteAt(p, off)
}

// A client that opens the log has it at once, though an agent is recovering it,
// and goes on with the replacement; nobody hears of a failure.
func TestRecoveryYieldsToClient(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.start(f.name+"d1", f.name+"d2", f.name+"d3")
	log := f.closedLog("l")
	told := f.listen()
	var gate sync.RWMutex
	spare := f.spare(func(o *Options) {
		o.wrap = func(m pmemlog.Medium) pmemlog.Medium { return stalled{m, &gate} }
	})
	eventually(t, "the spare's pool is bound", func() bool { return spare.pool.Identity().Daemon != "" })
	gate.Lock() // the learner can't be filled
	release := sync.OnceFunc(gate.Unlock)
	t.Cleanup(release)
	learner := f.replace(log)
	eventually(t, "an agent has the log open", func() bool {
		now := f.log(log)
		return now.State == openapi.LogRecovering && now.Writer.Name == "agent "+spare.ID()
	})
	w := f.client(log, replog.Options{ReplaceAfter: -1})
	f.readsBack(w, "l")
	eventually(t, "the agent has yielded", func() bool {
		return ended(spare, recoveryYielded) == 1
	})
	release()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := w.AwaitReplaced(ctx); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	f.replaced(log, learner)
	f.outcomes(spare, 0, 1, 0)
	if res := told.find(false); res != nil {
		t.Errorf("reported %+v", res)
	}
}

// While a client writes the log, the replacement is its affair: the agents take
// the token that it is renewed with, and none of them opens the log.
func TestOpenLogIsLeftToItsWriter(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.start(f.name+"d1", f.name+"d2", f.name+"d3")
	log := f.closedLog("l")
	spare := f.spare(nil)
	w := f.client(log, replog.Options{ReplaceAfter: -1})
	before := w.Grant()
	learner := f.replace(log)
	eventually(t, "the learner is in the set", func() bool { return w.Grant().SetVersion == before.SetVersion+1 })
	if w.Grant().Token == before.Token {
		t.Error("the writer has the grant that it was opened with")
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	f.replaced(log, learner)
	f.holds(log, "l")
	f.outcomes(spare, 0, 0, 0)
}

// Several logs that come to one daemon are recovered one after the other.
func TestRecoveriesOneAtATime(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.start(f.name+"d1", f.name+"d2", f.name+"d3")
	names := []string{"a", "b", "c"}
	var logs []*openapi.Log
	for _, name := range names {
		logs = append(logs, f.closedLog(name))
	}
	var open, most atomic.Int64
	f.gate.onRequest(func(r *http.Request, _ []byte) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/open"):
			most.Store(max(most.Load(), open.Add(1))) // requests pass here one by one
		case strings.HasSuffix(r.URL.Path, "/close"):
			open.Add(-1)
		}
	})
	dead := newGate(t, f.url)
	dead.shut.Store(true)
	spare := f.spare(func(o *Options) { o.Endpoints = []string{dead.url, f.gate.url} })
	f.gate.onlyWithout("/heartbeat") // so that all are asked for at once
	var learners []openapi.Replica
	for _, log := range logs {
		learners = append(learners, f.replace(log))
	}
	f.gate.onlyWithout("")
	for i, log := range logs {
		f.replaced(log, learners[i])
	}
	if most.Load() != 1 {
		t.Errorf("%d logs were open at once", most.Load())
	}
	eventually(t, "all are done", func() bool {
		return ended(spare, recoveryDone) == len(logs)
	})
	for i, log := range logs {
		f.holds(log, names[i])
	}
}

// A log with too few daemons to be opened is reported with what it lacks, and
// recovered when they are back.
func TestRecoveryWaitsForDaemons(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.start(f.name+"d1", f.name+"d2", f.name+"d3")
	log := f.closedLog("l")
	told := f.listen()
	down := []string{log.Replicas[0].DaemonID, log.Replicas[1].DaemonID}
	for _, id := range down {
		f.agents[id].end()
	}
	f.spare(func(o *Options) { o.RecoverPatience = 2 * time.Second })
	learner := f.replace(log)
	eventually(t, "the failure is reported", func() bool { return told.find(false) != nil })
	text := told.find(false).Error
	for _, want := range append([]string{errNoProgress.Error(), log.LogID}, log.Replicas[0].ReplicaID, log.Replicas[1].ReplicaID) {
		if !strings.Contains(text, want) {
			t.Errorf("%q does not name %q", text, want)
		}
	}
	if v := f.log(log).SetVersion; v != log.SetVersion {
		t.Errorf("set version %d", v)
	}
	f.start(down...)
	f.replaced(log, learner)
	f.holds(log, "l")
}

// A recovery that gets nowhere is given up, with what it waits for, and tried
// again.
func TestRecoveryWithoutProgress(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.start(f.name+"d1", f.name+"d2", f.name+"d3")
	log := f.closedLog("l")
	told := f.listen()
	f.spare(func(o *Options) { o.RecoverPatience = 2 * time.Second })
	f.gate.onlyWithout("/replicas") // nobody can be promoted
	learner := f.replace(log)
	eventually(t, "the failure is reported", func() bool { return told.find(false) != nil })
	if text := told.find(false).Error; !strings.Contains(text, errNoProgress.Error()) || !strings.Contains(text, learner.ReplicaID) {
		t.Errorf("%q does not say what it waits for", text)
	}
	f.gate.onlyWithout("")
	f.replaced(log, learner)
	f.holds(log, "l")
}

// A log that is too large for the agent's memory is not opened, and the result
// says which limit it breaks.
func TestRecoverBytes(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.start(f.name+"d1", f.name+"d2", f.name+"d3")
	log := f.closedLog("l")
	told := f.listen()
	f.spare(func(o *Options) { o.RecoverBytes = ringSize - 1 })
	f.replace(log)
	eventually(t, "the failure is reported", func() bool { return told.find(false) != nil })
	if text := told.find(false).Error; !strings.Contains(text, "RecoverBytes") || !strings.Contains(text, fmt.Sprint(ringSize)) {
		t.Errorf("%q does not say which limit is broken", text)
	}
	if now := f.log(log); now.Epoch != log.Epoch {
		t.Errorf("the log was opened: epoch %d, was %d", now.Epoch, log.Epoch)
	}
}

// An agent that leaves in the middle gives the log's lease back, whatever the
// recovery waits for; the next process of the daemon finishes it.
func TestAgentLeavesInRecovery(t *testing.T) {
	t.Parallel()
	for name, without := range map[string]bool{"open": true, "promote": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			f.start(f.name+"d1", f.name+"d2", f.name+"d3")
			log := f.closedLog("l")
			spare := f.spare(nil)
			down := []string{log.Replicas[0].DaemonID, log.Replicas[1].DaemonID}
			if without {
				for _, id := range down {
					f.agents[id].end()
				}
			}
			asked, closed := make(chan struct{}, 1), make(chan struct{}, 1)
			f.gate.onRequest(func(r *http.Request, _ []byte) {
				switch {
				case strings.HasSuffix(r.URL.Path, "/replicas"):
					signal(asked)
				case strings.HasSuffix(r.URL.Path, "/close"):
					signal(closed)
				}
			})
			f.gate.onlyWithout("/replicas")
			learner := f.replace(log)
			if without {
				third := f.agents[log.Replicas[2].DaemonID]
				eventually(t, "the agent has got as far as it can", func() bool {
					r, err := third.pool.Replica(id(t, log.Replicas[2].ReplicaID))
					return err == nil && r.Info().Slot.Fenced.Epoch > uint64(log.Epoch)
				})
			} else {
				<-asked
			}
			spare.end()
			select {
			case <-closed:
			default:
				t.Error("the log was not closed")
			}
			f.outcomes(spare, 0, 1, 0)

			f.gate.onlyWithout("")
			if without {
				f.start(down...)
			}
			f.start(spare.ID())
			f.replaced(log, learner)
			f.holds(log, "l")
		})
	}
}
