package agent

import (
	"fmt"
	"sync"
	"time"

	"github.com/gravenio/graven/grant"
	"github.com/gravenio/graven/openapi"
)

// trust is what the agent judges grants by: keys, and the control plane's present
// period. Its lock is never held during I/O.
type trust struct {
	now func() time.Time

	mu      sync.Mutex
	ring    grant.Ring
	heard   uint64 // version of ring
	kept    uint64 // version that is on disk
	periods grant.Periods
}

func newTrust(now func() time.Time) *trust { return &trust{now: now} }

// load takes what is in the folder for this cluster.
func (t *trust) load(dir, cluster string) error {
	version, ring, err := loadKeys(dir, cluster)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ring, t.heard, t.kept = ring, version, version
	return nil
}

// follow takes what the control plane says, and reports whether there are keys to
// be kept. A registration is read from etcd; a heartbeat may be answered by a
// server that lags, so older keys of one are not for the agent.
func (t *trust) follow(r *openapi.GrantRules, registered bool) (keep bool, err error) {
	keys, err := grant.ParseKeys(r.Keys)
	if err != nil {
		return false, fmt.Errorf("keys: %w", err)
	}
	retired, err := grant.ParseKeys(r.Retired)
	if err != nil {
		return false, fmt.Errorf("retired: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.periods = grant.Periods{
		Heard: uint64(max(r.Period, 0)), At: t.now(), Length: time.Duration(r.PeriodSeconds * float64(time.Second)),
	}
	version := uint64(max(r.KeysVersion, 0))
	if !registered && version < t.heard {
		return false, nil
	}
	if len(keys) > 0 {
		t.ring, t.heard = t.ring.Follow(keys, retired), version
	}
	return t.heard != t.kept, nil
}

// snapshot is what has to be on disk.
func (t *trust) snapshot() (uint64, grant.Ring) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.heard, t.ring
}

// isKept says that a version is on disk now.
func (t *trust) isKept(version uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = version
}

// keptVersion is what the control plane is told.
func (t *trust) keptVersion() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return int64(t.kept)
}

func (t *trust) setRing(r grant.Ring) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ring = r
}

func (t *trust) keys() grant.Ring {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ring
}

// present is the control plane's period now, as far as can be known here.
func (t *trust) present() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.periods.Now(t.now())
}
