package store

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestHeartbeatRenewsWithoutAWrite(t *testing.T) {
	t.Parallel()
	e := own(t, t.TempDir())
	s, stop, err := start(e, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	r := daemon(t, s)
	h := HeartbeatRequest{DaemonID: r.DaemonID, Incarnation: 1, Free: r.Free}
	before, rev := e.etcd.Server.KV().Rev(), etcdRevision(t, s)
	applied := e.etcd.Server.AppliedIndex()
	for range 100 {
		a, err := s.Heartbeat(t.Context(), h)
		if err != nil || a.LeaseTTL != time.Minute || a.RenewEvery != 20*time.Second {
			t.Fatalf("Heartbeat = %+v, %v", a, err)
		}
	}
	if after := e.etcd.Server.KV().Rev(); after != before || etcdRevision(t, s) != rev {
		t.Errorf("100 heartbeats moved the revision from %d to %d", before, after)
	}
	if after := e.etcd.Server.AppliedIndex(); after != applied {
		t.Errorf("100 heartbeats made %d raft entries", after-applied)
	}
}

func TestHeartbeatsKeepTheLeaseAlive(t *testing.T) {
	t.Parallel()
	s := shared.store
	r := daemon(t, s, func(r *RegisterRequest) { r.LeaseTTL = MinLeaseTTL })
	idle := daemon(t, s, func(r *RegisterRequest) { r.LeaseTTL = MinLeaseTTL })
	// The idle daemon's lease, made later, runs out while this one is renewed.
	eventually(t, "the idle daemon is down", func() bool {
		if _, err := s.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: r.DaemonID, Incarnation: 1, Free: r.Free}); err != nil {
			t.Fatal(err)
		}
		d, _ := s.View().Daemon(idle.DaemonID)
		return d.State == DaemonDown && !d.DownSince.IsZero()
	})
	if d, _ := s.View().Daemon(r.DaemonID); d.State != DaemonUp {
		t.Errorf("the renewed daemon is %s", d.State)
	}
	_, err := s.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: idle.DaemonID, Incarnation: 1})
	if !errors.Is(err, ErrLeaseExpired) {
		t.Errorf("Heartbeat after expiry: %v", err)
	}
}

func TestHeartbeatGuards(t *testing.T) {
	t.Parallel()
	s := shared.store
	r := daemon(t, s)
	beat := func(inc uint64) error {
		_, err := s.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: r.DaemonID, Incarnation: inc, Free: r.Free})
		return err
	}
	if err := beat(1); err != nil {
		t.Fatal(err)
	}
	if err := beat(2); !errors.Is(err, ErrLeaseExpired) {
		t.Errorf("an incarnation that never registered: %v", err)
	}
	r.Incarnation = 3
	if _, err := s.Register(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if err := beat(1); !errors.Is(err, ErrStaleIncarnation) {
		t.Errorf("an earlier incarnation: %v", err)
	}
	if err := s.Leave(t.Context(), r.DaemonID, 1); !errors.Is(err, ErrStaleIncarnation) {
		t.Errorf("Leave of an earlier incarnation: %v", err)
	}
	if err := beat(3); err != nil {
		t.Errorf("the current incarnation: %v", err)
	}
	if err := s.Leave(t.Context(), r.DaemonID, 3); err != nil {
		t.Fatal(err)
	}
	if d, _ := s.View().Daemon(r.DaemonID); d.State != DaemonDown {
		t.Errorf("after Leave it is %s", d.State)
	}
	if err := s.Leave(t.Context(), r.DaemonID, 3); err != nil {
		t.Errorf("a second Leave: %v", err)
	}
	if err := beat(3); !errors.Is(err, ErrLeaseExpired) {
		t.Errorf("after Leave: %v", err)
	}
	if err := s.DeleteDaemon(t.Context(), r.DaemonID, false, 0); err != nil {
		t.Fatal(err)
	}
	if err := beat(3); !errors.Is(err, ErrGone) {
		t.Errorf("after its deletion: %v", err)
	}
	if _, err := s.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: "never-heard-of", Incarnation: 1}); !errors.Is(err, ErrLeaseExpired) {
		t.Errorf("an unknown daemon: %v", err)
	}
}

// TestHeartbeatThroughALaggingServer: the other server's view knows nothing of
// the daemon, and etcd's word counts.
func TestHeartbeatThroughALaggingServer(t *testing.T) {
	t.Parallel()
	s := shared.store
	r := daemon(t, s)
	lagging, err := New(shared.etcd.Client, Options{Lease: shared.etcd.Lease, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	stop := runOnly(t, lagging.keeper.run)
	defer stop()
	if _, _, err := lagging.renewDaemon(t.Context(), r.DaemonID, 1); err != nil {
		t.Errorf("a live daemon: %v", err)
	}
	// And a view that still shows an earlier registration.
	lagging.view.t.row(r.DaemonID).live = s.view.live(r.DaemonID)
	r.Incarnation = 2
	if _, err := s.Register(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if _, _, err := lagging.renewDaemon(t.Context(), r.DaemonID, 2); err != nil {
		t.Errorf("the new incarnation: %v", err)
	}
	if _, _, err := lagging.renewDaemon(t.Context(), r.DaemonID, 1); !errors.Is(err, ErrStaleIncarnation) {
		t.Errorf("the old incarnation: %v", err)
	}
}

func TestLiveIsRewrittenForBigChangesOnly(t *testing.T) {
	t.Parallel()
	s := shared.store
	sum := ReplicaSummary{ReplicaID: uuid.NewString(), LogID: uuid.NewString(), Bytes: 1 << 29, DurableLSN: 1}
	r := daemon(t, s, func(r *RegisterRequest) {
		// The quarantined region leaves half; more than that is reported free,
		// so the books are what limits placement.
		r.Replicas = []ReplicaSummary{sum}
	})
	mod := func() int64 { return s.view.live(r.DaemonID).mod }
	beat := func(edit func(h *HeartbeatRequest)) bool {
		t.Helper()
		h := HeartbeatRequest{DaemonID: r.DaemonID, Incarnation: 1, Free: r.Free, Replicas: []ReplicaSummary{sum}}
		edit(&h)
		before := mod()
		if _, err := s.Heartbeat(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		return mod() != before
	}
	if beat(func(*HeartbeatRequest) {}) {
		t.Error("nothing changed and live was rewritten")
	}
	if beat(func(h *HeartbeatRequest) { h.Free -= r.Capacity/100 - 1 }) {
		t.Error("free bytes moved by less than a step and live was rewritten")
	}
	if !beat(func(h *HeartbeatRequest) { h.Free -= r.Capacity / 100 }) {
		t.Error("free bytes moved by a step and live was not rewritten")
	}
	if beat(func(h *HeartbeatRequest) { h.Free -= r.Capacity / 100; h.Replicas[0].DurableLSN = 99 }) {
		t.Error("an LSN moved and live was rewritten at once")
	}
	if !beat(func(h *HeartbeatRequest) { h.Replicas[0].Damage, h.Replicas[0].DamageLSN = "bad", 7 }) {
		t.Error("damage was found and live was not rewritten")
	}
	if !beat(func(h *HeartbeatRequest) { h.Replicas[0].Damage, h.Replicas[0].DamageLSN = "bad", 6 }) {
		t.Error("damage was found before and live was not rewritten")
	}
	if !beat(func(h *HeartbeatRequest) { h.Health = Health{Status: "degraded"} }) {
		t.Error("health changed and live was not rewritten")
	}
	if !beat(func(h *HeartbeatRequest) { h.Addresses = r.Addresses; h.Addresses.TCPPort += 20000 }) {
		t.Error("the address moved and live was not rewritten")
	}
	if !beat(func(h *HeartbeatRequest) { h.Free = 1000 }) || !beat(func(h *HeartbeatRequest) { h.Free = 1001 }) {
		t.Error("free bytes that limit placement moved and live was not rewritten")
	}
	d, _ := s.View().Daemon(r.DaemonID)
	if d.FreeBytes != 1001 || d.TCPPort != r.TCPPort+20000 {
		t.Errorf("view has %+v", d)
	}
}

func TestReportedLSNsAreRewrittenAfterAWhile(t *testing.T) {
	t.Parallel()
	s := second(t, Options{ReportEvery: time.Nanosecond})
	sum := ReplicaSummary{ReplicaID: uuid.NewString(), LogID: uuid.NewString(), DurableLSN: 1}
	r := daemon(t, s, func(r *RegisterRequest) { r.Replicas = []ReplicaSummary{sum} })
	sum.DurableLSN = 2
	if _, err := s.Heartbeat(t.Context(), HeartbeatRequest{
		DaemonID: r.DaemonID, Incarnation: 1, Free: r.Free, Replicas: []ReplicaSummary{sum},
	}); err != nil {
		t.Fatal(err)
	}
	if d, _ := s.View().Daemon(r.DaemonID); d.Replicas[0].DurableLSN != 2 {
		t.Errorf("view has %+v", d.Replicas)
	}
}

// An address in either network is one live daemon's alone, whether it comes with a
// registration or with a heartbeat; the refusal says which.
func TestAddressesAreClaimed(t *testing.T) {
	t.Parallel()
	s := shared.store
	for field, take := range map[string]func(r *RegisterRequest, from Addresses){
		"tcp_addr":  func(r *RegisterRequest, from Addresses) { r.TCPAddr, r.TCPPort = from.TCPAddr, from.TCPPort },
		"rnic_addr": func(r *RegisterRequest, from Addresses) { r.RNICAddr, r.RNICPort = from.RNICAddr, from.RNICPort },
	} {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			both := func(r *RegisterRequest) { r.RNICAddr, r.RNICPort = r.TCPAddr, r.TCPPort }
			a, b := daemon(t, s, both), daemon(t, s, both)
			beat := func(r RegisterRequest) error {
				_, err := s.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: r.DaemonID, Incarnation: 1, Free: r.Free, Addresses: r.Addresses})
				return err
			}
			refused := func(what string, err error) {
				t.Helper()
				if !errors.Is(err, ErrAddressInUse) || !strings.Contains(err.Error(), field) || !strings.Contains(err.Error(), a.DaemonID) {
					t.Errorf("%s: %v, want one that names %s and %s", what, err, field, a.DaemonID)
				}
			}
			moved, c := b, daemonReq(t)
			take(&moved, a.Addresses)
			refused("moving there", beat(moved))
			both(&c)
			take(&c, a.Addresses)
			refused("registering there", handedOut(s.Register(t.Context(), c)))
			if err := beat(b); err != nil {
				t.Errorf("staying where it is: %v", err)
			}
			away := a
			away.TCPPort, away.RNICPort = a.TCPPort+20000, a.RNICPort+20000
			if err := errors.Join(beat(away), beat(moved)); err != nil {
				t.Errorf("moving there when it is free: %v", err)
			}
			if err := s.Leave(t.Context(), b.DaemonID, 1); err != nil {
				t.Fatal(err)
			}
			if err := handedOut(s.Register(t.Context(), c)); err != nil {
				t.Errorf("registering there when that one has left: %v", err)
			}
		})
	}
}

func TestAddressMoveIsGuarded(t *testing.T) {
	t.Parallel()
	s := shared.store
	a, b := daemon(t, s), daemon(t, s)
	_, err := s.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: a.DaemonID, Incarnation: 1, Free: a.Free, Addresses: b.Addresses})
	if !errors.Is(err, ErrAddressInUse) {
		t.Errorf("moving to another's address: %v", err)
	}
	to := a.Addresses
	to.TCPPort += 20000
	if _, err := s.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: a.DaemonID, Incarnation: 1, Free: a.Free, Addresses: to}); err != nil {
		t.Fatal(err)
	}
	// The old address is free now, and the new one is not.
	c := daemonReq(t)
	c.Addresses = to
	if _, err := s.Register(t.Context(), c); !errors.Is(err, ErrAddressInUse) {
		t.Errorf("registering at the new address: %v", err)
	}
	c.Addresses = a.Addresses
	if _, err := s.Register(t.Context(), c); err != nil {
		t.Errorf("registering at the old address: %v", err)
	}
}
