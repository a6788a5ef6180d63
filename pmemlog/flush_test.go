package pmemlog_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

// crowded begins a flush of a replica, whose sync is held back, and has many more
// records written meanwhile, each with a flush of its own. It returns once all of
// those wait.
func crowded(t *testing.T, many int) (*gate, *writer, *sync.WaitGroup, []error, []uint64, []uint64) {
	t.Helper()
	g := newGate(pmemtest.New(poolSize, pmemtest.Options{}))
	p := get[*pmemlog.Pool](t)(pmemlog.Format(g, formatOptions()))
	w := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(1, ringSize))), 1)
	errs, durable, wrote := make([]error, many+1), make([]uint64, many+1), make([]uint64, many+1)
	var done sync.WaitGroup
	entered := g.shut()
	for i := range many + 1 {
		w.append(64)
		wrote[i] = w.chain.LSN
		done.Go(func() { durable[i], errs[i] = w.s.Flush() })
		if i == 0 {
			<-entered
		}
	}
	pmemlog.WaitForFlushes(w.s.Replica(), many)
	return g, w, &done, errs, durable, wrote
}

func TestOneFlushForAllThatWait(t *testing.T) {
	t.Parallel()
	const many = 20
	g, _, done, errs, durable, wrote := crowded(t, many)
	before := g.syncs.Load()
	g.open()
	done.Wait()
	for i := range errs {
		if errs[i] != nil || durable[i] < wrote[i] {
			t.Errorf("flush %d: durable %d, %v; LSN %d was written before it", i, durable[i], errs[i], wrote[i])
		}
	}
	if n := g.syncs.Load() - before; n != 1 {
		t.Errorf("%d syncs for %d flushes that waited, want 1", n, many)
	}
}

func TestFailedFlushFailsAllThatWait(t *testing.T) {
	t.Parallel()
	g, _, done, errs, _, _ := crowded(t, 5)
	g.FailNextSync(pmemtest.ErrInjected)
	g.open()
	done.Wait()
	for i, err := range errs {
		if !errors.Is(err, pmemlog.ErrPoisoned) {
			t.Errorf("flush %d: %v", i, err)
		}
	}
}

// What is set anew while a flush waits is not vouched for by the one before it.
func TestFlushThatWaitedBesideAnAlignment(t *testing.T) {
	t.Parallel()
	g, w, done, errs, _, _ := crowded(t, 3)
	next := w.s.Replica().Attach(false)
	fenced := make(chan error, 1)
	go func() {
		_, err := next.Fence(term(2))
		fenced <- err
	}()
	g.open()
	must(t, <-fenced)
	done.Wait()
	for i, err := range errs {
		if err != nil && !errors.Is(err, pmemlog.ErrSessionEnded) {
			t.Errorf("flush %d: %v", i, err)
		}
	}
}

// On persistent memory an append takes no turn of a flush. One that goes on beside
// it must not take back what the append has made durable.
func TestFlushBesideAppendsOnPMem(t *testing.T) {
	t.Parallel()
	_, p := newPMemPool(t, pmemlog.DurabilityFlush)
	w := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(1, ringSize))), 1)
	ended := make(chan struct{})
	var flushes sync.WaitGroup
	for range 2 {
		flushes.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
				}
				if _, err := w.s.Flush(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 20_000 {
		if !w.room(64) {
			must(t, w.s.Trim(w.point()))
			w.trim = w.point()
		}
		must(t, w.write(64)) // for a flush to have something to do
		w.appendNow(64)
		if i := w.s.Replica().Info(); i.Durable != w.chain.LSN {
			t.Errorf("durable is %d behind an append to %d", i.Durable, w.chain.LSN)
			break
		}
	}
	close(ended)
	flushes.Wait()
}
