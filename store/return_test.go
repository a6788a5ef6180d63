package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/gravenio/graven/planner"
)

// TestAThousandDaemonsReturn: no server is there until the leases of a thousand
// daemons have run out, however much longer; then two are there again, which plan,
// and half of the daemons. The others take longer than the grace time, and only the
// brake stands against moving what they hold. In the end all are back: nothing but
// their own records has changed, no operator was ever written, and nobody is asked
// for anything that was not asked for before.
func TestAThousandDaemonsReturn(t *testing.T) {
	t.Parallel()
	f := newReturning(t)
	rev, before := etcdRevision(t, f.s), lasting(t, f.etcd.Client)
	var plans plans
	var servers []*Store
	var stops []func()
	for range 2 {
		s, stop, err := start(f.etcd, Options{CallTimeout: time.Minute, ServerName: planning, RecoverAfter: 100 * time.Millisecond},
			func(s *Store) { s.planned = plans.add })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(stop)
		servers, stops = append(servers, s), append(stops, stop)
	}
	first, last := f.waves()
	register(t, first, servers...)
	plans.braked(t, f.grace)
	if n := begunWithoutBrake(servers[0], f.grace); n == 0 {
		t.Error("more than the brake stands in the way of operators: the test shows nothing")
	}
	patience := f.limits
	patience.GraceSeconds = 600 // how long the others take is this machine's luck
	if err := limited(servers[0].SetOperatorLimits(t.Context(), patience, nil)); err != nil {
		t.Fatal(err)
	}
	register(t, last, servers...)
	for i, r := range f.daemons {
		a, err := servers[i%2].Heartbeat(t.Context(), HeartbeatRequest{DaemonID: r.DaemonID, Incarnation: 1, Free: r.Free})
		if err != nil {
			t.Fatal(err)
		}
		if len(a.Steps) != f.steps[r.DaemonID] {
			t.Errorf("%s is asked for %+v, want %d steps", r.DaemonID, a.Steps, f.steps[r.DaemonID])
		}
	}
	for _, s := range servers {
		ds, _ := s.View().Daemons()
		down := slices.DeleteFunc(ds, func(d Daemon) bool { return d.State == DaemonUp })
		if len(down) != 0 {
			t.Errorf("%d daemons are not up, such as %+v", len(down), down[0])
		}
	}
	plans.free(t)
	for _, stop := range stops {
		stop()
	}
	if after := lasting(t, f.etcd.Client); after != before {
		t.Errorf("logs, books, tombstones or operators have changed:\n%s\nbefore:\n%s", after, before)
	}
	if w := changesOf(t, f.etcd.Client, prefixOperators, rev); len(w) != 0 {
		t.Errorf("operators were written %d times, first %s", len(w), w[0])
	}
}

// returning is a cluster that no server serves any more, and whose leases have all
// run out.
type returning struct {
	etcd    *Embedded
	s       *Store // stopped
	daemons []RegisterRequest
	limits  OperatorLimits
	grace   time.Duration
	steps   map[string]int // what daemons are asked for, by ID
}

// setOf is how many daemons a log is on: so many that each daemon is needed, and that
// less than half of a set is more than may be down.
const setOf = 7

func newReturning(t *testing.T) *returning {
	t.Helper()
	f := &returning{etcd: own(t, t.TempDir()), limits: DefaultLimits(), grace: time.Second, steps: make(map[string]int)}
	f.limits.GraceSeconds = int64(f.grace / time.Second)
	n := 1000
	if testing.Short() {
		n = 200
	}
	var stop func()
	var err error
	if f.s, stop, err = start(f.etcd, Options{CallTimeout: time.Minute}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	if err := limited(f.s.SetOperatorLimits(t.Context(), f.limits, nil)); err != nil {
		t.Fatal(err)
	}
	for range n {
		f.daemons = append(f.daemons, daemonReq(t))
	}
	register(t, f.daemons, f.s)
	condemnOn(t, f.s, f.daemons[0].DaemonID)
	f.steps[f.daemons[0].DaemonID] = 1
	var g errgroup.Group
	g.SetLimit(16)
	var logs sync.Mutex
	for i := range n / setOf {
		g.Go(func() error {
			l, err := f.s.CreateLog(t.Context(), on(t, ids(f.daemons[setOf*i:setOf*(i+1)])...))
			if err != nil || i >= len(logStates())*5 {
				return err
			}
			logs.Lock()
			defer logs.Unlock()
			return logStates()[i%len(logStates())](t, f, l, f.daemons[setOf*i:])
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	stop()
	runOut(t, f.etcd.Client)
	return f
}

func ids(rs []RegisterRequest) []string {
	out := make([]string, len(rs))
	for i, r := range rs {
		out[i] = r.DaemonID
	}
	return out
}

func limited(_ OperatorSettings, err error) error { return err }

// logStates put a log into each state that a restart could misread. held are the
// daemons from its first one on.
func logStates() []func(t *testing.T, f *returning, l *Log, held []RegisterRequest) error {
	opened := func(t *testing.T, f *returning, l *Log, recovering bool) (*OpenAnswer, error) {
		return f.s.OpenLog(t.Context(), OpenLogRequest{Log: l.LogID, Host: "h", LeaseTTL: time.Minute, Recovering: recovering})
	}
	present := func(t *testing.T, f *returning, l *Log, held []RegisterRequest) (*OpenAnswer, error) {
		a, err := opened(t, f, l, false)
		if err != nil {
			return nil, err
		}
		r := change(a, a.SetVersion)
		for i, rep := range l.Replicas {
			r.Present = append(r.Present, rep.ReplicaID)
			held[i].Replicas = []ReplicaSummary{{ReplicaID: rep.ReplicaID, LogID: l.LogID, Bytes: l.ReplicaBytes, Epoch: 1, DurableLSN: 9}}
		}
		return a, made(f.s.SetReplicas(t.Context(), r))
	}
	return []func(*testing.T, *returning, *Log, []RegisterRequest) error{
		func(*testing.T, *returning, *Log, []RegisterRequest) error { return nil }, // never opened
		func(t *testing.T, f *returning, l *Log, _ []RegisterRequest) error { // its writer vanishes before anything is promised
			_, err := opened(t, f, l, false)
			return err
		},
		func(t *testing.T, f *returning, l *Log, held []RegisterRequest) error { // ... and with all of it promised
			_, err := present(t, f, l, held)
			return err
		},
		func(t *testing.T, f *returning, l *Log, _ []RegisterRequest) error { // who recovers it vanishes
			_, err := opened(t, f, l, true)
			return err
		},
		func(t *testing.T, f *returning, l *Log, held []RegisterRequest) error { // closed
			a, err := present(t, f, l, held)
			if err != nil {
				return err
			}
			return f.s.CloseLog(t.Context(), ref(a))
		},
		func(t *testing.T, f *returning, l *Log, held []RegisterRequest) error { // closed, with a learner that is to be filled
			a, err := present(t, f, l, held)
			if err != nil {
				return err
			}
			to := held[setOf].DaemonID
			f.steps[to]++
			return errors.Join(f.s.CloseLog(t.Context(), ref(a)),
				made(f.s.StartReplacement(t.Context(), StartReplacementRequest{Log: l.LogID, Replica: l.Replicas[0].ReplicaID, To: to})))
		},
	}
}

// waves are the daemons that are back at once, among them a majority of each log's,
// and the others.
func (f *returning) waves() (first, last []RegisterRequest) {
	for i, r := range f.daemons {
		if i%setOf <= setOf/2 {
			first = append(first, r)
		} else {
			last = append(last, r)
		}
	}
	return first, last
}

// plans are what the leader has planned.
type plans struct {
	mu    sync.Mutex
	brake string
	since time.Time // of the brake
	until time.Time // of the newest plan
}

func (p *plans) add(plan *planner.Plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until = time.Now()
	if p.since.IsZero() || p.brake == "" || plan.Brake == "" {
		p.since = p.until
	}
	p.brake = plan.Brake
}

// braked waits until the leader has planned with the brake on for longer than the
// grace time, from now on.
func (p *plans) braked(t *testing.T, grace time.Duration) {
	t.Helper()
	now := time.Now()
	eventually(t, "the brake is on for longer than the grace time", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.brake != "" && p.until.Sub(latest(p.since, now)) > 2*grace
	})
}

// free waits until the leader has planned without the brake.
func (p *plans) free(t *testing.T) {
	t.Helper()
	eventually(t, "the brake is off", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return !p.until.IsZero() && p.brake == ""
	})
}

// begunWithoutBrake is how many operators would be begun on what the server sees.
func begunWithoutBrake(s *Store, grace time.Duration) int {
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	l := s.view.t.planner.Limits.planner(time.Minute)
	l.MaxDownPercent = 100
	p, view := planner.New(1), s.view.t.planView()
	p.Plan(view, l, false, 0)
	plan := p.Plan(view, l, false, planner.Duration(grace))
	return len(plan.Start)
}

// register registers all daemons, many at a time, each with one of the servers.
func register(t *testing.T, fleet []RegisterRequest, servers ...*Store) {
	t.Helper()
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(64)
	for i, r := range fleet {
		g.Go(func() error {
			_, err := servers[i%len(servers)].Register(ctx, r)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// runOut ends every lease that keeps a daemon or a writer, as time would.
func runOut(t *testing.T, c *clientv3.Client) {
	t.Helper()
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(64)
	for _, p := range []string{prefixLive, prefixWriters} {
		resp, err := c.Get(ctx, p, clientv3.WithPrefix())
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range resp.Kvs {
			g.Go(func() error {
				_, err := c.Revoke(ctx, clientv3.LeaseID(kv.Lease))
				if errors.Is(err, rpctypes.ErrLeaseNotFound) {
					return nil // time was quicker
				}
				return err
			})
		}
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// condemnOn leaves the tombstone of a region on the daemon.
func condemnOn(t *testing.T, s *Store, id string) {
	t.Helper()
	l, err := s.CreateLog(t.Context(), on(t, id))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CloseLog(t.Context(), ref(open(t, s, l.LogID))); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteLog(t.Context(), l.LogID, 0); err != nil {
		t.Fatal(err)
	}
}

// lasting is all that etcd has of logs, books, tombstones and operators, as text.
func lasting(t *testing.T, c *clientv3.Client) string {
	t.Helper()
	text := ""
	for _, p := range []string{prefixLogs, prefixNames, prefixSpace, prefixCondemned, prefixOperators} {
		resp, err := c.Get(context.WithoutCancel(t.Context()), p, clientv3.WithPrefix())
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range resp.Kvs {
			text += string(kv.Key) + " " + string(kv.Value) + "\n"
		}
	}
	return text
}

// changesOf are the changes below a prefix after the revision, as text. No server may
// be running: the last change is the test's own.
func changesOf(t *testing.T, c *clientv3.Client, prefix string, after int64) []string {
	t.Helper()
	end := prefix + uuid.NewString()
	if err := handed(c.Do(t.Context(), clientv3.OpPut(end, ""))); err != nil {
		t.Fatal(err)
	}
	var out []string
	for resp := range c.Watch(t.Context(), prefix, clientv3.WithPrefix(), clientv3.WithRev(after+1)) {
		if err := resp.Err(); err != nil {
			t.Fatal(err)
		}
		for _, ev := range resp.Events {
			if string(ev.Kv.Key) == end {
				return out
			}
			out = append(out, fmt.Sprintf("%s %s %s", ev.Type, ev.Kv.Key, ev.Kv.Value))
		}
	}
	t.Fatal("the watch ended")
	return nil
}

// TestHeartbeatsWriteNothing: however many daemons beat and however their LSNs
// move, etcd's raft gets no entry. What is looked at is the index that etcd's
// own counter of applied proposals shows (etcd_server_proposals_applied_total).
func TestHeartbeatsWriteNothing(t *testing.T) {
	t.Parallel()
	e := own(t, t.TempDir())
	s, stop, err := start(e, Options{ReportEvery: time.Hour}) // so that no pause of this machine ends it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	fleet := make([]RegisterRequest, 20)
	for i := range fleet {
		fleet[i] = daemonReq(t)
		fleet[i].Replicas = []ReplicaSummary{{ReplicaID: uuid.NewString(), LogID: uuid.NewString(), Bytes: 4096}}
	}
	register(t, fleet, s)
	writer := open(t, s, makeLog(t, s).Name)
	var applied, committed uint64
	eventually(t, "etcd has applied all that it has committed", func() bool { // its answers may come before it counts them
		applied, committed = e.etcd.Server.AppliedIndex(), e.etcd.Server.CommittedIndex()
		return applied == committed
	})
	const beats = 50
	for n := range beats {
		for _, r := range fleet {
			sum := r.Replicas[0]
			sum.TailLSN, sum.DurableLSN, sum.CommitLSN = uint64(3*n), uint64(2*n), uint64(n)
			if _, err := s.Heartbeat(t.Context(), HeartbeatRequest{
				DaemonID: r.DaemonID, Incarnation: 1, Free: r.Free, Replicas: []ReplicaSummary{sum},
				Results: []StepResult{{Kind: StepRemoveReplica, ReplicaID: uuid.NewString(), Done: true}}, // of one long gone
			}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Renew(t.Context(), ref(writer)); err != nil {
			t.Fatal(err)
		}
	}
	if a, c := e.etcd.Server.AppliedIndex(), e.etcd.Server.CommittedIndex(); a != applied || c != committed {
		t.Errorf("%d heartbeats and %d renewals: %d entries applied, %d committed", beats*len(fleet), beats, a-applied, c-committed)
	}
}
