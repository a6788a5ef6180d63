package store

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
)

func daemonRaces() []race {
	s := shared.store
	return []race{
		{"Register", "drained meanwhile", tableDaemons, func(t *testing.T, p *plan) error {
			r := daemon(t, s)
			r.Incarnation++
			p.before = func() error { return drain(t.Context(), s, r.DaemonID, true, 0) }
			_, err := shared.edges.Register(p.in(t.Context()), r)
			rec, _ := recordOf[daemonRecord](t, prefixDaemons+r.DaemonID)
			return errors.Join(answered(err, nil), equal("draining", rec.Draining, true), equal("incarnation", rec.Incarnation, 2))
		}},
		{"Register", "a later incarnation meanwhile", "", func(t *testing.T, p *plan) error {
			r := daemon(t, s)
			later := r
			r.Incarnation, later.Incarnation = 2, 3
			p.before = func() error { return reg(t.Context(), later) }
			_, err := shared.edges.Register(p.in(t.Context()), r)
			rec, _ := recordOf[daemonRecord](t, prefixDaemons+r.DaemonID)
			live, _ := recordOf[liveRecord](t, prefixLive+r.DaemonID)
			return errors.Join(answered(err, ErrPoolRolledBack),
				equal("incarnation", rec.Incarnation, 3), equal("live incarnation", live.Incarnation, 3))
		}},
		{"Register", "expired meanwhile", "", func(t *testing.T, p *plan) error {
			r := daemon(t, s)
			p.before = dies(t, prefixLive+r.DaemonID)
			_, err := shared.edges.Register(p.in(t.Context()), r)
			live, _ := recordOf[liveRecord](t, prefixLive+r.DaemonID)
			return errors.Join(answered(err, nil), equal("dead", live == nil, false))
		}},
		{"Register", "deleted meanwhile", "", func(t *testing.T, p *plan) error {
			r := daemon(t, s)
			expire(t, s, prefixLive+r.DaemonID)
			p.before = func() error { return s.DeleteDaemon(t.Context(), r.DaemonID, false, 0) }
			_, err := shared.edges.Register(p.in(t.Context()), r)
			owner, _ := recordOf[ownerRecord](t, prefixPools+r.PoolID)
			books, _ := recordOf[spaceRecord](t, prefixSpace+r.DaemonID)
			return errors.Join(answered(err, nil), equal("pool without an owner", owner == nil, false),
				equal("no books", books == nil, false))
		}},
		{"Register", "given up meanwhile", tableGone, func(t *testing.T, p *plan) error {
			// Its ID has nothing any more, as before, but that replicas of logs were on it:
			// they would be taken for ones in this pool.
			r, first := daemonReq(t), daemonReq(t)
			first.DaemonID = r.DaemonID
			p.before = func() error {
				if err := reg(t.Context(), first); err != nil {
					return err
				}
				if err := made(s.CreateLog(t.Context(), on(t, first.DaemonID))); err != nil {
					return err
				}
				return givenUp(t, first.DaemonID)()
			}
			_, err := shared.edges.Register(p.in(t.Context()), r)
			return answered(err, ErrGone)
		}},
		{"Register", "its log deleted meanwhile", "", func(t *testing.T, p *plan) error {
			// It is told to keep what the log's record still named; the next heartbeat
			// corrects that, and until its word the bytes stay reserved.
			r := daemon(t, s)
			l, err := s.CreateLog(t.Context(), on(t, r.DaemonID))
			if err != nil {
				t.Fatal(err)
			}
			w := open(t, s, l.LogID)
			r.Incarnation++
			r.Replicas = []ReplicaSummary{{ReplicaID: l.Replicas[0].ReplicaID, LogID: l.LogID, Bytes: l.ReplicaBytes}}
			p.before = func() error {
				return errors.Join(s.CloseLog(t.Context(), ref(w)), s.DeleteLog(t.Context(), l.LogID, 0))
			}
			if err := handedOut(shared.edges.Register(p.in(t.Context()), r)); err != nil {
				return err
			}
			a, err := s.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: r.DaemonID, Incarnation: 2, Free: r.Free})
			if err != nil {
				return err
			}
			return errors.Join(equal("steps", len(a.Steps), 1), equal("reserved bytes", reserved(t, s, r.DaemonID), oneLog))
		}},
		{"Register", "a clone lives meanwhile", tableLive, func(t *testing.T, p *plan) error {
			// The clone says so in a heartbeat: its address in the TCP network, which is
			// compared, is the same.
			r := daemon(t, s)
			p.before = func() error {
				return beat(t.Context(), r, func(h *HeartbeatRequest) {
					h.Addresses = r.Addresses
					h.Addresses.RNICAddr, h.Addresses.RNICPort = "127.0.0.2", 7
				})
			}
			_, err := shared.edges.Register(p.in(t.Context()), r)
			return answered(err, ErrPoolCloned)
		}},
		{"Register", "the pool under another ID", tablePools, func(t *testing.T, p *plan) error {
			r, clone := daemonReq(t), daemonReq(t)
			clone.PoolID = r.PoolID
			p.before = func() error { return reg(t.Context(), clone) }
			_, err := shared.edges.Register(p.in(t.Context()), r)
			owner, _ := recordOf[ownerRecord](t, prefixPools+r.PoolID)
			return errors.Join(answered(err, ErrPoolMismatch), equal("owner", owner.DaemonID, clone.DaemonID))
		}},
		{"Register", "the address taken", tableAddresses, func(t *testing.T, p *plan) error {
			r, other := daemonReq(t), daemonReq(t)
			other.Addresses = r.Addresses
			p.before = func() error { return reg(t.Context(), other) }
			_, err := shared.edges.Register(p.in(t.Context()), r)
			return errors.Join(answered(err, ErrAddressInUse), ownsAll(t, other))
		}},
		{"Register", "the RDMA address taken", tableAddresses, func(t *testing.T, p *plan) error {
			r, other := daemonReq(t), daemonReq(t)
			r.RNICAddr, r.RNICPort = r.TCPAddr, r.TCPPort
			other.RNICAddr, other.RNICPort = r.RNICAddr, r.RNICPort
			p.before = func() error { return reg(t.Context(), other) }
			_, err := shared.edges.Register(p.in(t.Context()), r)
			return errors.Join(answered(err, ErrAddressInUse), ownsAll(t, other))
		}},
		{"Register", "books opened", tableSpace, func(t *testing.T, p *plan) error {
			r := daemonReq(t)
			books := spaceRecord{version: current(), ReservedBytes: 4096}
			p.before = func() error { return byHand(t.Context(), prefixSpace+r.DaemonID, books) }
			_, err := shared.edges.Register(p.in(t.Context()), r)
			return errors.Join(answered(err, nil), equal("reserved bytes", reserved(t, s, r.DaemonID), 4096))
		}},
		{"Heartbeat", "a later incarnation meanwhile", tableLive, func(t *testing.T, p *plan) error {
			r := daemon(t, s)
			later := r
			later.Incarnation++
			p.before = func() error { return reg(t.Context(), later) }
			_, err := shared.edges.Heartbeat(p.in(t.Context()), HeartbeatRequest{
				DaemonID: r.DaemonID, Incarnation: 1, Free: 1, Health: Health{Status: "degraded"},
			})
			live, _ := recordOf[liveRecord](t, prefixLive+r.DaemonID)
			return errors.Join(answered(err, ErrStaleIncarnation),
				equal("live incarnation", live.Incarnation, 2), equal("health", live.Health.Status, "ok"))
		}},
		{"Heartbeat", "expired meanwhile", "", func(t *testing.T, p *plan) error {
			r := daemon(t, s)
			p.before = dies(t, prefixLive+r.DaemonID)
			_, err := shared.edges.Heartbeat(p.in(t.Context()), HeartbeatRequest{
				DaemonID: r.DaemonID, Incarnation: 1, Free: 1, Health: Health{Status: "degraded"},
			})
			live, _ := recordOf[liveRecord](t, prefixLive+r.DaemonID)
			return errors.Join(answered(err, ErrLeaseExpired), equal("dead", live == nil, true))
		}},
		{"Heartbeat", "the new address taken", tableAddresses, func(t *testing.T, p *plan) error {
			r, other := daemon(t, s), daemonReq(t)
			p.before = func() error { return reg(t.Context(), other) }
			_, err := shared.edges.Heartbeat(p.in(t.Context()), HeartbeatRequest{
				DaemonID: r.DaemonID, Incarnation: 1, Free: r.Free, Addresses: other.Addresses,
			})
			return errors.Join(answered(err, ErrAddressInUse), ownsAll(t, other))
		}},
		{"Heartbeat", "the new RDMA address taken", tableAddresses, func(t *testing.T, p *plan) error {
			r, other := daemon(t, s), daemonReq(t)
			other.RNICAddr, other.RNICPort = r.TCPAddr, r.TCPPort
			to := r.Addresses
			to.RNICAddr, to.RNICPort = other.RNICAddr, other.RNICPort
			p.before = func() error { return reg(t.Context(), other) }
			_, err := shared.edges.Heartbeat(p.in(t.Context()), HeartbeatRequest{DaemonID: r.DaemonID, Incarnation: 1, Free: r.Free, Addresses: to})
			return errors.Join(answered(err, ErrAddressInUse), ownsAll(t, other))
		}},
		{"Leave", "a later incarnation meanwhile", tableLive, func(t *testing.T, p *plan) error {
			r := daemon(t, s)
			later := r
			later.Incarnation++
			p.before = func() error { return reg(t.Context(), later) }
			err := shared.edges.Leave(p.in(t.Context()), r.DaemonID, 1)
			live, _ := recordOf[liveRecord](t, prefixLive+r.DaemonID)
			return errors.Join(answered(err, ErrStaleIncarnation), equal("dead", live == nil, false))
		}},
		{"mark down", "drained meanwhile", tableDaemons, func(t *testing.T, p *plan) error {
			// The mark is made by hand: the servers' own would be first.
			r := daemonReq(t)
			rec := (&registering{req: r}).newRecord("", nil)
			rec.DownSince = time.Now().UTC()
			key := prefixDaemons + r.DaemonID
			if err := byHand(t.Context(), key, rec); err != nil {
				t.Fatal(err)
			}
			_, e := recordOf[daemonRecord](t, key)
			p.before = func() error { return drain(t.Context(), s, r.DaemonID, true, 0) }
			err := (&leader{s: shared.edges}).mark(p.in(t.Context()), downMark{id: r.DaemonID, rec: rec, mod: e.mod, since: time.Now()})
			now, _ := recordOf[daemonRecord](t, key)
			return errors.Join(answered(err, nil), equal("draining", now.Draining, true))
		}},
		{"mark down", "a daemon that lives", tableLive, func(t *testing.T, p *plan) error {
			r := daemon(t, s)
			key := prefixDaemons + r.DaemonID
			rec, e := recordOf[daemonRecord](t, key)
			err := (&leader{s: shared.edges}).mark(p.in(t.Context()), downMark{id: r.DaemonID, rec: *rec, mod: e.mod, since: time.Now()})
			now, _ := recordOf[daemonRecord](t, key)
			return errors.Join(answered(err, nil), equal("down", now.DownSince.IsZero(), true))
		}},
		{"SetDraining", "a later incarnation meanwhile", tableDaemons, func(t *testing.T, p *plan) error {
			r := daemon(t, s)
			later := r
			later.Incarnation++
			p.before = func() error { return reg(t.Context(), later) }
			err := drain(p.in(t.Context()), shared.edges, r.DaemonID, true, 0)
			rec, _ := recordOf[daemonRecord](t, prefixDaemons+r.DaemonID)
			return errors.Join(answered(err, nil), equal("incarnation", rec.Incarnation, 2), equal("draining", rec.Draining, true))
		}},
	}
}

// ownsAll says whether the daemon's addresses are its own.
func ownsAll(t *testing.T, r RegisterRequest) error {
	var errs []error
	for _, c := range r.claims() {
		owner, _ := recordOf[ownerRecord](t, c.key)
		if owner == nil {
			owner = &ownerRecord{}
		}
		errs = append(errs, equal("owner of "+c.field, owner.DaemonID, r.DaemonID))
	}
	return errors.Join(errs...)
}

func handedOut(_ *Registration, err error) error { return err }

// away is a daemon whose lease has ended and which is marked as down, so that
// nothing writes its record any more.
func away(t *testing.T) RegisterRequest {
	t.Helper()
	r := daemon(t, shared.store)
	expire(t, shared.store, prefixLive+r.DaemonID)
	eventually(t, "it is marked as down", func() bool {
		rec, _ := recordOf[daemonRecord](t, prefixDaemons+r.DaemonID)
		return !rec.DownSince.IsZero()
	})
	if err := shared.store.View().WaitRevision(t.Context(), etcdRevision(t, shared.store)); err != nil {
		t.Fatal(err)
	}
	return r
}

// bookRaces are those about what is reserved and condemned on a daemon, and
// about its end.
func bookRaces() []race {
	s := shared.store
	remains := func(t *testing.T, r RegisterRequest, err, want error) error {
		rec, _ := recordOf[daemonRecord](t, prefixDaemons+r.DaemonID)
		return errors.Join(answered(err, want), equal("deleted", rec == nil, false))
	}
	return []race{
		{"DeleteDaemon", "undrained meanwhile", tableDaemons, func(t *testing.T, p *plan) error {
			r := away(t)
			d, _ := s.View().Daemon(r.DaemonID)
			p.before = func() error { return drain(t.Context(), s, r.DaemonID, true, 0) }
			return remains(t, r, shared.edges.DeleteDaemon(p.in(t.Context()), r.DaemonID, false, d.ModRevision), ErrPrecondition)
		}},
		{"DeleteDaemon", "back meanwhile", "", func(t *testing.T, p *plan) error {
			r := away(t)
			p.before = func() error { return reg(t.Context(), r) }
			return remains(t, r, shared.edges.DeleteDaemon(p.in(t.Context()), r.DaemonID, false, 0), ErrDaemonBusy)
		}},
		{"DeleteDaemon", "back and in use meanwhile", "", func(t *testing.T, p *plan) error {
			r := away(t)
			p.before = func() error {
				if err := reg(t.Context(), r); err != nil {
					return err
				}
				if _, err := s.CreateLog(t.Context(), on(t, r.DaemonID)); err != nil {
					return err
				}
				expire(t, s, prefixLive+r.DaemonID)
				return nil
			}
			return remains(t, r, shared.edges.DeleteDaemon(p.in(t.Context()), r.DaemonID, false, 0), ErrDaemonBusy)
		}},
		{"DeleteDaemon", "a sign of life", tableLive, func(t *testing.T, p *plan) error {
			r := away(t)
			p.before = func() error {
				return byHand(t.Context(), prefixLive+r.DaemonID, liveRecord{version: current(), Incarnation: 1, Addresses: r.Addresses})
			}
			return remains(t, r, shared.edges.DeleteDaemon(p.in(t.Context()), r.DaemonID, false, 0), ErrDaemonBusy)
		}},
		{"DeleteDaemon", "bytes reserved meanwhile", tableSpace, func(t *testing.T, p *plan) error {
			r := away(t)
			p.before = func() error {
				return byHand(t.Context(), prefixSpace+r.DaemonID, spaceRecord{version: current(), ReservedBytes: 4096})
			}
			return remains(t, r, shared.edges.DeleteDaemon(p.in(t.Context()), r.DaemonID, false, 0), ErrDaemonBusy)
		}},
		{"DeleteDaemon", "a region condemned meanwhile", tableCondemned, func(t *testing.T, p *plan) error {
			r := away(t)
			p.before = func() error {
				return byHand(t.Context(), condemnedKey(r.DaemonID, uuid.NewString()), condemnedRecord{version: current(), Bytes: 4096})
			}
			err := shared.edges.DeleteDaemon(p.in(t.Context()), r.DaemonID, false, 0)
			rec, _ := recordOf[daemonRecord](t, prefixDaemons+r.DaemonID)
			return errors.Join(answered(err, ErrConflict), equal("deleted", rec == nil, false))
		}},
		{"removal results", "reserved meanwhile", tableSpace, func(t *testing.T, p *plan) error {
			c := newCondemned(t)
			p.before = func() error {
				_, err := s.CreateLog(t.Context(), on(t, c.r.DaemonID))
				return err
			}
			err := c.removed(t, shared.edges, p)
			return errors.Join(answered(err, nil), equal("reserved bytes", reserved(t, s, c.r.DaemonID), oneLog))
		}},
		{"removal results", "told twice at once", "", func(t *testing.T, p *plan) error {
			c := newCondemned(t)
			if _, err := s.CreateLog(t.Context(), on(t, c.r.DaemonID)); err != nil {
				t.Fatal(err)
			}
			p.before = func() error { return c.removed(t, s, &plan{}) }
			err := c.removed(t, shared.edges, p)
			return errors.Join(answered(err, nil), equal("reserved bytes", reserved(t, s, c.r.DaemonID), oneLog))
		}},
		{"removal results", "the tombstone gone meanwhile", tableCondemned, func(t *testing.T, p *plan) error {
			c := newCondemned(t)
			p.before = func() error { return gone(t.Context(), condemnedKey(c.r.DaemonID, c.replica)) }
			err := c.removed(t, shared.edges, p)
			return errors.Join(answered(err, nil), equal("reserved bytes", reserved(t, s, c.r.DaemonID), oneLog))
		}},
	}
}

// oneLog is what a log made by on takes on its daemon.
const oneLog = int64(4096 + ReplicaOverheadBytes)

// on is a request for a small log on the daemons.
func on(t *testing.T, daemons ...string) CreateLogRequest {
	return CreateLogRequest{Name: logName(t), Daemons: daemons, AckQuorum: len(daemons)/2 + 1, CapacityBytes: 4096}
}

// condemnedRegion is a daemon with the region of a deleted log, and nothing else.
type condemnedRegion struct {
	r       RegisterRequest
	replica string
}

func newCondemned(t *testing.T) *condemnedRegion {
	t.Helper()
	s := shared.store
	c := &condemnedRegion{r: daemon(t, s)}
	l, err := s.CreateLog(t.Context(), on(t, c.r.DaemonID))
	if err != nil {
		t.Fatal(err)
	}
	c.replica = l.Replicas[0].ReplicaID
	if err := s.CloseLog(t.Context(), ref(open(t, s, l.LogID))); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteLog(t.Context(), l.LogID, 0); err != nil {
		t.Fatal(err)
	}
	if n := reserved(t, s, c.r.DaemonID); n != oneLog {
		t.Fatalf("%d bytes are reserved for the condemned region, want %d", n, oneLog)
	}
	return c
}

// removed is the daemon's word that the region is gone.
func (c *condemnedRegion) removed(t *testing.T, s *Store, p *plan) error {
	_, err := s.Heartbeat(p.in(t.Context()), HeartbeatRequest{
		DaemonID: c.r.DaemonID, Incarnation: c.r.Incarnation, Free: c.r.Free,
		Results: []StepResult{{Kind: StepRemoveReplica, ReplicaID: c.replica, Done: true}},
	})
	return err
}

// clusterRaces are those about what is made once. Each has an etcd of its own.
func clusterRaces() []race {
	made := func(at, key string, writes int64) func(t *testing.T, p *plan) error {
		return func(t *testing.T, p *plan) error {
			edge, other := freshPair(t)
			p.at = at
			p.before = func() error { return loaded(other.loadIdentity(t.Context(), newLife{})) }
			if err := loaded(edge.loadIdentity(p.in(t.Context()), newLife{})); err != nil {
				return err
			}
			return equal("writes of "+key, versionOf(t, other, key), writes)
		}
	}
	return []race{
		{"identity", "another server makes the cluster", "cluster", made("cluster", keyCluster, 2)}, // and etcd's ID
		{"identity", "another server makes the key", "keys", made("keys", keyGrantKey, 1)},
		{"new life", "another server begins it", "cluster", func(t *testing.T, p *plan) error {
			edge, other := freshPair(t)
			ofAnotherEtcd(t, other)
			p.at, p.skip = "cluster", 1 // the first looks whether there is one
			p.before = func() error { return loaded(other.loadIdentity(t.Context(), newLife{})) }
			rec, _, err := edge.loadCluster(p.in(t.Context()), newLife{})
			if err != nil {
				return err
			}
			return errors.Join(equal("life", rec.Life, 1), equal("writes", versionOf(t, other, keyCluster), 2))
		}},
	}
}

// freshPair are two servers, which run no loops yet, on an etcd that nobody has
// written to. The calls of the first one follow the plans in their contexts.
func freshPair(t *testing.T) (edge, other *Store) {
	t.Helper()
	e := own(t, t.TempDir())
	var err error
	if edge, err = New(edgeClient(e.Client, nil), Options{Lease: e.Lease, Logger: quiet()}); err != nil {
		t.Fatal(err)
	}
	if other, err = New(e.Client, Options{Lease: e.Lease, Logger: quiet()}); err != nil {
		t.Fatal(err)
	}
	return edge, other
}

// ofAnotherEtcd writes the cluster's record as a backup of another etcd has it.
func ofAnotherEtcd(t *testing.T, s *Store) {
	t.Helper()
	old := clusterRecord{version: current(), ClusterID: uuid.NewString(), EtcdID: "1"}
	if err := handed(s.client.Do(t.Context(), put(keyCluster, old))); err != nil {
		t.Fatal(err)
	}
}

func loaded(_ *identity, err error) error { return err }

// versionOf is how often a key has been written.
func versionOf(t *testing.T, s *Store, key string) int64 {
	t.Helper()
	resp, err := s.client.Get(t.Context(), key)
	if err != nil || len(resp.Kvs) != 1 {
		t.Fatalf("%s: %v, %v", key, resp, err)
	}
	return resp.Kvs[0].Version
}

// TestDeletedWhileADaemonIsAway: a log goes while one of its daemons is away, and
// another takes its name and its place. When the daemon is back it removes the one
// and keeps the other, and its bytes are given back once.
func TestDeletedWhileADaemonIsAway(t *testing.T) {
	t.Parallel()
	s := shared.store
	ids := daemons(t, s, 3)
	first, err := s.CreateLog(t.Context(), on(t, ids...))
	if err != nil {
		t.Fatal(err)
	}
	w := open(t, s, first.LogID)
	region := func(l *Log) ReplicaSummary {
		return ReplicaSummary{ReplicaID: l.Replicas[0].ReplicaID, LogID: l.LogID, Bytes: l.ReplicaBytes}
	}
	d, _ := s.View().Daemon(ids[0])
	back := RegisterRequest{
		DaemonID: ids[0], PoolID: d.PoolID, Incarnation: 2, Addresses: d.Addresses, Capacity: d.CapacityBytes,
		Free: d.CapacityBytes - oneLog, Media: d.Media, Transports: d.Transports, LeaseTTL: time.Minute,
		Replicas: []ReplicaSummary{region(first)},
	}
	expire(t, s, prefixLive+ids[0])
	if err := errors.Join(s.CloseLog(t.Context(), ref(w)), s.DeleteLog(t.Context(), first.Name, 0)); err != nil {
		t.Fatal(err)
	}
	again := on(t, ids...)
	again.Name = first.Name
	if err := made(s.CreateLog(t.Context(), again)); unfit(err, "down") != nil {
		t.Fatalf("a create on a daemon that is away: %v", err)
	}
	a, err := s.Register(t.Context(), back)
	if err != nil || len(a.Replicas) != 1 || a.Replicas[0].Verdict != VerdictRemove || len(a.Missing) != 0 {
		t.Fatalf("back: %+v, %v", a, err)
	}
	second, err := s.CreateLog(t.Context(), again)
	if err != nil {
		t.Fatal(err)
	}
	if n := reserved(t, s, ids[0]); n != 2*oneLog {
		t.Errorf("%d bytes reserved for both, want %d", n, 2*oneLog)
	}
	back.Incarnation, back.Replicas = 3, []ReplicaSummary{region(first), region(second)}
	if a, err = s.Register(t.Context(), back); err != nil || a.Replicas[0].Verdict != VerdictRemove || a.Replicas[1].Verdict != VerdictKeep {
		t.Fatalf("back again: %+v, %v", a, err)
	}
	for range 2 {
		h, err := s.Heartbeat(t.Context(), HeartbeatRequest{
			DaemonID: ids[0], Incarnation: 3, Free: back.Free,
			Results: []StepResult{{Kind: StepRemoveReplica, ReplicaID: region(first).ReplicaID, Done: true}},
		})
		if err != nil || len(h.Steps) != 0 {
			t.Errorf("its word: %+v, %v", h, err)
		}
		if n := reserved(t, s, ids[0]); n != oneLog {
			t.Errorf("%d bytes reserved after its word, want %d", n, oneLog)
		}
	}
}
