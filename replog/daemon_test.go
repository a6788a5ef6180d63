package replog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
	"github.com/gravenio/graven/rdmaio/tcp"
)

// daemon is what an agent is to a writer: a pool behind a TCP listener. It can
// be stopped and started again, at another address each time.
type daemon struct {
	t    *testing.T
	name string
	path string // of the pool's file; empty for a volatile one, which outlives a stop
	disk *pmemlog.Volatile

	mu   sync.Mutex
	pool *pmemlog.Pool
	addr string
	halt func()
}

func testTCP() tcp.Options {
	return tcp.Options{Logger: slog.New(slog.DiscardHandler), DeadAfter: 2 * time.Second, BusyEvery: 200 * time.Millisecond}
}

func startDaemon(t *testing.T, i int, file bool) *daemon {
	t.Helper()
	d := &daemon{t: t, name: fmt.Sprintf("d%d", i)}
	o := pmemlog.FormatOptions{PoolID: format.ID{0xd0, byte(i)}, ClusterID: testCluster, Size: 8 << 20, Replicas: 4}
	var err error
	if file {
		d.path = filepath.Join(t.TempDir(), "pool")
		d.pool, err = pmemlog.CreateFilePool(d.path, o)
	} else if d.disk, err = pmemlog.NewVolatile(o.Size); err == nil {
		d.pool, err = pmemlog.Format(d.disk, o)
	}
	if err != nil {
		t.Fatal(err)
	}
	d.start()
	t.Cleanup(func() {
		d.stop()
		_ = d.pool.Close() // closed before by a stop, or clean now
	})
	return d
}

// start listens at a new address.
func (d *daemon) start() {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.path != "" && d.pool.Failure() != nil {
		pool, err := pmemlog.OpenFilePool(d.path)
		if err != nil {
			d.t.Fatal(err)
		}
		d.pool = pool
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		d.t.Fatal(err)
	}
	l, err := tcp.NewListener(ln, d, testTCP())
	if err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	d.addr = ln.Addr().String()
	d.halt = func() {
		cancel()
		if err := <-ended; err != nil {
			d.t.Errorf("listener of %s: %v", d.name, err)
		}
	}
}

// stop kills the daemon: its sessions end, its address is gone.
func (d *daemon) stop() {
	d.mu.Lock()
	stop := d.halt
	d.halt = nil
	d.mu.Unlock()
	if stop == nil {
		return
	}
	stop()
	if d.path != "" {
		if err := d.pool.Close(); err != nil {
			d.t.Errorf("close the pool of %s: %v", d.name, err)
		}
	}
}

func (d *daemon) address() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.addr
}

// Hello implements rdmaio.Host.
func (d *daemon) Hello(_ context.Context, h rdmaio.Hello) (rdmaio.Target, rdmaio.Welcome, error) {
	w := rdmaio.Welcome{Daemon: d.name, Pool: d.pool.Identity().Pool, Media: d.pool.Identity().Kind.String(), FlushMode: "ack"}
	r, err := d.pool.Replica(h.Replica)
	if errors.Is(err, pmemlog.ErrNotFound) && h.Create {
		r, err = d.pool.Create(pmemlog.Spec{Cluster: h.Cluster, Log: h.Log, Replica: h.Replica, Capacity: h.Capacity})
		w.Created = err == nil
	} else if errors.Is(err, pmemlog.ErrNotFound) && !h.ReadOnly {
		err = &rdmaio.Error{Kind: rdmaio.ErrReplicaMissing, Detail: "of daemon " + d.name}
	}
	if err != nil {
		return nil, w, wire(err)
	}
	if promised := r.Info().Slot.Fenced; !h.ReadOnly && !promised.Admits(h.Term) {
		return nil, w, wire(&pmemlog.FencedError{Term: h.Term, Promised: promised})
	}
	return &target{s: r.Attach(h.ReadOnly), term: h.Term, cheap: d.path == ""}, w, nil
}

// replica returns the daemon's replica of a log.
func (d *daemon) replica(id format.ID) *pmemlog.Replica {
	d.t.Helper()
	r, err := d.pool.Replica(id)
	if err != nil {
		d.t.Fatal(err)
	}
	return r
}

// wire says an error of pmemlog in rdmaio's words.
func wire(err error) error {
	if err == nil {
		return nil
	}
	var typed *rdmaio.Error
	if errors.As(err, &typed) {
		return typed
	}
	out := &rdmaio.Error{Kind: rdmaio.ErrMedium, Detail: err.Error()}
	for from, to := range map[error]error{
		pmemlog.ErrFenced: rdmaio.ErrFenced, pmemlog.ErrSessionEnded: rdmaio.ErrSessionEnded,
		pmemlog.ErrNotFenced: rdmaio.ErrNotSealed, pmemlog.ErrNotSealed: rdmaio.ErrNotSealed,
		pmemlog.ErrReadOnly: rdmaio.ErrReadOnly, pmemlog.ErrRange: rdmaio.ErrRange, pmemlog.ErrChain: rdmaio.ErrChain,
		pmemlog.ErrNoSpace: rdmaio.ErrNoSpace, pmemlog.ErrNotFound: rdmaio.ErrUnknownLog, pmemlog.ErrClosed: rdmaio.ErrLost,
	} {
		if errors.Is(err, from) {
			out.Kind = to
		}
	}
	var fenced *pmemlog.FencedError
	if errors.As(err, &fenced) {
		out.Fenced = fenced.Promised
	}
	return out
}

// target is a session of pmemlog in rdmaio's words.
type target struct {
	s     *pmemlog.Session
	term  format.Fence
	cheap bool
}

func (t *target) Fence() (format.Report, error) {
	r, err := t.s.Fence(t.term)
	return r, wire(err)
}

func (t *target) Flush() (uint64, error) {
	n, err := t.s.Flush()
	return n, wire(err)
}

func (t *target) Info() (rdmaio.Info, error) {
	i, err := t.s.Info()
	return rdmaio.Info{Slot: i.Slot, Tail: i.Tail, Durable: i.Durable, Scanned: i.Scanned, Media: i.Media.String()}, wire(err)
}

func (t *target) Write(lsn uint64, p []byte) error { return wire(t.s.Write(lsn, p)) }
func (t *target) FlushIsCheap() bool               { return t.cheap }
func (t *target) Read(lsn uint64, p []byte) error  { return wire(t.s.Read(lsn, p)) }
func (t *target) Align(lsn uint64) error           { return wire(t.s.Align(lsn)) }
func (t *target) Reset(at format.TrimPoint) error  { return wire(t.s.Reset(at)) }
func (t *target) Trim(at format.TrimPoint) error   { return wire(t.s.Trim(at)) }
func (t *target) Close()                           { t.s.Close() }

func (t *target) Reseal(version uint64, set []format.ID) error {
	return wire(t.s.Reseal(version, set))
}

func (t *target) Seal(s rdmaio.SealIn) error {
	return wire(t.s.Seal(pmemlog.SealIn{Seals: s.Seals, Set: s.Set, Hint: s.Hint, Tail: s.Tail}))
}
