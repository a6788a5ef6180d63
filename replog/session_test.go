package replog

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
	"github.com/gravenio/graven/replog/core"
)

// wrapped dials as the tests do and wraps the sessions with one daemon.
func (c *cluster) wrapped(address string, wrap func(rdmaio.Session) rdmaio.Session) func(*Options) {
	return func(o *Options) {
		dial := o.Dial
		o.Dial = func(ctx context.Context, a string, h rdmaio.Hello, ev rdmaio.Events) (rdmaio.Session, rdmaio.Welcome, error) {
			s, w, err := dial(ctx, a, h, ev)
			if err == nil && a == address {
				s = wrap(s)
			}
			return s, w, err
		}
	}
}

// stuck takes posts and never answers a trim.
type stuck struct {
	rdmaio.Session
	on *atomic.Bool
}

func (s stuck) Post(lsn uint64, segs [][]byte) error {
	if s.on.Load() {
		return nil
	}
	return s.Session.Post(lsn, segs)
}

func (s stuck) Trim(ctx context.Context, at format.TrimPoint) error {
	if s.on.Load() {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return s.Session.Trim(ctx, at)
}

// TestStuckInACall: a daemon that owes an answer is cut when the ring comes round
// to what it needs, and the append that did it does not wait for the answer.
func TestStuckInACall(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{capacity: 16 << 10})
	var on atomic.Bool
	w := c.open(OpenRequest{}, c.wrapped(c.daemons[1].address(), func(s rdmaio.Session) rdmaio.Session { return stuck{s, &on} }))
	settle(t, w)
	appendRecords(t, w, 0, 3)
	settle(t, w)
	on.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for i := 3; i < 200; i++ {
		if i == 100 {
			if w.Tail() < 32<<10 {
				t.Fatalf("the ring did not come round: tail %d", w.Tail())
			}
			on.Store(false) // what it was sent until now is lost, so another round cuts it once more
		}
		if err := w.Trim(w.Commit()); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Append(ctx, format.Record{Payload: payload(i)}); err != nil {
			t.Fatalf("append %d: %v", i, err)
		}
	}
	settle(t, w)
}

// slowClose lets a session that has ended take its time, in which it may still
// read what was posted.
type slowClose struct {
	rdmaio.Session
	soon <-chan struct{}
}

func (s slowClose) Close() error {
	select {
	case <-s.soon:
	case <-time.After(300 * time.Millisecond): // nobody overwrites: what is wanted
	}
	return s.Session.Close()
}

// TestEndedSessionKeepsItsBytes: a session that has ended but is not closed yet
// may still read what was posted; the audit in Close sees what has changed.
func TestEndedSessionKeepsItsBytes(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{capacity: 16 << 10, proxied: true})
	lapped := make(chan struct{})
	w := c.open(OpenRequest{}, c.wrapped(c.proxies[1].Addr(), func(s rdmaio.Session) rdmaio.Session { return slowClose{s, lapped} }))
	settle(t, w)
	appendRecords(t, w, 0, 3)
	settle(t, w)
	c.proxies[1].Hold(true)
	appendRecords(t, w, 3, 6)
	c.proxies[1].Cut()
	for i := 6; i < 100; i++ {
		if err := w.Trim(w.Commit()); err != nil {
			t.Fatal(err)
		}
		appendRecords(t, w, i, i+1)
	}
	close(lapped)
	c.proxies[1].Hold(false)
	settle(t, w)
}

// unsealable refuses to be sealed in, and counts.
type unsealable struct {
	rdmaio.Session
	tries *atomic.Int32
}

func (s unsealable) Seal(context.Context, rdmaio.SealIn) error {
	s.tries.Add(1)
	return rdmaio.ErrMedium
}

// TestPausesGrow: a replica that can be fenced, which has it scan its whole ring,
// and goes no further is not asked for it all the time.
func TestPausesGrow(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	var tries atomic.Int32
	begun := time.Now()
	w := c.open(OpenRequest{}, c.wrapped(c.daemons[2].address(), func(s rdmaio.Session) rdmaio.Session { return unsealable{s, &tries} }),
		func(o *Options) { o.RetryFirst, o.RetryMax = time.Millisecond, time.Hour })
	eventually(t, "ten tries", func() bool { return tries.Load() >= 10 })
	// 1, 2, 4 .. 256 ms, less the 30 % of chance.
	if took := time.Since(begun); took < 350*time.Millisecond {
		t.Fatalf("ten tries in %v", took)
	}
	appendRecords(t, w, 0, 3)
}

// deaf never answers MakePresent until the call is given up, n times.
type deaf struct {
	*cluster
	n *atomic.Int32
}

func (d deaf) MakePresent(ctx context.Context, g Grant, ids []format.ID) error {
	if d.n.Add(-1) >= 0 {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return d.cluster.MakePresent(ctx, g, ids)
}

// TestControlPlaneIsDeaf: a call that hangs is given up and made again.
func TestControlPlaneIsDeaf(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	var n atomic.Int32
	n.Store(2)
	o := c.options()
	o.DialTimeout = 300 * time.Millisecond
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	w, err := Open(ctx, deaf{c, &n}, OpenRequest{Log: "vm-1"}, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestMovedWhileAway: the address that the lease brings is dialled at once, not
// when the pause is over.
func TestMovedWhileAway(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	w := c.open(OpenRequest{}, func(o *Options) { o.RetryFirst, o.RetryMax = time.Hour, time.Hour })
	settle(t, w)
	c.daemons[0].stop()
	eventually(t, "r0 is away", func() bool { return w.Status()[0].Stage == "away" })
	c.daemons[0].start()
	settle(t, w)
	if s := w.Status()[0]; !s.Counts || s.State != core.Present {
		t.Fatalf("%+v", s)
	}
}
