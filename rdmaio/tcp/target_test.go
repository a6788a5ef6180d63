package tcp

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
)

// fakeHost admits everyone to one replica in memory, and notes what it is told.
type fakeHost struct {
	ring  format.Ring
	cheap bool

	gate   chan struct{} // if set, each Flush takes a token from it
	refuse error         // what Hello answers
	pause  chan struct{} // if set, Hello waits until it is closed

	mu      sync.Mutex
	hello   rdmaio.Hello
	chain   format.Chain
	durable uint64
	flushes int
	closes  int
	calls   []string
	fail    map[string]error // by method
	report  format.Report
	info    rdmaio.Info
	sealed  rdmaio.SealIn
}

func newFakeHost(capacity int) *fakeHost {
	return &fakeHost{ring: make(format.Ring, capacity), cheap: true, fail: map[string]error{}}
}

func (f *fakeHost) Hello(ctx context.Context, h rdmaio.Hello) (rdmaio.Target, rdmaio.Welcome, error) {
	if f.pause != nil {
		select {
		case <-f.pause:
		case <-ctx.Done():
			return nil, rdmaio.Welcome{}, ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hello = h
	if f.refuse != nil {
		return nil, rdmaio.Welcome{}, f.refuse
	}
	w := rdmaio.Welcome{Daemon: "d1", Pool: format.ID{7}, Media: "volatile", FlushMode: "ack", Created: h.Create}
	return f, w, nil
}

// note records a call and returns the error that the test wants of it.
func (f *fakeHost) note(method, call string) error {
	f.calls = append(f.calls, call)
	return f.fail[method]
}

func (f *fakeHost) Write(lsn uint64, p []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.fail["write"]; err != nil {
		return err
	}
	for len(p) > 0 {
		if lsn != f.chain.LSN {
			return fmt.Errorf("at %d: %w", lsn, rdmaio.ErrRange)
		}
		h, err := f.chain.Follow(p)
		if err != nil {
			return fmt.Errorf("%w: %w", rdmaio.ErrChain, err)
		}
		copy(f.ring.At(lsn, int(h.Size())), p)
		p, lsn = p[h.Size():], h.End()
	}
	return nil
}

func (f *fakeHost) Flush() (uint64, error) {
	f.mu.Lock()
	at, err := f.chain.LSN, f.fail["flush"]
	f.mu.Unlock()
	if f.gate != nil {
		<-f.gate
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flushes++
	f.durable = max(f.durable, at)
	return f.durable, err
}

func (f *fakeHost) FlushIsCheap() bool { return f.cheap }

func (f *fakeHost) Fence() (format.Report, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.report, f.note("fence", "fence")
}

func (f *fakeHost) Read(lsn uint64, p []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if lsn+uint64(len(p)) > uint64(len(f.ring)) {
		return fmt.Errorf("read of [%d, %d): %w", lsn, lsn+uint64(len(p)), rdmaio.ErrRange)
	}
	copy(p, f.ring[lsn:])
	return f.fail["read"]
}

func (f *fakeHost) Align(lsn uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.note("align", fmt.Sprintf("align %d durable %d", lsn, f.durable))
}

func (f *fakeHost) Reset(at format.TrimPoint) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.note("reset", fmt.Sprint("reset ", at))
}

func (f *fakeHost) Trim(at format.TrimPoint) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.note("trim", fmt.Sprint("trim ", at))
}

func (f *fakeHost) Seal(s rdmaio.SealIn) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sealed = s
	return f.note("seal", "seal")
}

func (f *fakeHost) Reseal(version uint64, set []format.ID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.note("reseal", fmt.Sprintf("reseal %d %d", version, len(set)))
}

func (f *fakeHost) Info() (rdmaio.Info, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.info, f.fail["info"]
}

func (f *fakeHost) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closes++
}

func (f *fakeHost) set(method string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail[method] = err
}

func (f *fakeHost) closed() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closes
}

func (f *fakeHost) flushed() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.flushes
}

func (f *fakeHost) tail() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.chain.LSN
}

func (f *fakeHost) bytes() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.ring)
}

func (f *fakeHost) greeted() rdmaio.Hello {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hello
}

func (f *fakeHost) sealedWith(tb testing.TB, want rdmaio.SealIn) {
	tb.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !reflect.DeepEqual(f.sealed, want) {
		tb.Errorf("sealed in with %+v, want %+v", f.sealed, want)
	}
}

func (f *fakeHost) called() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// quiet are options for tests: nothing to read, and quick where time matters.
func quiet() Options {
	return Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
}

// serve runs a listener until the test ends and returns its address.
func serve(tb testing.TB, host rdmaio.Host, opts Options) string {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return run(tb, ln, host, opts).Addr().String()
}

func run(tb testing.TB, ln net.Listener, host rdmaio.Host, opts Options) *Listener {
	tb.Helper()
	l, err := NewListener(ln, host, opts)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Errorf("listener: %v", err)
		}
	})
	return l
}

// peer is a session with what its callbacks said.
type peer struct {
	*Conn
	tb      testing.TB
	welcome rdmaio.Welcome
	flushed chan uint64
	ended   chan error
}

func dial(tb testing.TB, addr string, h rdmaio.Hello, opts Options) *peer {
	tb.Helper()
	p := &peer{tb: tb, flushed: make(chan uint64, 1<<16), ended: make(chan error, 2)}
	ev := rdmaio.Events{
		Flushed: func(durable uint64) { p.flushed <- durable },
		Ended:   func(err error) { p.ended <- err },
	}
	var err error
	p.Conn, p.welcome, err = Dial(tb.Context(), addr, h, ev, opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = p.Close() })
	return p
}

// durable waits until all below lsn is reported persistent.
func (p *peer) durable(lsn uint64) {
	p.tb.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case at := <-p.flushed:
			if at >= lsn {
				return
			}
		case err := <-p.ended:
			p.tb.Fatalf("session ended before %d was durable: %v", lsn, err)
		case <-deadline:
			p.tb.Fatalf("%d was never durable", lsn)
		}
	}
}

// end waits until the session has reported its end.
func (p *peer) end() error {
	p.tb.Helper()
	select {
	case err := <-p.ended:
		return err
	case <-time.After(20 * time.Second):
		p.tb.Fatal("the session did not end")
		return nil
	}
}

// eventually polls for what no event tells.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("%s: still not so", what)
		}
	}
}

// log is a writer's mirror: it makes records to post.
type log struct {
	ring  format.Ring
	chain format.Chain
}

func newLog(capacity int) *log {
	return &log{ring: make(format.Ring, capacity), chain: format.Chain{Epoch: 1}}
}

// add appends a record and returns where it stands and its bytes.
func (l *log) add(payload int) (uint64, [][]byte) {
	from := l.chain.LSN
	p := make([]byte, payload)
	for i := range p {
		p[i] = byte(int(from) + i*7)
	}
	l.ring.Append(&l.chain, 0, format.Record{Payload: p})
	return from, l.ring.Segments(nil, from, l.chain.LSN)
}
