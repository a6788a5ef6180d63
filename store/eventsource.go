package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// stream hands a subscriber its events until there are no more. The watch is read
// beside that, so that it is noticed when he leaves too much unread: etcd's client
// would keep all of it. What follows from one of the changes is made only when he
// comes to it.
func (s *Store) stream(ctx context.Context, sub *Subscription, watch clientv3.WatchChan, c chan<- Event, ended <-chan struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	changes := make(chan Event, s.opts.SubscriberBuffer)
	read := make(chan error, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		err := s.pump(ctx, watch, changes, ended)
		read <- err
		if errors.Is(err, ErrSlow) {
			sub.end(err)
			close(changes) // he is given what there is, or he would never get beyond a large revision
			return
		}
		cancel()
	})
	for {
		select {
		case ev, ok := <-changes:
			if !ok {
				return <-read
			}
			if err := s.tell(ctx, &ev, c); err != nil && ctx.Err() == nil {
				return err
			}
		case <-ctx.Done():
			return <-read
		}
	}
}

// pump hands on what the watch brings. One that was begun on an etcd that is no
// more would wait for revisions that are to come, and miss all before.
func (s *Store) pump(ctx context.Context, watch clientv3.WatchChan, c chan<- Event, ended <-chan struct{}) error {
	for {
		var resp clientv3.WatchResponse
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ended:
			return fmt.Errorf("events: %w: %w", ErrCompacted, errSetBack)
		case got, ok := <-watch:
			if !ok {
				return fmt.Errorf("events: %w: the watch ended", ErrUnavailable)
			}
			resp = got
		}
		if err := resp.Err(); err != nil {
			if errors.Is(err, rpctypes.ErrCompacted) {
				return fmt.Errorf("events: %w: %w", ErrCompacted, err)
			}
			return fmt.Errorf("events: %w: %w", ErrUnavailable, err)
		}
		for _, ev := range collect(resp.Events) {
			select {
			case c <- ev:
			default:
				return ErrSlow
			}
		}
	}
}

// subject is what an event is about.
type subject struct {
	kind EventKind
	id   string
	on   string
}

// collect names what changed, each once per revision, and what was written into
// the journal.
func collect(changes []*clientv3.Event) []Event {
	var events []Event
	seen := make(map[subject]int) // where it is in events
	for _, ch := range changes {
		rev := ch.Kv.ModRevision
		if n := len(events); n > 0 && events[n-1].Revision != rev {
			clear(seen)
		}
		sub := subjectOf(string(ch.Kv.Key))
		var journal *JournalEntry
		if sub.kind == EventJournal {
			journal = written(ch)
		}
		if sub.kind == "" || sub.kind == EventJournal && journal == nil {
			continue
		}
		at, again := seen[sub]
		if !again {
			at, seen[sub] = len(events), len(events)
			if n := len(events); n > 0 && events[n-1].Revision == rev {
				events[n-1].Resume = rev - 1
			}
			events = append(events, Event{Revision: rev, Resume: rev, Kind: sub.kind, ID: sub.id, on: sub.on, Journal: journal})
		}
		events[at].turns.take(ch)
	}
	return events
}

// written is the journal's entry, or nil when its time is over. One that
// another version of the servers wrote is not shown: nothing depends on it, and
// the stream must not end over it.
func written(ch *clientv3.Event) *JournalEntry {
	if ch.Type != clientv3.EventTypePut {
		return nil
	}
	rec, err := decode[journalRecord](string(ch.Kv.Key), ch.Kv.Value)
	if err != nil {
		return nil
	}
	_, rec.EntryID = splitKey(string(ch.Kv.Key))
	rec.Revision = ch.Kv.ModRevision
	return &rec.JournalEntry
}

func subjectOf(key string) subject {
	switch table, id := splitKey(key); table {
	case tableDaemons, tableLive, tableSpace:
		return subject{kind: EventDaemon, id: id}
	case tableLogs, tableWriters:
		return subject{kind: EventLog, id: id}
	case tableOperators:
		return subject{kind: EventOperator, id: id}
	case tableCondemned:
		daemonID, replicaID, _ := strings.Cut(id, "/")
		return subject{kind: EventOperator, id: removalID(replicaID), on: daemonID}
	case tableEvents:
		return subject{kind: EventJournal, id: id}
	}
	return subject{}
}
