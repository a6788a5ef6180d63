package tcp

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/gravenio/graven/rdmaio"
)

// appending is a fakeHost that writes and flushes at once.
type appending struct {
	*fakeHost
	appends atomic.Int64
}

func (a *appending) Hello(ctx context.Context, h rdmaio.Hello) (rdmaio.Target, rdmaio.Welcome, error) {
	_, w, err := a.fakeHost.Hello(ctx, h)
	if err != nil {
		return nil, w, err
	}
	return a, w, nil
}

func (a *appending) Append(lsn uint64, p []byte) (uint64, error) {
	a.appends.Add(1)
	if err := a.Write(lsn, p); err != nil {
		return 0, err
	}
	return a.Flush()
}

// A target that appends is asked for nothing but that while posts come one at a
// time, unless flushing takes time.
func TestAppendAtOnce(t *testing.T) {
	t.Parallel()
	for _, cheap := range []bool{true, false} {
		host := &appending{fakeHost: newFakeHost(ringSize)}
		host.cheap = cheap
		p := dial(t, serve(t, host, quiet()), someHello(), quiet())
		l := newLog(ringSize)
		for i := range 50 {
			lsn, segs := l.add(i * 100)
			if err := p.Post(lsn, segs); err != nil {
				t.Fatal(err)
			}
			p.durable(l.chain.LSN)
		}
		if want := map[bool]int64{true: 50, false: 0}[cheap]; host.appends.Load() != want {
			t.Errorf("cheap %v: %d appends, want %d", cheap, host.appends.Load(), want)
		}
		if host.flushed() != 50 || !bytes.Equal(host.bytes(), l.ring) {
			t.Errorf("cheap %v: %d flushes of 50 posts, or other bytes than were posted", cheap, host.flushed())
		}
	}
}

func TestAppendOfManyPosts(t *testing.T) {
	t.Parallel()
	host := &appending{fakeHost: newFakeHost(ringSize)}
	p := dial(t, serve(t, host, quiet()), someHello(), quiet())
	l := newLog(ringSize)
	for range 500 {
		lsn, segs := l.add(100)
		if err := p.Post(lsn, segs); err != nil {
			t.Fatal(err)
		}
	}
	p.durable(l.chain.LSN)
	if !bytes.Equal(host.bytes(), l.ring) {
		t.Error("the replica holds other bytes than were posted")
	}
}

func TestFailedAppendEndsTheSession(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"write", "flush"} {
		host := &appending{fakeHost: newFakeHost(ringSize)}
		host.set(what, rdmaio.ErrMedium)
		p := dial(t, serve(t, host, quiet()), someHello(), quiet())
		l := newLog(ringSize)
		lsn, segs := l.add(100)
		if err := p.Post(lsn, segs); err != nil {
			t.Fatal(err)
		}
		if err := p.end(); !errors.Is(err, rdmaio.ErrMedium) {
			t.Errorf("a failed %s: the session ended with %v", what, err)
		}
	}
}
