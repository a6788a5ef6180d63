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

// EventKind is what an event is about.
type EventKind string

// The kinds of events.
const (
	EventDaemon   EventKind = "daemon"
	EventLog      EventKind = "log"
	EventOperator EventKind = "operator"
	EventJournal  EventKind = "journal"
)

// Event says that something has changed at a revision. The object it carries
// is the one the view has when the event is sent: the state at Revision or
// later. One that is deleted carries none; an operator is when it is listed no more.
// A log's state also follows from its daemons: their events are not repeated as
// events of all their logs. An entry of the journal comes once, when it is written,
// and not when its time is over.
type Event struct {
	Revision int64 `json:"revision"`
	// Resume is the revision to go on after when this is the last event that
	// was seen. It is Revision, or one less if more events of that revision
	// follow.
	Resume   int64         `json:"resume"`
	Kind     EventKind     `json:"kind"`
	ID       string        `json:"id"`
	Deleted  bool          `json:"deleted,omitempty"`
	Daemon   *Daemon       `json:"daemon,omitempty"`
	Log      *Log          `json:"log,omitempty"`
	Operator *Operator     `json:"operator,omitempty"`
	Journal  *JournalEntry `json:"journal,omitempty"`

	on string // the daemon of a removal, which has no record of its own
}

// Subscription is a stream of events.
type Subscription struct {
	// C is closed when the stream ends; Err then says why.
	C <-chan Event

	cancel context.CancelFunc
	mu     sync.Mutex
	err    error
}

// Err says why C was closed: ErrSlow, ErrCompacted, ErrUnavailable, or the
// context's error. It is nil after Close and while C is open.
func (s *Subscription) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close ends the stream. It may be called more than once.
func (s *Subscription) Close() { s.cancel() }

func (s *Subscription) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// Events streams what happens after the given revision, or from now on if that
// is 0. etcd is the history: a revision that it has compacted, or has never
// reached, is ErrCompacted. The stream ends with ctx, with Close, or with an
// error; a subscriber that leaves more than Options.SubscriberBuffer events
// unread is cut off with ErrSlow and resumes after the last one it has seen.
func (s *Store) Events(ctx context.Context, after int64) (*Subscription, error) {
	if after < 0 {
		return nil, invalid("Last-Event-ID", "must be a revision")
	}
	if after == 0 {
		after = s.view.Revision()
	}
	ended := s.view.end()
	if err := s.checkHistory(ctx, after); err != nil {
		return nil, err
	}
	c := make(chan Event, s.opts.SubscriberBuffer)
	wctx, cancel := context.WithCancel(ctx)
	sub := &Subscription{C: c, cancel: cancel}
	watch := s.client.Watch(clientv3.WithRequireLeader(wctx), prefix, clientv3.WithPrefix(),
		clientv3.WithRev(after+1), clientv3.WithFragment())
	go func() {
		defer close(c)
		defer cancel()
		err := s.pump(wctx, watch, c, ended)
		switch {
		case ctx.Err() != nil:
			sub.end(context.Cause(ctx))
		case wctx.Err() == nil:
			sub.end(err)
		}
	}()
	return sub, nil
}

// checkHistory asks whether etcd still has what came after the revision.
func (s *Store) checkHistory(ctx context.Context, after int64) error {
	ctx, cancel := s.call(ctx)
	defer cancel()
	_, err := s.client.Get(ctx, keyCluster, clientv3.WithRev(after), clientv3.WithKeysOnly())
	return fail(ctx, fmt.Sprintf("events after revision %d", after), err)
}

// pump hands on what the watch brings. One that was begun on an etcd that is no
// more would wait for revisions that are to come, and miss all before.
func (s *Store) pump(ctx context.Context, watch clientv3.WatchChan, c chan<- Event, ended <-chan struct{}) error {
	for {
		var resp clientv3.WatchResponse
		select {
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
		events := collect(resp.Events)
		if len(events) == 0 {
			continue
		}
		if err := s.complete(ctx, events); err != nil {
			return err
		}
		for _, ev := range events {
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
	seen := make(map[subject]bool)
	for _, ch := range changes {
		rev := ch.Kv.ModRevision
		if n := len(events); n > 0 && events[n-1].Revision != rev {
			clear(seen)
		}
		sub := subjectOf(string(ch.Kv.Key))
		if sub.kind == "" || seen[sub] {
			continue
		}
		var journal *JournalEntry
		if sub.kind == EventJournal {
			if journal = written(ch); journal == nil {
				continue
			}
		}
		seen[sub] = true
		if n := len(events); n > 0 && events[n-1].Revision == rev {
			events[n-1].Resume = rev - 1
		}
		events = append(events, Event{Revision: rev, Resume: rev, Kind: sub.kind, ID: sub.id, on: sub.on, Journal: journal})
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

// complete adds the objects, from a view that is new enough.
func (s *Store) complete(ctx context.Context, events []Event) error {
	ctx, cancel := s.call(ctx)
	defer cancel()
	if err := s.view.WaitRevision(ctx, events[len(events)-1].Revision); err != nil {
		return err
	}
	for i := range events {
		ev := &events[i]
		switch ev.Kind {
		case EventDaemon:
			d, ok := s.view.Daemon(ev.ID)
			if ev.Deleted = !ok; ok {
				ev.Daemon = &d
			}
		case EventLog:
			l, ok := s.view.Log(ev.ID)
			if ev.Deleted = !ok; ok {
				ev.Log = &l
			}
		case EventOperator:
			o, ok := s.view.operator(ev.ID, ev.on)
			if ev.Deleted = !ok; ok {
				ev.Operator = &o
			}
		}
	}
	return nil
}
