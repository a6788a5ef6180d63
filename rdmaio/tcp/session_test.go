package tcp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gravenio/graven/internal/faultproxy"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func someHello() rdmaio.Hello {
	return rdmaio.Hello{
		Cluster: format.ID{1}, Log: format.ID{2}, Replica: format.ID{3},
		Term: format.Fence{Epoch: 4, Nonce: 5}, Capacity: ringSize, Create: true, Grant: "signed",
	}
}

const ringSize = 8 << 20

func TestHelloAndWelcome(t *testing.T) {
	t.Parallel()
	host := newFakeHost(ringSize)
	p := dial(t, serve(t, host, quiet()), someHello(), quiet())
	if got := host.greeted(); got != someHello() {
		t.Errorf("the host was told %+v", got)
	}
	want := rdmaio.Welcome{Daemon: "d1", Pool: format.ID{7}, Media: "volatile", FlushMode: "ack", Version: version, Created: true}
	if p.welcome != want {
		t.Errorf("welcome %+v, want %+v", p.welcome, want)
	}
}

func TestPostsArriveInOrderAndAreFlushed(t *testing.T) {
	t.Parallel()
	for _, cheap := range []bool{true, false} {
		host := newFakeHost(ringSize)
		host.cheap = cheap
		p := dial(t, serve(t, host, quiet()), someHello(), quiet())
		l := newLog(ringSize)
		for i := range 200 {
			lsn, segs := l.add(i * 10)
			if err := p.Post(lsn, segs); err != nil {
				t.Fatal(err)
			}
		}
		p.durable(l.chain.LSN)
		if !bytes.Equal(host.bytes(), l.ring) {
			t.Errorf("cheap %v: the replica holds other bytes than were posted", cheap)
		}
	}
}

func TestAPostLargerThanAFrame(t *testing.T) {
	t.Parallel()
	host := newFakeHost(ringSize)
	p := dial(t, serve(t, host, quiet()), someHello(), quiet())
	l := newLog(ringSize)
	for _, n := range []int{100, format.MaxPayload, 5000, 100_000, 200_000, format.MaxPayload - 7, 0} {
		l.add(n)
	}
	if err := p.Post(0, l.ring.Segments(nil, 0, l.chain.LSN)); err != nil {
		t.Fatal(err)
	}
	p.durable(l.chain.LSN)
	if !bytes.Equal(host.bytes(), l.ring) {
		t.Error("the replica holds other bytes than were posted")
	}
	if err := p.Post(l.chain.LSN, [][]byte{make([]byte, maxBatch+64)}); !errors.Is(err, format.ErrNoRecord) {
		t.Errorf("a large post of no records: %v", err)
	}
}

func TestAnEmptyPostFlushes(t *testing.T) {
	t.Parallel()
	host := newFakeHost(ringSize)
	p := dial(t, serve(t, host, quiet()), someHello(), quiet())
	if err := p.Post(0, nil); err != nil {
		t.Fatal(err)
	}
	p.durable(0)
	if host.flushed() != 1 {
		t.Errorf("%d flushes, want one", host.flushed())
	}
}

func TestEveryRequest(t *testing.T) {
	t.Parallel()
	host := newFakeHost(ringSize)
	host.report, host.info = someReport(), someInfo()
	p := dial(t, serve(t, host, quiet()), someHello(), quiet())
	report, err := p.Fence(t.Context())
	if err != nil || !reflect.DeepEqual(report, host.report) {
		t.Errorf("Fence: %+v, %v, want %+v", report, err, host.report)
	}
	info, err := p.Info(t.Context())
	if err != nil || !reflect.DeepEqual(info, host.info) {
		t.Errorf("Info: %+v, %v, want %+v", info, err, host.info)
	}
	at := format.TrimPoint{LSN: 64, Epoch: 3, CRC: 9}
	err = errors.Join(
		p.Align(t.Context(), 640), p.Reset(t.Context(), at), p.Trim(t.Context(), at), p.Seal(t.Context(), someSeal()),
		p.Reseal(t.Context(), 7, []format.ID{{1}, {2}}), p.Reseal(t.Context(), 8, nil))
	if err != nil {
		t.Fatal(err)
	}
	host.sealedWith(t, someSeal())
	want := []string{
		"fence", "align 640 durable 0", "reset {64 3 9}", "trim {64 3 9}", "seal",
		"reseal 7 2", "reseal 8 0",
	}
	if got := host.called(); !reflect.DeepEqual(got, want) {
		t.Errorf("the target saw %q, want %q", got, want)
	}
}

func TestReadFillsTheBuffer(t *testing.T) {
	t.Parallel()
	host := newFakeHost(ringSize)
	for i := range host.ring {
		host.ring[i] = byte(i * 31 >> 3)
	}
	opts := quiet()
	opts.MaxPending = 3
	p := dial(t, serve(t, host, quiet()), someHello(), opts)
	var wg sync.WaitGroup
	for _, n := range []int{0, 1, 64, maxBytes - 1, maxBytes, maxBytes + 1, 5*maxBytes + 77} {
		wg.Go(func() {
			got := make([]byte, n)
			if err := p.Read(t.Context(), 640, got); err != nil || !bytes.Equal(got, host.ring[640:640+n]) {
				t.Errorf("%d bytes read, and not what the ring holds; %v", n, err)
			}
		})
	}
	wg.Wait()
	if err := p.Read(t.Context(), ringSize-10, make([]byte, 20)); !errors.Is(err, rdmaio.ErrRange) {
		t.Errorf("a read past the end: %v", err)
	}
	if _, err := p.Info(t.Context()); err != nil {
		t.Errorf("after a refused read: %v", err)
	}
}

// Whatever is asked comes after the flushes that were asked for before it.
func TestRequestsWaitForFlushes(t *testing.T) {
	t.Parallel()
	host := newFakeHost(ringSize)
	host.cheap, host.gate = false, make(chan struct{}, 10)
	p := dial(t, serve(t, host, quiet()), someHello(), quiet())
	l := newLog(ringSize)
	lsn, segs := l.add(1000)
	if err := p.Post(lsn, segs); err != nil {
		t.Fatal(err)
	}
	aligned := make(chan error, 1)
	go func() { aligned <- p.Align(t.Context(), 64) }()
	close(host.gate)
	if err := <-aligned; err != nil {
		t.Fatal(err)
	}
	if got := host.called(); len(got) != 1 || got[0] != "align 64 durable 1088" {
		t.Errorf("the target saw %q", got)
	}
}

// While one flush runs, later writes are received, and their flushes become one.
func TestFlushesCoalesce(t *testing.T) {
	t.Parallel()
	host := newFakeHost(ringSize)
	host.cheap, host.gate = false, make(chan struct{})
	p := dial(t, serve(t, host, quiet()), someHello(), quiet())
	l := newLog(ringSize)
	for range 60 {
		lsn, segs := l.add(1000)
		if err := p.Post(lsn, segs); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all writes are received while a flush runs", func() bool { return host.tail() == l.chain.LSN })
	close(host.gate)
	p.durable(l.chain.LSN)
	if n := host.flushed(); n > 3 {
		t.Errorf("%d flushes ran for 60 writes that were there before the first had ended", n)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	fenced := &rdmaio.Error{Kind: rdmaio.ErrFenced, Detail: "by a newer writer", Fenced: format.Fence{Epoch: 9, Nonce: 8}}
	host := newFakeHost(ringSize)
	host.fail["fence"] = fenced
	host.fail["trim"] = rdmaio.ErrMedium
	host.fail["align"] = errors.New("no such thing")
	host.fail["reseal"] = rdmaio.ErrNotSealed
	p := dial(t, serve(t, host, quiet()), someHello(), quiet())
	var got *rdmaio.Error
	if _, err := p.Fence(t.Context()); !errors.Is(err, rdmaio.ErrFenced) || !errors.As(err, &got) || *got != *fenced {
		t.Errorf("Fence: %v, want %v", err, fenced)
	}
	if err := p.Trim(t.Context(), format.TrimPoint{}); !errors.Is(err, rdmaio.ErrMedium) {
		t.Errorf("Trim: %v", err)
	}
	if err := p.Reseal(t.Context(), 1, nil); !errors.Is(err, rdmaio.ErrNotSealed) {
		t.Errorf("Reseal: %v", err)
	}
	if err := p.Reseal(t.Context(), 1, make([]format.ID, format.MaxReplicas+1)); !errors.Is(err, rdmaio.ErrRange) {
		t.Errorf("Reseal with a set that is too large: %v", err)
	}
	err := p.Align(t.Context(), 0)
	if !errors.Is(err, rdmaio.ErrInternal) || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("Align: %v", err)
	}
	if _, err := p.Info(t.Context()); err != nil {
		t.Errorf("the session ended by refusals: %v", err)
	}
}

func TestARefusedHello(t *testing.T) {
	t.Parallel()
	host := newFakeHost(ringSize)
	host.refuse = &rdmaio.Error{Kind: rdmaio.ErrGrant, Detail: "expired"}
	_, _, err := Dial(t.Context(), serve(t, host, quiet()), someHello(), rdmaio.Events{}, quiet())
	if !errors.Is(err, rdmaio.ErrGrant) || !strings.Contains(err.Error(), "expired") {
		t.Errorf("Dial: %v", err)
	}
	if host.closed() != 0 {
		t.Error("a target that was never made was closed")
	}
}

// What fails in Write or Flush has no request to answer, so it ends the session,
// and everybody is told the same.
func TestFailuresThatEndTheSession(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		method string
		cheap  bool
		err    error
	}{
		{"write", true, rdmaio.ErrChain},
		{"write", false, rdmaio.ErrSessionEnded},
		{"flush", true, rdmaio.ErrMedium},
		{"flush", false, rdmaio.ErrMedium},
		{"trim", true, rdmaio.ErrSessionEnded},
		{"write", true, io.EOF},
	} {
		host := newFakeHost(ringSize)
		host.cheap, host.fail[test.method] = test.cheap, test.err
		p := dial(t, serve(t, host, quiet()), someHello(), quiet())
		lsn, segs := newLog(ringSize).add(100)
		if err := p.Post(lsn, segs); err != nil {
			t.Fatal(err)
		}
		if test.method == "trim" {
			if err := p.Trim(t.Context(), format.TrimPoint{}); !errors.Is(err, test.err) {
				t.Errorf("Trim: %v, want %v", err, test.err)
			}
		}
		want := rdmaio.Kind(rdmaio.Code(test.err))
		if err := p.end(); !errors.Is(err, want) {
			t.Errorf("%s failed with %v, the session ended with %v", test.method, test.err, err)
		}
		if err := p.Post(lsn, segs); !errors.Is(err, want) {
			t.Errorf("Post after the end: %v, want %v", err, want)
		}
		if _, err := p.Info(t.Context()); !errors.Is(err, want) {
			t.Errorf("Info after the end: %v, want %v", err, want)
		}
		eventually(t, "the target is closed", func() bool { return host.closed() == 1 })
	}
}

// That there is more on its way to the far end must not take back what it said
// before it closed.
func TestTheReasonArrivesBehindUnreadBytes(t *testing.T) {
	t.Parallel()
	host := newFakeHost(ringSize)
	host.set("write", rdmaio.ErrMedium)
	addr := serve(t, host, quiet())
	for range 20 {
		p := dial(t, addr, someHello(), quiet())
		l := newLog(ringSize)
		for l.chain.LSN < ringSize/2 {
			lsn, segs := l.add(20_000)
			if p.Post(lsn, segs) != nil {
				break
			}
		}
		if err := p.end(); !errors.Is(err, rdmaio.ErrMedium) {
			t.Fatalf("the session ended with %v, want %v", err, rdmaio.ErrMedium)
		}
		if err := p.Post(0, nil); !errors.Is(err, rdmaio.ErrMedium) {
			t.Fatalf("Post after the end: %v, want %v", err, rdmaio.ErrMedium)
		}
	}
}

func TestReadOnlySessions(t *testing.T) {
	t.Parallel()
	h := someHello()
	h.ReadOnly = true
	p := dial(t, serve(t, newFakeHost(ringSize), quiet()), h, quiet())
	_, fence := p.Fence(t.Context())
	for _, err := range []error{fence, p.Post(0, nil), p.Align(t.Context(), 0), p.Seal(t.Context(), rdmaio.SealIn{}), p.Reseal(t.Context(), 1, nil)} {
		if !errors.Is(err, rdmaio.ErrReadOnly) {
			t.Errorf("got %v, want %v", err, rdmaio.ErrReadOnly)
		}
	}
	if err := p.Read(t.Context(), 0, make([]byte, 100)); err != nil {
		t.Error(err)
	}
}

func TestContextsEndWaiting(t *testing.T) {
	t.Parallel()
	host := newFakeHost(ringSize)
	for i := range host.ring {
		host.ring[i] = 1
	}
	proxy := faultproxy.Start(t, serve(t, host, quiet()))
	p := dial(t, proxy.Addr(), someHello(), quiet())
	proxy.Hold(true)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	buf := make([]byte, 3*maxBytes)
	if err := p.Read(ctx, 0, buf); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Read: %v", err)
	}
	clear(buf) // the caller's again
	proxy.Hold(false)
	if _, err := p.Info(t.Context()); err != nil {
		t.Errorf("after a request that was given up: %v", err)
	}
	if slices.Contains(buf, 1) {
		t.Error("the answer to a Read that was given up went into its buffer")
	}
	slow := newFakeHost(ringSize)
	slow.pause = make(chan struct{})
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, _, err := Dial(ctx, serve(t, slow, quiet()), someHello(), rdmaio.Events{}, quiet()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Dial: %v", err)
	}
}
