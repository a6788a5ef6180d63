package store

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/gravenio/graven/placement"
)

// TestALostDaemonNeverDeletesAnything: leases end, the log and its books stay.
func TestALostLeaseDeletesNothing(t *testing.T) {
	t.Parallel()
	s := shared.store
	l := makeLog(t, s)
	open(t, s, l.Name)
	for _, r := range l.Replicas {
		expire(t, s, prefixLive+r.DaemonID)
	}
	expire(t, s, prefixWriters+l.LogID)
	got, ok := s.View().Log(l.Name)
	if !ok || got.State != LogDegraded || len(got.Replicas) != 3 || got.Replicas[0].DaemonState != DaemonDown {
		t.Errorf("the log: %+v", got)
	}
	for _, r := range l.Replicas {
		if reserved(t, s, r.DaemonID) != l.ReplicaBytes {
			t.Errorf("%s: bytes were released", r.DaemonID)
		}
	}
	// A writer can still open: addresses are the last known ones.
	a := open(t, s, l.Name)
	if a.Replicas[0].Live || a.Replicas[0].TCPPort == 0 {
		t.Errorf("endpoint of a daemon that is down: %+v", a.Replicas[0])
	}
}

func TestPlacementFollowsTheView(t *testing.T) {
	t.Parallel()
	s := shared.store
	mark := "m" + uuid.NewString()[:8]
	var ids []string
	for range 3 {
		ids = append(ids, daemon(t, s, func(r *RegisterRequest) { r.Labels["mark"] = mark }).DaemonID)
	}
	want := placement.Request{Replicas: 3, ReplicaBytes: 1 << 20, Labels: map[string]string{"mark": mark}}
	place := func() ([]string, error) {
		got, _, err := s.View().Place(want, 1)
		slices.Sort(got)
		return got, err
	}
	slices.Sort(ids)
	if got, err := place(); err != nil || !slices.Equal(got, ids) {
		t.Fatalf("Place = %v, %v; want %v", got, err, ids)
	}
	fails := func(rule placement.Rule) {
		t.Helper()
		_, err := place()
		var e *placement.NoPlacementError
		if !errors.As(err, &e) || e.Removed[rule] == 0 {
			t.Errorf("%v, want the rule %s", err, rule)
		}
	}
	if err := drain(t.Context(), s, ids[0], true, 0); err != nil {
		t.Fatal(err)
	}
	fails(placement.RuleDraining)
	if err := drain(t.Context(), s, ids[0], false, 0); err != nil {
		t.Fatal(err)
	}
	says := func(status string) error {
		_, err := s.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: ids[0], Incarnation: 1, Free: 1 << 30, Health: Health{Status: status}})
		return err
	}
	if err := says("read-only"); err != nil {
		t.Fatal(err)
	}
	fails(placement.RuleReadOnly)
	// Who was chosen by a view that is behind is refused by etcd's word.
	_, err := s.CreateLog(t.Context(), CreateLogRequest{Name: logName(t), Daemons: ids, AckQuorum: 2, CapacityBytes: 1 << 20})
	if unfit, ok := errors.AsType[*UnfitError](err); !ok || unfit.DaemonID != ids[0] || unfit.Rule != string(placement.RuleReadOnly) {
		t.Errorf("a log on a daemon that takes no writes: %v", err)
	}
	if err := says("degraded"); err != nil { // it is slow, and takes them
		t.Fatal(err)
	}
	l, err := s.CreateLog(t.Context(), CreateLogRequest{Name: logName(t), Daemons: ids, AckQuorum: 2, CapacityBytes: 1<<30 - 1<<20})
	if err != nil {
		t.Fatal(err)
	}
	fails(placement.RuleSpace)
	if err := s.DeleteLog(t.Context(), l.LogID, 0); err != nil {
		t.Fatal(err)
	}
	if got, err := place(); err != nil || !slices.Equal(got, ids) {
		t.Errorf("after the delete: %v, %v", got, err)
	}
	expire(t, s, prefixLive+ids[1])
	fails(placement.RuleDown)
}

func TestErrorsReadWell(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		&InvalidError{"f", "rule"}, &InUseError{LogID: "l"}, &SupersededError{"l", 3}, &ReplacingError{"l", "d1", "d2"},
		&RolledBackError{"d", 1, 2}, &DaemonError{"d", "why", ErrDaemonBusy}, &UnfitError{DaemonID: "d", Rule: "space"},
	} {
		if text := fmt.Sprint(err); len(text) < 10 || errors.Unwrap(err) == nil {
			t.Errorf("%T: %q", err, text)
		}
	}
}
