package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// pageSize is how many keys one read of the snapshot returns.
	pageSize = 1000
	// probeEvery is how often the view is compared with etcd's revision.
	probeEvery = time.Second
)

// feedView fills the view from a snapshot and follows the watch from there,
// over and over, until ctx ends.
func (s *Store) feedView(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		ended := s.view.end()
		rev, err := s.fillView(ctx, ended)
		if err == nil {
			attempt = 1
			err = s.followEtcd(ctx, rev+1, ended)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.view.noteTrouble(err)
		s.log.Warn("view lost etcd and will be built anew", "error", err)
		if err := sleep(ctx, backoff(attempt)); err != nil {
			return err
		}
	}
}

// fillView builds the tables from one revision and swaps them in.
func (s *Store) fillView(ctx context.Context, ended <-chan struct{}) (int64, error) {
	t, now := newTables(), time.Now()
	start, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
	var rev int64
	for more := true; more; {
		resp, err := s.page(ctx, start, end, rev)
		if err != nil {
			return 0, fmt.Errorf("read snapshot: %w", err)
		}
		if rev == 0 {
			rev = resp.Header.Revision
		}
		for _, kv := range resp.Kvs {
			if err := t.set(entryOf(kv), now); err != nil {
				return 0, err
			}
			start = string(kv.Key) + "\x00"
		}
		more = resp.More
	}
	if !s.view.replace(t, rev, ended) {
		return 0, errSetBack
	}
	return rev, nil
}

func (s *Store) page(ctx context.Context, start, end string, rev int64) (*clientv3.GetResponse, error) {
	ctx, cancel := s.call(ctx)
	defer cancel()
	return s.client.Get(ctx, start, clientv3.WithRange(end), clientv3.WithRev(rev),
		clientv3.WithLimit(pageSize), clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend))
}

// replace swaps the tables in, unless the etcd that they were read from is no more.
func (v *View) replace(t *tables, rev int64, ended <-chan struct{}) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if isClosed(ended) {
		return false
	}
	v.past = false
	t.inherit(v.t)
	v.t, v.filled, v.trouble = t, true, nil
	v.noteGrowth()
	// A revision below the last one means that etcd was set back; waiters are
	// woken either way and look again.
	v.revision, v.wanted = 0, 0
	v.advance(rev)
	return true
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// followEtcd applies the watch to the view until it breaks, or etcd is no more.
func (s *Store) followEtcd(ctx context.Context, from int64, ended <-chan struct{}) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { s.requestProgress(ctx) })
	wg.Go(func() {
		select {
		case <-ended:
			cancel()
		case <-ctx.Done():
		}
	})
	for resp := range s.client.Watch(ctx, prefix, clientv3.WithPrefix(),
		clientv3.WithRev(from), clientv3.WithFragment()) {
		if err := resp.Err(); err != nil {
			return fmt.Errorf("watch: %w", err)
		}
		if err := s.view.apply(&resp); err != nil {
			return err
		}
	}
	if isClosed(ended) {
		return errSetBack
	}
	return errors.New("watch ended")
}

// apply takes a watch answer into the view.
func (v *View) apply(resp *clientv3.WatchResponse) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if resp.IsProgressNotify() {
		v.advance(resp.Header.Revision)
		return nil
	}
	now := time.Now()
	for _, ev := range resp.Events {
		if ev.Type == mvccpb.DELETE {
			v.t.remove(string(ev.Kv.Key), now)
			continue
		}
		if err := v.t.set(entryOf(ev.Kv), now); err != nil {
			return err
		}
	}
	v.noteGrowth()
	if n := len(resp.Events); n > 0 {
		v.advance(resp.Events[n-1].Kv.ModRevision)
	}
	return nil
}

// requestProgress asks etcd how far the watch is when somebody waits for a
// revision: one that changed nothing below the prefix brings no event.
func (s *Store) requestProgress(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.view.nudge:
		}
		// An event usually comes first; ask only after a moment without.
		if sleep(ctx, 5*time.Millisecond) != nil {
			return
		}
		if !s.view.behind() {
			continue
		}
		if err := s.client.RequestProgress(ctx); err != nil && ctx.Err() == nil {
			s.log.Debug("etcd did not take a progress request", "error", err)
		}
	}
}

// probeView compares the view with etcd's newest revision, so that a watch that
// has silently stopped is noticed.
func (s *Store) probeView(ctx context.Context) error {
	t := time.NewTicker(probeEvery)
	defer t.Stop()
	for {
		s.probe(ctx)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

func (s *Store) probe(ctx context.Context) {
	ctx, cancel := s.call(ctx)
	defer cancel()
	then, before := time.Now(), s.listen()
	resp, err := s.client.Get(ctx, keyCluster)
	if err == nil {
		err = s.hear(ctx, before, resp.Header)
	}
	if err == nil && len(resp.Kvs) == 1 {
		err = s.heed(ctx, before, entryOf(resp.Kvs[0]))
	}
	if err != nil {
		return // the view's age tells
	}
	if rev := resp.Header.Revision; s.view.WaitRevision(ctx, rev) == nil {
		s.view.noteCurrent(rev, then)
	}
}
