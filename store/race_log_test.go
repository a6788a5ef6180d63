package store

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gravenio/graven/grant"
)

func createRaces() []race {
	s := shared.store
	// refused is a create that must fail for one of its daemons, and leave the
	// others' books alone.
	refused := func(rule string, other func(t *testing.T, id string) func() error) func(t *testing.T, p *plan) error {
		return func(t *testing.T, p *plan) error {
			r := on(t, daemons(t, s, 3)...)
			p.before = other(t, r.Daemons[1])
			_, err := shared.edges.CreateLog(p.in(t.Context()), r)
			name, _ := recordOf[nameRecord](t, prefixNames+r.Name)
			return errors.Join(unfit(err, rule), equal("made", name != nil, false),
				equal("reserved bytes", reserved(t, s, r.Daemons[0]), 0))
		}
	}
	return []race{
		{"CreateLog", "drained meanwhile", tableDaemons, refused("draining", func(t *testing.T, id string) func() error {
			return func() error { return drain(t.Context(), s, id, true, 0) }
		})},
		{"CreateLog", "expired meanwhile", tableLive, refused("down", func(t *testing.T, id string) func() error {
			return diesUnmarked(t, id)
		})},
		{"CreateLog", "deleted meanwhile", "", refused("unknown", func(t *testing.T, id string) func() error {
			return func() error {
				expire(t, s, prefixLive+id)
				return s.DeleteDaemon(t.Context(), id, false, 0)
			}
		})},
		{"CreateLog", "the bytes promised meanwhile", tableSpace, refused("space", func(t *testing.T, id string) func() error {
			return func() error {
				all := on(t, id)
				all.CapacityBytes = 1<<30 - ReplicaOverheadBytes
				return made(s.CreateLog(t.Context(), all))
			}
		})},
		{"CreateLog", "the bytes promised and given back", "", func(t *testing.T, p *plan) error {
			r := on(t, daemons(t, s, 1)...)
			p.before = func() error {
				l, err := s.CreateLog(t.Context(), on(t, r.Daemons...))
				if err != nil {
					return err
				}
				return s.DeleteLog(t.Context(), l.LogID, 0)
			}
			_, err := shared.edges.CreateLog(p.in(t.Context()), r)
			return errors.Join(answered(err, nil), equal("reserved bytes", reserved(t, s, r.Daemons[0]), oneLog))
		}},
		{"CreateLog", "the name taken", tableNames, func(t *testing.T, p *plan) error {
			r := on(t, daemons(t, s, 1)...)
			other := on(t, daemons(t, s, 1)...)
			other.Name = r.Name
			p.before = func() error { return made(s.CreateLog(t.Context(), other)) }
			_, err := shared.edges.CreateLog(p.in(t.Context()), r)
			return errors.Join(answered(err, ErrNameTaken), equal("reserved bytes", reserved(t, s, r.Daemons[0]), 0))
		}},
		{"CreateLog", "the key used", tableIdem, func(t *testing.T, p *plan) error {
			r := on(t, daemons(t, s, 1)...)
			other := on(t, daemons(t, s, 1)...)
			r.IdempotencyKey = uuid.NewString()
			other.IdempotencyKey = r.IdempotencyKey
			p.before = func() error { return made(s.CreateLog(t.Context(), other)) }
			_, err := shared.edges.CreateLog(p.in(t.Context()), r)
			return errors.Join(answered(err, ErrIdempotencyMismatch), equal("reserved bytes", reserved(t, s, r.Daemons[0]), 0))
		}},
	}
}

func made(_ *Log, err error) error { return err }

// opened is an open by the other server, as the other side of a race.
func opened(t *testing.T, log string, edit ...func(*OpenLogRequest)) func() error {
	return func() error {
		open(t, shared.store, log, edit...)
		return nil
	}
}

func takeover(r *OpenLogRequest) { r.Takeover = true }

// replaced is the start of a replacement by the other server. Only the log's
// record shows it, not the writer.
func (p *patient) replaced(t *testing.T) func() error {
	return func() error {
		p.start(t, "")
		return nil
	}
}

// learners is how many learners the log's record has.
func learners(t *testing.T, logID string) int {
	rec, _ := recordOf[logRecord](t, prefixLogs+logID)
	if rec == nil || rec.learner() == nil {
		return 0
	}
	return 1
}

// lapsed is a log whose writer has lost its lease and may have it back.
func lapsed(t *testing.T) (*patient, *OpenAnswer) {
	t.Helper()
	l := newPatient(t, shared.store, 1)
	a := open(t, shared.store, l.Name)
	expire(t, shared.store, prefixWriters+l.LogID)
	return l, a
}

// restored is a writer that gets its lease back through the other server.
func restored(t *testing.T, a *OpenAnswer) func() error {
	return func() error {
		_, err := shared.store.Renew(t.Context(), ref(a))
		return err
	}
}

func writerRaces() []race {
	s := shared.store
	writes := func(t *testing.T, logID string) *writerRecord {
		w, _ := recordOf[writerRecord](t, prefixWriters+logID)
		return w
	}
	return []race{
		{"OpenLog", "opened meanwhile", "", func(t *testing.T, p *plan) error {
			l := makeLog(t, s)
			p.before = opened(t, l.LogID)
			_, err := shared.edges.OpenLog(p.in(t.Context()), OpenLogRequest{Log: l.LogID})
			return errors.Join(answered(err, ErrLogInUse), equal("epoch", writes(t, l.LogID).Epoch, 1))
		}},
		{"OpenLog", "two takeovers", "", func(t *testing.T, p *plan) error {
			l := makeLog(t, s)
			p.before = opened(t, l.LogID, takeover)
			a, err := shared.edges.OpenLog(p.in(t.Context()), OpenLogRequest{Log: l.LogID, Takeover: true})
			return errors.Join(answered(err, nil), equal("epoch", a.Epoch, 2), equal("writer's epoch", writes(t, l.LogID).Epoch, 2))
		}},
		{"OpenLog", "a replacement begun", tableLogs, func(t *testing.T, p *plan) error {
			l := newPatient(t, s, 1)
			p.before = l.replaced(t)
			_, err := shared.edges.OpenLog(p.in(t.Context()), OpenLogRequest{Log: l.LogID})
			return errors.Join(answered(err, nil), equal("learners", learners(t, l.LogID), 1))
		}},
		{"OpenLog", "deleted meanwhile", "", func(t *testing.T, p *plan) error {
			l := makeLog(t, s)
			p.before = func() error { return s.DeleteLog(t.Context(), l.LogID, 0) }
			_, err := shared.edges.OpenLog(p.in(t.Context()), OpenLogRequest{Log: l.LogID})
			rec, _ := recordOf[logRecord](t, prefixLogs+l.LogID)
			return errors.Join(answered(err, ErrNotFound), equal("back", rec != nil, false), equal("writer", writes(t, l.LogID) != nil, false))
		}},
		{"OpenLog", "its writer back", tableWriters, func(t *testing.T, p *plan) error {
			l, a := lapsed(t)
			p.before = restored(t, a)
			_, err := shared.edges.OpenLog(p.in(t.Context()), OpenLogRequest{Log: l.LogID})
			return errors.Join(answered(err, ErrLogInUse), equal("writer", writes(t, l.LogID).WriterID, a.WriterID))
		}},
		{"OpenLog", "the key used", tableIdem, func(t *testing.T, p *plan) error {
			l, other := makeLog(t, s), makeLog(t, s)
			key := uuid.NewString()
			p.before = opened(t, other.LogID, func(r *OpenLogRequest) { r.IdempotencyKey = key })
			_, err := shared.edges.OpenLog(p.in(t.Context()), OpenLogRequest{Log: l.LogID, IdempotencyKey: key})
			return errors.Join(answered(err, ErrIdempotencyMismatch), equal("writer", writes(t, l.LogID) != nil, false))
		}},
		{"OpenLog", "its signing key retired", tableKeys, retiredUnderAnOpen},
		{"Renew", "taken over meanwhile", "", func(t *testing.T, p *plan) error {
			l, a := lapsed(t)
			p.before = opened(t, l.LogID)
			_, err := shared.edges.Renew(p.in(t.Context()), ref(a))
			return errors.Join(answered(err, ErrSuperseded), equal("epoch", writes(t, l.LogID).Epoch, 2))
		}},
		{"Renew", "opened and closed meanwhile", tableLogs, func(t *testing.T, p *plan) error {
			l, a := lapsed(t)
			p.before = func() error { return s.CloseLog(t.Context(), ref(open(t, s, l.LogID))) }
			_, err := shared.edges.Renew(p.in(t.Context()), ref(a))
			return errors.Join(answered(err, ErrSuperseded), equal("writer", writes(t, l.LogID) != nil, false))
		}},
		{"Renew", "renewed twice at once", tableWriters, func(t *testing.T, p *plan) error {
			l, a := lapsed(t)
			var first entry
			p.before = func() error {
				err := restored(t, a)()
				_, first = recordOf[writerRecord](t, prefixWriters+l.LogID)
				return err
			}
			_, err := shared.edges.Renew(p.in(t.Context()), ref(a))
			_, now := recordOf[writerRecord](t, prefixWriters+l.LogID)
			return errors.Join(answered(err, nil), equal("lease", now.lease, first.lease))
		}},
		{"CloseLog", "taken over meanwhile", "", func(t *testing.T, p *plan) error {
			l := makeLog(t, s)
			a := open(t, s, l.LogID)
			p.before = opened(t, l.LogID, takeover)
			err := shared.edges.CloseLog(p.in(t.Context()), ref(a))
			return errors.Join(answered(err, ErrSuperseded), equal("epoch", writes(t, l.LogID).Epoch, 2))
		}},
		{"CloseLog", "a replacement begun", tableLogs, func(t *testing.T, p *plan) error {
			l := newPatient(t, s, 1)
			a := open(t, s, l.LogID)
			p.before = l.replaced(t)
			err := shared.edges.CloseLog(p.in(t.Context()), ref(a))
			return errors.Join(answered(err, nil), equal("learners", learners(t, l.LogID), 1))
		}},
		{"CloseLog", "renewed meanwhile", tableWriters, func(t *testing.T, p *plan) error {
			// Without the comparison the lease that the renewal made is left behind.
			l, a := lapsed(t)
			var lease clientv3.LeaseID
			p.before = func() error {
				err := restored(t, a)()
				_, e := recordOf[writerRecord](t, prefixWriters+l.LogID)
				lease = e.lease
				return err
			}
			err := shared.edges.CloseLog(p.in(t.Context()), ref(a))
			left, terr := s.client.TimeToLive(t.Context(), lease)
			if terr != nil {
				t.Fatal(terr)
			}
			return errors.Join(answered(err, nil), equal("writer", writes(t, l.LogID) != nil, false), equal("lease's seconds", left.TTL, -1))
		}},
		{"RecordLogEvent", "taken over meanwhile", tableLogs, func(t *testing.T, p *plan) error {
			l := makeLog(t, s)
			a := open(t, s, l.LogID)
			p.before = opened(t, l.LogID, takeover)
			return answered(shared.edges.RecordLogEvent(p.in(t.Context()), lossOf(a)), ErrSuperseded)
		}},
		{"RecordLogEvent", "the key used", tableIdem, func(t *testing.T, p *plan) error {
			a := open(t, s, makeLog(t, s).LogID)
			r, other := lossOf(a), lossOf(a)
			r.IdempotencyKey = uuid.NewString()
			other.IdempotencyKey, other.Detail = r.IdempotencyKey, "another"
			p.before = func() error { return s.RecordLogEvent(t.Context(), other) }
			return answered(shared.edges.RecordLogEvent(p.in(t.Context()), r), ErrIdempotencyMismatch)
		}},
	}
}

// retiredUnderAnOpen has an etcd of its own, since the keys are everybody's.
func retiredUnderAnOpen(t *testing.T, p *plan) error {
	s := rotating(t)
	r := daemon(t, s)
	l, err := s.CreateLog(t.Context(), on(t, r.DaemonID))
	if err != nil {
		t.Fatal(err)
	}
	p.before = func() error {
		before, err := s.readRing(t.Context())
		if err != nil {
			return err
		}
		published, err := s.RotateKeys(t.Context())
		if err != nil {
			return err
		}
		if _, err := s.Heartbeat(t.Context(), HeartbeatRequest{
			DaemonID: r.DaemonID, Incarnation: 1, Free: r.Free, KeysVersion: published.KeysVersion,
		}); err != nil {
			return err
		}
		_, err = s.RetireKey(t.Context(), before.in(KeySigning).ID)
		return err
	}
	a, err := edgeOf(t, s, Options{}).OpenLog(p.in(t.Context()), OpenLogRequest{Log: l.LogID})
	if err != nil {
		return err
	}
	keys, err := grant.ParseKeys(s.GrantKeys())
	if err != nil {
		t.Fatal(err)
	}
	_, err = grant.Verify(a.Grant, keys)
	return err
}

// lossOf is an event that this writer records.
func lossOf(a *OpenAnswer) LogEventRequest {
	w := ref(a)
	w.Nonce = a.Nonce
	return LogEventRequest{Writer: w, Kind: JournalDataLossAccepted, Detail: "one"}
}

func setRaces() []race {
	s := shared.store
	starting := func(l *patient) StartReplacementRequest {
		return StartReplacementRequest{Log: l.LogID, Replica: l.Replicas[0].ReplicaID, To: l.spare[0]}
	}
	// unplaced is a start that must fail for the daemon it was to reserve on.
	unplaced := func(rule string, other func(t *testing.T, id string) func() error) func(t *testing.T, p *plan) error {
		return func(t *testing.T, p *plan) error {
			l := newPatient(t, s, 1)
			p.before = other(t, l.spare[0])
			_, err := shared.edges.StartReplacement(p.in(t.Context()), starting(l))
			// Placed again by a view that has seen it, placement says so itself.
			if err == nil || !strings.Contains(err.Error(), rule) {
				err = errors.Join(errors.New("not refused by the rule "+rule), err)
			} else {
				err = nil
			}
			return errors.Join(err, equal("learners", learners(t, l.LogID), 0))
		}
	}
	return []race{
		{"SetReplicas", "taken over meanwhile", tableLogs, func(t *testing.T, p *plan) error {
			l := makeLog(t, s)
			a := open(t, s, l.LogID)
			p.before = opened(t, l.LogID, takeover)
			_, err := shared.edges.SetReplicas(p.in(t.Context()), promoteOf(a, l.Replicas[0].ReplicaID))
			rec, _ := recordOf[logRecord](t, prefixLogs+l.LogID)
			return errors.Join(answered(err, ErrSuperseded), equal("epoch", rec.Epoch, 2))
		}},
		{"SetReplicas", "promote of one abandoned meanwhile", "", func(t *testing.T, p *plan) error {
			l := newPatient(t, s, 1)
			a := open(t, s, l.LogID)
			learner := learnerOf(t, l.start(t, ""))
			p.before = func() error { return s.AbandonReplacement(t.Context(), l.LogID, 0) }
			_, err := shared.edges.SetReplicas(p.in(t.Context()), promoteOf(a, learner.ReplicaID))
			rec, _ := recordOf[logRecord](t, prefixLogs+l.LogID)
			return errors.Join(answered(err, ErrAbandoned), equal("set version", rec.SetVersion, 1), equal("replicas", len(rec.Replicas), 3))
		}},
		{"SetReplicas", "deleted meanwhile", "", func(t *testing.T, p *plan) error {
			l := newPatient(t, s, 1)
			a := open(t, s, l.LogID)
			learner := learnerOf(t, l.start(t, ""))
			p.before = func() error {
				return errors.Join(s.CloseLog(t.Context(), ref(a)), s.DeleteLog(t.Context(), l.LogID, 0))
			}
			_, err := shared.edges.SetReplicas(p.in(t.Context()), promoteOf(a, learner.ReplicaID))
			rec, _ := recordOf[logRecord](t, prefixLogs+l.LogID)
			return errors.Join(answered(err, ErrNotFound), equal("back", rec != nil, false))
		}},
		{"StartReplacement", "opened meanwhile", tableLogs, func(t *testing.T, p *plan) error {
			l := newPatient(t, s, 1)
			p.before = opened(t, l.LogID)
			_, err := shared.edges.StartReplacement(p.in(t.Context()), starting(l))
			rec, _ := recordOf[logRecord](t, prefixLogs+l.LogID)
			return errors.Join(answered(err, nil), equal("epoch", rec.Epoch, 1), equal("learners", learners(t, l.LogID), 1))
		}},
		{"StartReplacement", "deleted meanwhile", "", func(t *testing.T, p *plan) error {
			l := newPatient(t, s, 1)
			p.before = func() error { return s.DeleteLog(t.Context(), l.LogID, 0) }
			_, err := shared.edges.StartReplacement(p.in(t.Context()), starting(l))
			return errors.Join(answered(err, ErrNotFound), equal("reserved bytes", reserved(t, s, l.spare[0]), 0))
		}},
		{"StartReplacement", "begun twice at once", "", func(t *testing.T, p *plan) error {
			l := newPatient(t, s, 1)
			p.before = func() error { return made(s.StartReplacement(t.Context(), starting(l))) }
			_, err := shared.edges.StartReplacement(p.in(t.Context()), starting(l))
			return errors.Join(answered(err, nil), equal("reserved bytes", reserved(t, s, l.spare[0]), l.ReplicaBytes))
		}},
		{"StartReplacement", "drained meanwhile", tableDaemons, unplaced("draining", func(t *testing.T, id string) func() error {
			return func() error { return drain(t.Context(), s, id, true, 0) }
		})},
		{"StartReplacement", "expired meanwhile", tableLive, unplaced("down", func(t *testing.T, id string) func() error {
			return diesUnmarked(t, id)
		})},
		{"StartReplacement", "the bytes promised meanwhile", tableSpace, unplaced("space", func(t *testing.T, id string) func() error {
			return func() error {
				all := on(t, id)
				all.CapacityBytes = 1<<30 - ReplicaOverheadBytes
				return made(s.CreateLog(t.Context(), all))
			}
		})},
		{"StartReplacement", "the key used", tableIdem, func(t *testing.T, p *plan) error {
			l, other := newPatient(t, s, 1), newPatient(t, s, 1)
			r, first := starting(l), starting(other)
			r.IdempotencyKey = uuid.NewString()
			first.IdempotencyKey = r.IdempotencyKey
			p.before = func() error { return made(s.StartReplacement(t.Context(), first)) }
			_, err := shared.edges.StartReplacement(p.in(t.Context()), r)
			return errors.Join(answered(err, ErrIdempotencyMismatch), equal("reserved bytes", reserved(t, s, l.spare[0]), 0))
		}},
		{"AbandonReplacement", "promoted meanwhile", "", func(t *testing.T, p *plan) error {
			l := newPatient(t, s, 1)
			a := open(t, s, l.LogID)
			learner := learnerOf(t, l.start(t, ""))
			p.before = func() error { return made(s.SetReplicas(t.Context(), promoteOf(a, learner.ReplicaID))) }
			err := shared.edges.AbandonReplacement(p.in(t.Context()), l.LogID, 0)
			rec, _ := recordOf[logRecord](t, prefixLogs+l.LogID)
			stays := rec.replica(learner.ReplicaID)
			return errors.Join(answered(err, ErrNotFound), equal("lost", stays == nil, false), equal("set version", rec.SetVersion, 2))
		}},
		{"AbandonReplacement", "opened meanwhile", tableLogs, func(t *testing.T, p *plan) error {
			// Decided before the first open it would give back what a grant may name.
			l := newPatient(t, s, 1)
			learner := learnerOf(t, l.start(t, ""))
			p.before = opened(t, l.LogID)
			err := shared.edges.AbandonReplacement(p.in(t.Context()), l.LogID, 0)
			return errors.Join(answered(err, nil), equal("reserved bytes", reserved(t, s, learner.DaemonID), l.ReplicaBytes))
		}},
		{"AbandonReplacement", "reserved meanwhile", tableSpace, func(t *testing.T, p *plan) error {
			l := newPatient(t, s, 1)
			l.start(t, "")
			p.before = func() error { return made(s.CreateLog(t.Context(), on(t, l.spare[0]))) }
			err := shared.edges.AbandonReplacement(p.in(t.Context()), l.LogID, 0)
			return errors.Join(answered(err, nil), equal("reserved bytes", reserved(t, s, l.spare[0]), oneLog))
		}},
	}
}

func deleteRaces() []race {
	s := shared.store
	exists := func(t *testing.T, id string) bool {
		rec, _ := recordOf[logRecord](t, prefixLogs+id)
		return rec != nil
	}
	return []race{
		{"DeleteLog", "opened meanwhile", "", func(t *testing.T, p *plan) error {
			l := makeLog(t, s)
			p.before = opened(t, l.LogID)
			err := shared.edges.DeleteLog(p.in(t.Context()), l.LogID, 0)
			return errors.Join(answered(err, ErrLogInUse), equal("there", exists(t, l.LogID), true))
		}},
		{"DeleteLog", "opened and closed meanwhile", tableLogs, func(t *testing.T, p *plan) error {
			// A grant may name the replicas now: what was free at once is not any more.
			l := makeLog(t, s)
			p.before = func() error { return s.CloseLog(t.Context(), ref(open(t, s, l.LogID))) }
			err := shared.edges.DeleteLog(p.in(t.Context()), l.LogID, 0)
			return errors.Join(answered(err, nil), equal("reserved bytes", reserved(t, s, l.Replicas[0].DaemonID), l.ReplicaBytes))
		}},
		{"DeleteLog", "its writer back", tableWriters, func(t *testing.T, p *plan) error {
			l, a := lapsed(t)
			p.before = restored(t, a)
			err := shared.edges.DeleteLog(p.in(t.Context()), l.LogID, 0)
			return errors.Join(answered(err, ErrLogInUse), equal("there", exists(t, l.LogID), true))
		}},
		{"DeleteLog", "reserved meanwhile", tableSpace, func(t *testing.T, p *plan) error {
			l := makeLog(t, s)
			id := l.Replicas[0].DaemonID
			p.before = func() error { return made(s.CreateLog(t.Context(), on(t, id))) }
			err := shared.edges.DeleteLog(p.in(t.Context()), l.LogID, 0)
			return errors.Join(answered(err, nil), equal("reserved bytes", reserved(t, s, id), oneLog))
		}},
		{"DeleteLog", "deleted twice at once", "", func(t *testing.T, p *plan) error {
			l := makeLog(t, s)
			id := l.Replicas[0].DaemonID
			if err := made(s.CreateLog(t.Context(), on(t, id))); err != nil {
				t.Fatal(err)
			}
			p.before = func() error { return s.DeleteLog(t.Context(), l.LogID, 0) }
			err := shared.edges.DeleteLog(p.in(t.Context()), l.LogID, 0)
			return errors.Join(answered(err, ErrNotFound), equal("reserved bytes", reserved(t, s, id), oneLog))
		}},
		{"DeleteLog", "deleted and made again under its name", "", func(t *testing.T, p *plan) error {
			l := makeLog(t, s)
			again := on(t, l.Replicas[0].DaemonID)
			again.Name = l.Name
			var second *Log
			p.before = func() (err error) {
				if err = s.DeleteLog(t.Context(), l.Name, 0); err == nil {
					second, err = s.CreateLog(t.Context(), again)
				}
				return err
			}
			err := shared.edges.DeleteLog(p.in(t.Context()), l.Name, 0)
			return errors.Join(answered(err, ErrNotFound), equal("the second there", exists(t, second.LogID), true))
		}},
		{"DeleteLog", "a replacement begun", "", func(t *testing.T, p *plan) error {
			l := newPatient(t, s, 1)
			p.before = l.replaced(t)
			err := shared.edges.DeleteLog(p.in(t.Context()), l.LogID, 0)
			return errors.Join(answered(err, nil), equal("reserved bytes", reserved(t, s, l.spare[0]), 0))
		}},
	}
}
