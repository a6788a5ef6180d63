package store

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/google/uuid"
)

// lostAnswer is a call whose transaction is applied and whose answer is lost,
// and what a repetition through another server must find.
type lostAnswer struct {
	// action is the transaction as the table of guards in doc.go calls it.
	action, how string
	// at is the table that the transaction writes, "" for any. The first skip of
	// them pass.
	at   string
	skip int
	// servers are those that are called, the one whose answer is lost first; nil for
	// the shared ones.
	servers func(t *testing.T) (edge, other *Store)
	// stage sets up, with the second server, and returns the call and what is so after
	// it, however often it is made.
	stage func(t *testing.T, s *Store) (call lostCall, after func() error)
	// again is what the repetition answers.
	again error
	// same says that it answers exactly what the first call would have.
	same bool
}

type lostCall = func(ctx context.Context, s *Store) (any, error)

func lostAnswers() []lostAnswer {
	return slices.Concat(lostOfDaemons(), lostOfLogs(), lostOfReplacements(), lostOfOperators(), lostOfLeaders(), lostOfTheCluster(), lostOfKeys())
}

func lostOfDaemons() []lostAnswer {
	return []lostAnswer{
		{action: "Register", stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			r := daemonReq(t) // between the loss and the repetition it lives already
			return func(ctx context.Context, s *Store) (any, error) {
					a, err := s.Register(ctx, r)
					return a, errors.Join(err, beat(t.Context(), r, nil))
				}, func() error {
					d, _ := s.View().Daemon(r.DaemonID)
					return errors.Join(equal("state", d.State, DaemonUp), equal("incarnation", d.Incarnation, 1))
				}
		}},
		{action: "removal results", stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			c := newCondemned(t)
			if err := made(s.CreateLog(t.Context(), on(t, c.r.DaemonID))); err != nil {
				t.Fatal(err)
			}
			return func(ctx context.Context, s *Store) (any, error) {
				return nil, s.takeResults(ctx, c.r.DaemonID, []StepResult{{Kind: StepRemoveReplica, ReplicaID: c.replica, Done: true}})
			}, func() error { return books(t, s, c.r.DaemonID, oneLog) }
		}},
		{action: "Heartbeat", stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			r := daemon(t, s)
			to := r.Addresses
			to.TCPPort += 20000
			return func(ctx context.Context, s *Store) (any, error) {
					return s.Heartbeat(ctx, HeartbeatRequest{DaemonID: r.DaemonID, Incarnation: 1, Free: r.Free, Addresses: to})
				}, func() error {
					old, _ := recordOf[ownerRecord](t, r.claims()[0].key)
					moved := r
					moved.Addresses = to
					return errors.Join(ownsAll(t, moved), equal("the old one taken", old != nil, false))
				}
		}},
		{action: "Leave", stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			r := daemon(t, s)
			return func(ctx context.Context, s *Store) (any, error) { return nil, s.Leave(ctx, r.DaemonID, 1) }, func() error {
				live, _ := recordOf[liveRecord](t, prefixLive+r.DaemonID)
				return equal("live", live != nil, false)
			}
		}},
		{action: "SetDraining", stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			r := daemon(t, s)
			return func(ctx context.Context, s *Store) (any, error) {
					return nil, drain(ctx, s, r.DaemonID, true, 0)
				}, func() error {
					rec, _ := recordOf[daemonRecord](t, prefixDaemons+r.DaemonID)
					return equal("draining", rec.Draining, true)
				}
		}},
		{action: "DeleteDaemon", again: ErrNotFound, stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			r := away(t)
			return func(ctx context.Context, s *Store) (any, error) {
				return nil, s.DeleteDaemon(ctx, r.DaemonID, false, 0)
			}, func() error { return beatIs(t, r, ErrGone) }
		}},
		{action: "GiveUpDaemon", again: ErrNotFound, stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			c := newCondemned(t)
			expire(t, s, prefixLive+c.r.DaemonID)
			return func(ctx context.Context, s *Store) (any, error) {
					return nil, s.DeleteDaemon(ctx, c.r.DaemonID, true, 0)
				}, func() error {
					rec, _ := recordOf[goneRecord](t, prefixGone+c.r.DaemonID)
					return errors.Join(equal("for good", rec != nil && rec.Lost, true), condemnedOn(t, c.r.DaemonID, c.replica),
						equal("entries", entriesOf(t, s, JournalDaemonLost, c.r.DaemonID), 1))
				}
		}},
	}
}

func lostOfLogs() []lostAnswer {
	return []lostAnswer{
		{action: "CreateLog", again: ErrNameTaken, stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			r := on(t, daemons(t, s, 1)...)
			return func(ctx context.Context, s *Store) (any, error) { return s.CreateLog(ctx, r) },
				func() error { return books(t, s, r.Daemons[0], oneLog) }
		}},
		{action: "CreateLog", how: "with a key", same: true, stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			r := on(t, daemons(t, s, 1)...)
			r.IdempotencyKey = uuid.NewString()
			return func(ctx context.Context, s *Store) (any, error) { return s.CreateLog(ctx, r) },
				func() error { return books(t, s, r.Daemons[0], oneLog) }
		}},
		{action: "OpenLog", at: tableWriters, stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			l := makeLog(t, s) // its writer's lease is given up, so nobody waits for it
			return func(ctx context.Context, s *Store) (any, error) {
					return s.OpenLog(ctx, OpenLogRequest{Log: l.LogID})
				}, func() error {
					return writerIn(t, l.LogID, 2)
				}
		}},
		{action: "OpenLog", how: "with a key", at: tableWriters, same: true, stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			l := makeLog(t, s)
			r := OpenLogRequest{Log: l.LogID, IdempotencyKey: uuid.NewString()}
			return func(ctx context.Context, s *Store) (any, error) { return s.OpenLog(ctx, r) }, func() error {
				return writerIn(t, l.LogID, 1)
			}
		}},
		{action: "Renew", stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			l, a := lapsed(t)
			return func(ctx context.Context, s *Store) (any, error) { return s.Renew(ctx, ref(a)) }, func() error {
				w, _ := recordOf[writerRecord](t, prefixWriters+l.LogID)
				return equal("writer", w.WriterID, a.WriterID)
			}
		}},
		{action: "CloseLog", stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			a := open(t, s, makeLog(t, s).LogID)
			return func(ctx context.Context, s *Store) (any, error) { return nil, s.CloseLog(ctx, ref(a)) }, func() error {
				rec, _ := recordOf[logRecord](t, prefixLogs+a.LogID)
				return equal("closed epoch", rec.ClosedEpoch, 1)
			}
		}},
		{action: "SetReplicas", stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			l := makeLog(t, s)
			a := open(t, s, l.LogID)
			return func(ctx context.Context, s *Store) (any, error) {
					return s.SetReplicas(ctx, promoteOf(a, l.Replicas[0].ReplicaID))
				}, func() error {
					rec, _ := recordOf[logRecord](t, prefixLogs+l.LogID)
					return equal("state", rec.Replicas[0].State, ReplicaPresent)
				}
		}},
		{action: "SetReplicas", how: "a promote", stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			l := newPatient(t, s, 1)
			a := open(t, s, l.LogID)
			learner := learnerOf(t, l.start(t, ""))
			return func(ctx context.Context, s *Store) (any, error) {
					return s.SetReplicas(ctx, promoteOf(a, learner.ReplicaID))
				}, func() error {
					rec, _ := recordOf[logRecord](t, prefixLogs+l.LogID)
					return errors.Join(equal("set version", rec.SetVersion, 2), equal("replicas", len(rec.Replicas), 3),
						books(t, s, l.Replicas[0].DaemonID, l.ReplicaBytes))
				}
		}},
		{action: "SetReplicas", how: "a give up", stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			l := newPatient(t, s, 1)
			a := open(t, s, l.LogID)
			learner := learnerOf(t, l.start(t, ""))
			return func(ctx context.Context, s *Store) (any, error) {
					return s.SetReplicas(ctx, giveUpOf(a, learner.ReplicaID))
				}, func() error {
					return errors.Join(equal("learners", learners(t, l.LogID), 0), books(t, s, learner.DaemonID, l.ReplicaBytes))
				}
		}},
	}
}

func lostOfReplacements() []lostAnswer {
	return []lostAnswer{
		{action: "StartReplacement", stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			l := newPatient(t, s, 1)
			return func(ctx context.Context, s *Store) (any, error) {
					return s.StartReplacement(ctx, StartReplacementRequest{Log: l.LogID, Replica: l.Replicas[0].ReplicaID})
				}, func() error {
					return errors.Join(equal("learners", learners(t, l.LogID), 1), books(t, s, l.spare[0], l.ReplicaBytes))
				}
		}},
		{action: "StartReplacement", how: "with a key", same: true, stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			l := newPatient(t, s, 1)
			r := StartReplacementRequest{Log: l.LogID, Replica: l.Replicas[0].ReplicaID, IdempotencyKey: uuid.NewString()}
			return func(ctx context.Context, s *Store) (any, error) { return s.StartReplacement(ctx, r) }, func() error {
				return errors.Join(equal("learners", learners(t, l.LogID), 1), books(t, s, l.spare[0], l.ReplicaBytes))
			}
		}},
		{action: "adopt a set", stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			b := newBehind(t, s).known(t)
			return func(ctx context.Context, s *Store) (any, error) { return nil, b.adopts(ctx, s) }, func() error {
				return errors.Join(b.whole(t), equal("entries", entriesOf(t, s, JournalSetAdopted, b.LogID), 1))
			}
		}},
		{action: "AbandonReplacement", again: ErrNotFound, stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			l := newPatient(t, s, 1)
			l.start(t, "")
			if err := made(s.CreateLog(t.Context(), on(t, l.spare[0]))); err != nil {
				t.Fatal(err)
			}
			return func(ctx context.Context, s *Store) (any, error) { return nil, s.AbandonReplacement(ctx, l.LogID, 0) },
				func() error { return books(t, s, l.spare[0], oneLog) }
		}},
		{action: "RecordLogEvent", how: "with a key", at: tableEvents, stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			a := open(t, s, makeLog(t, s).LogID)
			r := lossOf(a)
			r.IdempotencyKey = uuid.NewString()
			return func(ctx context.Context, s *Store) (any, error) { return nil, s.RecordLogEvent(ctx, r) }, func() error {
				return equal("entries", entriesOf(t, shared.store, JournalDataLossAccepted, a.LogID), 1)
			}
		}},
		{action: "DeleteLog", again: ErrNotFound, stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			l := makeLog(t, s)
			id := l.Replicas[0].DaemonID
			if err := made(s.CreateLog(t.Context(), on(t, id))); err != nil {
				t.Fatal(err)
			}
			return func(ctx context.Context, s *Store) (any, error) { return nil, s.DeleteLog(ctx, l.LogID, 0) },
				func() error { return books(t, s, id, oneLog) }
		}},
	}
}

func books(t *testing.T, s *Store, id string, want int64) error {
	return equal("reserved bytes", reserved(t, s, id), want)
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

// entriesOf is how many entries of a kind the journal has about a log or a daemon.
func entriesOf(t *testing.T, s *Store, kind JournalKind, about string) int {
	t.Helper()
	n := 0
	resp, err := s.client.Get(t.Context(), prefixEvents, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range resp.Kvs {
		if rec, err := decode[journalRecord](string(kv.Key), kv.Value); err == nil && rec.Kind == kind && (rec.LogID == about || rec.DaemonID == about) {
			n++
		}
	}
	return n
}

// TestEveryAnswerIsLost holds the table of guards against the answers that are lost.
func TestEveryAnswerIsLost(t *testing.T) {
	t.Parallel()
	rows, all := guards(t), lostAnswers()
	for _, row := range rows {
		if !slices.ContainsFunc(all, func(l lostAnswer) bool { return l.action == row }) {
			t.Errorf("doc.go's table has %q, and its answer is never lost", row)
		}
	}
	for _, l := range all {
		if !slices.Contains(rows, l.action) {
			t.Errorf("an answer to %q is lost, which doc.go's table does not have", l.action)
		}
	}
}

// TestLostAnswers applies each kind of transaction and loses its answer. The
// caller is told that it may have happened, and a repetition by another server
// finds its own work.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	for _, l := range lostAnswers() {
		t.Run(strings.ReplaceAll(strings.TrimSpace(l.action+" "+l.how), " ", "-"), func(t *testing.T) {
			t.Parallel()
			edge, other := shared.edges, shared.store
			if l.servers != nil {
				edge, other = l.servers(t)
			}
			call, after := l.stage(t, other)

			p := &plan{at: l.at, skip: l.skip, lose: true}
			first, err := call(p.in(t.Context()), edge)
			p.happened(t)
			if !errors.Is(err, ErrUnavailable) {
				t.Fatalf("with its answer lost it answered %+v, %v", first, err)
			}
			again, err := call(t.Context(), other)
			if err := errors.Join(answered(err, l.again), after()); err != nil {
				t.Error(err)
			}
			if !l.same {
				return
			}
			// Any number of times, from any server.
			third, err := call(t.Context(), edge)
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
	if n := entriesOf(t, shared.store, JournalDataLossAccepted, a.LogID); n != 1 || commits != 1 {
		t.Errorf("%d entries, %d commits", n, commits)
	}
}
