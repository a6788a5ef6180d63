package store

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gravenio/graven/planner"
)

// OperatorLimits bound what the control plane begins by itself.
type OperatorLimits struct {
	// GraceSeconds and TimeoutSeconds are 1 to a week.
	GraceSeconds   int64 `json:"grace_seconds"`
	TimeoutSeconds int64 `json:"timeout_seconds"`
	PerDaemon      int   `json:"per_daemon"`
	Cluster        int   `json:"cluster"`
	MaxDownPercent int   `json:"max_down_percent"`
	// ScrubEverySeconds is 0 for no scrubs.
	ScrubEverySeconds int64 `json:"scrub_every_seconds"`
}

// DefaultLimits are those of a cluster where nobody has set others.
func DefaultLimits() OperatorLimits {
	return OperatorLimits{
		GraceSeconds: 600, TimeoutSeconds: 900, PerDaemon: 2, Cluster: 16, MaxDownPercent: 25, ScrubEverySeconds: 20 * 3600,
	}
}

// OperatorSettings say whether and by which limits operators are begun.
type OperatorSettings struct {
	Paused bool
	Limits OperatorLimits
	// ModRevision is 0 while nobody has set anything.
	ModRevision int64
}

type plannerRecord struct {
	version
	Paused bool           `json:"paused"`
	Limits OperatorLimits `json:"limits"`
}

func newPlannerRecord() *plannerRecord {
	return &plannerRecord{version: current(), Limits: DefaultLimits()}
}

// Bounds of the limits.
const (
	maxGrace      = 7 * 24 * 3600
	maxScrubEvery = 365 * 24 * 3600
	maxPerDaemon  = 1000
	maxCluster    = 10000
)

func (l *OperatorLimits) check() error {
	for _, f := range []struct {
		name           string
		v, least, most int64
	}{
		{"grace_seconds", l.GraceSeconds, 1, maxGrace},
		{"timeout_seconds", l.TimeoutSeconds, 1, maxGrace},
		{"per_daemon", int64(l.PerDaemon), 1, maxPerDaemon},
		{"cluster", int64(l.Cluster), 1, maxCluster},
		{"max_down_percent", int64(l.MaxDownPercent), 0, 100},
		{"scrub_every_seconds", l.ScrubEverySeconds, 0, maxScrubEvery},
	} {
		if f.v < f.least || f.v > f.most {
			return invalid(f.name, "must be %d to %d, not %d", f.least, f.most, f.v)
		}
	}
	return nil
}

// planner returns the limits as the planner takes them.
func (l *OperatorLimits) planner(recoverAfter time.Duration) planner.Limits {
	return planner.Limits{
		Grace: planner.Duration(l.GraceSeconds) * planner.Second, Timeout: planner.Duration(l.TimeoutSeconds) * planner.Second,
		RecoverAfter: planner.Duration(recoverAfter), PerDaemon: l.PerDaemon, Cluster: l.Cluster, MaxDownPercent: l.MaxDownPercent,
		ScrubEvery: planner.Duration(l.ScrubEverySeconds) * planner.Second,
	}
}

// OperatorSettings returns the settings and the view's revision.
func (v *View) OperatorSettings() (OperatorSettings, int64) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return OperatorSettings{
		Paused: v.t.planner.Paused, Limits: v.t.planner.Limits, ModRevision: v.t.plannerMod,
	}, v.revision
}

// PauseOperators says whether operators are begun. What is under way goes on.
// Pausing twice changes nothing. Errors: ErrConflict, ErrUnavailable.
func (s *Store) PauseOperators(ctx context.Context, paused bool) (OperatorSettings, error) {
	kind, detail := JournalOperatorsResumed, "operators are begun again"
	if paused {
		kind, detail = JournalOperatorsPaused, "no more operators are begun"
	}
	return s.setPlanner(ctx, nil, kind, detail, func(rec *plannerRecord) bool {
		changed := rec.Paused != paused
		rec.Paused = paused
		return changed
	})
}

// SetOperatorLimits changes the limits. ifMatch is the ModRevision that the
// settings must have, 0 if nobody may have set any; nil is for whatever it is.
// Errors: ErrInvalid, ErrPrecondition, ErrConflict, ErrUnavailable.
func (s *Store) SetOperatorLimits(ctx context.Context, l OperatorLimits, ifMatch *int64) (OperatorSettings, error) {
	if err := l.check(); err != nil {
		return OperatorSettings{}, err
	}
	detail := fmt.Sprintf("grace %d s, time-out %d s, %d a daemon, %d in all, brake above %d%% down, scrub every %d s",
		l.GraceSeconds, l.TimeoutSeconds, l.PerDaemon, l.Cluster, l.MaxDownPercent, l.ScrubEverySeconds)
	return s.setPlanner(ctx, ifMatch, JournalOperatorLimits, detail, func(rec *plannerRecord) bool {
		changed := rec.Limits != l
		rec.Limits = l
		return changed
	})
}

// setPlanner changes the settings' record, which nobody has made at first.
func (s *Store) setPlanner(ctx context.Context, ifMatch *int64, kind JournalKind, detail string, change func(*plannerRecord) bool) (out OperatorSettings, err error) {
	ctx, cancel := s.call(ctx)
	defer cancel()
	err = retry(ctx, fmt.Errorf("set operators: %w", ErrConflict), func() (bool, error) {
		es, _, err := s.read(ctx, keyPlanner)
		if err != nil {
			return false, err
		}
		rec := *newPlannerRecord()
		if es[0].exists() {
			if rec, err = decode[plannerRecord](keyPlanner, es[0].value); err != nil {
				return false, err
			}
		}
		if ifMatch != nil && *ifMatch != es[0].mod {
			return false, fmt.Errorf("the operators' settings are at revision %d: %w", es[0].mod, ErrPrecondition)
		}
		changed := change(&rec)
		out = OperatorSettings{Paused: rec.Paused, Limits: rec.Limits, ModRevision: es[0].mod}
		if !changed {
			return true, nil
		}
		entry, err := s.entry(ctx, signed(ctx, JournalEntry{Kind: kind, Detail: detail}))
		if err != nil {
			return false, err
		}
		rev, ok, err := s.commit(ctx, []clientv3.Cmp{es[0].unchanged()}, []clientv3.Op{put(keyPlanner, rec), entry})
		out.ModRevision = rev
		return ok, err
	})
	return out, err
}
