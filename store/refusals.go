package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Bounds of what is remembered of refusals. A peer that is refused over and over
// costs one entry at once and one a window, whatever it tries.
const (
	maxRefusedHosts   = 64 // beyond them all others are one
	maxRefusedPerHost = 4  // different refusals of one host; beyond them all others are one
)

// refusals coalesce what peers can bring about without any right. It is safe for
// concurrent use.
type refusals struct {
	window time.Duration
	wake   chan struct{} // has room for one: something waits to be written

	mu        sync.Mutex
	open      map[refusalKey]*refusal
	hosts     map[string]int // open keys of each
	waiting   []JournalEntry // first ones, not yet written
	coalesced uint64
}

type refusalKey struct{ host, daemon, problem string }

// refusal is one that was written and is counted from then on.
type refusal struct {
	last  JournalEntry
	count int // since it was written
	since time.Time
}

func newRefusals(window time.Duration) *refusals {
	return &refusals{
		window: window, wake: make(chan struct{}, 1),
		open: make(map[refusalKey]*refusal), hosts: make(map[string]int),
	}
}

// add takes a refusal: the first of its sort is to be written, the others are
// counted until their window ends.
func (r *refusals) add(host string, e JournalEntry, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := r.key(host, &e)
	if f := r.open[key]; f != nil {
		f.last, f.count = e, f.count+1
		r.coalesced++
		return
	}
	r.open[key] = &refusal{last: e, since: now}
	r.hosts[key.host]++
	r.waiting = append(r.waiting, e)
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// key is what the refusal is counted under. The caller holds the lock.
func (r *refusals) key(host string, e *JournalEntry) refusalKey {
	key := refusalKey{host, e.DaemonID, e.Problem}
	if r.open[key] != nil {
		return key
	}
	if r.hosts[host] == 0 && len(r.hosts) >= maxRefusedHosts {
		key.host = ""
	}
	if key.host == "" || r.hosts[key.host] >= maxRefusedPerHost {
		key.daemon, key.problem = "", ""
	}
	return key
}

// first returns the refusals that wait to be written.
func (r *refusals) first() []JournalEntry {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.waiting
	r.waiting = nil
	return out
}

// due ends the windows that are over: it returns an entry for each that counted
// any, and forgets the others.
func (r *refusals) due(now time.Time) []JournalEntry {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []JournalEntry
	for key, f := range r.open {
		switch {
		case now.Sub(f.since) < r.window:
			continue
		case f.count == 0:
			delete(r.open, key)
			if r.hosts[key.host]--; r.hosts[key.host] == 0 {
				delete(r.hosts, key.host)
			}
			continue
		}
		e := f.last
		if f.count > 1 {
			e.Count = f.count
		}
		e.Detail = clipDetail(fmt.Sprintf("again, %d times in %v; the last one: %s", f.count, now.Sub(f.since).Round(time.Second), e.Detail))
		out = append(out, e)
		f.count, f.since = 0, now
	}
	return out
}

// writeRefusals writes entries that belong to no transaction. What can't be
// written is in the log.
func (s *Store) writeRefusals(ctx context.Context, es []JournalEntry) {
	for _, e := range es {
		if err := s.writeEntry(ctx, e); err != nil && ctx.Err() == nil {
			s.log.Warn("a refusal is not in the journal", "daemon", e.DaemonID, "detail", e.Detail, "from", e.From, "error", err)
		}
	}
}

func (s *Store) writeEntry(ctx context.Context, e JournalEntry) error {
	ctx, cancel := s.call(ctx)
	defer cancel()
	op, err := s.entry(ctx, e)
	if err != nil {
		return err
	}
	_, _, err = s.commit(ctx, nil, []clientv3.Op{op})
	return err
}

// noteRefusal remembers that a daemon was refused for what its pool or its
// process is.
func (s *Store) noteRefusal(ctx context.Context, daemonID string, err error) {
	for _, k := range []struct {
		err     error
		problem string
	}{
		{ErrPoolRolledBack, "pool-rolled-back"},
		{ErrPoolWiped, "pool-wiped"},
		{ErrPoolCloned, "pool-cloned"},
		{ErrPoolMismatch, "pool-mismatch"},
		{ErrIncarnationAhead, "incarnation-ahead"},
		{ErrStaleIncarnation, "stale-incarnation"},
		{ErrForeignDaemon, "foreign-daemon"},
		{ErrGone, "daemon-gone"},
	} {
		if errors.Is(err, k.err) {
			e := signed(ctx, JournalEntry{Kind: JournalDaemonRefused, DaemonID: daemonID, Problem: k.problem, Detail: clipDetail(err.Error())})
			s.refusals.add(originOf(ctx).host(), e, time.Now())
			return
		}
	}
}

// JournalStats counts what this server has done to keep the journal bounded.
type JournalStats struct {
	Coalesced uint64 // refusals that got no entry of their own
	Trimmed   uint64 // entries removed before their time, by this server
}

// JournalStats returns the counts since the store was made.
func (s *Store) JournalStats() JournalStats {
	s.refusals.mu.Lock()
	defer s.refusals.mu.Unlock()
	return JournalStats{Coalesced: s.refusals.coalesced, Trimmed: s.journalTrimmed.Load()}
}
