package store

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/gravenio/graven/planner"
)

// attemptsOf is how often an operator was begun.
func attemptsOf(t *testing.T, id string) int {
	t.Helper()
	rec, _ := recordOf[operatorRecord](t, prefixOperators+id)
	if rec == nil {
		return 0
	}
	return rec.Attempts
}

func lostOfOperators() []lostAnswer {
	return []lostAnswer{
		{action: "CancelOperator", stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			o := recovery(makeLog(t, s), planner.Running)
			elected(t).has(t, o)
			return func(ctx context.Context, s *Store) (any, error) { return nil, s.CancelOperator(ctx, o.OperatorID) }, func() error {
				return errors.Join(equal("state", stateOf(t, o.OperatorID), planner.Cancelled),
					equal("entries", entriesOf(t, s, JournalOperatorCancelled, o.LogID), 1))
			}
		}},
		{action: "CancelOperator", how: "and its learner", stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			l, _, learner := filling(t)
			id := "replace-" + l.Replicas[0].ReplicaID
			return func(ctx context.Context, s *Store) (any, error) { return nil, s.CancelOperator(ctx, id) }, func() error {
				return errors.Join(equal("state", stateOf(t, id), planner.Cancelled), equal("learners", learners(t, l.LogID), 0),
					books(t, s, learner.DaemonID, l.ReplicaBytes), equal("entries", entriesOf(t, s, JournalOperatorCancelled, l.LogID), 1))
			}
		}},
		{action: "operator result", stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			o := recovery(makeLog(t, s), planner.Running)
			elected(t).has(t, o)
			return func(ctx context.Context, s *Store) (any, error) {
				return nil, s.takeTasks(ctx, o.DaemonID, []StepResult{{OperatorID: o.OperatorID, Kind: StepRecoverLog, Done: true}})
			}, func() error { return equal("state", stateOf(t, o.OperatorID), planner.Done) }
		}},
		{action: "SetOperatorLimits", stage: func(t *testing.T, _ *Store) (lostCall, func() error) {
			shared.settings.Lock()
			t.Cleanup(shared.settings.Unlock)
			l := DefaultLimits()
			l.Cluster = 104
			return func(ctx context.Context, s *Store) (any, error) { return s.SetOperatorLimits(ctx, l, nil) }, func() error {
				rec, _ := recordOf[plannerRecord](t, keyPlanner)
				return equal("limit", rec.Limits.Cluster, l.Cluster)
			}
		}},
		{action: "SetOperatorLimits", how: "a pause", stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			shared.settings.Lock()
			t.Cleanup(func() {
				defer shared.settings.Unlock()
				if err := limited(s.PauseOperators(context.WithoutCancel(t.Context()), false)); err != nil {
					t.Error(err)
				}
			})
			before := entriesOf(t, s, JournalOperatorsPaused, "")
			return func(ctx context.Context, s *Store) (any, error) { return s.PauseOperators(ctx, true) }, func() error {
				rec, _ := recordOf[plannerRecord](t, keyPlanner)
				return errors.Join(equal("paused", rec.Paused, true), equal("entries", entriesOf(t, s, JournalOperatorsPaused, ""), before+1))
			}
		}},
	}
}

// led is a call of what the elected server writes, by either of two that think
// themselves elected.
func led(l *leader, do func(ctx context.Context, l *leader) error) lostCall {
	return func(ctx context.Context, s *Store) (any, error) {
		other := *l
		other.s = s
		return nil, do(ctx, &other)
	}
}

func lostOfLeaders() []lostAnswer {
	return []lostAnswer{
		{action: "mark down", stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			r, since := daemonReq(t), time.Now().UTC()
			rec := (&registering{req: r}).newRecord("", nil)
			rec.DownSince = since.Add(-time.Hour) // so that the servers' own leader leaves it alone
			key := prefixDaemons + r.DaemonID
			if err := byHand(t.Context(), key, rec); err != nil {
				t.Fatal(err)
			}
			_, e := recordOf[daemonRecord](t, key)
			return led(elected(t), func(ctx context.Context, l *leader) error {
					return l.mark(ctx, downMark{id: r.DaemonID, rec: rec, mod: e.mod, since: since})
				}), func() error {
					now, _ := recordOf[daemonRecord](t, key)
					return errors.Join(equal("down since", now.DownSince.Equal(since), true), equal("writes", versionOf(t, s, key), 2))
				}
		}},
		{action: "begin operator", stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			o, lead := recovery(makeLog(t, s), planner.Planned), elected(t)
			step := lead.has(t, o)
			return led(lead, func(ctx context.Context, l *leader) error { return l.start(ctx, step) }), func() error {
				return errors.Join(equal("state", stateOf(t, o.OperatorID), planner.Running), equal("attempts", attemptsOf(t, o.OperatorID), 1))
			}
		}},
		{action: "StartReplacement", how: "planned", stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			l, lead := newPatient(t, s, 1), elected(t)
			r := l.Replicas[0]
			step := lead.has(t, Operator{
				OperatorID: "drain-" + r.ReplicaID, Kind: planner.Drain, Reason: planner.Draining, State: planner.Planned,
				LogID: l.LogID, ReplicaID: r.ReplicaID, DaemonID: r.DaemonID,
			})
			step.To = l.spare[0]
			return led(lead, func(ctx context.Context, l *leader) error { return l.start(ctx, step) }), func() error {
				return errors.Join(equal("learners", learners(t, l.LogID), 1), books(t, s, l.spare[0], l.ReplicaBytes),
					equal("attempts", attemptsOf(t, step.ID), 1))
			}
		}},
		{action: "queue operator", stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			o, lead := recovery(makeLog(t, s), planner.Planned), elected(t)
			step := lead.has(t, o)
			step.WaitsFor = "something else"
			return led(lead, func(ctx context.Context, l *leader) error { return l.queue(ctx, &planner.View{}, step) }), func() error {
				rec, _ := recordOf[operatorRecord](t, prefixOperators+o.OperatorID)
				return errors.Join(equal("waits for", rec.WaitsFor, step.WaitsFor), equal("writes", versionOf(t, s, prefixOperators+o.OperatorID), 2))
			}
		}},
		{action: "drop operator", stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			o, lead := recovery(makeLog(t, s), planner.Planned), elected(t)
			lead.has(t, o)
			return led(lead, func(ctx context.Context, l *leader) error { return l.drop(ctx, o.OperatorID) }), func() error {
				return equal("state", stateOf(t, o.OperatorID), "")
			}
		}},
		{action: "end operator", stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			l, _, learner := filling(t)
			id := "replace-" + l.Replicas[0].ReplicaID
			return led(elected(t), func(ctx context.Context, l *leader) error {
					return l.end(ctx, planner.End{ID: id, State: planner.Failed, Why: "no progress"})
				}), func() error {
					return errors.Join(equal("state", stateOf(t, id), planner.Failed), equal("learners", learners(t, l.LogID), 0),
						books(t, s, learner.DaemonID, l.ReplicaBytes), equal("entries", entriesOf(t, s, JournalReplacementAbandoned, l.LogID), 1))
				}
		}},
	}
}
