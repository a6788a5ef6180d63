package store

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	caller "github.com/gravenio/graven/identity"
	"github.com/gravenio/graven/planner"
)

// telling is an action and the one entry that it makes.
type telling struct {
	kind JournalKind
	// stage sets up and returns the action and the ID of the log or the daemon that
	// the entry is about, "" if it is about neither.
	stage func(t *testing.T, s *Store) (do func(ctx context.Context) error, about string)
	// alone says that the servers do it by themselves: there is nobody who did.
	alone bool
	// in is the file and the name of another test that shows the entry, instead of
	// a stage.
	in [2]string
}

func tellings() []telling {
	return slices.Concat(tellingsOfLogs(), tellingsOfReplacements(), tellingsOfDaemons(), tellingsOfTheCluster())
}

func tellingsOfLogs() []telling {
	type acts = func(context.Context) error
	opens := func(first, then func(*OpenLogRequest)) func(t *testing.T, s *Store) (acts, string) {
		return func(t *testing.T, s *Store) (acts, string) {
			l := makeLog(t, s)
			if first != nil {
				open(t, s, l.LogID, first)
			}
			r := OpenLogRequest{Log: l.LogID, Host: "h"}
			then(&r)
			return func(ctx context.Context) error { return granted(s.OpenLog(ctx, r)) }, l.LogID
		}
	}
	tells := func(kind JournalKind) func(t *testing.T, s *Store) (acts, string) {
		return func(t *testing.T, s *Store) (acts, string) {
			r := lossOf(open(t, s, makeLog(t, s).LogID))
			r.Kind = kind
			return func(ctx context.Context) error { return s.RecordLogEvent(ctx, r) }, r.Writer.Log
		}
	}
	plain := func(*OpenLogRequest) {}
	return []telling{
		{kind: JournalLogCreated, stage: func(t *testing.T, s *Store) (acts, string) {
			r := on(t, daemons(t, s, 1)...)
			return func(ctx context.Context) error { return made(s.CreateLog(ctx, r)) }, r.Name
		}},
		{kind: JournalLogDeleted, stage: func(t *testing.T, s *Store) (acts, string) {
			l := makeLog(t, s)
			return func(ctx context.Context) error { return s.DeleteLog(ctx, l.Name, 0) }, l.LogID
		}},
		{kind: JournalLogOpened, stage: opens(nil, plain)},
		{kind: JournalLogTakenOver, stage: opens(plain, func(r *OpenLogRequest) { r.Takeover = true })},
		{kind: JournalLogRecovering, stage: opens(nil, func(r *OpenLogRequest) { r.Recovering = true })},
		{kind: JournalLogRecovered, stage: tells(JournalLogRecovered)},
		{kind: JournalDataLossAccepted, stage: tells(JournalDataLossAccepted)},
		{kind: JournalSetAdopted, in: [2]string{"adopt_test.go", "TestAnOpenTakesTheSetFromSeals"}},
	}
}

func tellingsOfReplacements() []telling {
	type acts = func(context.Context) error
	return []telling{
		{kind: JournalReplacementStarted, stage: func(t *testing.T, s *Store) (acts, string) {
			l := newPatient(t, s, 1)
			r := StartReplacementRequest{Log: l.LogID, Replica: l.Replicas[0].ReplicaID}
			return func(ctx context.Context) error { return made(s.StartReplacement(ctx, r)) }, l.LogID
		}},
		{kind: JournalReplacementDone, stage: func(t *testing.T, s *Store) (acts, string) {
			l := newPatient(t, s, 1)
			r := promoteOf(open(t, s, l.LogID), learnerOf(t, l.start(t, "")).ReplicaID)
			return func(ctx context.Context) error { return made(s.SetReplicas(ctx, r)) }, l.LogID
		}},
		{kind: JournalReplacementAbandoned, stage: func(t *testing.T, s *Store) (acts, string) {
			l := newPatient(t, s, 1)
			l.start(t, "")
			return func(ctx context.Context) error { return s.AbandonReplacement(ctx, l.LogID, 0) }, l.LogID
		}},
	}
}

func tellingsOfDaemons() []telling {
	type acts = func(context.Context) error
	drains := func(to bool) func(t *testing.T, s *Store) (acts, string) {
		return func(t *testing.T, s *Store) (acts, string) {
			r := daemon(t, s)
			if err := drain(t.Context(), s, r.DaemonID, !to, 0); err != nil {
				t.Fatal(err)
			}
			return func(ctx context.Context) error { return drain(ctx, s, r.DaemonID, to, 0) }, r.DaemonID
		}
	}
	goes := func(lost bool) func(t *testing.T, s *Store) (acts, string) {
		return func(t *testing.T, s *Store) (acts, string) {
			r := daemon(t, s)
			expire(t, s, prefixLive+r.DaemonID)
			return func(ctx context.Context) error { return s.DeleteDaemon(ctx, r.DaemonID, lost, 0) }, r.DaemonID
		}
	}
	return []telling{
		{kind: JournalDaemonRegistered, stage: func(t *testing.T, s *Store) (acts, string) {
			r := daemonReq(t)
			return func(ctx context.Context) error { return handedOut(s.Register(ctx, r)) }, r.DaemonID
		}},
		{kind: JournalDaemonRefused, stage: func(t *testing.T, s *Store) (acts, string) {
			r := daemon(t, s)
			r.PoolID = uuid.NewString()
			return func(ctx context.Context) error {
				return answered(handedOut(s.Register(ctx, r)), ErrPoolWiped)
			}, r.DaemonID
		}},
		{kind: JournalDaemonDraining, stage: drains(true)},
		{kind: JournalDaemonUndrained, stage: drains(false)},
		{kind: JournalDaemonDeleted, stage: goes(false)},
		{kind: JournalDaemonLost, stage: goes(true)},
	}
}

func tellingsOfTheCluster() []telling {
	type acts = func(context.Context) error
	pauses := func(to bool) func(t *testing.T, s *Store) (acts, string) {
		return func(t *testing.T, s *Store) (acts, string) {
			if err := limited(s.PauseOperators(t.Context(), !to)); err != nil {
				t.Fatal(err)
			}
			return func(ctx context.Context) error { return limited(s.PauseOperators(ctx, to)) }, ""
		}
	}
	return []telling{
		{kind: JournalOperatorsPaused, stage: pauses(true)},
		{kind: JournalOperatorsResumed, stage: pauses(false)},
		{kind: JournalOperatorLimits, stage: func(_ *testing.T, s *Store) (acts, string) {
			l := DefaultLimits()
			l.Cluster++
			return func(ctx context.Context) error { return limited(s.SetOperatorLimits(ctx, l, nil)) }, ""
		}},
		{kind: JournalOperatorCancelled, stage: func(t *testing.T, s *Store) (acts, string) {
			o := recovery(makeLog(t, s), planner.Running)
			if err := handed(s.client.Do(t.Context(), put(prefixOperators+o.OperatorID, operatorRecord{version: current(), Operator: o}))); err != nil {
				t.Fatal(err)
			}
			return func(ctx context.Context) error { return s.CancelOperator(ctx, o.OperatorID) }, o.LogID
		}},
		{kind: JournalGrantKeyRotated, stage: func(t *testing.T, s *Store) (acts, string) {
			daemon(t, s) // lacks the new key, so that nothing but its publication is told
			return func(ctx context.Context) error { return rotated(s.RotateKeys(ctx)) }, ""
		}},
		{kind: JournalEtcdRestored, alone: true, stage: func(t *testing.T, s *Store) (acts, string) {
			return func(ctx context.Context) error {
				setBack(t, "other", s)
				return rotated(s.KeyRing(ctx)) // it is found out by whoever asks next
			}, ""
		}},
	}
}

func granted(_ *OpenAnswer, err error) error { return err }

// TestTheJournalTellsOfEverything: each kind of the contract has an action that makes
// one entry of it, with who did it, from where and in which request.
func TestTheJournalTellsOfEverything(t *testing.T) {
	t.Parallel()
	s := startOwn(t, own(t, t.TempDir()), Options{CallTimeout: time.Minute})
	all := tellings()
	for _, kind := range contractKinds(t) {
		if !slices.ContainsFunc(all, func(r telling) bool { return r.kind == kind }) {
			t.Errorf("the contract has entries of kind %s, and nothing here shows one", kind)
		}
	}
	for _, r := range all {
		t.Run(string(r.kind), func(t *testing.T) { // one after the other: each sees all that is new
			if r.stage == nil {
				shownIn(t, r.in[0], r.in[1], r.kind)
				return
			}
			r.play(t, s)
		})
	}
}

func (r telling) play(t *testing.T, s *Store) {
	t.Helper()
	do, about := r.stage(t, s)
	before, _ := s.view.Journal(JournalFilter{})
	ctx := caller.With(t.Context(), caller.Principal{Name: "ann", Roles: []caller.Role{caller.RoleAdmin}, Via: caller.ViaCertificate})
	if err := do(WithOrigin(ctx, Origin{Remote: "192.0.2.1:1", RequestID: "q"})); err != nil {
		t.Fatal(err)
	}
	after := journalUntil(t, s, JournalFilter{}, func(es []JournalEntry) bool { return len(es) > len(before) })
	if len(after) != len(before)+1 {
		t.Fatalf("it made %d entries: %+v", len(after)-len(before), after[:len(after)-len(before)])
	}
	e := after[0]
	who := []string{e.Who, e.Via, e.From, e.RequestID}
	want := []string{"ann", "certificate", "192.0.2.1:1", "q"}
	if r.alone {
		want = []string{"", "", "", ""}
	}
	if e.Kind != r.kind || e.Detail == "" || e.At.IsZero() || !slices.Equal(who, want) {
		t.Errorf("it made %+v, want one of kind %s by %q", e, r.kind, want)
	}
	if !slices.Contains([]string{e.LogID, e.LogName, e.DaemonID}, about) {
		t.Errorf("it is about log %q and daemon %q, not %q", e.LogID, e.DaemonID, about)
	}
}

// shownIn says whether there is such a test, and whether it knows of the kind.
func shownIn(t *testing.T, file, test string, kind JournalKind) {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, body, ok := strings.Cut(string(src), "\nfunc "+test+"(")
	body, _, _ = strings.Cut(body, "\n}\n")
	var name string
	for _, word := range strings.Split(string(kind), "-") {
		name += strings.ToUpper(word[:1]) + word[1:]
	}
	if !ok || !strings.Contains(body, string(kind)) && !strings.Contains(body, "Journal"+name) {
		t.Errorf("%s of %s does not show entries of kind %s", test, file, kind)
	}
}

// contractKinds are the kinds of entries that the contract has.
func contractKinds(t *testing.T) (kinds []JournalKind) {
	t.Helper()
	text, err := os.ReadFile("../openapi/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?s)\n    JournalKind:\n.*?\n      enum: \[([a-z, -]+)\]`).FindSubmatch(text)
	if m == nil {
		t.Fatal("the contract has no JournalKind")
	}
	for _, k := range strings.Split(string(m[1]), ", ") {
		kinds = append(kinds, JournalKind(k))
	}
	return kinds
}
