package store

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/google/uuid"
)

// lostAnswer is a call whose transaction is applied and whose answer is lost,
// and what a repetition through another server must find.
type lostAnswer struct {
	action string
	// at is the table that the transaction writes, "" for any.
	at string
	// stage sets up and returns the call and what is so after it, however often it
	// is made.
	stage func(t *testing.T) (call func(ctx context.Context, s *Store) (any, error), after func() error)
	// again is what the repetition answers.
	again error
	// same says that it answers exactly what the first call would have.
	same bool
}

func lostAnswers() []lostAnswer {
	s := shared.store
	books := func(t *testing.T, id string, want int64) error {
		return equal("reserved bytes", reserved(t, s, id), want)
	}
	return []lostAnswer{
		{action: "Register", stage: func(t *testing.T) (func(context.Context, *Store) (any, error), func() error) {
			r := daemonReq(t) // between the loss and the repetition it lives already
			return func(ctx context.Context, s *Store) (any, error) {
					a, err := s.Register(ctx, r)
					return a, errors.Join(err, beat(t.Context(), r, nil))
				}, func() error {
					d, _ := s.View().Daemon(r.DaemonID)
					return errors.Join(equal("state", d.State, DaemonUp), equal("incarnation", d.Incarnation, 1))
				}
		}},
		{action: "removal results", stage: func(t *testing.T) (func(context.Context, *Store) (any, error), func() error) {
			c := newCondemned(t)
			if err := made(s.CreateLog(t.Context(), on(t, c.r.DaemonID))); err != nil {
				t.Fatal(err)
			}
			return func(ctx context.Context, s *Store) (any, error) {
				return nil, s.takeResults(ctx, c.r.DaemonID, []StepResult{{Kind: StepRemoveReplica, ReplicaID: c.replica, Done: true}})
			}, func() error { return books(t, c.r.DaemonID, oneLog) }
		}},
		{action: "Heartbeat", stage: func(t *testing.T) (func(context.Context, *Store) (any, error), func() error) {
			r := daemon(t, s)
			to := r.Addresses
			to.TCPPort += 20000
			return func(ctx context.Context, s *Store) (any, error) {
					return s.Heartbeat(ctx, HeartbeatRequest{DaemonID: r.DaemonID, Incarnation: 1, Free: r.Free, Addresses: to})
				}, func() error {
					owner, _ := recordOf[ownerRecord](t, addressKey(to))
					old, _ := recordOf[ownerRecord](t, addressKey(r.Addresses))
					return errors.Join(equal("owner of the new address", owner.DaemonID, r.DaemonID), equal("the old one taken", old != nil, false))
				}
		}},
		{action: "Leave", stage: func(t *testing.T) (func(context.Context, *Store) (any, error), func() error) {
			r := daemon(t, s)
			return func(ctx context.Context, s *Store) (any, error) { return nil, s.Leave(ctx, r.DaemonID, 1) }, func() error {
				live, _ := recordOf[liveRecord](t, prefixLive+r.DaemonID)
				return equal("live", live != nil, false)
			}
		}},
		{action: "SetDraining", stage: func(t *testing.T) (func(context.Context, *Store) (any, error), func() error) {
			r := daemon(t, s)
			return func(ctx context.Context, s *Store) (any, error) {
					return nil, drain(ctx, s, r.DaemonID, true, 0)
				}, func() error {
					rec, _ := recordOf[daemonRecord](t, prefixDaemons+r.DaemonID)
					return equal("draining", rec.Draining, true)
				}
		}},
		{action: "DeleteDaemon", again: ErrNotFound, stage: func(t *testing.T) (func(context.Context, *Store) (any, error), func() error) {
			r := away(t)
			return func(ctx context.Context, s *Store) (any, error) {
				return nil, s.DeleteDaemon(ctx, r.DaemonID, false, 0)
			}, func() error { return beatIs(t, r, ErrGone) }
		}},
		{action: "CreateLog", again: ErrNameTaken, stage: func(t *testing.T) (func(context.Context, *Store) (any, error), func() error) {
			r := on(t, daemons(t, s, 1)...)
			return func(ctx context.Context, s *Store) (any, error) { return s.CreateLog(ctx, r) },
				func() error { return books(t, r.Daemons[0], oneLog) }
		}},
		{action: "CreateLog with a key", same: true, stage: func(t *testing.T) (func(context.Context, *Store) (any, error), func() error) {
			r := on(t, daemons(t, s, 1)...)
			r.IdempotencyKey = uuid.NewString()
			return func(ctx context.Context, s *Store) (any, error) { return s.CreateLog(ctx, r) },
				func() error { return books(t, r.Daemons[0], oneLog) }
		}},
		{action: "OpenLog", at: tableWriters, stage: func(t *testing.T) (func(context.Context, *Store) (any, error), func() error) {
			l := makeLog(t, s) // its writer's lease is given up, so nobody waits for it
			return func(ctx context.Context, s *Store) (any, error) {
					return s.OpenLog(ctx, OpenLogRequest{Log: l.LogID})
				}, func() error {
					return writerIn(t, l.LogID, 2)
				}
		}},
		{action: "OpenLog with a key", at: tableWriters, same: true, stage: func(t *testing.T) (func(context.Context, *Store) (any, error), func() error) {
			l := makeLog(t, s)
			r := OpenLogRequest{Log: l.LogID, IdempotencyKey: uuid.NewString()}
			return func(ctx context.Context, s *Store) (any, error) { return s.OpenLog(ctx, r) }, func() error {
				return writerIn(t, l.LogID, 1)
			}
		}},
		{action: "Renew", stage: func(t *testing.T) (func(context.Context, *Store) (any, error), func() error) {
			l, a := lapsed(t)
			return func(ctx context.Context, s *Store) (any, error) { return s.Renew(ctx, ref(a)) }, func() error {
				w, _ := recordOf[writerRecord](t, prefixWriters+l.LogID)
				return equal("writer", w.WriterID, a.WriterID)
			}
		}},
		{action: "CloseLog", stage: func(t *testing.T) (func(context.Context, *Store) (any, error), func() error) {
			a := open(t, s, makeLog(t, s).LogID)
			return func(ctx context.Context, s *Store) (any, error) { return nil, s.CloseLog(ctx, ref(a)) }, func() error {
				rec, _ := recordOf[logRecord](t, prefixLogs+a.LogID)
				return equal("closed epoch", rec.ClosedEpoch, 1)
			}
		}},
		{action: "SetReplicas", stage: func(t *testing.T) (func(context.Context, *Store) (any, error), func() error) {
			l := makeLog(t, s)
			a := open(t, s, l.LogID)
			return func(ctx context.Context, s *Store) (any, error) {
					return s.SetReplicas(ctx, promoteOf(a, l.Replicas[0].ReplicaID))
				}, func() error {
					rec, _ := recordOf[logRecord](t, prefixLogs+l.LogID)
					return equal("state", rec.Replicas[0].State, ReplicaPresent)
				}
		}},
		{action: "SetReplicas a promote", stage: func(t *testing.T) (func(context.Context, *Store) (any, error), func() error) {
			l := newPatient(t, s, 1)
			a := open(t, s, l.LogID)
			learner := learnerOf(t, l.start(t, ""))
			return func(ctx context.Context, s *Store) (any, error) {
					return s.SetReplicas(ctx, promoteOf(a, learner.ReplicaID))
				}, func() error {
					rec, _ := recordOf[logRecord](t, prefixLogs+l.LogID)
					return errors.Join(equal("set version", rec.SetVersion, 2), equal("replicas", len(rec.Replicas), 3),
						books(t, l.Replicas[0].DaemonID, l.ReplicaBytes))
				}
		}},
		{action: "SetReplicas a give up", stage: func(t *testing.T) (func(context.Context, *Store) (any, error), func() error) {
			l := newPatient(t, s, 1)
			a := open(t, s, l.LogID)
			learner := learnerOf(t, l.start(t, ""))
			return func(ctx context.Context, s *Store) (any, error) {
					return s.SetReplicas(ctx, giveUpOf(a, learner.ReplicaID))
				}, func() error {
					return errors.Join(equal("learners", learners(t, l.LogID), 0), books(t, learner.DaemonID, l.ReplicaBytes))
				}
		}},
		{action: "StartReplacement", stage: func(t *testing.T) (func(context.Context, *Store) (any, error), func() error) {
			l := newPatient(t, s, 1)
			return func(ctx context.Context, s *Store) (any, error) {
					return s.StartReplacement(ctx, StartReplacementRequest{Log: l.LogID, Replica: l.Replicas[0].ReplicaID})
				}, func() error {
					return errors.Join(equal("learners", learners(t, l.LogID), 1), books(t, l.spare[0], l.ReplicaBytes))
				}
		}},
		{action: "StartReplacement with a key", same: true, stage: func(t *testing.T) (func(context.Context, *Store) (any, error), func() error) {
			l := newPatient(t, s, 1)
			r := StartReplacementRequest{Log: l.LogID, Replica: l.Replicas[0].ReplicaID, IdempotencyKey: uuid.NewString()}
			return func(ctx context.Context, s *Store) (any, error) { return s.StartReplacement(ctx, r) }, func() error {
				return errors.Join(equal("learners", learners(t, l.LogID), 1), books(t, l.spare[0], l.ReplicaBytes))
			}
		}},
		{action: "AbandonReplacement", again: ErrNotFound, stage: func(t *testing.T) (func(context.Context, *Store) (any, error), func() error) {
			l := newPatient(t, s, 1)
			l.start(t, "")
			if err := made(s.CreateLog(t.Context(), on(t, l.spare[0]))); err != nil {
				t.Fatal(err)
			}
			return func(ctx context.Context, s *Store) (any, error) { return nil, s.AbandonReplacement(ctx, l.LogID, 0) },
				func() error { return books(t, l.spare[0], oneLog) }
		}},
		{action: "RecordLogEvent with a key", at: tableEvents, stage: func(t *testing.T) (func(context.Context, *Store) (any, error), func() error) {
			a := open(t, s, makeLog(t, s).LogID)
			r := lossOf(a)
			r.IdempotencyKey = uuid.NewString()
			return func(ctx context.Context, s *Store) (any, error) { return nil, s.RecordLogEvent(ctx, r) }, func() error {
				return equal("entries", entriesOf(t, a.LogID), 1)
			}
		}},
		{action: "DeleteLog", again: ErrNotFound, stage: func(t *testing.T) (func(context.Context, *Store) (any, error), func() error) {
			l := makeLog(t, s)
			id := l.Replicas[0].DaemonID
			if err := made(s.CreateLog(t.Context(), on(t, id))); err != nil {
				t.Fatal(err)
			}
			return func(ctx context.Context, s *Store) (any, error) { return nil, s.DeleteLog(ctx, l.LogID, 0) },
				func() error { return books(t, id, oneLog) }
		}},
	}
}

// writerIn says whether the log has a writer that lives, in this epoch.
func writerIn(t *testing.T, logID string, epoch uint64) error {
	w, _ := recordOf[writerRecord](t, prefixWriters+logID)
	if w == nil {
		return errors.New("no writer's lease lives")
	}
	return equal("epoch", w.Epoch, epoch)
}

func beatIs(t *testing.T, r RegisterRequest, want error) error {
	return answered(beat(t.Context(), r, nil), want)
}

// entriesOf is how often the journal tells of losses of a log.
func entriesOf(t *testing.T, logID string) int {
	t.Helper()
	n := 0
	resp, err := shared.store.client.Get(t.Context(), prefixEvents, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range resp.Kvs {
		if rec, err := decode[journalRecord](string(kv.Key), kv.Value); err == nil && rec.LogID == logID && rec.Kind == JournalDataLossAccepted {
			n++
		}
	}
	return n
}

// TestLostAnswers applies each kind of transaction and loses its answer. The
// caller is told that it may have happened, and a repetition by another server
// finds its own work.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	for _, l := range lostAnswers() {
		t.Run(strings.ReplaceAll(l.action, " ", "-"), func(t *testing.T) {
			t.Parallel()
			call, after := l.stage(t)

			p := &plan{at: l.at, lose: true}
			first, err := call(p.in(t.Context()), shared.edges)
			p.happened(t)
			if !errors.Is(err, ErrUnavailable) {
				t.Fatalf("with its answer lost it answered %+v, %v", first, err)
			}
			again, err := call(t.Context(), shared.store)
			if err := errors.Join(answered(err, l.again), after()); err != nil {
				t.Error(err)
			}
			if !l.same {
				return
			}
			// Any number of times, from any server.
			third, err := call(t.Context(), shared.edges)
			if err != nil || !reflect.DeepEqual(again, third) {
				t.Errorf("the same key answered\n%+v\nand then %v\n%+v", again, err, third)
			}
			if err := after(); err != nil {
				t.Error(err)
			}
		})
	}
}

// The retries that etcd's client makes by itself, and the ones of this package,
// never meet a transaction twice: it is reported after the first loss.
func TestALostAnswerIsNotRetriedInside(t *testing.T) {
	t.Parallel()
	a := open(t, shared.store, makeLog(t, shared.store).LogID)
	commits := 0
	p := &plan{at: tableEvents, lose: true, before: func() error { commits++; return nil }}
	if err := shared.edges.RecordLogEvent(p.in(t.Context()), lossOf(a)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("answered %v", err)
	}
	if n := entriesOf(t, a.LogID); n != 1 || commits != 1 {
		t.Errorf("%d entries, %d commits", n, commits)
	}
}
