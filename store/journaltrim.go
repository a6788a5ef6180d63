package store

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// trimPatience is the longest that a server waits before it looks whether another
// one has trimmed the journal already.
const trimPatience = 200 * time.Millisecond

// tendJournal keeps the journal within its bounds and writes the refusals that
// wait, until ctx ends. Every server does: removing what is gone costs nothing
// but the transaction.
func (s *Store) tendJournal(ctx context.Context) error {
	t := time.NewTicker(s.opts.RefusalWindow / 10)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.view.grown:
			if err := sleep(ctx, rand.N(trimPatience)); err != nil {
				return err
			}
			s.trimJournal(ctx)
		case <-s.refusals.wake:
			s.writeRefusals(ctx, s.refusals.first())
		case now := <-t.C:
			s.trimJournal(ctx)
			s.writeRefusals(ctx, s.refusals.due(now))
		}
	}
}

// trimJournal removes the oldest entries beyond the bounds.
func (s *Store) trimJournal(ctx context.Context) {
	for c := range classes {
		for ids := range slices.Chunk(s.excess(c), trimOps) {
			if err := s.removeEntries(ctx, ids); err != nil {
				s.log.Warn("the journal could not be trimmed; it is tried again", "error", err)
				return
			}
			s.journalTrimmed.Add(uint64(len(ids)))
		}
	}
}

func (s *Store) excess(c journalClass) []string {
	entries, bytes := s.journalBounds(c)
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	return s.view.t.journal.excess(c, entries, bytes)
}

// removeEntries deletes entries unless another server has removed the first of
// them, and so is at it.
func (s *Store) removeEntries(ctx context.Context, ids []string) error {
	ctx, cancel := s.call(ctx)
	defer cancel()
	here := clientv3.Compare(clientv3.CreateRevision(prefixEvents+ids[0]), ">", 0)
	_, _, err := s.commit(ctx, []clientv3.Cmp{here}, trimOp(ids))
	return err
}

// noteGrowth tells tendJournal of a class that is well beyond its bounds. The
// caller holds the view's lock.
func (v *View) noteGrowth() {
	if v.bounds == nil {
		return
	}
	for c := range classes {
		entries, bytes := v.bounds(c)
		if sum := v.t.journal.sums[c]; sum.entries > entries+entries/8 || sum.bytes > bytes+bytes/8 {
			select {
			case v.grown <- struct{}{}:
			default: // it has been told
			}
			return
		}
	}
}
