package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/gravenio/graven/grant"
	"github.com/gravenio/graven/placement"
)

func reserved(t *testing.T, s *Store, id string) int64 {
	t.Helper()
	es, _, err := s.read(t.Context(), prefixSpace+id)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := decode[spaceRecord](es[0].key, es[0].value)
	if err != nil {
		t.Fatal(err)
	}
	return rec.ReservedBytes
}

func TestCreateReserves(t *testing.T) {
	t.Parallel()
	s := shared.store
	l := makeLog(t, s)
	if !isUUID(l.LogID) || l.SetVersion != 1 || l.Epoch != 0 || l.State != LogClosed || len(l.Replicas) != 3 ||
		l.ReplicaBytes != 1<<20+ReplicaOverheadBytes || l.ModRevision == 0 {
		t.Errorf("created %+v", l)
	}
	ids := map[string]bool{}
	for _, r := range l.Replicas {
		ids[r.ReplicaID] = true
		if r.State != ReplicaAllocated || !isUUID(r.ReplicaID) {
			t.Errorf("replica %+v", r)
		}
		if got := reserved(t, s, r.DaemonID); got != l.ReplicaBytes {
			t.Errorf("%d bytes reserved on %s, want %d", got, r.DaemonID, l.ReplicaBytes)
		}
		if d, _ := s.View().Daemon(r.DaemonID); d.FreeBytes != d.CapacityBytes-l.ReplicaBytes {
			t.Errorf("view: %+v", d)
		}
	}
	if len(ids) != 3 {
		t.Error("replica IDs repeat")
	}
	for _, key := range []string{l.LogID, l.Name} {
		if got, ok := s.View().Log(key); !ok || !reflect.DeepEqual(got, *l) {
			t.Errorf("view by %s: %+v", key, got)
		}
	}
}

func TestCreateGuards(t *testing.T) {
	t.Parallel()
	s := shared.store
	base := func() CreateLogRequest {
		return CreateLogRequest{Name: logName(t), Daemons: daemons(t, s, 3), AckQuorum: 2, CapacityBytes: 4096}
	}
	taken := base()
	if _, err := s.CreateLog(t.Context(), taken); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		edit func(r *CreateLogRequest)
		want error
		what string // the field, or the daemon rule
	}{
		{"name taken", func(r *CreateLogRequest) { r.Name = taken.Name }, ErrNameTaken, ""},
		{"name with a slash", func(r *CreateLogRequest) { r.Name = "a/b" }, ErrInvalid, "name"},
		{"no name", func(r *CreateLogRequest) { r.Name = "" }, ErrInvalid, "name"},
		{"name that reads as an ID", func(r *CreateLogRequest) { r.Name = uuid.NewString() }, ErrInvalid, "name"},
		{"and in its other form", func(r *CreateLogRequest) { r.Name = strings.ReplaceAll(uuid.NewString(), "-", "") }, ErrInvalid, "name"},
		{"no daemons", func(r *CreateLogRequest) { r.Daemons = nil }, ErrInvalid, "replicas"},
		{"one daemon twice", func(r *CreateLogRequest) { r.Daemons[1] = r.Daemons[0] }, ErrInvalid, "daemons"},
		{"quorum below majority", func(r *CreateLogRequest) { r.AckQuorum = 1 }, ErrInvalid, "ack_quorum"},
		{"quorum above all", func(r *CreateLogRequest) { r.AckQuorum = 4 }, ErrInvalid, "ack_quorum"},
		{"no bytes", func(r *CreateLogRequest) { r.CapacityBytes = 0 }, ErrInvalid, "capacity_bytes"},
		{"far too many bytes", func(r *CreateLogRequest) { r.CapacityBytes = 1 << 62 }, ErrInvalid, "capacity_bytes"},
		{"bad key", func(r *CreateLogRequest) { r.IdempotencyKey = "a/b" }, ErrInvalid, "Idempotency-Key"},
		{"unknown daemon", func(r *CreateLogRequest) { r.Daemons[1] = "nobody" }, ErrConflict, "unknown"},
		{"daemon down", func(r *CreateLogRequest) { expire(t, s, prefixLive+r.Daemons[2]) }, ErrConflict, "down"},
		{"no room", func(r *CreateLogRequest) { r.CapacityBytes = 1<<30 - ReplicaOverheadBytes + 1 }, ErrConflict, "space"},
		{"just enough room", func(r *CreateLogRequest) { r.CapacityBytes = 1<<30 - ReplicaOverheadBytes }, nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := base()
			tc.edit(&r)
			_, err := s.CreateLog(t.Context(), r)
			if !errors.Is(err, tc.want) {
				t.Fatalf("CreateLog = %v, want %v", err, tc.want)
			}
			var bad *InvalidError
			if errors.As(err, &bad) && bad.Field != tc.what {
				t.Errorf("field %s, want %s", bad.Field, tc.what)
			}
			var unfit *UnfitError
			if errors.As(err, &unfit) && unfit.Rule != tc.what {
				t.Errorf("rule %s, want %s", unfit.Rule, tc.what)
			}
			if tc.want != nil {
				for _, id := range r.Daemons {
					if id != "nobody" && reserved(t, s, id) != 0 {
						t.Errorf("%s has bytes reserved for a log that was not made", id)
					}
				}
			}
		})
	}
}

// TestRacingCreatesNeverOverReserve: many creates, deletes and placements at
// once through two servers on daemons that have room for a part of them.
func TestRacingCreatesNeverOverReserve(t *testing.T) {
	t.Parallel()
	s, other := shared.store, second(t, Options{})
	const capacity, slots, workers, tries = 1 << 20, 12, 16, 4
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	ids := make([]string, 4)
	for i := range ids {
		ids[i] = daemon(t, s, func(r *RegisterRequest) {
			r.Capacity = slots * (capacity + ReplicaOverheadBytes)
			r.Free = r.Capacity
		}).DaemonID
	}
	var mu sync.Mutex
	held := map[string]int64{} // what the creates were promised
	made := 0
	var wg sync.WaitGroup
	for w := range workers {
		rnd := rand.New(rand.NewPCG(seed, uint64(w)))
		st := []*Store{s, other}[w%2]
		wg.Go(func() {
			for range tries {
				pick := slices.Clone(ids)
				rnd.Shuffle(len(pick), func(i, j int) { pick[i], pick[j] = pick[j], pick[i] })
				l, err := st.CreateLog(t.Context(), CreateLogRequest{
					Name: logName(t), Daemons: pick[:3], AckQuorum: 2, CapacityBytes: capacity,
				})
				if err != nil {
					if !errors.Is(err, ErrConflict) {
						t.Errorf("CreateLog: %v", err)
					}
					continue
				}
				keep := rnd.IntN(3) > 0
				if !keep {
					if err := st.DeleteLog(t.Context(), l.LogID, 0); errors.Is(err, ErrConflict) {
						keep = true // contention; it is still there
					} else if err != nil {
						t.Errorf("DeleteLog: %v", err)
					}
				}
				if keep {
					mu.Lock()
					made++
					for _, r := range l.Replicas {
						held[r.DaemonID] += l.ReplicaBytes
					}
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if made == 0 {
		t.Fatal("no create succeeded")
	}
	for _, id := range ids {
		d, _ := s.View().Daemon(id)
		if got := reserved(t, s, id); got != held[id] || got > d.CapacityBytes {
			t.Errorf("%s: %d bytes reserved, %d promised, capacity %d", id, got, held[id], d.CapacityBytes)
		}
	}
	t.Logf("%d logs on %d daemons", made, len(ids))
}

func TestRacingCreatesOfOneName(t *testing.T) {
	t.Parallel()
	s := shared.store
	ids, name := daemons(t, s, 3), logName(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for range 8 {
		wg.Go(func() {
			_, err := s.CreateLog(t.Context(), CreateLogRequest{Name: name, Daemons: ids, AckQuorum: 2, CapacityBytes: 4096})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made++
			} else if !errors.Is(err, ErrNameTaken) && !errors.Is(err, ErrConflict) {
				t.Errorf("CreateLog: %v", err)
			}
		})
	}
	wg.Wait()
	if got := reserved(t, s, ids[0]); made != 1 || got != 4096+ReplicaOverheadBytes {
		t.Errorf("%d logs of one name, %d bytes reserved", made, got)
	}
}

func TestIdempotencyKeys(t *testing.T) {
	t.Parallel()
	s, other := shared.store, second(t, Options{})
	r := CreateLogRequest{
		Name: logName(t), Daemons: daemons(t, s, 3), AckQuorum: 2, CapacityBytes: 4096, IdempotencyKey: uuid.NewString(),
	}
	first, err := s.CreateLog(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	again := r
	again.Daemons = daemons(t, s, 3) // placement chose others
	second, err := other.CreateLog(t.Context(), again)
	if err != nil || second.LogID != first.LogID || second.Replicas[0].ReplicaID != first.Replicas[0].ReplicaID {
		t.Errorf("the repetition: %+v, %v", second, err)
	}
	if reserved(t, s, again.Daemons[0]) != 0 || reserved(t, s, r.Daemons[0]) != first.ReplicaBytes {
		t.Error("the repetition reserved bytes")
	}
	again.CapacityBytes++
	if _, err := s.CreateLog(t.Context(), again); !errors.Is(err, ErrIdempotencyMismatch) {
		t.Errorf("another request under the key: %v", err)
	}
	// The key is another action's.
	if _, err := s.OpenLog(t.Context(), OpenLogRequest{Log: r.Name, IdempotencyKey: r.IdempotencyKey}); !errors.Is(err, ErrIdempotencyMismatch) {
		t.Errorf("an open under a create's key: %v", err)
	}
	withKey := func(o *OpenLogRequest) { o.IdempotencyKey = r.IdempotencyKey + "-open" }
	a := open(t, s, r.Name, withKey)
	if b := open(t, other, r.Name, withKey); !reflect.DeepEqual(a, b) {
		t.Errorf("the repetition of an open:\n%+v\n%+v", b, a)
	}
	if l, _ := s.View().Log(r.Name); l.Epoch != 1 {
		t.Errorf("two opens of one key: epoch %d", l.Epoch)
	}
}

func TestRacingRepetitionsMakeOneLog(t *testing.T) {
	t.Parallel()
	s := shared.store
	r := CreateLogRequest{
		Name: logName(t), Daemons: daemons(t, s, 3), AckQuorum: 2, CapacityBytes: 4096, IdempotencyKey: uuid.NewString(),
	}
	ids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			l, err := s.CreateLog(t.Context(), r)
			if err != nil {
				t.Errorf("CreateLog: %v", err)
				return
			}
			ids[i] = l.LogID
		})
	}
	wg.Wait()
	if len(slices.Compact(ids)) != 1 {
		t.Errorf("one key, several logs: %v", ids)
	}
}

func TestOpenHandsOutAnEpoch(t *testing.T) {
	t.Parallel()
	s := shared.store
	l := makeLog(t, s)
	a := open(t, s, l.Name)
	if a.Epoch != 1 || a.SetVersion != 1 || a.AckQuorum != 2 || a.CapacityBytes != l.CapacityBytes ||
		a.LeaseTTL != time.Minute || a.RenewEvery != 20*time.Second || a.LogID != l.LogID {
		t.Errorf("open: %+v", a)
	}
	for i, e := range a.Replicas {
		d, _ := s.View().Daemon(e.DaemonID)
		if e.ReplicaID != l.Replicas[i].ReplicaID || !e.Live || e.Addresses != d.Addresses || e.State != ReplicaAllocated {
			t.Errorf("endpoint %+v", e)
		}
	}
	keys, err := grant.ParseKeys(s.GrantKeys())
	if err != nil {
		t.Fatal(err)
	}
	c, err := grant.Verify(a.Grant, keys)
	if err != nil || c.Cluster != s.ClusterID() || c.LogID != l.LogID || c.Epoch != 1 || c.Nonce != a.Nonce || len(c.Replicas) != 3 {
		t.Errorf("grant: %+v, %v", c, err)
	}
	got, _ := s.View().Log(l.LogID)
	if got.State != LogOpen || got.Writer == nil || got.Writer.WriterID != a.WriterID || got.Writer.PID != 7 {
		t.Errorf("view: %+v", got)
	}
	if err := s.CloseLog(t.Context(), ref(a)); err != nil {
		t.Fatal(err)
	}
	b := open(t, s, l.LogID, func(r *OpenLogRequest) { r.MinEpoch = 7 })
	if b.Epoch != 7 || b.Nonce == a.Nonce {
		t.Errorf("min_epoch 7: epoch %d, nonces %s %s", b.Epoch, a.Nonce, b.Nonce)
	}
	if err := s.CloseLog(t.Context(), ref(b)); err != nil {
		t.Fatal(err)
	}
	if c := open(t, s, l.LogID, func(r *OpenLogRequest) { r.MinEpoch = 3 }); c.Epoch != 8 {
		t.Errorf("a min_epoch that is low: epoch %d", c.Epoch)
	}
}

func TestOpenGuards(t *testing.T) {
	t.Parallel()
	s := shared.store
	if _, err := s.OpenLog(t.Context(), OpenLogRequest{Log: "no-such-log"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown name: %v", err)
	}
	if _, err := s.OpenLog(t.Context(), OpenLogRequest{Log: uuid.NewString()}); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown ID: %v", err)
	}
	l := makeLog(t, s)
	for _, r := range []OpenLogRequest{
		{Log: "a/b"}, {Log: l.Name, LeaseTTL: time.Second}, {Log: l.Name, MinEpoch: MaxEpoch + 1}, {Log: l.Name, PID: -1},
	} {
		if _, err := s.OpenLog(t.Context(), r); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	a := open(t, s, l.Name)
	_, err := s.OpenLog(t.Context(), OpenLogRequest{Log: l.Name})
	var used *InUseError
	if !errors.As(err, &used) || used.Writer.WriterID != a.WriterID || used.Writer.Host != "h" {
		t.Errorf("a second open: %v", err)
	}
	b := open(t, s, l.Name, func(r *OpenLogRequest) { r.Takeover = true })
	if b.Epoch != 2 {
		t.Errorf("takeover: epoch %d", b.Epoch)
	}
	_, err = s.Renew(t.Context(), ref(a))
	var sup *SupersededError
	if !errors.As(err, &sup) || sup.Epoch != 2 {
		t.Errorf("renewal of the one taken over from: %v", err)
	}
	if err := s.CloseLog(t.Context(), ref(a)); !errors.Is(err, ErrSuperseded) {
		t.Errorf("its close: %v", err)
	}
	if _, err := s.Renew(t.Context(), ref(b)); err != nil {
		t.Errorf("renewal of the new one: %v", err)
	}
	expire(t, s, prefixWriters+l.LogID)
	if got, _ := s.View().Log(l.LogID); got.State != LogClosed || got.Epoch != 2 {
		t.Errorf("after the lease: %+v", got)
	}
	if c := open(t, s, l.Name); c.Epoch != 3 {
		t.Errorf("open after the lease: epoch %d", c.Epoch)
	}
}

func TestAClientPreemptsARecoveringAgent(t *testing.T) {
	t.Parallel()
	s := shared.store
	l := makeLog(t, s)
	recovering := func(r *OpenLogRequest) { r.Recovering = true }
	open(t, s, l.Name, recovering)
	if got, _ := s.View().Log(l.LogID); got.State != LogRecovering {
		t.Errorf("state %s", got.State)
	}
	if _, err := s.OpenLog(t.Context(), OpenLogRequest{Log: l.Name, Recovering: true}); !errors.Is(err, ErrLogInUse) {
		t.Errorf("a second agent: %v", err)
	}
	if b := open(t, s, l.Name); b.Epoch != 2 {
		t.Errorf("the client: epoch %d", b.Epoch)
	}
	if _, err := s.OpenLog(t.Context(), OpenLogRequest{Log: l.Name, Recovering: true}); !errors.Is(err, ErrLogInUse) {
		t.Errorf("an agent against a client: %v", err)
	}
}

func TestRacingOpensHaveOneWinner(t *testing.T) {
	t.Parallel()
	s, other := shared.store, second(t, Options{})
	l := makeLog(t, s)
	for _, takeover := range []bool{false, true} {
		var mu sync.Mutex
		epochs := map[uint64]int{}
		var wg sync.WaitGroup
		for i := range 8 {
			st := []*Store{s, other}[i%2]
			wg.Go(func() {
				a, err := st.OpenLog(t.Context(), OpenLogRequest{Log: l.LogID, Takeover: takeover})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					epochs[a.Epoch]++
				} else if takeover || !errors.Is(err, ErrLogInUse) {
					t.Errorf("takeover %v: %v", takeover, err)
				}
			})
		}
		wg.Wait()
		if want := map[bool]int{false: 1, true: 8}[takeover]; len(epochs) != want {
			t.Errorf("takeover %v: %d epochs, want %d: %v", takeover, len(epochs), want, epochs)
		}
		for e, n := range epochs {
			if n != 1 {
				t.Errorf("epoch %d was handed out %d times", e, n)
			}
		}
	}
}

func TestRenew(t *testing.T) {
	t.Parallel()
	s := shared.store
	l := makeLog(t, s)
	a := open(t, s, l.Name)
	// The daemons move while the writer holds on.
	id := l.Replicas[0].DaemonID
	d, _ := s.View().Daemon(id)
	to := d.Addresses
	to.TCPPort += 20000
	if _, err := s.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: id, Incarnation: 1, Free: d.CapacityBytes, Addresses: to}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Renew(t.Context(), ref(a))
	if err != nil || got.LeaseTTL != time.Minute || got.SetVersion != 1 || len(got.Replicas) != 3 || got.Replicas[0].Addresses != to {
		t.Fatalf("Renew = %+v, %v", got, err)
	}
	ahead := ref(a)
	ahead.Epoch++
	if _, err := s.Renew(t.Context(), ahead); !errors.Is(err, ErrEpochAhead) {
		t.Errorf("a later epoch than recorded: %v", err)
	}
	stranger := ref(a)
	stranger.WriterID = uuid.NewString()
	if _, err := s.Renew(t.Context(), stranger); !errors.Is(err, ErrSuperseded) {
		t.Errorf("another writer: %v", err)
	}

	// Its lease is lost; nobody has opened: it gets one again in its epoch.
	expire(t, s, prefixWriters+l.LogID)
	if _, err := s.Renew(t.Context(), ref(a)); err != nil {
		t.Fatalf("after a lost lease: %v", err)
	}
	if got, _ := s.View().Log(l.LogID); got.State != LogOpen || got.Epoch != 1 || got.Writer.WriterID != a.WriterID || got.Writer.Host != "h" {
		t.Errorf("restored: %+v", got)
	}
	if _, err := s.OpenLog(t.Context(), OpenLogRequest{Log: l.Name}); !errors.Is(err, ErrLogInUse) {
		t.Errorf("an open against the restored writer: %v", err)
	}

	if err := s.CloseLog(t.Context(), ref(a)); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseLog(t.Context(), ref(a)); err != nil {
		t.Errorf("a second close: %v", err)
	}
	if _, err := s.Renew(t.Context(), ref(a)); !errors.Is(err, ErrWriterClosed) {
		t.Errorf("renewal after the close: %v", err)
	}
	if got, _ := s.View().Log(l.LogID); got.State != LogClosed {
		t.Errorf("a late renewal brought the writer back: %+v", got)
	}
	if _, err := s.Renew(t.Context(), WriterRef{Log: "nothing", Epoch: 1}); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown log: %v", err)
	}
}

func TestNoPhantomWriterOfANeverOpenedLog(t *testing.T) {
	t.Parallel()
	s := shared.store
	l := makeLog(t, s)
	if _, err := s.Renew(t.Context(), WriterRef{Log: l.LogID}); !errors.Is(err, ErrSuperseded) {
		t.Errorf("Renew: %v", err)
	}
	if err := s.CloseLog(t.Context(), WriterRef{Log: l.LogID}); !errors.Is(err, ErrSuperseded) {
		t.Errorf("CloseLog: %v", err)
	}
}

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
		{"not a replica", func(r *SetReplicasRequest) { r.Present = []string{uuid.NewString()} }, ErrInvalid},
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
	want := []Step{{OperatorID: "remove-replica-" + first.ReplicaID, Kind: StepRemoveReplica, LogID: l.LogID, ReplicaID: first.ReplicaID}}
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
	if err := s.SetDraining(t.Context(), ids[0], true, 0); err != nil {
		t.Fatal(err)
	}
	fails(placement.RuleDraining)
	if err := s.SetDraining(t.Context(), ids[0], false, 0); err != nil {
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
		&InvalidError{"f", "rule"}, &InUseError{LogID: "l"}, &SupersededError{"l", 3},
		&RolledBackError{"d", 1, 2}, &DaemonError{"d", "why", ErrDaemonBusy}, &UnfitError{DaemonID: "d", Rule: "space"},
	} {
		if text := fmt.Sprint(err); len(text) < 10 || errors.Unwrap(err) == nil {
			t.Errorf("%T: %q", err, text)
		}
	}
}
