package store

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
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
	name := logName(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	made, all := 0, daemons(t, s, 8) // each has its own, so only the name can clash
	for _, id := range all {
		wg.Go(func() {
			_, err := s.CreateLog(t.Context(), CreateLogRequest{Name: name, Daemons: []string{id}, AckQuorum: 1, CapacityBytes: 4096})
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
	var got int64
	for _, id := range all {
		got += reserved(t, s, id)
	}
	if made != 1 || got != 4096+ReplicaOverheadBytes {
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
	if err != nil || second.LogID != first.LogID || second.Replicas[0].ReplicaID != first.Replicas[0].ReplicaID ||
		second.ModRevision != first.ModRevision {
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

func TestCreatedLog(t *testing.T) {
	t.Parallel()
	s := shared.store
	r := CreateLogRequest{
		Name: logName(t), Daemons: daemons(t, s, 1), AckQuorum: 1, CapacityBytes: 4096,
		IdempotencyKey: uuid.NewString(), RequestHash: "h1",
	}
	if got, err := s.CreatedLog(t.Context(), r.IdempotencyKey, "h1"); got != nil || err != nil {
		t.Errorf("before: %+v, %v", got, err)
	}
	l, err := s.CreateLog(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.CreatedLog(t.Context(), r.IdempotencyKey, "h1"); err != nil || got.LogID != l.LogID || got.ModRevision != l.ModRevision {
		t.Errorf("after: %+v, %v", got, err)
	}
	if _, err := s.CreatedLog(t.Context(), r.IdempotencyKey, "h2"); !errors.Is(err, ErrIdempotencyMismatch) {
		t.Errorf("another request: %v", err)
	}
	if got, err := s.CreatedLog(t.Context(), "", "h1"); got != nil || err != nil {
		t.Errorf("without a key: %+v, %v", got, err)
	}
	if _, err := s.CreatedLog(t.Context(), "a/b", "h1"); !errors.Is(err, ErrInvalid) {
		t.Errorf("a bad key: %v", err)
	}
}
