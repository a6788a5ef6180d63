package store

import (
	"errors"
	"math"
	"slices"
	"strings"
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
	if reg.ClusterID == "" || reg.ClusterID != s.ClusterID() || len(reg.Grants.Keys) != 1 {
		t.Errorf("cluster %q, keys %v", reg.ClusterID, reg.Grants)
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
		{"the same incarnation twice", true, func(r *RegisterRequest) { r.TCPPort += 20000 }, ErrPoolCloned},
		{"many starts unheard of", false, func(r *RegisterRequest) { r.Incarnation += MaxIncarnationJump }, nil},
		{"more starts than there can be", false, func(r *RegisterRequest) { r.Incarnation += MaxIncarnationJump + 1 }, ErrIncarnationAhead},
		{"the highest incarnation", true, func(r *RegisterRequest) { r.Incarnation = MaxEpoch }, ErrIncarnationAhead},
		{"wiped pool", false, func(r *RegisterRequest) { r.PoolID = uuid.NewString(); r.Incarnation = 9 }, ErrPoolWiped},
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
		{"replicas.damage", func(r *RegisterRequest) {
			bad := summary
			bad.Damage = strings.Repeat("x", maxText+1)
			r.Replicas = []ReplicaSummary{bad}
		}},
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
		{ReplicaID: kept.ReplicaID, LogID: kept.LogID, Verdict: VerdictKeep},
		{ReplicaID: stranger.ReplicaID, LogID: stranger.LogID, Verdict: VerdictQuarantine},
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
	reg = register(condemned.DaemonID, ReplicaSummary{ReplicaID: condemned.ReplicaID, LogID: gone.LogID, Bytes: gone.ReplicaBytes})
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
