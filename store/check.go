package store

import (
	"net"
	"regexp"
	"slices"
)

var (
	hostPattern  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.:%_-]{0,252})$`)
	labelPattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._/-]{0,62})$`)
)

// Limits of what a daemon may say of itself.
const (
	maxLabels     = 64
	maxLabelValue = 255
	maxText       = 1024
	maxNames      = 16
)

func (r *RegisterRequest) check() error {
	if err := checkID("daemon_id", r.DaemonID); err != nil {
		return err
	}
	if err := checkUUID("pool_id", r.PoolID); err != nil {
		return err
	}
	if r.Incarnation == 0 || r.Incarnation > MaxEpoch {
		return invalid("incarnation", "must be 1 to %d", MaxEpoch)
	}
	if err := r.Addresses.check(); err != nil {
		return err
	}
	if r.Capacity < 1 || r.Capacity > MaxBytes {
		return invalid("capacity_bytes", "must be 1 to %d, not %d", MaxBytes, r.Capacity)
	}
	if r.Free < 0 || r.Free > r.Capacity {
		return invalid("free_bytes", "must be 0 to capacity_bytes (%d), not %d", r.Capacity, r.Free)
	}
	if !slices.Contains([]string{"pmem", "file", "volatile"}, r.Media) {
		return invalid("media", "must be pmem, file or volatile, not %q", clip(r.Media))
	}
	if len(r.Transports) == 0 {
		return invalid("transports", "must name at least one, such as tcp")
	}
	if err := checkNames("transports", r.Transports); err != nil {
		return err
	}
	if err := checkNames("flush_modes", r.FlushModes); err != nil {
		return err
	}
	if err := checkLabels(r.Labels); err != nil {
		return err
	}
	if len(r.Version) > maxText {
		return invalid("version", "must be at most %d bytes", maxText)
	}
	if err := r.Health.check(); err != nil {
		return err
	}
	if err := checkTTL("lease_ttl_seconds", r.LeaseTTL); err != nil {
		return err
	}
	if err := checkInventory(r.Replicas); err != nil {
		return err
	}
	if err := r.Mark.check(); err != nil {
		return err
	}
	return checkSeals(r.Replicas, r.Seals)
}

// checkSeals holds seals to the inventory that they are of.
func checkSeals(replicas []ReplicaSummary, seals []SealReport) error {
	unsaid := make(map[string]struct{}, len(replicas))
	for _, r := range replicas {
		unsaid[r.ReplicaID] = struct{}{}
	}
	for _, s := range seals {
		if _, ok := unsaid[s.ReplicaID]; !ok {
			return invalid("seals.replica_id", "%s must be one of replicas, once", clip(s.ReplicaID))
		}
		delete(unsaid, s.ReplicaID)
		if s.SetVersion < 2 || s.SetVersion > MaxEpoch {
			return invalid("seals.set_version", "must be 2 to %d, not %d", MaxEpoch, s.SetVersion)
		}
		if len(s.Set) < 1 || len(s.Set) > MaxReplicas {
			return invalid("seals.set", "must name 1 to %d replicas, not %d", MaxReplicas, len(s.Set))
		}
		for i, id := range s.Set {
			if err := checkUUID("seals.set", id); err != nil {
				return err
			}
			if slices.Contains(s.Set[:i], id) {
				return invalid("seals.set", "names %s twice", id)
			}
		}
	}
	return nil
}

func (a Addresses) check() error {
	if err := checkHost("tcp_addr", a.TCPAddr); err != nil {
		return err
	}
	if a.TCPPort < 1 || a.TCPPort > 65535 {
		return invalid("tcp_port", "must be 1 to 65535, not %d", a.TCPPort)
	}
	if a.RNICAddr != "" {
		if err := checkHost("rnic_addr", a.RNICAddr); err != nil {
			return err
		}
	}
	if a.RNICPort < 0 || a.RNICPort > 65535 {
		return invalid("rnic_port", "must be 0 to 65535, not %d", a.RNICPort)
	}
	return nil
}

// checkHost refuses what others could not dial.
func checkHost(field, host string) error {
	ip := net.ParseIP(host)
	if ip == nil && !hostPattern.MatchString(host) {
		return invalid(field, "must be a host name or an IP address, not %q", clip(host))
	}
	if ip.IsUnspecified() {
		return invalid(field, "must be an address that others can dial, not %s", host)
	}
	return nil
}

func (h *Health) check() error {
	if h.Status == "" {
		h.Status = "ok"
	}
	if !slices.Contains([]string{"ok", "degraded", "read-only"}, h.Status) {
		return invalid("health.status", "must be ok, degraded or read-only, not %q", clip(h.Status))
	}
	if len(h.Detail) > maxText {
		return invalid("health.detail", "must be at most %d bytes", maxText)
	}
	return nil
}

func checkNames(field string, names []string) error {
	if len(names) > maxNames {
		return invalid(field, "must be at most %d, not %d", maxNames, len(names))
	}
	for _, n := range names {
		if err := checkID(field, n); err != nil {
			return err
		}
	}
	return nil
}

func checkLabels(labels map[string]string) error {
	if len(labels) > maxLabels {
		return invalid("labels", "must be at most %d, not %d", maxLabels, len(labels))
	}
	for k, v := range labels {
		if !labelPattern.MatchString(k) {
			return invalid("labels", "name %q must be 1 to 63 of A-Z a-z 0-9 . _ / -", clip(k))
		}
		if len(v) > maxLabelValue {
			return invalid("labels."+k, "must be at most %d bytes", maxLabelValue)
		}
	}
	return nil
}

func checkInventory(replicas []ReplicaSummary) error {
	if len(replicas) > MaxInventory {
		return invalid("replicas", "must be at most %d, not %d", MaxInventory, len(replicas))
	}
	seen := make(map[string]struct{}, len(replicas))
	for _, r := range replicas {
		if err := checkUUID("replicas.replica_id", r.ReplicaID); err != nil {
			return err
		}
		if err := checkUUID("replicas.log_id", r.LogID); err != nil {
			return err
		}
		if r.Bytes < 0 || r.Bytes > MaxBytes {
			return invalid("replicas.bytes", "must be 0 to %d, not %d", MaxBytes, r.Bytes)
		}
		if len(r.Damage) > maxText {
			return invalid("replicas.damage", "must be at most %d bytes, not %d", maxText, len(r.Damage))
		}
		if _, twice := seen[r.ReplicaID]; twice {
			return invalid("replicas.replica_id", "%s is listed twice", r.ReplicaID)
		}
		seen[r.ReplicaID] = struct{}{}
	}
	return nil
}
