package store

import (
	"context"
	"errors"
	"testing"
	"time"
)

// lifeRaces are those against a life of etcd that begins: another server has noticed
// that etcd was set back, and this one has not. Each has an etcd of its own.
func lifeRaces() []race {
	// stage is a server on the edge and one beside it, which ends the life.
	stage := func(t *testing.T, p *plan) (edge, s *Store) {
		e := own(t, t.TempDir())
		s = startOwn(t, e, Options{CallTimeout: time.Minute})
		edge, stop, err := startOn(edgeClient(e.Client, nil), e.Lease, Options{CallTimeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(stop)
		p.at = tableLogs // the identity is read anew on the way
		p.before = func() error {
			_, err := s.relearn(context.WithoutCancel(t.Context()), newLife{least: 1})
			return err
		}
		return edge, s
	}
	return []race{
		{"OpenLog", "a new life begun", "cluster", func(t *testing.T, p *plan) error {
			edge, s := stage(t, p)
			l := makeLog(t, s)
			a, err := edge.OpenLog(p.in(t.Context()), OpenLogRequest{Log: l.LogID})
			if err != nil {
				return err
			}
			rec, _ := recordIn[logRecord](t, s, prefixLogs+l.LogID)
			return errors.Join(equal("epoch", a.Epoch, uint64(1)<<lifeShift), equal("state", rec.Replicas[0].State, ReplicaPresent))
		}},
		{"CreateLog", "a new life begun", "cluster", func(t *testing.T, p *plan) error {
			// Made in the life before, it would be taken for one that a backup brought back.
			edge, s := stage(t, p)
			r := on(t, daemons(t, s, 1)...)
			l, err := edge.CreateLog(p.in(t.Context()), r)
			if err != nil {
				return err
			}
			rec, _ := recordIn[logRecord](t, s, prefixLogs+l.LogID)
			return equal("life", rec.Life, 1)
		}},
		{"DeleteLog", "a new life begun", "cluster", func(t *testing.T, p *plan) error {
			// It may have been opened in what is lost: its regions may be there.
			edge, s := stage(t, p)
			l := makeLog(t, s)
			err := edge.DeleteLog(p.in(t.Context()), l.LogID, 0)
			return errors.Join(answered(err, nil), equal("reserved bytes", reserved(t, s, l.Replicas[0].DaemonID), l.ReplicaBytes))
		}},
		{"AbandonReplacement", "a new life begun", "cluster", func(t *testing.T, p *plan) error {
			edge, s := stage(t, p)
			l := newPatient(t, s, 1)
			learner := learnerOf(t, l.start(t, ""))
			err := edge.AbandonReplacement(p.in(t.Context()), l.LogID, 0)
			return errors.Join(answered(err, nil), equal("reserved bytes", reserved(t, s, learner.DaemonID), l.ReplicaBytes))
		}},
		{"adopt a set", "a new life begun", "cluster", func(t *testing.T, p *plan) error {
			// What daemons have reported before is no word on what is there now.
			edge, s := stage(t, p)
			b := newBehind(t, s)
			b.views = []*Store{s, edge}
			b.known(t)
			err := b.adopts(p.in(t.Context()), edge)
			return errors.Join(answered(err, nil), equal("set version", b.record(t).SetVersion, 1))
		}},
	}
}
