package store

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/gravenio/graven/planner"
)

// elected is a leader on the store of the edges, in a term of its own.
func elected(t *testing.T) *leader {
	t.Helper()
	key := keyElection + "/" + uuid.NewString()
	resp, err := shared.store.client.Put(t.Context(), key, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = gone(context.WithoutCancel(t.Context()), key) })
	return &leader{s: shared.edges, term: &term{key: key, rev: resp.Header.Revision}, mods: make(map[string]int64)}
}

// deposed ends its term.
func (l *leader) deposed(t *testing.T) func() error {
	return func() error { return gone(t.Context(), l.term.key) }
}

// has makes an operator's record by hand, which the leader has planned on.
func (l *leader) has(t *testing.T, o Operator) planner.Step {
	t.Helper()
	o.CreatedAt = time.Now()
	key := prefixOperators + o.OperatorID
	if err := byHand(t.Context(), key, operatorRecord{version: current(), Operator: o}); err != nil {
		t.Fatal(err)
	}
	_, e := recordOf[operatorRecord](t, key)
	l.mods[o.OperatorID] = e.mod
	if err := shared.store.View().WaitRevision(t.Context(), l.mods[o.OperatorID]); err != nil {
		t.Fatal(err)
	}
	if err := shared.edges.View().WaitRevision(t.Context(), l.mods[o.OperatorID]); err != nil {
		t.Fatal(err)
	}
	return planner.Step{ID: o.OperatorID, Kind: o.Kind, Reason: o.Reason, LogID: o.LogID, ReplicaID: o.ReplicaID, DaemonID: o.DaemonID}
}

// recovery is an operator that a daemon of the log carries out.
func recovery(l *Log, state planner.State) Operator {
	return Operator{
		OperatorID: "recover-" + l.LogID, Kind: planner.Recover, Reason: planner.NoWriter, State: state, LogID: l.LogID,
		ReplicaID: l.Replicas[0].ReplicaID, DaemonID: l.Replicas[0].DaemonID,
	}
}

func stateOf(t *testing.T, id string) planner.State {
	t.Helper()
	rec, _ := recordOf[operatorRecord](t, prefixOperators+id)
	if rec == nil {
		return ""
	}
	return rec.State
}

func cancelled(t *testing.T, id string) func() error {
	return func() error { return shared.store.CancelOperator(t.Context(), id) }
}

// givenUp is the end of a daemon whose host never returns.
func givenUp(t *testing.T, id string) func() error {
	expire(t, shared.store, prefixLive+id)
	return func() error { return shared.store.DeleteDaemon(t.Context(), id, true, 0) }
}

// condemnedOn says that bytes are waited for of a daemon that is no more.
func condemnedOn(t *testing.T, daemonID, replicaID string) error {
	rec, _ := recordOf[condemnedRecord](t, condemnedKey(daemonID, replicaID))
	return equal("condemned on a daemon that was given up", rec != nil, false)
}

// filling is an open log with a learner.
func filling(t *testing.T) (*patient, *OpenAnswer, Replica) {
	t.Helper()
	l := newPatient(t, shared.store, 1)
	a := open(t, shared.store, l.LogID)
	return l, a, learnerOf(t, l.start(t, ""))
}

// lostRaces are those against a daemon that is given up.
func lostRaces() []race {
	s := shared.store
	return []race{
		{"AbandonReplacement", "its daemon given up", tableDaemons, func(t *testing.T, p *plan) error {
			l, _, learner := filling(t)
			p.before = givenUp(t, learner.DaemonID)
			err := shared.edges.AbandonReplacement(p.in(t.Context()), l.LogID, 0)
			return errors.Join(answered(err, nil), condemnedOn(t, learner.DaemonID, learner.ReplicaID))
		}},
		{"SetReplicas", "its daemon given up", tableDaemons, func(t *testing.T, p *plan) error {
			_, a, learner := filling(t)
			p.before = givenUp(t, learner.DaemonID)
			_, err := shared.edges.SetReplicas(p.in(t.Context()), giveUpOf(a, learner.ReplicaID))
			return errors.Join(answered(err, nil), condemnedOn(t, learner.DaemonID, learner.ReplicaID))
		}},
		{"DeleteLog", "its daemon given up", tableDaemons, func(t *testing.T, p *plan) error {
			l := makeLog(t, s)
			if err := s.CloseLog(t.Context(), ref(open(t, s, l.LogID))); err != nil {
				t.Fatal(err)
			}
			r := l.Replicas[0]
			p.before = givenUp(t, r.DaemonID)
			err := shared.edges.DeleteLog(p.in(t.Context()), l.LogID, 0)
			return errors.Join(answered(err, nil), condemnedOn(t, r.DaemonID, r.ReplicaID))
		}},
		{"GiveUpDaemon", "drained meanwhile", tableDaemons, func(t *testing.T, p *plan) error {
			r := away(t)
			d, _ := s.View().Daemon(r.DaemonID)
			p.before = func() error { return drain(t.Context(), s, r.DaemonID, true, 0) }
			err := shared.edges.DeleteDaemon(p.in(t.Context()), r.DaemonID, true, d.ModRevision)
			rec, _ := recordOf[daemonRecord](t, prefixDaemons+r.DaemonID)
			return errors.Join(answered(err, ErrPrecondition), equal("deleted", rec == nil, false))
		}},
		{"GiveUpDaemon", "a sign of life", tableLive, func(t *testing.T, p *plan) error {
			r := away(t)
			p.before = func() error {
				return byHand(t.Context(), prefixLive+r.DaemonID, liveRecord{version: current(), Incarnation: 1, Addresses: r.Addresses})
			}
			err := shared.edges.DeleteDaemon(p.in(t.Context()), r.DaemonID, true, 0)
			rec, _ := recordOf[daemonRecord](t, prefixDaemons+r.DaemonID)
			return errors.Join(answered(err, ErrDaemonBusy), equal("deleted", rec == nil, false))
		}},
	}
}

// operatorRaces are those about operators, for people and for daemons.
func operatorRaces() []race {
	s := shared.store
	return []race{
		{"CancelOperator", "promoted meanwhile", tableLogs, func(t *testing.T, p *plan) error {
			l, a, learner := filling(t)
			id := "replace-" + l.Replicas[0].ReplicaID
			p.before = func() error { return made(s.SetReplicas(t.Context(), promoteOf(a, learner.ReplicaID))) }
			err := shared.edges.CancelOperator(p.in(t.Context()), id)
			rec, _ := recordOf[logRecord](t, prefixLogs+l.LogID)
			return errors.Join(answered(err, ErrOperatorEnded), equal("set version", rec.SetVersion, 2), equal("state", stateOf(t, id), planner.Done))
		}},
		{"CancelOperator", "its daemon given up", tableDaemons, func(t *testing.T, p *plan) error {
			l, _, learner := filling(t)
			p.before = givenUp(t, learner.DaemonID)
			err := shared.edges.CancelOperator(p.in(t.Context()), "replace-"+l.Replicas[0].ReplicaID)
			return errors.Join(answered(err, nil), condemnedOn(t, learner.DaemonID, learner.ReplicaID))
		}},
		{"CancelOperator", "done meanwhile", tableOperators, func(t *testing.T, p *plan) error {
			l := makeLog(t, s)
			o := recovery(l, planner.Running)
			elected(t).has(t, o)
			p.before = func() error { return taskDone(t.Context(), o) }
			err := shared.edges.CancelOperator(p.in(t.Context()), o.OperatorID)
			return errors.Join(answered(err, ErrOperatorEnded), equal("state", stateOf(t, o.OperatorID), planner.Done))
		}},
		{"operator result", "cancelled meanwhile", tableOperators, func(t *testing.T, p *plan) error {
			l := makeLog(t, s)
			o := recovery(l, planner.Running)
			elected(t).has(t, o)
			p.before = cancelled(t, o.OperatorID)
			err := shared.edges.takeTasks(p.in(t.Context()), o.DaemonID, []StepResult{{OperatorID: o.OperatorID, Kind: StepRecoverLog, Done: true}})
			return errors.Join(answered(err, nil), equal("state", stateOf(t, o.OperatorID), planner.Cancelled))
		}},
		{"SetOperatorLimits", "other limits meanwhile", tablePlanner, func(t *testing.T, p *plan) error {
			shared.settings.Lock()
			defer shared.settings.Unlock()
			first, second, third := DefaultLimits(), DefaultLimits(), DefaultLimits()
			first.Cluster, second.Cluster, third.Cluster = 101, 102, 103
			set, err := s.SetOperatorLimits(t.Context(), first, nil)
			if err != nil {
				t.Fatal(err)
			}
			p.before = func() error {
				_, err := s.SetOperatorLimits(t.Context(), second, nil)
				return err
			}
			_, err = shared.edges.SetOperatorLimits(p.in(t.Context()), third, &set.ModRevision)
			now, _ := recordOf[plannerRecord](t, keyPlanner)
			return errors.Join(answered(err, ErrPrecondition), equal("limit", now.Limits.Cluster, 102))
		}},
	}
}

// taskDone is a daemon's word that it has carried an operator out.
func taskDone(ctx context.Context, o Operator) error {
	return shared.store.takeTasks(ctx, o.DaemonID, []StepResult{{OperatorID: o.OperatorID, Kind: StepRecoverLog, Done: true}})
}

// leaderRaces are those of what the elected server writes.
func leaderRaces() []race {
	return append(beginRaces(), append(queueRaces(), endRaces()...)...)
}

func beginRaces() []race {
	s := shared.store
	// planned is a replacement that the leader begins.
	planned := func(other func(*testing.T, *leader, string) func() error) func(*testing.T, *plan) error {
		return func(t *testing.T, p *plan) error {
			l, lead := newPatient(t, s, 1), elected(t)
			r := l.Replicas[0]
			o := Operator{OperatorID: "drain-" + r.ReplicaID, Kind: planner.Drain, Reason: planner.Draining, State: planner.Planned, LogID: l.LogID, ReplicaID: r.ReplicaID, DaemonID: r.DaemonID}
			step := lead.has(t, o)
			step.To = l.spare[0]
			p.before = other(t, lead, o.OperatorID)
			err := lead.start(p.in(t.Context()), step)
			return errors.Join(answered(err, ErrConflict), equal("learners", learners(t, l.LogID), 0))
		}
	}
	assigned := func(t *testing.T, p *plan, other func(*leader, *Log, string) func() error) error {
		l, lead := makeLog(t, s), elected(t)
		o := recovery(l, planner.Planned)
		step := lead.has(t, o)
		p.before = other(lead, l, o.OperatorID)
		err := lead.start(p.in(t.Context()), step)
		return errors.Join(answered(err, nil), equal("running", stateOf(t, o.OperatorID) == planner.Running, false))
	}
	return []race{
		{"StartReplacement", "planned by a server that leads no more", tableElection, planned(func(t *testing.T, l *leader, _ string) func() error { return l.deposed(t) })},
		{"StartReplacement", "planned and cancelled meanwhile", tableOperators, planned(func(t *testing.T, _ *leader, id string) func() error { return cancelled(t, id) })},
		{"begin operator", "another leader", tableElection, func(t *testing.T, p *plan) error {
			return assigned(t, p, func(l *leader, _ *Log, _ string) func() error { return l.deposed(t) })
		}},
		{"begin operator", "cancelled meanwhile", tableOperators, func(t *testing.T, p *plan) error {
			return assigned(t, p, func(_ *leader, _ *Log, id string) func() error { return cancelled(t, id) })
		}},
		{"begin operator", "its log deleted", tableLogs, func(t *testing.T, p *plan) error {
			return assigned(t, p, func(_ *leader, l *Log, _ string) func() error {
				return func() error { return s.DeleteLog(t.Context(), l.LogID, 0) }
			})
		}},
		{"begin operator", "its daemon deleted", tableDaemons, func(t *testing.T, p *plan) error {
			return assigned(t, p, func(_ *leader, l *Log, _ string) func() error { return givenUp(t, l.Replicas[0].DaemonID) })
		}},
	}
}

func queueRaces() []race {
	s := shared.store
	queued := func(t *testing.T, p *plan, other func(*leader, string) func() error, want planner.State) error {
		l, lead := makeLog(t, s), elected(t)
		o := recovery(l, planner.Planned)
		step := lead.has(t, o)
		step.WaitsFor = "something else"
		p.before = other(lead, o.OperatorID)
		err := lead.queue(p.in(t.Context()), &planner.View{}, step)
		rec, _ := recordOf[operatorRecord](t, prefixOperators+o.OperatorID)
		return errors.Join(answered(err, nil), equal("state", rec.State, want), equal("rewritten", rec.WaitsFor == step.WaitsFor, false))
	}
	dropped := func(t *testing.T, p *plan, other func(*leader, string) func() error) error {
		l, lead := makeLog(t, s), elected(t)
		o := recovery(l, planner.Planned)
		lead.has(t, o)
		p.before = other(lead, o.OperatorID)
		err := lead.drop(p.in(t.Context()), o.OperatorID)
		return errors.Join(answered(err, nil), equal("dropped", stateOf(t, o.OperatorID) == "", false))
	}
	return []race{
		{"queue operator", "another leader", tableElection, func(t *testing.T, p *plan) error {
			return queued(t, p, func(l *leader, _ string) func() error { return l.deposed(t) }, planner.Planned)
		}},
		{"queue operator", "cancelled meanwhile", tableOperators, func(t *testing.T, p *plan) error {
			return queued(t, p, func(_ *leader, id string) func() error { return cancelled(t, id) }, planner.Cancelled)
		}},
		{"drop operator", "another leader", tableElection, func(t *testing.T, p *plan) error {
			return dropped(t, p, func(l *leader, _ string) func() error { return l.deposed(t) })
		}},
		{"drop operator", "cancelled meanwhile", tableOperators, func(t *testing.T, p *plan) error {
			return dropped(t, p, func(_ *leader, id string) func() error { return cancelled(t, id) })
		}},
	}
}

func endRaces() []race {
	s := shared.store
	give := func(id string) planner.End { return planner.End{ID: id, State: planner.Failed, Why: "no progress"} }
	return []race{
		{"end operator", "another leader", tableElection, func(t *testing.T, p *plan) error {
			l, _, _ := filling(t)
			lead := elected(t)
			p.before = lead.deposed(t)
			err := lead.end(p.in(t.Context()), give("replace-"+l.Replicas[0].ReplicaID))
			return errors.Join(answered(err, ErrConflict), equal("learners", learners(t, l.LogID), 1))
		}},
		{"end operator", "promoted meanwhile", tableLogs, func(t *testing.T, p *plan) error {
			l, a, learner := filling(t)
			id := "replace-" + l.Replicas[0].ReplicaID
			p.before = func() error { return made(s.SetReplicas(t.Context(), promoteOf(a, learner.ReplicaID))) }
			err := elected(t).end(p.in(t.Context()), give(id))
			rec, _ := recordOf[logRecord](t, prefixLogs+l.LogID)
			return errors.Join(answered(err, nil), equal("set version", rec.SetVersion, 2), equal("state", stateOf(t, id), planner.Done))
		}},
		{"end operator", "its daemon given up", tableDaemons, func(t *testing.T, p *plan) error {
			l, _, learner := filling(t)
			p.before = givenUp(t, learner.DaemonID)
			err := elected(t).end(p.in(t.Context()), give("replace-"+l.Replicas[0].ReplicaID))
			return errors.Join(answered(err, nil), condemnedOn(t, learner.DaemonID, learner.ReplicaID))
		}},
		{"end operator", "done meanwhile", tableOperators, func(t *testing.T, p *plan) error {
			l, lead := makeLog(t, s), elected(t)
			o := recovery(l, planner.Running)
			lead.has(t, o)
			p.before = func() error { return taskDone(t.Context(), o) }
			err := lead.end(p.in(t.Context()), give(o.OperatorID))
			return errors.Join(answered(err, nil), equal("state", stateOf(t, o.OperatorID), planner.Done))
		}},
		{"mark down", "another leader", tableElection, func(t *testing.T, p *plan) error {
			r := daemonReq(t)
			rec := (&registering{req: r}).newRecord("", nil)
			rec.DownSince = time.Now().UTC()
			key := prefixDaemons + r.DaemonID
			if err := byHand(t.Context(), key, rec); err != nil {
				t.Fatal(err)
			}
			_, e := recordOf[daemonRecord](t, key)
			lead := elected(t)
			p.before = lead.deposed(t)
			err := lead.mark(p.in(t.Context()), downMark{id: r.DaemonID, rec: rec, mod: e.mod, since: time.Now()})
			_, now := recordOf[daemonRecord](t, key)
			return errors.Join(answered(err, nil), equal("revision", now.mod, e.mod))
		}},
	}
}
