package tcp

import (
	"sync"

	"github.com/gravenio/graven/rdmaio"
)

// flusher runs a target's flushes beside the receiving of later writes. All
// that are asked for while one runs become one.
type flusher struct {
	target rdmaio.Target
	out    *replies
	failed func() // wakes the receiving goroutine

	mu      sync.Mutex
	cond    *sync.Cond
	started bool
	asked   bool
	running bool
	closed  bool
	id      uint32 // of the newest request
	err     error
	wg      sync.WaitGroup
}

func newFlusher(target rdmaio.Target, out *replies, failed func()) *flusher {
	f := &flusher{target: target, out: out, failed: failed}
	f.cond = sync.NewCond(&f.mu)
	return f
}

// ask requests a flush of what has been written so far.
func (f *flusher) ask(id uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.id, f.asked = id, true
	if !f.started {
		f.started = true
		f.wg.Go(f.run)
	}
	f.cond.Broadcast()
}

// settle waits until all that was asked for is done or has failed.
func (f *flusher) settle() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for (f.asked || f.running) && f.err == nil {
		f.cond.Wait()
	}
	return f.err
}

// stop ends the flusher after the flush that runs, if one does.
func (f *flusher) stop() {
	f.mu.Lock()
	f.closed = true
	f.cond.Broadcast()
	f.mu.Unlock()
	f.wg.Wait()
}

func (f *flusher) run() {
	for {
		id, ok := f.take()
		if !ok {
			return
		}
		f.out.begin()
		durable, err := f.target.Flush()
		if err == nil {
			f.out.add(header{kind: kindFlushed, id: id, arg: durable}, nil)
			err = f.out.flush()
		}
		f.out.end()
		f.done(err)
		if err != nil {
			f.failed()
			return
		}
	}
}

func (f *flusher) take() (uint32, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !f.asked && !f.closed {
		f.cond.Wait()
	}
	if f.closed {
		return 0, false
	}
	f.asked, f.running = false, true
	return f.id, true
}

func (f *flusher) done(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.running, f.err = false, err
	f.cond.Broadcast()
}

// failure returns why flushing ended, if it has.
func (f *flusher) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}
