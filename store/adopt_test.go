package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/gravenio/graven/planner"
)

// behind is a log whose first replica was replaced by one on a spare daemon, in a
// set of version 2 that its record does not know any more.
type behind struct {
	*patient
	views []*Store // of servers that are to have seen what is reported
	newer string   // the replica that the record does not have
	set   []string // of version 2
}

func newBehind(t *testing.T, s *Store) *behind {
	t.Helper()
	b := &behind{patient: newPatient(t, s, 2), newer: uuid.NewString(), views: []*Store{shared.store, shared.edges}}
	if err := s.CloseLog(t.Context(), ref(open(t, s, b.LogID))); err != nil {
		t.Fatal(err)
	}
	b.set = []string{b.Replicas[1].ReplicaID, b.Replicas[2].ReplicaID, b.newer}
	return b
}

// seal is that of a replica which names a set.
func seal(replicaID string, version uint64, set []string) SealReport {
	return SealReport{ReplicaID: replicaID, SetVersion: version, Set: set}
}

// reports registers a daemon again with these regions of the log, and seals.
func (b *behind) reports(t *testing.T, daemonID string, regions []string, seals ...SealReport) *Registration {
	t.Helper()
	rec, _ := recordIn[daemonRecord](t, b.s, prefixDaemons+daemonID)
	r := RegisterRequest{
		DaemonID: daemonID, PoolID: rec.PoolID, Incarnation: rec.Incarnation, Addresses: rec.Addresses,
		Capacity: rec.CapacityBytes, Free: rec.CapacityBytes, Media: rec.Media, Transports: rec.Transports, Labels: rec.Labels, Seals: seals,
	}
	for _, id := range regions {
		r.Replicas = append(r.Replicas, ReplicaSummary{ReplicaID: id, LogID: b.LogID, Bytes: b.ReplicaBytes})
	}
	reg, err := b.s.Register(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range b.views {
		if err := s.view.WaitRevision(t.Context(), reg.Revision); err != nil {
			t.Fatal(err)
		}
	}
	return reg
}

// known has a member that the record names report the newer set, and the spare
// daemon the replica that it has.
func (b *behind) known(t *testing.T) *behind {
	t.Helper()
	b.reports(t, b.spare[0], []string{b.newer})
	m := b.Replicas[1]
	b.reports(t, m.DaemonID, []string{m.ReplicaID}, seal(m.ReplicaID, 2, b.set))
	return b
}

func (b *behind) record(t *testing.T) *logRecord {
	t.Helper()
	rec, _ := recordIn[logRecord](t, b.s, prefixLogs+b.LogID)
	return rec
}

// adopts calls it as the store's calls do.
func (b *behind) adopts(ctx context.Context, s *Store) error {
	return retry(ctx, ErrConflict, func() (bool, error) {
		l, err := s.readLog(ctx, b.LogID)
		if err != nil {
			return false, err
		}
		_, err = s.adopt(ctx, l)
		return err == nil, again(err)
	})
}

// whole says what the books of the newer set lack.
func (b *behind) whole(t *testing.T) error {
	t.Helper()
	rec := b.record(t)
	old := b.Replicas[0]
	condemned, _ := recordOf[condemnedRecord](t, condemnedKey(old.DaemonID, old.ReplicaID))
	if condemned == nil {
		condemned = &condemnedRecord{}
	}
	d, _ := recordOf[daemonRecord](t, prefixDaemons+b.spare[0])
	var ids []string
	for _, r := range rec.Replicas {
		ids = append(ids, fmt.Sprint(r.ReplicaID, " ", r.DaemonID, " ", r.State))
	}
	want := []string{
		fmt.Sprint(b.set[0], " ", b.Replicas[1].DaemonID, " present"), fmt.Sprint(b.set[1], " ", b.Replicas[2].DaemonID, " present"),
		fmt.Sprint(b.newer, " ", b.spare[0], " present"),
	}
	return errors.Join(
		equal("set version", rec.SetVersion, 2), equal("replicas", strings.Join(ids, ","), strings.Join(want, ",")),
		equal("condemned bytes of the replaced one", condemned.Bytes, b.ReplicaBytes), equal("its set version", condemned.SetVersion, 2),
		equal("reserved where it is", reserved(t, b.s, old.DaemonID), b.ReplicaBytes),
		equal("reserved where the newer one is", reserved(t, b.s, b.spare[0]), b.ReplicaBytes),
		equal("quarantined there", d.QuarantinedBytes, 0), equal("regions quarantined there", len(d.Quarantined), 0))
}

// An open after a restore goes on with the set that the replicas know, every byte
// of it is in the books again, and the daemon of the replica that comes back is
// asked to register, so that it serves it.
func TestAnOpenTakesTheSetFromSeals(t *testing.T) {
	t.Parallel()
	s := shared.store
	b := newBehind(t, s).known(t)
	if d, _ := s.View().Daemon(b.spare[0]); d.QuarantinedBytes != b.ReplicaBytes {
		t.Fatalf("before: %+v", d)
	}
	a := open(t, s, b.LogID)
	if a.SetVersion != 2 || len(a.Replicas) != 3 || a.Replicas[2].ReplicaID != b.newer || a.Replicas[2].TCPAddr == "" {
		t.Errorf("opened: %+v", a)
	}
	if err := b.whole(t); err != nil {
		t.Error(err)
	}
	told, _ := s.View().Journal(JournalFilter{Log: b.LogID})
	if !slices.ContainsFunc(told, func(e JournalEntry) bool {
		return e.Kind == JournalSetAdopted && strings.Contains(e.Detail, b.newer) && strings.Contains(e.Detail, b.Replicas[0].ReplicaID)
	}) {
		t.Errorf("the journal: %+v", told)
	}
	if _, err := s.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: b.spare[0], Incarnation: 1}); !errors.Is(err, ErrLeaseExpired) {
		t.Errorf("a heartbeat of the daemon that has it in quarantine: %v", err)
	}
	reg := b.reports(t, b.spare[0], []string{b.newer}, seal(b.newer, 2, b.set))
	if reg.Replicas[0].Verdict != VerdictKeep || len(reg.Missing) != 0 {
		t.Errorf("registered again: %+v", reg)
	}
	if live, _ := recordOf[liveRecord](t, prefixLive+b.spare[0]); len(live.Seals) != 0 || live.Outdated {
		t.Errorf("after that: %+v", live)
	}
	if err := b.whole(t); err != nil {
		t.Error("after that: ", err)
	}
}

// Whom a set is believed of, and what is in the way of taking it.
func TestWhatSealsAreBelieved(t *testing.T) {
	t.Parallel()
	s := shared.store
	at := func(i int) func(b *behind) (string, string) {
		return func(b *behind) (string, string) { return b.Replicas[i].DaemonID, b.Replicas[i].ReplicaID }
	}
	says := func(t *testing.T, b *behind, who func(*behind) (string, string), version uint64, set []string) {
		d, r := who(b)
		b.reports(t, d, []string{r}, seal(r, version, set))
	}
	for _, c := range []struct {
		name  string
		stage func(t *testing.T, b *behind)
		want  uint64 // the set version that the log is opened with
		err   error
	}{
		{"nobody says anything", func(*testing.T, *behind) {}, 1, nil},
		{"the replaced replica knows", func(t *testing.T, b *behind) {
			b.reports(t, b.spare[0], []string{b.newer})
			says(t, b, at(0), 2, b.set)
		}, 2, nil},
		{"one that the record does not have says so", func(t *testing.T, b *behind) {
			b.reports(t, b.spare[0], []string{b.newer}, seal(b.newer, 2, b.set))
		}, 1, nil},
		{"the ID of a member on another daemon", func(t *testing.T, b *behind) {
			id := b.Replicas[1].ReplicaID
			b.reports(t, b.spare[0], []string{b.newer, id}, seal(id, 2, b.set))
		}, 1, nil},
		{"an ack quorum that the record does not have", func(t *testing.T, b *behind) {
			more := b.daemon(t)
			set := []string{uuid.NewString(), uuid.NewString(), uuid.NewString()}
			for i, d := range []string{b.spare[0], b.spare[1], more} {
				if i < 2 {
					b.reports(t, d, set[i:i+1], seal(set[i], 4, set))
				} else {
					b.reports(t, d, set[i:])
				}
			}
		}, 4, nil},
		{"a quorum on one daemon", func(t *testing.T, b *behind) {
			set := []string{uuid.NewString(), uuid.NewString(), uuid.NewString()}
			b.reports(t, b.spare[0], set, seal(set[0], 4, set), seal(set[1], 4, set), seal(set[2], 4, set))
		}, 1, nil},
		{"a set of another size", func(t *testing.T, b *behind) {
			b.reports(t, b.spare[0], []string{b.newer})
			says(t, b, at(1), 2, b.set[1:])
		}, 1, nil},
		{"a member that nobody has", func(t *testing.T, b *behind) { says(t, b, at(1), 2, b.set) }, 0, ErrSetBehind},
		{"a member that two have", func(t *testing.T, b *behind) {
			b.known(t)
			b.reports(t, b.spare[1], []string{b.newer})
		}, 0, ErrSetBehind},
		{"two members on one daemon", func(t *testing.T, b *behind) {
			d, r := at(1)(b)
			b.reports(t, d, []string{r, b.newer}, seal(r, 2, b.set))
		}, 0, ErrSetBehind},
		{"two histories", func(t *testing.T, b *behind) {
			b.known(t)
			says(t, b, at(2), 2, []string{b.set[0], b.set[1], b.Replicas[0].ReplicaID})
		}, 0, ErrSetBehind},
		{"the newest of two", func(t *testing.T, b *behind) {
			b.known(t)
			says(t, b, at(2), 3, b.set)
		}, 3, nil},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			b := newBehind(t, s)
			c.stage(t, b)
			a, err := s.OpenLog(t.Context(), OpenLogRequest{Log: b.LogID})
			if !errors.Is(err, c.err) || c.err == nil && (err != nil || a.SetVersion != c.want) {
				t.Fatalf("%+v, %v; want version %d, %v", a, err, c.want, c.err)
			}
			if c.err != nil {
				if rec := b.record(t); rec.SetVersion != 1 || rec.Epoch != 1 {
					t.Errorf("the record was changed: %+v", rec)
				}
			}
		})
	}
}

// A report from before a restore is no word on what is there now.
func TestAReportOfAnEarlierLifeIsNotBelieved(t *testing.T) {
	t.Parallel()
	b := newBehind(t, shared.store).known(t)
	tables, rec := shared.store.view.t, b.record(t)
	shared.store.view.mu.RLock()
	defer shared.store.view.mu.RUnlock()
	if n, err := tables.newerSet(b.LogID, rec, 0); n == nil || err != nil {
		t.Errorf("in its life: %+v, %v", n, err)
	}
	if n, err := tables.newerSet(b.LogID, rec, 1); n != nil || err != nil {
		t.Errorf("in the next one: %+v, %v", n, err)
	}
}

// A replacement that was under way when the backup was made is over, is given up,
// or goes on, as the newer set has it.
func TestAdoptionAndALearner(t *testing.T) {
	t.Parallel()
	s := shared.store
	operator := func(t *testing.T, learner Replica) planner.State {
		rec, _ := recordOf[operatorRecord](t, prefixOperators+operatorOf(ReasonRequested, learner.Replaces))
		return rec.State
	}
	t.Run("promoted", func(t *testing.T) {
		t.Parallel()
		b := newBehind(t, s)
		learner := learnerOf(t, b.start(t, b.spare[0]))
		b.newer, b.set[2] = learner.ReplicaID, learner.ReplicaID
		a := open(t, s, b.known(t).LogID)
		if err := errors.Join(b.whole(t), equal("operator", operator(t, learner), planner.Done), equal("version", a.SetVersion, 2)); err != nil {
			t.Error(err)
		}
	})
	t.Run("given up", func(t *testing.T) {
		t.Parallel()
		b := newBehind(t, s)
		learner := learnerOf(t, b.start(t, b.spare[1]))
		open(t, s, b.known(t).LogID)
		condemned, _ := recordOf[condemnedRecord](t, condemnedKey(b.spare[1], learner.ReplicaID))
		if err := errors.Join(b.whole(t), equal("operator", operator(t, learner), planner.Cancelled),
			equal("learner condemned", condemned != nil, true), equal("reserved for it", reserved(t, s, b.spare[1]), b.ReplicaBytes)); err != nil {
			t.Error(err)
		}
	})
	t.Run("goes on", func(t *testing.T) {
		t.Parallel()
		b := newBehind(t, s)
		l, err := s.StartReplacement(t.Context(), StartReplacementRequest{Log: b.LogID, Replica: b.Replicas[1].DaemonID, To: b.spare[1]})
		if err != nil {
			t.Fatal(err)
		}
		a := open(t, s, b.known(t).LogID)
		if err := errors.Join(equal("version", a.SetVersion, 2), equal("learners", learners(t, b.LogID), 1),
			equal("operator", operator(t, learnerOf(t, l)), planner.Running)); err != nil {
			t.Error(err)
		}
	})
}

// Nothing else is decided on the old set, either.
func TestDeletesAndReplacementsTakeTheSetFirst(t *testing.T) {
	t.Parallel()
	s := shared.store
	b := newBehind(t, s).known(t)
	_, err := s.StartReplacement(t.Context(), StartReplacementRequest{Log: b.LogID, Replica: b.Replicas[0].ReplicaID})
	if err := errors.Join(answered(err, ErrNotFound), b.whole(t)); err != nil {
		t.Error(err)
	}
	gone := newBehind(t, s).known(t)
	if err := s.DeleteLog(t.Context(), gone.LogID, 0); err != nil {
		t.Fatal(err)
	}
	rec, _ := recordOf[condemnedRecord](t, condemnedKey(gone.spare[0], gone.newer))
	if rec == nil || rec.SetVersion != 2 || reserved(t, s, gone.spare[0]) != gone.ReplicaBytes {
		t.Errorf("the newer replica of a deleted log: %+v", rec)
	}
	// Where the newer set is not all there, the log can be deleted all the same.
	lost := newBehind(t, s)
	m := lost.Replicas[1]
	lost.reports(t, m.DaemonID, []string{m.ReplicaID}, seal(m.ReplicaID, 2, lost.set))
	_, err = s.StartReplacement(t.Context(), StartReplacementRequest{Log: lost.LogID, Replica: m.ReplicaID})
	if err := errors.Join(answered(err, ErrSetBehind), s.DeleteLog(t.Context(), lost.LogID, 0)); err != nil {
		t.Error(err)
	}
}

// Regions that were condemned under the old set have their bytes reserved already.
func TestAdoptionOfACondemnedReplica(t *testing.T) {
	t.Parallel()
	s := shared.store
	b := newBehind(t, s)
	key := condemnedKey(b.spare[0], b.newer)
	if err := errors.Join(byHand(t.Context(), key, condemnedRecord{version: current(), LogID: b.LogID, Bytes: b.ReplicaBytes, SetVersion: 1}),
		byHand(t.Context(), prefixSpace+b.spare[0], spaceRecord{version: current(), ReservedBytes: b.ReplicaBytes})); err != nil {
		t.Fatal(err)
	}
	open(t, s, b.known(t).LogID)
	rec, _ := recordOf[condemnedRecord](t, key)
	if err := errors.Join(b.whole(t), equal("still condemned", rec != nil, false)); err != nil {
		t.Error(err)
	}
}

func TestBadSeals(t *testing.T) {
	t.Parallel()
	id, log := uuid.NewString(), uuid.NewString()
	for name, edit := range map[string]func(r *SealReport){
		"of no replica":   func(r *SealReport) { r.ReplicaID = uuid.NewString() },
		"the first set":   func(r *SealReport) { r.SetVersion = 1 },
		"too high":        func(r *SealReport) { r.SetVersion = MaxEpoch + 1 },
		"an empty set":    func(r *SealReport) { r.Set = nil },
		"too large a set": func(r *SealReport) { r.Set = make([]string, MaxReplicas+1) },
		"garbled":         func(r *SealReport) { r.Set = []string{"x"} },
		"twice":           func(r *SealReport) { r.Set = []string{id, id} },
	} {
		r := daemonReq(t)
		r.Replicas = []ReplicaSummary{{ReplicaID: id, LogID: log, Bytes: 1}}
		bad := seal(id, 2, []string{id})
		edit(&bad)
		r.Seals = []SealReport{bad}
		if _, err := shared.store.Register(t.Context(), r); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "seals.") {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := daemonReq(t)
	r.Replicas = []ReplicaSummary{{ReplicaID: id, LogID: log, Bytes: 1}}
	r.Seals = []SealReport{seal(id, 2, []string{id}), seal(id, 3, []string{id})}
	if _, err := shared.store.Register(t.Context(), r); !errors.Is(err, ErrInvalid) {
		t.Errorf("two seals of one replica: %v", err)
	}
}

func adoptRaces() []race {
	s := shared.store
	// played is an adoption with another change before its commit, which must not be
	// lost, and after which the books are right.
	played := func(other func(t *testing.T, b *behind) error, kept func(t *testing.T, b *behind) error) func(t *testing.T, p *plan) error {
		return func(t *testing.T, p *plan) error {
			b := newBehind(t, s).known(t)
			p.before = func() error { return other(t, b) }
			err := b.adopts(p.in(t.Context()), shared.edges)
			return errors.Join(err, kept(t, b))
		}
	}
	return []race{
		{"adopt a set", "its writer closes", tableLogs, func(t *testing.T, p *plan) error {
			b := newBehind(t, s)
			a := open(t, s, b.LogID)
			b.known(t)
			p.before = func() error { return s.CloseLog(t.Context(), ref(a)) }
			err := b.adopts(p.in(t.Context()), shared.edges)
			return errors.Join(err, b.whole(t), equal("closed epoch", b.record(t).ClosedEpoch, a.Epoch))
		}},
		{"adopt a set", "adopted by another server", "", played(
			func(t *testing.T, b *behind) error { return b.adopts(t.Context(), s) },
			func(t *testing.T, b *behind) error { return b.whole(t) })},
		{"adopt a set", "deleted meanwhile", "", func(t *testing.T, p *plan) error {
			b := newBehind(t, s).known(t)
			p.before = func() error { return s.DeleteLog(t.Context(), b.LogID, 0) }
			err := b.adopts(p.in(t.Context()), shared.edges)
			return errors.Join(answered(err, ErrNotFound), equal("back", b.record(t) != nil, false))
		}},
		{"adopt a set", "drained meanwhile", tableDaemons, played(
			func(t *testing.T, b *behind) error { return drain(t.Context(), s, b.spare[0], true, 0) },
			func(t *testing.T, b *behind) error {
				d, _ := recordOf[daemonRecord](t, prefixDaemons+b.spare[0])
				return errors.Join(b.whole(t), equal("draining", d.Draining, true))
			})},
		{"adopt a set", "its region gone", tableLive, func(t *testing.T, p *plan) error {
			b := newBehind(t, s).known(t)
			p.before = func() error {
				_, err := s.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: b.spare[0], Incarnation: 1, Replicas: []ReplicaSummary{}})
				for _, st := range []*Store{s, shared.edges} {
					err = errors.Join(err, st.view.WaitRevision(t.Context(), etcdRevision(t, s)))
				}
				return err
			}
			err := b.adopts(p.in(t.Context()), shared.edges)
			return errors.Join(answered(err, ErrSetBehind), equal("set version", b.record(t).SetVersion, 1))
		}},
		{"adopt a set", "bytes promised meanwhile", tableSpace, played(
			func(t *testing.T, b *behind) error { return made(s.CreateLog(t.Context(), on(t, b.spare[0]))) },
			func(t *testing.T, b *behind) error {
				return errors.Join(equal("set version", b.record(t).SetVersion, 2), equal("reserved bytes", reserved(t, s, b.spare[0]), b.ReplicaBytes+oneLog))
			})},
	}
}
