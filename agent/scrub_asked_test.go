package agent

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
)

// reluctant is a medium whose reads do what they are told to first.
type reluctant struct {
	pmemlog.Medium
	before atomic.Pointer[func(off int64) error]
}

func (m *reluctant) ReadAt(p []byte, off int64) error {
	if before := m.before.Load(); before != nil {
		if err := (*before)(off); err != nil {
			return err
		}
	}
	return m.Medium.ReadAt(p, off)
}

// askedScrubber is an agent with one replica that scrubs only when it is asked to, and
// does nothing else, until stop is called. ended is closed then.
func askedScrubber(t *testing.T) (a *Agent, m *reluctant, stop func(), ended chan struct{}) {
	t.Helper()
	a, _ = logged(t, Options{ScrubEvery: -1, wrap: func(inner pmemlog.Medium) pmemlog.Medium {
		m = &reluctant{Medium: inner}
		return m
	}})
	makeReplica(t, a.pool)
	ctx, stop := context.WithCancel(context.Background())
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		if err := a.scrubs.run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	return a, m, stop, ended
}

// hold makes the medium's reads wait until going is closed; begun tells of the first.
func (m *reluctant) hold() (begun, going chan struct{}) {
	begun, going = make(chan struct{}, 1), make(chan struct{})
	wait := func(int64) error {
		select {
		case begun <- struct{}{}:
		default:
		}
		<-going
		return nil
	}
	m.before.Store(&wait)
	return begun, going
}

// newerRecord writes a record that only a newer program understands into a ring that
// begins at an offset of the pool.
func (m *reluctant) newerRecord(t *testing.T, ring int64) {
	t.Helper()
	rec := make(format.Ring, format.HeaderSize)
	rec.Append(&format.Chain{}, 0, format.Record{})
	rec[10] = format.Version + 1
	binary.LittleEndian.PutUint32(rec, crc32.Checksum(rec[4:], crc32.MakeTable(crc32.Castagnoli)))
	if err := m.WriteAt(rec, ring); err != nil {
		t.Fatal(err)
	}
}

func (a *Agent) isAsked(ids ...string) {
	var ops []openapi.Operator
	for _, id := range ids {
		ops = append(ops, openapi.Operator{OperatorID: id, Kind: openapi.OperatorScrub})
	}
	a.operators(ops)
}

// outcome waits for the only result that there is.
func outcome(t *testing.T, a *Agent) openapi.OperatorResult {
	t.Helper()
	var results []openapi.OperatorResult
	eventually(t, "there is a result", func() bool {
		results = a.results.unreported()
		return len(results) > 0
	})
	if len(results) != 1 {
		t.Fatalf("results: %+v", results)
	}
	return results[0]
}

// What comes of a scrub that the control plane asks for: it is done when all has
// been read through, damaged or not; what could not be is said.
func TestOutcomeOfAScrub(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		harm func(t *testing.T, m *reluctant, ring int64)
		ok   bool
	}{
		"good": {func(*testing.T, *reluctant, int64) {}, true},
		"bad pages": {func(_ *testing.T, m *reluctant, ring int64) {
			read := func(off int64) error {
				if off < ring {
					return nil
				}
				return unix.EIO
			}
			m.before.Store(&read)
		}, true},
		"a newer program's": {func(t *testing.T, m *reluctant, ring int64) {
			t.Helper()
			m.newerRecord(t, ring)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, m, _, _ := askedScrubber(t)
			c.harm(t, m, a.pool.Replicas()[0].Offset+format.RingOffset)
			a.isAsked("scrub-d1")
			r := outcome(t, a)
			if r.OperatorID != "scrub-d1" || r.Kind != openapi.OperatorScrub || r.ReplicaID != "" || r.Ok != c.ok || (r.Error == "") != c.ok {
				t.Errorf("%+v", r)
			}
			if !c.ok && !strings.Contains(r.Error, "could not be read through; see the daemon's log") {
				t.Errorf("it says %q", r.Error)
			}
			if got := a.scrubs.runs.Load() == 1; got != c.ok {
				t.Errorf("%d runs are counted", a.scrubs.runs.Load())
			}
		})
	}
}

// Heartbeats repeat what is asked for until its result has arrived. One scrub at a
// time is done for them, and none again that has come off.
func TestAskingForAScrubAgain(t *testing.T) {
	t.Parallel()
	a, m, _, _ := askedScrubber(t)
	begun, going := m.hold()
	a.isAsked("scrub-d1")
	<-begun
	a.isAsked("scrub-d1", "scrub-d2")
	if n := len(a.scrubs.asked); n != 0 {
		t.Errorf("%d wait while one is under way", n)
	}
	close(going)
	first := outcome(t, a)
	eventually(t, "nothing is under way", func() bool { return !a.scrubs.busy.Load() })
	a.isAsked("scrub-d1")
	if n := len(a.scrubs.asked); n != 0 || a.scrubs.busy.Load() || !first.Ok {
		t.Errorf("%d wait, though this one has come off: %+v", n, first)
	}
	a.results.reported([]openapi.OperatorResult{first})
	a.isAsked("scrub-d1") // the next time that it is due
	if r := outcome(t, a); !r.Ok || a.scrubs.runs.Load() != 2 {
		t.Errorf("the second time: %+v, %d runs", r, a.scrubs.runs.Load())
	}
}

// A scrub that ends with the agent has no result: it is asked for again.
func TestAScrubEndsWithItsAgent(t *testing.T) {
	t.Parallel()
	a, m, stop, ended := askedScrubber(t)
	begun, going := m.hold()
	a.isAsked("scrub-d1")
	<-begun
	stop()
	close(going)
	<-ended
	if r := a.results.unreported(); len(r) != 0 || a.scrubs.runs.Load() != 0 {
		t.Errorf("%+v, %d runs", r, a.scrubs.runs.Load())
	}
}

// The control plane asks each daemon for a scrub when one is due, as an operator that
// people see; the daemon does it, and the operator is done.
func TestAScrubIsAskedForWhenDue(t *testing.T) {
	t.Parallel()
	c := newOwnCluster(t)
	settings, err := c.api.GetOperatorSettingsWithResponse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	limits := settings.JSON200.Limits
	limits.ScrubEverySeconds = 1
	if rsp, err := c.api.SetOperatorLimitsWithResponse(t.Context(), nil, limits); err != nil || rsp.JSON200 == nil {
		t.Fatalf("limits: %v, %v", rsp, err)
	}
	o := c.options("d1")
	o.ScrubEvery = -1 // not by itself
	a := start(t, withRegistry(o))
	eventually(t, "it is asked for, and done", func() bool {
		rsp, err := c.api.GetOperatorWithResponse(t.Context(), "scrub-"+o.ID)
		if err != nil || rsp.JSON200 == nil {
			return false
		}
		op := rsp.JSON200
		if op.Kind != openapi.PurposeScrub || op.Reason != openapi.ReasonDue || op.DaemonID != o.ID || op.State == openapi.OperatorFailed {
			t.Fatalf("the operator: %+v", op)
		}
		return op.State == openapi.OperatorDone && op.Attempts > 0
	})
	if metric(a, "scrub_runs_total") == 0 {
		t.Error("it is done, and the daemon has not scrubbed")
	}
}
