package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// EtcdHealth is what etcd's members say of their databases.
type EtcdHealth struct {
	// NoSpace and Corrupt are etcd's own alarms. With either it takes no writes, until
	// a person has seen to it and disarmed the alarm.
	NoSpace, Corrupt bool
	// DBBytes and QuotaBytes are those of the member that is nearest to its quota; 0
	// if none has said.
	DBBytes, QuotaBytes int64
}

// NearlyFull says that a database has reached four fifths of its quota.
func (h EtcdHealth) NearlyFull() bool {
	return h.QuotaBytes > 0 && h.DBBytes >= h.QuotaBytes/5*4
}

// Health is what etcd said last, at most some seconds ago; zero before that.
func (s *Store) Health() EtcdHealth { return s.health.get() }

// healthBox keeps the newest one.
type healthBox struct {
	mu sync.Mutex
	h  EtcdHealth
}

func (b *healthBox) get() EtcdHealth {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.h
}

func (b *healthBox) set(h EtcdHealth) (before EtcdHealth) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before, b.h = b.h, h
	return before
}

// healthEvery is how often the members are asked. Asking costs no raft write, as
// etcd's list of alarms would.
const healthEvery = 2 * time.Second

func (s *Store) watchHealth(ctx context.Context) error {
	t := time.NewTicker(healthEvery)
	defer t.Stop()
	for {
		s.lookAtHealth(ctx)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

// lookAtHealth asks all members at once. What nobody answers stays as it was.
func (s *Store) lookAtHealth(ctx context.Context) {
	ctx, cancel := s.call(ctx)
	defer cancel()
	endpoints := s.client.Endpoints()
	if len(endpoints) == 0 {
		endpoints = []string{""} // in this process
	}
	answers := make([]*clientv3.StatusResponse, len(endpoints))
	var wg sync.WaitGroup
	for i, e := range endpoints {
		wg.Go(func() { answers[i], _ = s.client.Status(ctx, e) }) // one that is away is not asked
	}
	wg.Wait()
	answers = slices.DeleteFunc(answers, func(a *clientv3.StatusResponse) bool { return a == nil })
	if len(answers) == 0 {
		return
	}
	h := healthOf(answers)
	if before := s.health.set(h); (h.NoSpace || h.Corrupt) && !before.NoSpace && !before.Corrupt {
		s.log.Error("etcd takes no writes: it has raised an alarm; docs/operations.md says what to do",
			"no_space", h.NoSpace, "corrupt", h.Corrupt, "db_bytes", h.DBBytes, "quota_bytes", h.QuotaBytes)
	}
}

func healthOf(answers []*clientv3.StatusResponse) EtcdHealth {
	var h EtcdHealth
	for _, a := range answers {
		for _, text := range a.Errors {
			h.NoSpace = h.NoSpace || strings.Contains(text, "NOSPACE")
			h.Corrupt = h.Corrupt || strings.Contains(text, "CORRUPT")
		}
		if a.DbSizeQuota > 0 && (h.QuotaBytes == 0 || share(a.DbSize, a.DbSizeQuota) > share(h.DBBytes, h.QuotaBytes)) {
			h.DBBytes, h.QuotaBytes = a.DbSize, a.DbSizeQuota
		}
	}
	return h
}

func share(part, whole int64) float64 { return float64(part) / float64(whole) }

// Warning is what keeps etcd from taking writes, or nil. A server is ready all the
// same: it answers reads and renews leases.
func (s *Store) Warning() error {
	var errs []error
	h := s.health.get()
	if h.NoSpace {
		errs = append(errs, fmt.Errorf("%w: %d of %d bytes are in use", ErrNoSpace, h.DBBytes, h.QuotaBytes))
	}
	if h.Corrupt {
		errs = append(errs, errors.New("store: etcd says that its members' databases differ"))
	}
	return errors.Join(errs...)
}
