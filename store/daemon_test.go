package store

import (
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestRegisterShowsInTheView(t *testing.T) {
	t.Parallel()
	s := shared.store
	r := daemonReq(t)
	r.LeaseTTL = 0
	reg, err := s.Register(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if reg.LeaseTTL != 10*time.Second || reg.RenewEvery != reg.LeaseTTL/3 {
		t.Errorf("lease %v, renew every %v", reg.LeaseTTL, reg.RenewEvery)
	}
	if reg.ClusterID == "" || reg.ClusterID != s.ClusterID() || len(reg.GrantKeys) != 1 {
		t.Errorf("cluster %q, keys %v", reg.ClusterID, reg.GrantKeys)
	}
	d, ok := s.View().Daemon(r.DaemonID)
	if !ok || d.State != DaemonUp || d.FreeBytes != r.Free || d.TCPPort != r.TCPPort ||
		d.Health.Status != "ok" || d.LeaseTTLSeconds != 10 || !d.DownSince.IsZero() || d.LastSeen.IsZero() {
		t.Errorf("view has %+v, %v", d, ok)
	}
}

func TestRegisterGuards(t *testing.T) {
	t.Parallel()
	s := shared.store
	for _, tc := range []struct {
		name string
		live bool // the first registration's lease lives
		edit func(r *RegisterRequest)
		want error
	}{
		{"the same again", true, func(*RegisterRequest) {}, nil},
		{"the same after its lease", false, func(*RegisterRequest) {}, nil},
		{"next incarnation", true, func(r *RegisterRequest) { r.Incarnation++; r.TCPPort += 20000 }, nil},
		{"moved while down", false, func(r *RegisterRequest) { r.TCPPort += 20000 }, nil},
		{"earlier incarnation", true, func(r *RegisterRequest) { r.Incarnation-- }, ErrPoolRolledBack},
		{"earlier incarnation while down", false, func(r *RegisterRequest) { r.Incarnation-- }, ErrPoolRolledBack},
		{"the same incarnation twice", true, func(r *RegisterRequest) { r.TCPPort += 20000 }, ErrStaleIncarnation},
		{"wiped pool", false, func(r *RegisterRequest) { r.PoolID = uuid.NewString(); r.Incarnation = 9 }, ErrPoolMismatch},
		{"pool under another ID", false, func(r *RegisterRequest) { r.DaemonID += "-x"; r.TCPPort += 20000 }, ErrPoolMismatch},
		{"another's address", true, func(r *RegisterRequest) { r.DaemonID += "-x"; r.PoolID = uuid.NewString() }, ErrAddressInUse},
		{"a dead one's address", false, func(r *RegisterRequest) { r.DaemonID += "-x"; r.PoolID = uuid.NewString() }, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := daemonReq(t)
			r.DaemonID = "guard-" + uuid.NewString()[:8]
			r.Incarnation = 5
			if _, err := s.Register(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			if !tc.live {
				expire(t, s, prefixLive+r.DaemonID)
			}
			tc.edit(&r)
			if _, err := s.Register(t.Context(), r); !errors.Is(err, tc.want) {
				t.Errorf("Register = %v, want %v", err, tc.want)
			}
		})
	}
}

func TestRegisterRefusesBadFields(t *testing.T) {
	t.Parallel()
	summary := ReplicaSummary{ReplicaID: uuid.NewString(), LogID: uuid.NewString()}
	for _, tc := range []struct {
		field string
		edit  func(r *RegisterRequest)
	}{
		{"daemon_id", func(r *RegisterRequest) { r.DaemonID = "a/b" }},
		{"pool_id", func(r *RegisterRequest) { r.PoolID = "p" }},
		{"incarnation", func(r *RegisterRequest) { r.Incarnation = 0 }},
		{"tcp_addr", func(r *RegisterRequest) { r.TCPAddr = "" }},
		{"tcp_addr", func(r *RegisterRequest) { r.TCPAddr = "0.0.0.0" }},
		{"tcp_addr", func(r *RegisterRequest) { r.TCPAddr = "a/b" }},
		{"tcp_port", func(r *RegisterRequest) { r.TCPPort = 70000 }},
		{"rnic_addr", func(r *RegisterRequest) { r.RNICAddr = "::" }},
		{"rnic_port", func(r *RegisterRequest) { r.RNICPort = -1 }},
		{"capacity_bytes", func(r *RegisterRequest) { r.Capacity = 0 }},
		{"capacity_bytes", func(r *RegisterRequest) { r.Capacity = math.MaxInt64 }},
		{"free_bytes", func(r *RegisterRequest) { r.Free = r.Capacity + 1 }},
		{"media", func(r *RegisterRequest) { r.Media = "tape" }},
		{"transports", func(r *RegisterRequest) { r.Transports = nil }},
		{"labels", func(r *RegisterRequest) { r.Labels = map[string]string{"": "x"} }},
		{"health.status", func(r *RegisterRequest) { r.Health.Status = "fine" }},
		{"lease_ttl_seconds", func(r *RegisterRequest) { r.LeaseTTL = 1999 * time.Millisecond }},
		{"lease_ttl_seconds", func(r *RegisterRequest) { r.LeaseTTL = 2 * time.Hour }},
		{"replicas.replica_id", func(r *RegisterRequest) { r.Replicas = []ReplicaSummary{summary, summary} }},
		{"replicas.bytes", func(r *RegisterRequest) { bad := summary; bad.Bytes = -1; r.Replicas = []ReplicaSummary{bad} }},
	} {
		r := daemonReq(t)
		tc.edit(&r)
		_, err := shared.store.Register(t.Context(), r)
		var bad *InvalidError
		if !errors.As(err, &bad) || !errors.Is(err, ErrInvalid) || bad.Field != tc.field {
			t.Errorf("%v, want an error about %s", err, tc.field)
		}
	}
}

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

func TestDownSinceOutlivesTheServer(t *testing.T) {
	t.Parallel()
	s := shared.store
	other := second(t, Options{})
	r := daemon(t, s)
	expire(t, s, prefixLive+r.DaemonID)
	eventually(t, "down_since is in the record", func() bool {
		es, _, err := s.read(t.Context(), prefixDaemons+r.DaemonID)
		if err != nil {
			t.Fatal(err)
		}
		rec, err := decode[daemonRecord](es[0].key, es[0].value)
		return err == nil && !rec.DownSince.IsZero()
	})
	rev := etcdRevision(t, s)
	if err := other.View().WaitRevision(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	if err := s.View().WaitRevision(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	a, _ := s.View().Daemon(r.DaemonID)
	b, _ := other.View().Daemon(r.DaemonID)
	if a.DownSince.IsZero() || !a.DownSince.Equal(b.DownSince) {
		t.Errorf("two servers: %v, %v", a.DownSince, b.DownSince)
	}
	fresh := second(t, Options{})
	if c, _ := fresh.View().Daemon(r.DaemonID); !c.DownSince.Equal(a.DownSince) || c.LastSeen.IsZero() {
		t.Errorf("a new server: %v, before %v", c.DownSince, a.DownSince)
	}
	if _, err := s.Register(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if d, _ := s.View().Daemon(r.DaemonID); d.State != DaemonUp || !d.DownSince.IsZero() {
		t.Errorf("after it came back: %+v", d)
	}
}

func TestMarkDownLosesAgainstARegistration(t *testing.T) {
	t.Parallel()
	s := shared.store
	r := daemon(t, s)
	s.view.mu.RLock()
	d := s.view.t.daemons[r.DaemonID]
	mark := downMark{id: r.DaemonID, rec: *d.rec, mod: d.recMod, since: time.Now()}
	s.view.mu.RUnlock()
	if err := s.mark(t.Context(), mark); err != nil {
		t.Fatal(err)
	}
	if d, _ := s.View().Daemon(r.DaemonID); d.ModRevision != mark.mod && !d.DownSince.IsZero() {
		t.Error("a live daemon was marked down")
	}
	es, _, err := s.read(t.Context(), prefixDaemons+r.DaemonID)
	if err != nil || es[0].mod != mark.mod {
		t.Errorf("the record of a live daemon was written: %v", err)
	}
}

func TestInventoryIsReconciled(t *testing.T) {
	t.Parallel()
	s := shared.store
	l, gone := makeLog(t, s), makeLog(t, s)
	a := open(t, s, l.LogID)
	if _, err := s.SetReplicas(t.Context(), SetReplicasRequest{
		Log: l.LogID, Epoch: a.Epoch, Nonce: a.Nonce, SetVersion: 1, Present: []string{l.Replicas[0].ReplicaID},
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseLog(t.Context(), ref(open(t, s, gone.LogID))); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteLog(t.Context(), gone.LogID, 0); err != nil {
		t.Fatal(err)
	}

	register := func(id string, inventory ...ReplicaSummary) *Registration {
		t.Helper()
		d, _ := s.View().Daemon(id)
		r := RegisterRequest{
			DaemonID: id, PoolID: d.PoolID, Incarnation: d.Incarnation + 1, Addresses: d.Addresses,
			Capacity: d.CapacityBytes, Free: d.CapacityBytes, Media: d.Media, Transports: d.Transports,
			Replicas: inventory, LeaseTTL: time.Minute,
		}
		reg, err := s.Register(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		return reg
	}
	present := l.Replicas[0]
	kept := ReplicaSummary{ReplicaID: present.ReplicaID, LogID: l.LogID, Bytes: l.ReplicaBytes}
	stranger := ReplicaSummary{ReplicaID: uuid.NewString(), LogID: uuid.NewString(), Bytes: 4096}

	reg := register(present.DaemonID, kept, stranger)
	want := []ReplicaVerdict{
		{kept.ReplicaID, kept.LogID, VerdictKeep},
		{stranger.ReplicaID, stranger.LogID, VerdictQuarantine},
	}
	if !slices.Equal(reg.Replicas, want) || len(reg.Missing) != 0 {
		t.Errorf("got %+v, missing %v", reg.Replicas, reg.Missing)
	}
	d, _ := s.View().Daemon(present.DaemonID)
	if d.QuarantinedBytes != 4096 || !slices.Equal(d.Quarantined, []string{stranger.ReplicaID}) ||
		d.FreeBytes != d.CapacityBytes-4096-l.ReplicaBytes {
		t.Errorf("quarantine is not counted: %+v", d)
	}

	condemned := gone.Replicas[0]
	reg = register(condemned.DaemonID, ReplicaSummary{ReplicaID: condemned.ReplicaID, LogID: gone.LogID})
	if len(reg.Replicas) != 1 || reg.Replicas[0].Verdict != VerdictRemove {
		t.Errorf("a condemned replica: %+v", reg.Replicas)
	}

	// A pool that lost a present replica registers, and the log shows it.
	reg = register(present.DaemonID)
	if !slices.Equal(reg.Missing, []string{present.ReplicaID}) {
		t.Errorf("missing: %v", reg.Missing)
	}
	if got, _ := s.View().Log(l.LogID); got.State != LogDegraded || !got.Replicas[0].Missing || got.Replicas[1].Missing {
		t.Errorf("the log: %+v", got)
	}
	// An allocated one has promised nothing.
	if reg = register(l.Replicas[1].DaemonID); len(reg.Missing) != 0 {
		t.Errorf("an allocated replica is missing: %v", reg.Missing)
	}
	// It was only late: the next report has it.
	if _, err := s.Heartbeat(t.Context(), HeartbeatRequest{
		DaemonID: present.DaemonID, Incarnation: d.Incarnation + 1, Free: d.CapacityBytes, Replicas: []ReplicaSummary{kept},
	}); err != nil {
		t.Fatal(err)
	}
	if got, _ := s.View().Log(l.LogID); got.Replicas[0].Missing || got.State != LogOpen {
		t.Errorf("found again: %+v", got)
	}
}

func TestDeleteDaemonGuards(t *testing.T) {
	t.Parallel()
	s := shared.store
	l := makeLog(t, s)
	id := l.Replicas[0].DaemonID
	del := func() error { return s.DeleteDaemon(t.Context(), id, false, 0) }
	busy := func(why string) {
		t.Helper()
		if err := del(); !errors.Is(err, ErrDaemonBusy) {
			t.Errorf("%s: %v", why, err)
		}
	}
	if err := s.DeleteDaemon(t.Context(), "no-such-daemon", false, 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
	if err := s.DeleteDaemon(t.Context(), id, true, 0); !errors.Is(err, ErrUnsupported) {
		t.Errorf("lost: %v", err)
	}
	busy("live, with a log")
	expire(t, s, prefixLive+id)
	busy("down, with a log")
	w := open(t, s, l.LogID)
	if err := s.CloseLog(t.Context(), ref(w)); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteLog(t.Context(), l.LogID, 0); err != nil {
		t.Fatal(err)
	}
	busy("down, with a condemned region")
	if err := s.takeResults(t.Context(), id, []StepResult{
		{Kind: StepRemoveReplica, ReplicaID: l.Replicas[0].ReplicaID, Done: true},
	}); err != nil {
		t.Fatal(err)
	}
	d, _ := s.View().Daemon(id)
	if err := s.DeleteDaemon(t.Context(), id, false, d.ModRevision-1); !errors.Is(err, ErrPrecondition) {
		t.Errorf("wrong revision: %v", err)
	}
	if err := del(); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.View().Daemon(id); ok {
		t.Error("it is still in the view")
	}
	if err := del(); !errors.Is(err, ErrNotFound) {
		t.Errorf("twice: %v", err)
	}
	// Its ID, pool and address are free again.
	if _, err := s.Register(t.Context(), RegisterRequest{
		DaemonID: id, PoolID: d.PoolID, Incarnation: 1, Addresses: d.Addresses, Capacity: 1, Media: "file",
		Transports: []string{"tcp"},
	}); err != nil {
		t.Errorf("registering again: %v", err)
	}
}

func TestDraining(t *testing.T) {
	t.Parallel()
	s := shared.store
	r := daemon(t, s)
	if err := s.SetDraining(t.Context(), r.DaemonID, true, 0); err != nil {
		t.Fatal(err)
	}
	d, _ := s.View().Daemon(r.DaemonID)
	if d.State != DaemonDraining {
		t.Errorf("state %s", d.State)
	}
	_, err := s.CreateLog(t.Context(), CreateLogRequest{Name: logName(t), Daemons: []string{r.DaemonID}, AckQuorum: 1, CapacityBytes: 4096})
	var unfit *UnfitError
	if !errors.As(err, &unfit) || unfit.Rule != "draining" {
		t.Errorf("a create on it: %v", err)
	}
	if err := s.SetDraining(t.Context(), r.DaemonID, false, d.ModRevision+1); !errors.Is(err, ErrPrecondition) {
		t.Errorf("wrong revision: %v", err)
	}
	// A new incarnation still drains.
	r.Incarnation++
	if _, err := s.Register(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if d, _ := s.View().Daemon(r.DaemonID); d.State != DaemonDraining {
		t.Errorf("after a restart: %s", d.State)
	}
	if err := s.SetDraining(t.Context(), r.DaemonID, false, 0); err != nil {
		t.Fatal(err)
	}
	if d, _ := s.View().Daemon(r.DaemonID); d.State != DaemonUp {
		t.Errorf("state %s", d.State)
	}
}
