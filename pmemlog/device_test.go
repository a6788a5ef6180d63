package pmemlog_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

// gate is a medium whose syncs can be held back.
type gate struct {
	*pmemtest.Medium
	mu      sync.Mutex
	held    chan struct{} // nil: syncs pass
	entered chan struct{}
	syncs   atomic.Int64
}

func newGate(m *pmemtest.Medium) *gate { return &gate{Medium: m} }

// shut holds syncs back from now on; the channel tells when one has come.
func (g *gate) shut() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held, g.entered = make(chan struct{}), make(chan struct{}, 100)
	return g.entered
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.held)
	g.held = nil
}

func (g *gate) Sync() error {
	g.mu.Lock()
	held, entered := g.held, g.entered
	g.mu.Unlock()
	g.syncs.Add(1)
	if held != nil {
		entered <- struct{}{}
		<-held
	}
	return g.Medium.Sync()
}

func TestOneSyncForAllThatWait(t *testing.T) {
	t.Parallel()
	const writers = 6
	g := newGate(pmemtest.New(8*poolSize, pmemtest.Options{}))
	p := get[*pmemlog.Pool](t)(pmemlog.Format(g, formatOptions()))
	var ws []*writer
	for i := range writers {
		w := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(byte(i+1), ringSize))), 1)
		w.append(64)
		ws = append(ws, w)
	}
	entered := g.shut()
	before := g.syncs.Load()
	var done sync.WaitGroup
	flush := func(w *writer) {
		done.Go(func() {
			if _, err := w.s.Flush(); err != nil {
				t.Error(err)
			}
		})
	}
	flush(ws[0])
	<-entered // its sync runs: all others need a later one
	for _, w := range ws[1:] {
		flush(w)
	}
	pmemlog.WaitForSyncers(p, writers-1)
	g.open()
	done.Wait()
	if n := g.syncs.Load() - before; n != 2 {
		t.Errorf("%d syncs for %d flushes, want 2: one that ran and one for all that came meanwhile", n, writers)
	}
}

func TestFailedSyncFailsAllThatWait(t *testing.T) {
	t.Parallel()
	g := newGate(pmemtest.New(8*poolSize, pmemtest.Options{}))
	p := get[*pmemlog.Pool](t)(pmemlog.Format(g, formatOptions()))
	var ws []*writer
	for i := range 3 {
		w := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(byte(i+1), ringSize))), 1)
		w.append(64)
		ws = append(ws, w)
	}
	entered := g.shut()
	g.FailNextSync(pmemtest.ErrInjected)
	errs := make(chan error, len(ws))
	go func() { _, err := ws[0].s.Flush(); errs <- err }()
	<-entered
	for _, w := range ws[1:] {
		go func() { _, err := w.s.Flush(); errs <- err }()
	}
	pmemlog.WaitForSyncers(p, 2)
	g.open()
	for range ws {
		if err := <-errs; err == nil {
			t.Error("a flush succeeded after a sync had failed")
		}
	}
	if n := g.Syncs(); n != int(g.syncs.Load())-1 {
		t.Errorf("the medium was synced again after the failure")
	}
}

func TestCloseWaitsForTheSyncThatRuns(t *testing.T) {
	t.Parallel()
	g := newGate(pmemtest.New(poolSize, pmemtest.Options{}))
	p := get[*pmemlog.Pool](t)(pmemlog.Format(g, formatOptions()))
	w := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(1, ringSize))), 1)
	w.append(64)
	entered := g.shut()
	flushed, closed := make(chan error, 1), make(chan error, 1)
	go func() { _, err := w.s.Flush(); flushed <- err }()
	<-entered
	go func() { closed <- p.Close() }()
	select {
	case err := <-closed:
		t.Error("closed while a sync ran", err)
	default:
	}
	g.open()
	must(t, <-closed)
	if err := <-flushed; err != nil { // the pool may have been closed before the flush could say that it is done
		t.Log(err)
	}
	must(t, p.Close())
	for call, err := range everyCall(w.s) {
		if err == nil {
			t.Errorf("%s of a closed pool succeeded", call)
		}
	}
}
