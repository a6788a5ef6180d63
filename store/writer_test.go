package store

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/gravenio/graven/grant"
)

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

// An etcd that was set back does not have the leases that servers keep to share:
// nobody who asks them for something hears of that.
func TestALostSharedLeaseIsReplaced(t *testing.T) {
	t.Parallel()
	s := second(t, Options{})
	l := makeLog(t, s)
	key := uuid.NewString()
	for i, lease := range []*sharedLease{&s.journalLease, &s.idem} {
		open(t, s, l.Name, func(o *OpenLogRequest) { o.Takeover, o.IdempotencyKey = true, fmt.Sprint(key, i) })
		lost := lease.id
		if _, err := s.client.Revoke(t.Context(), lost); err != nil {
			t.Fatal(err)
		}
		open(t, s, l.Name, func(o *OpenLogRequest) { o.Takeover, o.IdempotencyKey = true, fmt.Sprint(key, i, "again") })
		if lease.id == lost {
			t.Errorf("lease %d is still the one that is lost", i)
		}
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

// An opener is told whether the epoch before ended by a close.
func TestOpenTellsOfTheClose(t *testing.T) {
	t.Parallel()
	s := shared.store
	l := makeLog(t, s)
	a := open(t, s, l.Name)
	if a.AfterClose {
		t.Error("the first open comes after a close")
	}
	takeover := func(r *OpenLogRequest) { r.Takeover = true }
	if a = open(t, s, l.Name, takeover); a.AfterClose {
		t.Error("a takeover comes after a close")
	}
	if err := s.CloseLog(t.Context(), ref(a)); err != nil {
		t.Fatal(err)
	}
	key := uuid.NewString()
	for range 2 { // the repetition is answered the same
		if a = open(t, s, l.Name, func(r *OpenLogRequest) { r.IdempotencyKey = key }); !a.AfterClose {
			t.Error("an open after a close does not say so")
		}
	}
	if a = open(t, s, l.Name, takeover); a.AfterClose {
		t.Error("an open after a writer that did not close")
	}
}
