package soak

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// ledger follows etcd's history from its first revision on and audits the books
// at each one. A watch that breaks is taken up where it was, so that no revision
// is missed.
type ledger struct {
	client *clientv3.Client

	mu        sync.Mutex
	now       *books
	audited   int64 // revisions
	wrong     []string
	operators counts        // by kind, reason and state that they came to
	advanced  chan struct{} // closed and replaced with each revision
}

// mostWrong bounds what is kept; the first ones matter.
const mostWrong = 20

func newLedger(c *clientv3.Client) *ledger {
	return &ledger{client: c, now: newBooks(), advanced: make(chan struct{})}
}

// follow runs until ctx ends.
func (l *ledger) follow(ctx context.Context) {
	for next := int64(1); ctx.Err() == nil; {
		wctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
		for resp := range l.client.Watch(wctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(next), clientv3.WithProgressNotify()) {
			if resp.Err() != nil {
				break
			}
			l.take(&resp)
			next = resp.Header.Revision + 1
		}
		cancel()
		if wait(ctx, 50*time.Millisecond) != nil {
			return
		}
	}
}

func (l *ledger) take(resp *clientv3.WatchResponse) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, ev := range resp.Events {
		l.apply(ev)
		if i+1 == len(resp.Events) || resp.Events[i+1].Kv.ModRevision != ev.Kv.ModRevision {
			l.close(ev.Kv.ModRevision)
		}
	}
	l.now.revision = max(l.now.revision, resp.Header.Revision)
	close(l.advanced)
	l.advanced = make(chan struct{})
}

func (l *ledger) apply(ev *clientv3.Event) {
	key := string(ev.Kv.Key)
	if ev.Type == mvccpb.DELETE {
		l.now.remove(key)
		return
	}
	before := l.now.logs[strings.TrimPrefix(key, prefix+"logs/")]
	was := l.now.operators[strings.TrimPrefix(key, prefix+"operators/")]
	if err := l.now.set(key, ev.Kv.Value); err != nil {
		l.complain(ev.Kv.ModRevision, err.Error())
	}
	if id, ok := strings.CutPrefix(key, prefix+"operators/"); ok {
		if now := l.now.operators[id]; now.State != was.State {
			l.operators.add(now.Kind+" "+now.Reason+" "+now.State, 1)
		}
	}
	if id, ok := strings.CutPrefix(key, prefix+"logs/"); ok {
		if after := l.now.logs[id]; after.Epoch < before.Epoch || after.SetVersion < before.SetVersion {
			l.complain(ev.Kv.ModRevision, fmt.Sprintf("log %s (%s) fell back from epoch %d and set version %d to %d and %d",
				id, before.Name, before.Epoch, before.SetVersion, after.Epoch, after.SetVersion))
		}
	}
}

// close audits a revision.
func (l *ledger) close(rev int64) {
	l.now.revision = rev
	l.audited++
	for _, w := range l.now.audit() {
		l.complain(rev, w)
	}
}

func (l *ledger) complain(rev int64, what string) {
	if len(l.wrong) < mostWrong {
		l.wrong = append(l.wrong, fmt.Sprintf("at revision %d of etcd: %s", rev, what))
	}
}

// result is what was found wrong, and how many revisions were looked at.
func (l *ledger) result() ([]string, int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wrong, l.audited
}

// at returns the books at a revision that is not older than etcd's now.
func (l *ledger) at(ctx context.Context) (*books, error) {
	rev, err := l.newest(ctx)
	if err != nil {
		return nil, err
	}
	for {
		l.mu.Lock()
		now, advanced := l.now, l.advanced
		if now.revision >= rev {
			now = now.clone()
			l.mu.Unlock()
			return now, nil
		}
		l.mu.Unlock()
		_ = l.client.RequestProgress(clientv3.WithRequireLeader(ctx)) // a revision without an event of ours
		select {
		case <-advanced:
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, fmt.Errorf("soak: the ledger did not reach revision %d: %w", rev, context.Cause(ctx))
		}
	}
}

// newest is etcd's revision.
func (l *ledger) newest(ctx context.Context) (int64, error) {
	for {
		try, cancel := context.WithTimeout(ctx, 3*time.Second)
		resp, err := l.client.Get(try, prefix+"cluster")
		cancel()
		if err == nil {
			return resp.Header.Revision, nil
		}
		if werr := wait(ctx, 100*time.Millisecond); werr != nil {
			return 0, errors.Join(werr, err)
		}
	}
}

// until waits until the books fulfil a condition, and says what was in the way
// when ctx ends.
func (l *ledger) until(ctx context.Context, missing func(*books) []string) (*books, []string) {
	var last []string
	for {
		b, err := l.at(ctx)
		if err != nil {
			return nil, append(last, err.Error())
		}
		if last = missing(b); len(last) == 0 {
			return b, nil
		}
		l.mu.Lock()
		advanced := l.advanced
		l.mu.Unlock()
		select {
		case <-advanced:
		case <-time.After(time.Second): // what is missing may be outside etcd's history
		case <-ctx.Done():
			return nil, last
		}
	}
}

// wait sleeps, unless ctx ends first.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
