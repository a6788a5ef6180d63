package store

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"
)

func TestSetReplicasComparesEverything(t *testing.T) {
	t.Parallel()
	s := shared.store
	l := makeLog(t, s)
	open(t, s, l.Name)
	a := open(t, s, l.Name, func(r *OpenLogRequest) { r.Takeover = true })
	r0, r1 := l.Replicas[0].ReplicaID, l.Replicas[1].ReplicaID
	good := SetReplicasRequest{Log: l.LogID, Epoch: 2, Nonce: a.Nonce, SetVersion: 1, Present: []string{r0}}
	for _, tc := range []struct {
		name string
		edit func(r *SetReplicasRequest)
		want error
	}{
		{"good", func(*SetReplicasRequest) {}, nil},
		{"again", func(*SetReplicasRequest) {}, nil},
		{"another", func(r *SetReplicasRequest) { r.Present = []string{r0, r1} }, nil},
		{"lower epoch", func(r *SetReplicasRequest) { r.Epoch = 1 }, ErrSuperseded},
		{"no epoch", func(r *SetReplicasRequest) { r.Epoch, r.Nonce = 0, "" }, ErrInvalid},
		{"higher epoch", func(r *SetReplicasRequest) { r.Epoch = 3 }, ErrEpochAhead},
		{"another life's nonce", func(r *SetReplicasRequest) { r.Nonce = "0123456789abcdef" }, ErrSuperseded},
		{"another set", func(r *SetReplicasRequest) { r.SetVersion = 2 }, ErrConflict},
		{"not a replica", func(r *SetReplicasRequest) { r.Present = []string{r0, uuid.NewString()} }, ErrInvalid},
		{"no learner", func(r *SetReplicasRequest) { r.Present = []string{uuid.NewString()} }, ErrAbandoned},
		{"a condemned that is none", func(r *SetReplicasRequest) { r.Present, r.Condemned = nil, []string{r0} }, ErrInvalid},
		{"condemned and present", func(r *SetReplicasRequest) { r.Condemned = []string{uuid.NewString()} }, ErrInvalid},
		{"two condemned", func(r *SetReplicasRequest) { r.Present, r.Condemned = nil, []string{r0, r1} }, ErrInvalid},
		{"nothing", func(r *SetReplicasRequest) { r.Present = nil }, ErrInvalid},
		{"unknown log", func(r *SetReplicasRequest) { r.Log = uuid.NewString() }, ErrNotFound},
	} {
		r := good
		tc.edit(&r)
		if _, err := s.SetReplicas(t.Context(), r); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	got, _ := s.View().Log(l.LogID)
	states := []ReplicaState{got.Replicas[0].State, got.Replicas[1].State, got.Replicas[2].State}
	if want := []ReplicaState{ReplicaPresent, ReplicaPresent, ReplicaAllocated}; !slices.Equal(states, want) || got.SetVersion != 1 {
		t.Errorf("states %v, set version %d", states, got.SetVersion)
	}
	open(t, s, l.Name, func(r *OpenLogRequest) { r.Takeover = true })
	good.Present = []string{l.Replicas[2].ReplicaID}
	if _, err := s.SetReplicas(t.Context(), good); !errors.Is(err, ErrSuperseded) {
		t.Errorf("a writer that was taken over from: %v", err)
	}
}

func TestDeleteNeverOpenedLogFreesAtOnce(t *testing.T) {
	t.Parallel()
	s := shared.store
	l := makeLog(t, s)
	if err := s.DeleteLog(t.Context(), l.LogID, l.ModRevision-1); !errors.Is(err, ErrPrecondition) {
		t.Errorf("wrong revision: %v", err)
	}
	if err := s.DeleteLog(t.Context(), l.LogID, l.ModRevision); err != nil {
		t.Fatal(err)
	}
	for _, r := range l.Replicas {
		if got := reserved(t, s, r.DaemonID); got != 0 {
			t.Errorf("%d bytes still reserved on %s", got, r.DaemonID)
		}
	}
	if _, ok := s.View().Log(l.Name); ok {
		t.Error("it is still in the view")
	}
	if err := s.DeleteLog(t.Context(), l.LogID, 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("twice: %v", err)
	}
	if err := s.DeleteLog(t.Context(), l.Name, 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("by its old name: %v", err)
	}
}

func TestDeletedLogStaysReservedUntilTheDaemonsConfirm(t *testing.T) {
	t.Parallel()
	s := shared.store
	l := makeLog(t, s)
	a := open(t, s, l.Name)
	if err := s.DeleteLog(t.Context(), l.LogID, 0); !errors.Is(err, ErrLogInUse) {
		t.Errorf("while a writer lives: %v", err)
	}
	if err := s.CloseLog(t.Context(), ref(a)); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteLog(t.Context(), l.Name, 0); err != nil {
		t.Fatal(err)
	}
	first := l.Replicas[0]
	beat := func(results ...StepResult) []Step {
		t.Helper()
		a, err := s.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: first.DaemonID, Incarnation: 1, Free: 1 << 30, Results: results})
		if err != nil {
			t.Fatal(err)
		}
		return a.Steps
	}
	steps := beat()
	want := []Step{{OperatorID: "remove-replica-" + first.ReplicaID, Kind: StepRemoveReplica, LogID: l.LogID, ReplicaID: first.ReplicaID, SetVersion: l.SetVersion}}
	if !slices.Equal(steps, want) || reserved(t, s, first.DaemonID) != l.ReplicaBytes {
		t.Fatalf("steps %+v", steps)
	}
	failed := StepResult{OperatorID: steps[0].OperatorID, Kind: steps[0].Kind, ReplicaID: first.ReplicaID, Error: "busy"}
	if steps = beat(failed); len(steps) != 1 || reserved(t, s, first.DaemonID) != l.ReplicaBytes {
		t.Errorf("after a failure: %+v", steps)
	}
	done := failed
	done.Done, done.Error = true, ""
	stranger := done
	stranger.ReplicaID = uuid.NewString()
	if steps = beat(done, stranger, done); len(steps) != 0 || reserved(t, s, first.DaemonID) != 0 {
		t.Errorf("after the word that it is gone: %+v, %d reserved", steps, reserved(t, s, first.DaemonID))
	}
	beat(done)
	if got := reserved(t, s, first.DaemonID); got != 0 {
		t.Errorf("said twice: %d reserved", got)
	}
	if got := reserved(t, s, l.Replicas[1].DaemonID); got != l.ReplicaBytes {
		t.Errorf("another daemon's bytes: %d", got)
	}
}
