package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/gravenio/graven/grant"
	"github.com/gravenio/graven/placement"
)

// patient is a log on three daemons of its own, with spare ones that its rules
// allow and that no other test's log may use.
type patient struct {
	*Log
	s     *Store
	mark  string
	spare []string
}

func newPatient(t *testing.T, s *Store, spare int) *patient {
	t.Helper()
	p := &patient{s: s, mark: "m" + uuid.NewString()[:8]}
	var ids []string
	for range 3 + spare {
		ids = append(ids, p.daemon(t))
	}
	p.spare = ids[3:]
	l, err := s.CreateLog(t.Context(), CreateLogRequest{
		Name: logName(t), Daemons: ids[:3], AckQuorum: 2, CapacityBytes: 1 << 20,
		Placement: PlacementRules{Labels: map[string]string{"mark": p.mark}},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.Log = l
	return p
}

func (p *patient) daemon(t *testing.T, edit ...func(*RegisterRequest)) string {
	t.Helper()
	edit = append(edit, func(r *RegisterRequest) { r.Labels["mark"] = p.mark })
	return daemon(t, p.s, edit...).DaemonID
}

func (p *patient) start(t *testing.T, to string) *Log {
	t.Helper()
	l, err := p.s.StartReplacement(t.Context(), StartReplacementRequest{Log: p.Name, Replica: p.Replicas[0].DaemonID, To: to})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// change is a request of the writer for one replica.
func change(a *OpenAnswer, version uint64) SetReplicasRequest {
	return SetReplicasRequest{Log: a.LogID, Epoch: a.Epoch, Nonce: a.Nonce, SetVersion: version}
}

func promoteOf(a *OpenAnswer, learner string) SetReplicasRequest {
	r := change(a, a.SetVersion)
	r.Present = []string{learner}
	return r
}

func giveUpOf(a *OpenAnswer, learner string) SetReplicasRequest {
	r := change(a, a.SetVersion)
	r.Condemned = []string{learner}
	return r
}

func learnerOf(t *testing.T, l *Log) Replica {
	t.Helper()
	i := slices.IndexFunc(l.Replicas, func(r Replica) bool { return r.State == ReplicaLearner })
	if i < 0 {
		t.Fatalf("log %s has no learner: %+v", l.Name, l.Replicas)
	}
	return l.Replicas[i]
}

func (p *patient) steps(t *testing.T, daemonID string, results ...StepResult) []Step {
	t.Helper()
	a, err := p.s.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: daemonID, Incarnation: 1, Free: 1 << 30, Results: results})
	if err != nil {
		t.Fatal(err)
	}
	return a.Steps
}

// A replica is replaced by a writer: the learner counts for nothing until it is
// promoted, and what it replaced is freed by its daemon's word.
func TestReplacementByAWriter(t *testing.T) {
	t.Parallel()
	s := shared.store
	p := newPatient(t, s, 1)
	a := open(t, s, p.Name)
	if got, err := s.Renew(t.Context(), ref(a)); err != nil || got.Grant != a.Grant {
		t.Fatalf("a renewal of an unchanged set: %+v, %v", got, err)
	}
	l := p.start(t, "")
	learner, old := learnerOf(t, l), p.Replicas[0]
	if learner.DaemonID != p.spare[0] || learner.Replaces != old.ReplicaID || l.SetVersion != 1 || l.State != LogOpen ||
		len(l.Replicas) != 4 || reserved(t, s, learner.DaemonID) != p.ReplicaBytes {
		t.Fatalf("started: %+v", l)
	}
	renewed, err := s.Renew(t.Context(), ref(a))
	if err != nil || renewed.SetVersion != 1 || len(renewed.Replicas) != 4 || renewed.Replicas[3].Replaces != old.ReplicaID {
		t.Fatalf("renewed: %+v, %v", renewed, err)
	}
	keys, err := grant.ParseKeys(s.GrantKeys())
	if err != nil {
		t.Fatal(err)
	}
	c, err := grant.Verify(renewed.Grant, keys)
	if r, ok := c.Replica(learner.ReplicaID); err != nil || c.Epoch != a.Epoch || c.Nonce != a.Nonce || !ok || r.State != "learner" {
		t.Errorf("the grant: %+v, %v", c, err)
	}

	for range 2 { // the second time, the first answer was lost
		got, err := s.SetReplicas(t.Context(), promoteOf(a, learner.ReplicaID))
		if err != nil || got.SetVersion != 2 || len(got.Replicas) != 3 || got.Replicas[2].ReplicaID != learner.ReplicaID ||
			got.Replicas[2].State != ReplicaPresent || got.Replicas[2].Replaces != "" {
			t.Fatalf("promoted: %+v, %v", got, err)
		}
	}
	got, err := s.Renew(t.Context(), ref(a))
	if err != nil || got.SetVersion != 2 || len(got.Replicas) != 3 {
		t.Errorf("renewed after the promote: %+v, %v", got, err)
	}
	c, err = grant.Verify(got.Grant, keys)
	if r, ok := c.Replica(learner.ReplicaID); err != nil || !ok || r.State != "present" || len(c.Replicas) != 3 {
		t.Errorf("the grant after the promote: %+v, %v", c, err)
	}
	if got := reserved(t, s, old.DaemonID); got != p.ReplicaBytes {
		t.Errorf("%d bytes reserved on the replaced daemon before its word", got)
	}
	steps := p.steps(t, old.DaemonID)
	if len(steps) != 1 || steps[0].Kind != StepRemoveReplica || steps[0].ReplicaID != old.ReplicaID {
		t.Fatalf("steps of the replaced daemon: %+v", steps)
	}
	p.steps(t, old.DaemonID, StepResult{OperatorID: steps[0].OperatorID, Kind: steps[0].Kind, ReplicaID: old.ReplicaID, Done: true})
	if got := reserved(t, s, old.DaemonID); got != 0 {
		t.Errorf("%d bytes reserved on it after its word", got)
	}
	// Its daemon may have the log's next learner.
	second, err := s.StartReplacement(t.Context(), StartReplacementRequest{Log: p.LogID, Replica: learner.ReplicaID})
	if err != nil || learnerOf(t, second).DaemonID != old.DaemonID {
		t.Errorf("a second replacement: %+v, %v", second, err)
	}
}

// A takeover between the renewal and its answer must not give the old writer
// the new one's grant.
func TestNoGrantForAWriterThatWasTakenOverFrom(t *testing.T) {
	t.Parallel()
	s := shared.store
	p := newPatient(t, s, 1)
	a := open(t, s, p.Name)
	p.start(t, "")
	if got, err := s.renewed(ref(a), time.Minute, nil); err != nil || got.Grant == "" {
		t.Fatalf("before the takeover: %+v, %v", got, err)
	}
	b := open(t, s, p.Name, func(r *OpenLogRequest) { r.Takeover = true })
	if got, err := s.renewed(ref(a), time.Minute, nil); err != nil || got.Grant != "" {
		t.Errorf("after it: %+v, %v", got, err)
	}
	keys, err := grant.ParseKeys(s.GrantKeys())
	if err != nil {
		t.Fatal(err)
	}
	if c, err := grant.Verify(b.Grant, keys); err != nil || len(c.Replicas) != 4 || b.Replicas[3].Replaces != p.Replicas[0].ReplicaID {
		t.Errorf("the open's grant: %+v, %v", c, err)
	}
}

func TestStartReplacementGuards(t *testing.T) {
	t.Parallel()
	s := shared.store
	p := newPatient(t, s, 2)
	from := p.Replicas[0].DaemonID
	stays, _ := s.View().Daemon(p.Replicas[1].DaemonID)
	at := map[string]string{
		"draining": p.daemon(t), "down": p.daemon(t),
		"read-only": p.daemon(t, func(r *RegisterRequest) { r.Health.Status = "read-only" }),
		"full":      p.daemon(t, func(r *RegisterRequest) { r.Free = 4096 }),
		"neighbor":  p.daemon(t, func(r *RegisterRequest) { r.Labels["host"] = stays.Labels["host"] }),
		"volatile":  p.daemon(t, func(r *RegisterRequest) { r.Media = "volatile" }),
		"unlike":    daemon(t, s).DaemonID,
	}
	if err := drain(t.Context(), s, at["draining"], true, 0); err != nil {
		t.Fatal(err)
	}
	expire(t, s, prefixLive+at["down"])
	for _, tc := range []struct {
		name string
		edit func(r *StartReplacementRequest)
		want error
		rule placement.Rule
	}{
		{"unknown log", func(r *StartReplacementRequest) { r.Log = "nothing" }, ErrNotFound, ""},
		{"unknown replica", func(r *StartReplacementRequest) { r.Replica = uuid.NewString() }, ErrNotFound, ""},
		{"a daemon without a replica", func(r *StartReplacementRequest) { r.Replica = p.spare[0] }, ErrNotFound, ""},
		{"no replica", func(r *StartReplacementRequest) { r.Replica = "" }, ErrInvalid, ""},
		{"a target that is no ID", func(r *StartReplacementRequest) { r.To = "a/b" }, ErrInvalid, ""},
		{"a bad key", func(r *StartReplacementRequest) { r.IdempotencyKey = "a/b" }, ErrInvalid, ""},
		{"to where it is", func(r *StartReplacementRequest) { r.To = from }, ErrInvalid, ""},
		{"to where another one is", func(r *StartReplacementRequest) { r.To = stays.DaemonID }, nil, placement.RuleFailureDomain},
		{"to that one's host", func(r *StartReplacementRequest) { r.To = at["neighbor"] }, nil, placement.RuleFailureDomain},
		{"to a draining daemon", func(r *StartReplacementRequest) { r.To = at["draining"] }, nil, placement.RuleDraining},
		{"to one that takes no writes", func(r *StartReplacementRequest) { r.To = at["read-only"] }, nil, placement.RuleReadOnly},
		{"to one that is down", func(r *StartReplacementRequest) { r.To = at["down"] }, nil, placement.RuleDown},
		{"to one without room", func(r *StartReplacementRequest) { r.To = at["full"] }, nil, placement.RuleSpace},
		{"to another medium", func(r *StartReplacementRequest) { r.To = at["volatile"] }, nil, placement.RuleMedia},
		{"to one that the log's rules exclude", func(r *StartReplacementRequest) { r.To = at["unlike"] }, nil, placement.RuleLabel},
		{"to nobody", func(r *StartReplacementRequest) { r.To = "nobody" }, nil, placement.RuleUnknown},
	} {
		r := StartReplacementRequest{Log: p.Name, Replica: from}
		tc.edit(&r)
		_, err := s.StartReplacement(t.Context(), r)
		var refused *placement.RefusedError
		if errors.As(err, &refused) != (tc.rule != "") || refused != nil && refused.Rule != tc.rule || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v %s", tc.name, err, tc.want, tc.rule)
		}
	}
	if got, _ := s.View().Log(p.Name); len(got.Replicas) != 3 || got.ModRevision != p.ModRevision {
		t.Errorf("a refused start changed the log: %+v", got)
	}
}

// One learner a log: the same request again is answered with it, another one is
// told of it.
func TestOneReplacementAtATime(t *testing.T) {
	t.Parallel()
	s := shared.store
	p := newPatient(t, s, 2)
	first := p.start(t, "")
	learner := learnerOf(t, first)
	for _, r := range []StartReplacementRequest{
		{Log: p.Name, Replica: p.Replicas[0].DaemonID},
		{Log: p.LogID, Replica: p.Replicas[0].ReplicaID, To: learner.DaemonID},
	} {
		if again, err := s.StartReplacement(t.Context(), r); err != nil || !reflect.DeepEqual(again, first) {
			t.Errorf("%+v: %+v, %v", r, again, err)
		}
	}
	elsewhere := p.spare[0]
	if elsewhere == learner.DaemonID {
		elsewhere = p.spare[1]
	}
	for _, r := range []StartReplacementRequest{
		{Log: p.Name, Replica: p.Replicas[1].DaemonID},
		{Log: p.Name, Replica: p.Replicas[0].DaemonID, To: elsewhere},
	} {
		_, err := s.StartReplacement(t.Context(), r)
		var busy *ReplacingError
		if !errors.As(err, &busy) || busy.From != p.Replicas[0].DaemonID || busy.To != learner.DaemonID {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if _, err := s.StartReplacement(t.Context(), StartReplacementRequest{Log: p.Name, Replica: learner.DaemonID}); !errors.Is(err, ErrNotFound) {
		t.Errorf("replacing the learner: %v", err)
	}
	if reserved(t, s, learner.DaemonID) != p.ReplicaBytes || reserved(t, s, elsewhere) != 0 {
		t.Error("a repeated start reserved again")
	}
}

func TestStartReplacementWithAKey(t *testing.T) {
	t.Parallel()
	s := shared.store
	p := newPatient(t, s, 1)
	r := StartReplacementRequest{Log: p.Name, Replica: p.Replicas[0].DaemonID, IdempotencyKey: uuid.NewString()}
	first, err := s.StartReplacement(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.AbandonReplacement(t.Context(), p.Name, 0); err != nil {
		t.Fatal(err)
	}
	// The repetition comes late: it must not begin a second one.
	again, err := s.StartReplacement(t.Context(), r)
	if err != nil || learnerOf(t, again).ReplicaID != learnerOf(t, first).ReplicaID {
		t.Errorf("again: %+v, %v", again, err)
	}
	if got, _ := s.View().Log(p.Name); len(got.Replicas) != 3 {
		t.Errorf("a late repetition began another replacement: %+v", got.Replicas)
	}
	r.Replica = p.Replicas[1].DaemonID
	if _, err := s.StartReplacement(t.Context(), r); !errors.Is(err, ErrIdempotencyMismatch) {
		t.Errorf("the key for another replica: %v", err)
	}
}

func TestNoPlaceForALearner(t *testing.T) {
	t.Parallel()
	s := shared.store
	p := newPatient(t, s, 0)
	_, err := s.StartReplacement(t.Context(), StartReplacementRequest{Log: p.Name, Replica: p.Replicas[0].DaemonID})
	var none *placement.NoPlacementError
	if !errors.As(err, &none) || none.Rule != placement.RuleFailureDomain || none.Removed[placement.RuleExclude] != 1 || none.Eligible != 2 {
		t.Errorf("without a spare daemon: %v", err)
	}
	// The replaced one's host may be used again.
	old, _ := s.View().Daemon(p.Replicas[0].DaemonID)
	same := p.daemon(t, func(r *RegisterRequest) { r.Labels["host"] = old.Labels["host"] })
	if l := p.start(t, ""); learnerOf(t, l).DaemonID != same {
		t.Errorf("placed on %s, want %s", learnerOf(t, l).DaemonID, same)
	}
}

// A view that is behind may choose a daemon that drains: etcd's word counts, and
// another one is chosen.
func TestPlacedAgainWhenTheViewWasBehind(t *testing.T) {
	t.Parallel()
	s := shared.store
	p := newPatient(t, s, 2)
	if err := drain(t.Context(), s, p.spare[0], true, 0); err != nil {
		t.Fatal(err)
	}
	behind := second(t, Options{})
	stale, _ := behind.View().Daemon(p.spare[0])
	// Its weight and fill have it chosen about once in four times, so that each
	// try has a way out and hardly any run does without one that fails.
	behind.view.t.index.Put(placement.Daemon{
		ID: stale.DaemonID, Labels: stale.Labels, Media: stale.Media, Transports: stale.Transports,
		FreeBytes: 17 << 30 / 10, CapacityBytes: 34 << 30 / 10, Up: true,
	})
	for range 24 {
		l, err := behind.StartReplacement(t.Context(), StartReplacementRequest{Log: p.Name, Replica: p.Replicas[0].DaemonID})
		if err != nil || learnerOf(t, l).DaemonID != p.spare[1] {
			t.Fatalf("started: %+v, %v", l, err)
		}
		if err := s.AbandonReplacement(t.Context(), p.Name, 0); err != nil {
			t.Fatal(err)
		}
	}
	// Where there is no other, the error says what was in the way.
	var unfit *UnfitError
	_, err := behind.StartReplacement(t.Context(), StartReplacementRequest{
		Log: p.Name, Replica: p.Replicas[0].DaemonID, To: p.spare[0],
	})
	if !errors.As(err, &unfit) || unfit.DaemonID != p.spare[0] || unfit.Rule != "draining" {
		t.Errorf("to the draining one: %v", err)
	}
}

func TestPromoteAndGiveUpGuards(t *testing.T) {
	t.Parallel()
	s := shared.store
	p := newPatient(t, s, 1)
	open(t, s, p.Name)
	a := open(t, s, p.Name, func(r *OpenLogRequest) { r.Takeover = true })
	id := learnerOf(t, p.start(t, "")).ReplicaID
	refused := func(stage string) {
		t.Helper()
		for _, tc := range []struct {
			name string
			edit func(r *SetReplicasRequest)
			want error
		}{
			{"lower epoch", func(r *SetReplicasRequest) { r.Epoch-- }, ErrSuperseded},
			{"higher epoch", func(r *SetReplicasRequest) { r.Epoch++ }, ErrEpochAhead},
			{"another life's nonce", func(r *SetReplicasRequest) { r.Nonce = "0123456789abcdef" }, ErrSuperseded},
			{"another set", func(r *SetReplicasRequest) { r.SetVersion += 7 }, ErrConflict},
			{"a lower set", func(r *SetReplicasRequest) { r.SetVersion-- }, ErrConflict},
		} {
			for _, r := range []SetReplicasRequest{promoteOf(a, id), giveUpOf(a, id)} {
				tc.edit(&r)
				if _, err := s.SetReplicas(t.Context(), r); !errors.Is(err, tc.want) {
					t.Errorf("%s, %s, %+v: %v, want %v", stage, tc.name, r, err, tc.want)
				}
			}
		}
	}
	refused("learner")
	mixed := promoteOf(a, id)
	mixed.Present = append(mixed.Present, p.Replicas[1].ReplicaID)
	if _, err := s.SetReplicas(t.Context(), mixed); !errors.Is(err, ErrInvalid) {
		t.Errorf("a promote with another change: %v", err)
	}
	// The writer's other changes are not in the learner's way.
	present := change(a, 1)
	present.Present = []string{p.Replicas[0].ReplicaID, p.Replicas[1].ReplicaID}
	if l, err := s.SetReplicas(t.Context(), present); err != nil || l.SetVersion != 1 || learnerOf(t, l).ReplicaID != id {
		t.Fatalf("making others present: %+v, %v", l, err)
	}
	if _, err := s.SetReplicas(t.Context(), giveUpOf(a, p.Replicas[0].ReplicaID)); !errors.Is(err, ErrInvalid) {
		t.Errorf("condemning a present replica: %v", err)
	}
	if _, err := s.SetReplicas(t.Context(), promoteOf(a, id)); err != nil {
		t.Fatal(err)
	}
	refused("promoted")
	if _, err := s.SetReplicas(t.Context(), giveUpOf(a, id)); !errors.Is(err, ErrConflict) {
		t.Errorf("giving up after the promote: %v", err)
	}
	late := giveUpOf(a, id)
	late.SetVersion++
	if _, err := s.SetReplicas(t.Context(), late); !errors.Is(err, ErrConflict) {
		t.Errorf("giving up after the promote, knowing the set: %v", err)
	}
	// Only the promote of this very learner may come under the old set version.
	other := promoteOf(a, p.Replicas[1].ReplicaID)
	if _, err := s.SetReplicas(t.Context(), other); !errors.Is(err, ErrConflict) {
		t.Errorf("another change under the old set version: %v", err)
	}
}

func TestGivenUpByTheWriter(t *testing.T) {
	t.Parallel()
	s := shared.store
	p := newPatient(t, s, 1)
	a := open(t, s, p.Name)
	learner := learnerOf(t, p.start(t, ""))
	for range 2 { // the second time, the first answer was lost
		if l, err := s.SetReplicas(t.Context(), giveUpOf(a, learner.ReplicaID)); err != nil || l.SetVersion != 1 || len(l.Replicas) != 3 {
			t.Fatalf("given up: %+v, %v", l, err)
		}
	}
	if _, err := s.SetReplicas(t.Context(), promoteOf(a, learner.ReplicaID)); !errors.Is(err, ErrAbandoned) {
		t.Errorf("promoting it: %v", err)
	}
	if steps := p.steps(t, learner.DaemonID); len(steps) != 1 || steps[0].Kind != StepRemoveReplica || steps[0].ReplicaID != learner.ReplicaID {
		t.Errorf("steps of its daemon: %+v", steps)
	}
}

func TestAbandonReplacement(t *testing.T) {
	t.Parallel()
	s := shared.store
	p := newPatient(t, s, 1)
	if err := s.AbandonReplacement(t.Context(), p.Name, 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("nothing under way: %v", err)
	}
	if err := s.AbandonReplacement(t.Context(), "nothing", 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown log: %v", err)
	}
	l := p.start(t, "")
	learner := learnerOf(t, l)
	if err := s.AbandonReplacement(t.Context(), p.Name, l.ModRevision-1); !errors.Is(err, ErrPrecondition) {
		t.Errorf("another version: %v", err)
	}
	// Nobody has opened the log, so no grant names the learner.
	if err := s.AbandonReplacement(t.Context(), p.Name, l.ModRevision); err != nil {
		t.Fatal(err)
	}
	if got := reserved(t, s, learner.DaemonID); got != 0 || len(p.steps(t, learner.DaemonID)) != 0 {
		t.Errorf("%d bytes still reserved on %s", got, learner.DaemonID)
	}
	// Somebody has.
	a := open(t, s, p.Name)
	learner = learnerOf(t, p.start(t, ""))
	if err := s.AbandonReplacement(t.Context(), p.LogID, 0); err != nil {
		t.Fatal(err)
	}
	if got := reserved(t, s, learner.DaemonID); got != p.ReplicaBytes || len(p.steps(t, learner.DaemonID)) != 1 {
		t.Errorf("%d bytes reserved on %s, which may hold it", got, learner.DaemonID)
	}
	if got, _ := s.View().Log(p.Name); len(got.Replicas) != 3 || got.SetVersion != 1 {
		t.Errorf("the log: %+v", got)
	}
	if _, err := s.SetReplicas(t.Context(), promoteOf(a, learner.ReplicaID)); !errors.Is(err, ErrAbandoned) {
		t.Errorf("the writer's promote: %v", err)
	}
}

func TestDeleteTakesTheLearnerToo(t *testing.T) {
	t.Parallel()
	s := shared.store
	for _, opened := range []bool{false, true} {
		p := newPatient(t, s, 1)
		if opened {
			if err := s.CloseLog(t.Context(), ref(open(t, s, p.Name))); err != nil {
				t.Fatal(err)
			}
		}
		learner := learnerOf(t, p.start(t, ""))
		if err := s.DeleteLog(t.Context(), p.Name, 0); err != nil {
			t.Fatal(err)
		}
		want := map[bool]int64{false: 0, true: p.ReplicaBytes}[opened]
		if got := reserved(t, s, learner.DaemonID); got != want {
			t.Errorf("opened %v: %d bytes reserved for the learner, want %d", opened, got, want)
		}
		if steps := p.steps(t, learner.DaemonID); (len(steps) == 1) != opened {
			t.Errorf("opened %v: steps %+v", opened, steps)
		}
	}
}

// The two sides of each race, forced: one is decided, the other happens, and
// the first one's transaction must fail.
func TestReplacementRacesAtTheTransaction(t *testing.T) {
	t.Parallel()
	s := shared.store
	type world struct {
		p *patient
		a *OpenAnswer
	}
	read := func(t *testing.T, w *world) *logEntries {
		t.Helper()
		l, err := s.readLog(t.Context(), w.p.Name)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	learner := func(t *testing.T, w *world) string {
		l, _ := s.View().Log(w.p.Name)
		return learnerOf(t, &l).ReplicaID
	}
	request := func(w *world) StartReplacementRequest {
		return StartReplacementRequest{Log: w.p.Name, Replica: w.p.Replicas[0].DaemonID, To: w.p.spare[0]}
	}
	start := func(t *testing.T, w *world) (*setChange, error) {
		l := read(t, w)
		return s.addLearner(t.Context(), l, &starting{req: request(w), id: uuid.NewString()}, l.rec.Replicas[0], w.p.spare[0])
	}
	decided := func(of func(*OpenAnswer, string) SetReplicasRequest) func(t *testing.T, w *world) (*setChange, error) {
		return func(t *testing.T, w *world) (*setChange, error) {
			return s.decide(t.Context(), read(t, w), of(w.a, learner(t, w)))
		}
	}
	abandon := func(t *testing.T, w *world) error { return s.AbandonReplacement(t.Context(), w.p.Name, 0) }
	promoted := func(t *testing.T, w *world) error {
		_, err := s.SetReplicas(t.Context(), promoteOf(w.a, learner(t, w)))
		return err
	}
	started := func(t *testing.T, w *world) error {
		_, err := s.StartReplacement(t.Context(), request(w))
		return err
	}
	deleted := func(t *testing.T, w *world) error {
		return errors.Join(s.CloseLog(t.Context(), ref(w.a)), s.DeleteLog(t.Context(), w.p.Name, 0))
	}
	for _, tc := range []struct {
		name    string
		learner bool // there is one already
		decide  func(t *testing.T, w *world) (*setChange, error)
		happens func(t *testing.T, w *world) error
	}{
		{"promote, abandoned", true, decided(promoteOf), abandon},
		{"promote, promoted", true, decided(promoteOf), promoted},
		{"give up, promoted", true, decided(giveUpOf), promoted},
		{"give up, abandoned", true, decided(giveUpOf), abandon},
		{"promote, deleted", true, decided(promoteOf), deleted},
		{"promote, taken over", true, decided(promoteOf), func(t *testing.T, w *world) error {
			open(t, s, w.p.Name, func(r *OpenLogRequest) { r.Takeover = true })
			return nil
		}},
		{"start, deleted", false, start, deleted},
		{"start, started", false, start, started},
		{"start, target drained", false, start, func(t *testing.T, w *world) error {
			return drain(t.Context(), s, w.p.spare[0], true, 0)
		}},
		{"start, target down", false, start, func(t *testing.T, w *world) error {
			expire(t, s, prefixLive+w.p.spare[0])
			return nil
		}},
		{"start, target's bytes taken", false, start, func(t *testing.T, w *world) error {
			_, err := s.CreateLog(t.Context(), CreateLogRequest{Name: logName(t), Daemons: w.p.spare[:1], AckQuorum: 1, CapacityBytes: 4096})
			return err
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := &world{p: newPatient(t, s, 1)}
			w.a = open(t, s, w.p.Name)
			if tc.learner {
				w.p.start(t, "")
			}
			c, err := tc.decide(t, w)
			if err != nil {
				t.Fatal(err)
			}
			if err := tc.happens(t, w); err != nil {
				t.Fatal(err)
			}
			before := reserved(t, s, w.p.spare[0])
			if _, ok, err := s.commit(t.Context(), c.cmps, c.ops); ok || err != nil {
				t.Errorf("committed %v, %v", ok, err)
			}
			if got := reserved(t, s, w.p.spare[0]); got != before {
				t.Errorf("a transaction that lost reserved %d bytes", got-before)
			}
		})
	}
}

// TestRacingReplacementsKeepTheBooks: starts, promotes, give-ups, abandons and
// daemons' words at once through two servers. Whatever wins, the set is whole
// and each daemon's reservation is what is on it.
func TestRacingReplacementsKeepTheBooks(t *testing.T) {
	t.Parallel()
	s, other := shared.store, second(t, Options{})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	p := newPatient(t, s, 3)
	a := open(t, s, p.Name)
	all := append([]string{p.Replicas[0].DaemonID, p.Replicas[1].DaemonID, p.Replicas[2].DaemonID}, p.spare...)
	if err := other.view.WaitRevision(t.Context(), etcdRevision(t, s)); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	did := map[string]int{}
	replaced := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return did["promote"] > 0
	}
	for w := range 8 {
		rnd := rand.New(rand.NewPCG(seed, uint64(w)))
		st := []*Store{s, other}[w%2]
		wg.Go(func() {
			for n := 0; n < 12 || n < 500 && !replaced(); n++ { // whoever gives up may be the faster one each time
				what, err := randomChange(t, st, p.LogID, a, all, rnd)
				switch {
				case err == nil:
					mu.Lock()
					did[what]++
					mu.Unlock()
				case errors.Is(err, ErrConflict), errors.Is(err, ErrNotFound), errors.Is(err, ErrReplacing), errors.Is(err, ErrAbandoned):
				case errors.As(err, new(*placement.NoPlacementError)):
				default:
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("done: %v", did)
	if did["promote"] == 0 || did["start"] == 0 {
		t.Error("nothing was replaced")
	}
	l, err := s.readLog(t.Context(), p.Name)
	if err != nil {
		t.Fatal(err)
	}
	set := slices.DeleteFunc(slices.Clone(l.rec.Replicas), func(r replicaRecord) bool { return r.State == ReplicaLearner })
	if len(set) != 3 || len(l.rec.Replicas) > 4 || l.rec.SetVersion < 2 || l.rec.SetVersion > uint64(1+did["promote"]) {
		t.Errorf("the record: %+v", l.rec)
	}
	want := map[string]int64{}
	for _, r := range l.rec.Replicas {
		want[r.DaemonID] += p.ReplicaBytes
	}
	if err := s.view.WaitRevision(t.Context(), etcdRevision(t, s)); err != nil {
		t.Fatal(err)
	}
	for _, c := range s.View().Condemned() {
		if c.LogID == p.LogID {
			want[c.DaemonID] += c.Bytes
		}
	}
	for _, id := range all {
		if got := reserved(t, s, id); got != want[id] {
			t.Errorf("%s: %d bytes reserved, %d on it", id, got, want[id])
		}
	}
}

func randomChange(t *testing.T, s *Store, log string, a *OpenAnswer, all []string, rnd *rand.Rand) (string, error) {
	l, _ := s.View().Log(log)
	r := change(a, l.SetVersion)
	var ids []string
	for _, rep := range l.Replicas {
		if rep.State == ReplicaLearner {
			ids = []string{rep.ReplicaID}
		}
	}
	switch n := rnd.IntN(6); {
	case n == 0:
		return "abandon", s.AbandonReplacement(t.Context(), log, 0)
	case n == 1 && ids != nil:
		r.Condemned = ids
		_, err := s.SetReplicas(t.Context(), r)
		return "give up", err
	case n < 4 && ids != nil:
		r.Present = ids
		_, err := s.SetReplicas(t.Context(), r)
		return "promote", err
	case n == 4:
		id := all[rnd.IntN(len(all))]
		h, err := s.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: id, Incarnation: 1, Free: 1 << 30})
		if err != nil {
			return "heartbeat", err
		}
		var results []StepResult
		for _, step := range h.Steps {
			results = append(results, StepResult{OperatorID: step.OperatorID, Kind: step.Kind, ReplicaID: step.ReplicaID, Done: true})
		}
		return "word", s.takeResults(t.Context(), id, results)
	default:
		_, err := s.StartReplacement(t.Context(), StartReplacementRequest{Log: log, Replica: l.Replicas[rnd.IntN(3)].ReplicaID})
		return "start", err
	}
}

// A log with a learner and no writer is recovered by the learner's daemon.
func TestRecoverLogIsAsked(t *testing.T) {
	t.Parallel()
	s := shared.store
	p := newPatient(t, s, 1)
	learner := learnerOf(t, p.start(t, ""))
	want := []Step{{OperatorID: "replace-" + p.Replicas[0].ReplicaID, Kind: StepRecoverLog, LogID: p.LogID, ReplicaID: learner.ReplicaID}}
	asked := func(when string, yes bool) {
		t.Helper()
		steps := p.steps(t, learner.DaemonID)
		if yes && !slices.Equal(steps, want) || !yes && len(steps) != 0 {
			t.Errorf("%s: %+v", when, steps)
		}
		if others := p.steps(t, p.Replicas[0].DaemonID); len(others) != 0 {
			t.Errorf("%s: another daemon is asked for %+v", when, others)
		}
	}
	asked("without a writer", true)
	// Its result says nothing that the record does not.
	done := StepResult{OperatorID: want[0].OperatorID, Kind: StepRecoverLog, ReplicaID: learner.ReplicaID, Done: true}
	if steps := p.steps(t, learner.DaemonID, done); !slices.Equal(steps, want) {
		t.Errorf("after a result: %+v", steps)
	}
	agent := open(t, s, p.Name, func(r *OpenLogRequest) { r.Recovering = true })
	asked("while an agent recovers", true)
	client := open(t, s, p.Name)
	if client.Epoch != agent.Epoch+1 {
		t.Errorf("epoch %d", client.Epoch)
	}
	asked("with a writer", false)
	expire(t, s, prefixWriters+p.LogID)
	asked("when its lease is gone, since it may go on writing", false)
	if err := s.CloseLog(t.Context(), ref(client)); err != nil {
		t.Fatal(err)
	}
	asked("when it has closed", true)
	a := open(t, s, p.Name, func(r *OpenLogRequest) { r.Recovering = true })
	if _, err := s.SetReplicas(t.Context(), promoteOf(a, learner.ReplicaID)); err != nil {
		t.Fatal(err)
	}
	if steps := p.steps(t, learner.DaemonID); len(steps) != 0 {
		t.Errorf("after the promote: %+v", steps)
	}
}

func TestRecoveriesAreBounded(t *testing.T) {
	t.Parallel()
	tab := newTables()
	for i := range recoveriesPerAnswer + 5 {
		tab.setLog(fmt.Sprint("l", i), &logRecord{Name: fmt.Sprint("n", i), Replicas: []replicaRecord{
			{ReplicaID: fmt.Sprintf("r%02d", i), DaemonID: "d", State: ReplicaLearner},
		}}, 1)
	}
	seen := map[string]bool{}
	for range 200 {
		steps := tab.steps("d", time.Minute)
		if len(steps) != recoveriesPerAnswer {
			t.Fatalf("%d steps at once", len(steps))
		}
		for _, s := range steps {
			seen[s.LogID] = true
		}
	}
	if len(seen) != recoveriesPerAnswer+5 {
		t.Errorf("only %d logs are ever handed out", len(seen))
	}
}

// A writer that has lost its lease has some time to come back.
func TestRecoveryWaitsForAWriterThatIsCutOff(t *testing.T) {
	t.Parallel()
	tab := newTables()
	crashed, recovering := &logRow{rec: &logRecord{Epoch: 3, ClosedEpoch: 2, Writer: &Writer{}}}, &logRow{rec: &logRecord{Epoch: 3, Writer: &Writer{Recovering: true}}}
	closed := &logRow{rec: &logRecord{Epoch: 3, ClosedEpoch: 3, Writer: &Writer{}}}
	for name, c := range map[string]struct {
		row   *logRow
		after time.Duration
		want  bool
	}{
		"crashed, too soon":  {crashed, time.Hour, false},
		"crashed, in time":   {crashed, 0, true},
		"closed":             {closed, time.Hour, true},
		"agent that crashed": {recovering, time.Hour, true},
	} {
		if got := tab.recoverable(c.row, c.after); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	tab.made = time.Now().Add(-2 * time.Hour)
	if !tab.recoverable(crashed, time.Hour) {
		t.Error("a lease that ended long ago")
	}
	crashed.lost = time.Now()
	if tab.recoverable(crashed, time.Hour) {
		t.Error("a lease that has just ended")
	}
}

func TestALearnerDegradesNothing(t *testing.T) {
	t.Parallel()
	s := shared.store
	p := newPatient(t, s, 0)
	spare := daemonReq(t)
	spare.Labels["mark"] = p.mark
	if _, err := s.Register(t.Context(), spare); err != nil {
		t.Fatal(err)
	}
	learner := learnerOf(t, p.start(t, spare.DaemonID))
	// Its region is made by the writer: until then it is not missing, and once
	// it is there it is kept.
	spare.Incarnation++
	if got, err := s.Register(t.Context(), spare); err != nil || len(got.Missing) != 0 {
		t.Errorf("registered without its region: %+v, %v", got, err)
	}
	spare.Incarnation++
	spare.Replicas = []ReplicaSummary{{ReplicaID: learner.ReplicaID, LogID: p.LogID, Bytes: p.ReplicaBytes}}
	if got, err := s.Register(t.Context(), spare); err != nil || len(got.Replicas) != 1 || got.Replicas[0].Verdict != VerdictKeep {
		t.Errorf("registered with its region: %+v, %v", got, err)
	}
	expire(t, s, prefixLive+spare.DaemonID)
	if got, _ := s.View().Log(p.Name); got.State != LogClosed {
		t.Errorf("with the learner's daemon down the log is %s", got.State)
	}
	expire(t, s, prefixLive+p.Replicas[1].DaemonID)
	if got, _ := s.View().Log(p.Name); got.State != LogDegraded {
		t.Errorf("with a replica's daemon down the log is %s", got.State)
	}
}

// Records from before the rules were kept mean the defaults.
func TestOldRecordsHaveDefaultRules(t *testing.T) {
	t.Parallel()
	rec, err := decode[logRecord]("k", []byte(`{"v":1,"name":"n","replicas":[{"replica_id":"r","daemon_id":"d","state":"present"}]}`))
	if err != nil || !reflect.DeepEqual(rec.Placement, PlacementRules{}) {
		t.Errorf("%+v, %v", rec, err)
	}
	if err := (&PlacementRules{FailureDomain: "planet"}).check(); !errors.Is(err, ErrInvalid) {
		t.Errorf("a domain that is none: %v", err)
	}
}
