package store

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gravenio/graven/planner"
)

// plannedCluster is a store of its own that plans, with daemons whose word the
// test gives.
type plannedCluster struct {
	*testing.T
	etcd    *Embedded
	s       *Store
	stop    func()
	daemons []RegisterRequest
}

func newPlanned(t *testing.T, daemons int, edit ...func(*OperatorLimits)) *plannedCluster {
	t.Helper()
	c := &plannedCluster{T: t, etcd: own(t, t.TempDir())}
	c.start()
	t.Cleanup(func() { c.stop() })
	l := DefaultLimits()
	l.GraceSeconds, l.ScrubEverySeconds, l.MaxDownPercent = 1, 0, 100
	for _, f := range edit {
		f(&l)
	}
	if _, err := c.s.SetOperatorLimits(t.Context(), l, nil); err != nil {
		t.Fatal(err)
	}
	for range daemons {
		c.daemons = append(c.daemons, daemon(t, c.s))
	}
	return c
}

// start runs a server; the one before has been stopped.
func (c *plannedCluster) start() {
	c.Helper()
	var err error
	c.s, c.stop, err = start(c.etcd, Options{ServerName: planning, RecoverAfter: 100 * time.Millisecond})
	if err != nil {
		c.Fatal(err)
	}
}

// log makes one on the first three daemons.
func (c *plannedCluster) log() *Log {
	c.Helper()
	l, err := c.s.CreateLog(c.Context(), CreateLogRequest{
		Name: logName(c.T), Daemons: []string{c.daemons[0].DaemonID, c.daemons[1].DaemonID, c.daemons[2].DaemonID}, AckQuorum: 2, CapacityBytes: 1 << 20,
	})
	if err != nil {
		c.Fatal(err)
	}
	return l
}

// operator waits for one in this state.
func (c *plannedCluster) operator(id string, want planner.State) Operator {
	c.Helper()
	var o Operator
	eventually(c.T, "operator "+id+" is "+string(want), func() bool {
		o, _ = c.s.View().Operator(id)
		return o.State == want
	})
	return o
}

func (c *plannedCluster) beat(i int, edit ...func(*HeartbeatRequest)) []Step {
	c.Helper()
	r := HeartbeatRequest{DaemonID: c.daemons[i].DaemonID, Incarnation: c.daemons[i].Incarnation, Free: 1 << 30}
	for _, f := range edit {
		f(&r)
	}
	a, err := c.s.Heartbeat(c.Context(), r)
	if err != nil {
		c.Fatal(err)
	}
	return a.Steps
}

func reports(l *Log, i int, durable uint64) func(*HeartbeatRequest) {
	return func(r *HeartbeatRequest) {
		r.Replicas = []ReplicaSummary{{ReplicaID: l.Replicas[i].ReplicaID, LogID: l.LogID, Bytes: l.ReplicaBytes, Epoch: 1, DurableLSN: durable}}
	}
}

// A daemon drains: a server begins the move and dies, the next one goes on with
// the same learner; its writer hears of it, promotes it, and what is left is
// removed by the daemon. Then the daemon can be deleted.
func TestDrainOutlivesAServer(t *testing.T) {
	t.Parallel()
	c := newPlanned(t, 4)
	l := c.log()
	old := l.Replicas[0]
	id := "drain-" + old.ReplicaID
	a := open(t, c.s, l.LogID)
	if err := drain(t.Context(), c.s, old.DaemonID, true, 0); err != nil {
		t.Fatal(err)
	}
	began := c.operator(id, planner.Running)
	if began.To != c.daemons[3].DaemonID || began.DaemonID != old.DaemonID || began.Reason != planner.Draining || began.LogName != l.Name {
		t.Errorf("the operator: %+v", began)
	}
	c.stop()
	c.start()
	if o := c.operator(id, planner.Running); o.LearnerID != began.LearnerID || o.Attempts != 1 {
		t.Errorf("after the server's death: %+v", o)
	}
	renewed, err := c.s.Renew(t.Context(), ref(a))
	if err != nil || len(renewed.Steps) != 1 || renewed.Steps[0].Kind != StepReplaceReplica ||
		renewed.Steps[0].ReplicaID != began.LearnerID || renewed.Steps[0].OperatorID != id {
		t.Fatalf("the writer is told %+v, %v", renewed, err)
	}
	if _, err := c.s.SetReplicas(t.Context(), promoteOf(a, began.LearnerID)); err != nil {
		t.Fatal(err)
	}
	if o, _ := c.s.View().Operator(id); o.State != planner.Done || o.EndedAt.IsZero() {
		t.Errorf("when it is promoted: %+v", o)
	}
	if err := c.s.CancelOperator(t.Context(), id); !errors.Is(err, ErrOperatorEnded) {
		t.Errorf("cancelling it: %v", err)
	}
	removal := "remove-replica-" + old.ReplicaID
	if o, ok := c.s.View().Operator(removal); !ok || o.State != planner.Running || o.Reason != ReasonCondemned {
		t.Errorf("the removal: %+v, %v", o, ok)
	}
	if err := c.s.CancelOperator(t.Context(), removal); !errors.Is(err, ErrOperatorEnded) {
		t.Errorf("cancelling the removal: %v", err)
	}
	c.beat(0, func(r *HeartbeatRequest) {
		r.Results = []StepResult{{OperatorID: removal, Kind: StepRemoveReplica, ReplicaID: old.ReplicaID, Done: true}}
	})
	if err := c.s.Leave(t.Context(), old.DaemonID, 1); err != nil {
		t.Fatal(err)
	}
	if err := c.s.DeleteDaemon(t.Context(), old.DaemonID, false, 0); err != nil {
		t.Errorf("deleting the drained daemon: %v", err)
	}
}

// A move is cancelled, and not begun again; undraining cancels it, too.
func TestCancelledAndUndrained(t *testing.T) {
	t.Parallel()
	c := newPlanned(t, 4)
	l := c.log()
	ids := []string{"drain-" + l.Replicas[0].ReplicaID, "drain-" + l.Replicas[1].ReplicaID}
	if err := drain(t.Context(), c.s, l.Replicas[0].DaemonID, true, 0); err != nil {
		t.Fatal(err)
	}
	c.operator(ids[0], planner.Running)
	for range 2 {
		if err := c.s.CancelOperator(t.Context(), ids[0]); err != nil {
			t.Fatal(err)
		}
	}
	if now, _ := c.s.View().Log(l.LogID); len(now.Replicas) != 3 {
		t.Errorf("the log after the cancel: %+v", now.Replicas)
	}
	if err := drain(t.Context(), c.s, l.Replicas[1].DaemonID, true, 0); err != nil {
		t.Fatal(err)
	}
	c.operator(ids[1], planner.Running) // and the first was not begun before it
	if o, _ := c.s.View().Operator(ids[0]); o.State != planner.Cancelled || o.Attempts != 1 {
		t.Errorf("the cancelled one: %+v", o)
	}
	if err := drain(t.Context(), c.s, l.Replicas[1].DaemonID, false, 0); err != nil {
		t.Fatal(err)
	}
	c.operator(ids[1], planner.Cancelled)
	if err := c.s.CancelOperator(t.Context(), "drain-no-such"); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown one: %v", err)
	}
	if err := c.s.CancelOperator(t.Context(), "A/B"); !errors.Is(err, ErrInvalid) {
		t.Errorf("no ID: %v", err)
	}
}

// A replica that its daemon can't find is replaced; a daemon that is down only
// after the grace time; one that is lost at once. While operators are paused they
// wait, and are shown.
func TestMissingDownAndLost(t *testing.T) {
	t.Parallel()
	c := newPlanned(t, 5)
	l := c.log()
	a := open(t, c.s, l.LogID)
	if _, err := c.s.SetReplicas(t.Context(), SetReplicasRequest{
		Log: l.LogID, Epoch: a.Epoch, Nonce: a.Nonce, SetVersion: 1, Present: []string{l.Replicas[0].ReplicaID, l.Replicas[1].ReplicaID},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.s.PauseOperators(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	c.daemons[0].Incarnation++
	if _, err := c.s.Register(t.Context(), c.daemons[0]); err != nil {
		t.Fatal(err)
	}
	id := "replace-" + l.Replicas[0].ReplicaID
	if o := c.operator(id, planner.Planned); o.Reason != planner.Missing || !strings.Contains(o.WaitsFor, "paused") {
		t.Errorf("while paused: %+v", o)
	}
	if _, err := c.s.PauseOperators(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	o := c.operator(id, planner.Running)
	if _, err := c.s.SetReplicas(t.Context(), promoteOf(a, o.LearnerID)); err != nil {
		t.Fatal(err)
	}
	expire(t, c.s, prefixLive+l.Replicas[1].DaemonID)
	id = "replace-" + l.Replicas[1].ReplicaID
	o = c.operator(id, planner.Running)
	if d, _ := c.s.View().Daemon(l.Replicas[1].DaemonID); o.Reason != planner.Down || d.DownSince.IsZero() {
		t.Errorf("down: %+v; %+v", o, d)
	}
	a.SetVersion++
	if _, err := c.s.SetReplicas(t.Context(), promoteOf(a, o.LearnerID)); err != nil {
		t.Fatal(err)
	}
	expire(t, c.s, prefixLive+l.Replicas[2].DaemonID)
	if err := c.s.DeleteDaemon(t.Context(), l.Replicas[2].DaemonID, true, 0); err != nil {
		t.Fatal(err)
	}
	if o = c.operator("replace-"+l.Replicas[2].ReplicaID, planner.Running); o.Reason != planner.Lost {
		t.Errorf("lost: %+v", o)
	}
}

// A log that is acknowledged by both of its replicas lacks one: closed, it can't be
// opened, so nothing is begun, and the operator says why; with a writer that has it
// open, the replica is replaced.
func TestALostReplicaOfAFullQuorum(t *testing.T) {
	t.Parallel()
	c := newPlanned(t, 3)
	l, err := c.s.CreateLog(t.Context(), on(t, c.daemons[0].DaemonID, c.daemons[1].DaemonID))
	if err != nil {
		t.Fatal(err)
	}
	a := open(t, c.s, l.LogID)
	if _, err := c.s.SetReplicas(t.Context(), SetReplicasRequest{
		Log: l.LogID, Epoch: a.Epoch, Nonce: a.Nonce, SetVersion: 1, Present: []string{l.Replicas[0].ReplicaID, l.Replicas[1].ReplicaID},
	}); err != nil {
		t.Fatal(err)
	}
	if err := c.s.CloseLog(t.Context(), ref(a)); err != nil {
		t.Fatal(err)
	}
	c.daemons[0].Incarnation++ // with an empty pool
	if _, err := c.s.Register(t.Context(), c.daemons[0]); err != nil {
		t.Fatal(err)
	}
	id := "replace-" + l.Replicas[0].ReplicaID
	if o := c.operator(id, planner.Planned); !strings.Contains(o.WaitsFor, "2 must be for the log to be opened") || o.Attempts != 0 {
		t.Errorf("closed: %+v", o)
	}
	open(t, c.s, l.LogID)
	if o := c.operator(id, planner.Running); o.To != c.daemons[2].DaemonID {
		t.Errorf("written: %+v", o)
	}
}

// A lost daemon's replicas stay unknown, and its pool is not let in again. The
// last copies are not given up.
func TestLostDaemon(t *testing.T) {
	t.Parallel()
	s := shared.store
	l := makeLog(t, s)
	a := open(t, s, l.LogID)
	lost, other := l.Replicas[0].DaemonID, l.Replicas[1].DaemonID
	if err := s.DeleteDaemon(t.Context(), lost, true, 0); !errors.Is(err, ErrDaemonBusy) {
		t.Errorf("live: %v", err)
	}
	expire(t, s, prefixLive+lost)
	d, _ := s.View().Daemon(lost)
	if err := s.DeleteDaemon(t.Context(), lost, true, 0); err != nil {
		t.Fatal(err)
	}
	now, _ := s.View().Log(l.LogID)
	if len(now.Replicas) != 3 || now.Replicas[0].DaemonState != "" {
		t.Errorf("the log: %+v", now)
	}
	expire(t, s, prefixLive+other)
	if err := s.DeleteDaemon(t.Context(), other, true, 0); !errors.Is(err, ErrLastCopies) || !strings.Contains(err.Error(), l.Name) {
		t.Errorf("the last copies: %v", err)
	}
	r := daemonReq(t)
	r.DaemonID, r.PoolID, r.Incarnation = lost, d.PoolID, 2
	if _, err := s.Register(t.Context(), r); !errors.Is(err, ErrGone) {
		t.Errorf("it returns: %v", err)
	}
	if _, err := s.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: lost, Incarnation: 1}); !errors.Is(err, ErrGone) {
		t.Errorf("it beats: %v", err)
	}
	r = daemonReq(t)
	r.DaemonID = lost
	if _, err := s.Register(t.Context(), r); !errors.Is(err, ErrGone) {
		t.Errorf("another pool under its ID, while a log names replicas there: %v", err)
	}
	if err := s.CloseLog(t.Context(), ref(a)); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteLog(t.Context(), l.LogID, 0); err != nil {
		t.Fatal(err)
	}
	if c := s.View().Condemned(); slices.ContainsFunc(c, func(c Condemned) bool { return c.DaemonID == lost }) {
		t.Error("something is condemned on a daemon that has no books")
	}
	if _, err := s.Register(t.Context(), r); err != nil {
		t.Errorf("another pool, when no log names it any more: %v", err)
	}
}

// A log that is acknowledged by all its replicas can't be opened without one of
// them, though the others know of every record.
func TestLostDaemonOfAFullQuorum(t *testing.T) {
	t.Parallel()
	s := shared.store
	l, err := s.CreateLog(t.Context(), on(t, daemons(t, s, 2)...))
	if err != nil {
		t.Fatal(err)
	}
	open(t, s, l.LogID)
	lost := l.Replicas[0].DaemonID
	expire(t, s, prefixLive+lost)
	if err := s.DeleteDaemon(t.Context(), lost, true, 0); !errors.Is(err, ErrLastCopies) || !strings.Contains(err.Error(), l.Name) {
		t.Errorf("it is needed to acknowledge anything: %v", err)
	}
}

// A log whose writer vanished while its replicas differed is recovered by one of
// its daemons; a scrub is asked for in its time. Foreign words change nothing.
func TestTasksOfDaemons(t *testing.T) {
	t.Parallel()
	c := newPlanned(t, 3, func(l *OperatorLimits) { l.ScrubEverySeconds = 1 })
	l := c.log()
	open(t, c.s, l.LogID)
	for i, durable := range []uint64{9, 9, 7} {
		c.beat(i, reports(l, i, durable))
	}
	expire(t, c.s, prefixWriters+l.LogID)
	id := "recover-" + l.LogID
	o := c.operator(id, planner.Running)
	if o.DaemonID != l.Replicas[0].DaemonID || o.Reason != planner.NoWriter {
		t.Fatalf("the recovery: %+v", o)
	}
	var step Step
	eventually(t, "the daemon is asked to recover", func() bool {
		steps := c.beat(0)
		i := slices.IndexFunc(steps, func(s Step) bool { return s.OperatorID == id })
		if i >= 0 {
			step = steps[i]
		}
		return i >= 0
	})
	if step.Kind != StepRecoverLog || step.LogID != l.LogID || step.ReplicaID != l.Replicas[0].ReplicaID {
		t.Errorf("the step: %+v", step)
	}
	word := func(i int, r StepResult) { c.beat(i, func(h *HeartbeatRequest) { h.Results = []StepResult{r} }) }
	word(1, StepResult{OperatorID: id, Kind: StepRecoverLog, Done: true}) // not its own
	if o, _ := c.s.View().Operator(id); o.State != planner.Running {
		t.Errorf("after another daemon's word: %+v", o)
	}
	word(0, StepResult{OperatorID: id, Kind: StepRecoverLog, Error: strings.Repeat("x", 2000)})
	if o, _ := c.s.View().Operator(id); o.State != planner.Failed || len(o.Error) != maxText {
		t.Errorf("when it failed: %+v", o)
	}
	scrub := "scrub-" + c.daemons[2].DaemonID
	for i := range c.daemons { // one after the other; which comes first is the IDs'
		id := "scrub-" + c.daemons[i].DaemonID
		eventually(t, "a scrub is asked for", func() bool {
			return slices.ContainsFunc(c.beat(i), func(s Step) bool { return s == Step{OperatorID: id, Kind: StepScrub} })
		})
		word(i, StepResult{OperatorID: id, Kind: StepScrub, Done: true})
	}
	if o, _ := c.s.View().Operator(scrub); o.State != planner.Done && o.Attempts < 2 {
		t.Errorf("the scrub: %+v", o)
	}
}

// Of several servers one leads, and another follows it.
func TestOneLeads(t *testing.T) {
	t.Parallel()
	e := own(t, t.TempDir())
	names := []string{"a", "b"}
	stops := make([]func(), 2)
	stores := make([]*Store, 2)
	for i, name := range names {
		var err error
		if stores[i], stops[i], err = start(e, Options{ServerName: name}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(stops[i])
		eventually(t, "a leads", func() bool { return stores[i].View().Leader() == "a" })
	}
	stops[0]()
	eventually(t, "b follows at once, though a's lease has time left", func() bool { return stores[1].View().Leader() == "b" })
	r := daemon(t, stores[1])
	expire(t, stores[1], prefixLive+r.DaemonID)
	eventually(t, "it marks a daemon that is down", func() bool {
		es, _, err := stores[1].read(context.WithoutCancel(t.Context()), prefixDaemons+r.DaemonID)
		if err != nil {
			return false
		}
		rec, err := decode[daemonRecord](es[0].key, es[0].value)
		return err == nil && !rec.DownSince.IsZero()
	})
}

// A server that waits to be elected ends when it is told to, though etcd is away
// and it can't take back that it stands.
func TestACandidateEndsWithoutEtcd(t *testing.T) {
	t.Parallel()
	e := own(t, t.TempDir())
	var stops [2]func()
	for i := range stops {
		x, err := Dial(t.Context(), []string{e.Endpoint()}, DialOptions{Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = x.Close() }) // lets even one go that hangs
		if _, stops[i], err = startOn(x.Client, x.Lease, Options{CallTimeout: time.Second}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "both stand", func() bool {
		resp, err := e.Client.Get(t.Context(), keyElection, clientv3.WithPrefix(), clientv3.WithCountOnly())
		return err == nil && resp.Count == 2
	})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for _, stop := range stops {
			stop()
		}
	}()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Error("a server does not end without etcd")
	}
}

// What has ended is kept within its bound. Which ended first is what etcd says: the
// clocks of the servers that ended them may be a day apart.
func TestEndedOperatorsAreBounded(t *testing.T) {
	t.Parallel()
	v := newView(time.Second)
	for i := range maxEnded + 3 {
		id := "scrub-" + time.Duration(i).String()
		ended := time.Unix(int64(i), 0)
		if i < 3 {
			ended = ended.Add(24 * time.Hour)
		}
		v.t.setOperator(id, &operatorRecord{Operator: Operator{State: planner.Done, EndedAt: ended}}, int64(i+1))
	}
	v.t.setOperator("scrub-running", &operatorRecord{Operator: Operator{State: planner.Running}}, 0)
	if got := tooMany(v); !slices.Equal(got, []string{"scrub-0s", "scrub-1ns", "scrub-2ns"}) {
		t.Errorf("dropped: %v", got)
	}
}
