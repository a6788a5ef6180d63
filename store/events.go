package store

import (
	"context"
	"fmt"
	"sync"

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
// A log's state also follows from its daemons, and so does that of what they have to
// remove: when a daemon comes or goes, or misses other replicas than before, those
// that this may have changed come right after it. An entry of the journal comes
// once, when it is written, and not when its time is over.
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

	on    string // the daemon of a removal, which has no record of its own
	turns turn   // of a daemon: what may have changed with it
}

// Subscription is a stream of events.
type Subscription struct {
	// C is closed when the stream ends; Err then says why.
	C <-chan Event

	cancel context.CancelFunc
	mu     sync.Mutex
	err    error
}

// Err says why C was closed, or why it will be once what is left has been read:
// ErrSlow, ErrCompacted, ErrUnavailable, or the context's error. It is nil before
// that, and after Close.
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
	if s.err == nil {
		s.err = err
	}
}

// Events streams what happens after the given revision, or from now on if that
// is 0. etcd is the history: a revision that it has compacted, or has never
// reached, is ErrCompacted. The stream ends with ctx, with Close, or with an
// error; a subscriber that leaves more than Options.SubscriberBuffer changes
// unread is cut off with ErrSlow, once it has read those, and resumes after the last
// event that it has seen. What follows from a daemon's change waits for it and does
// not count.
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
	c := make(chan Event)
	wctx, cancel := context.WithCancel(ctx)
	sub := &Subscription{C: c, cancel: cancel}
	watch := s.client.Watch(clientv3.WithRequireLeader(wctx), prefix, clientv3.WithPrefix(),
		clientv3.WithRev(after+1), clientv3.WithFragment(), clientv3.WithPrevKV())
	go func() {
		defer close(c)
		defer cancel()
		err := s.stream(wctx, sub, watch, c, ended)
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
