package pmemlog

import "sync"

// turn is a lock that is held during I/O and handed out in the order in which it
// was asked for. It is guarded by another lock, so that who holds that one anyway
// takes and ends a turn for nothing.
type turn struct {
	mu    *sync.Mutex
	ended sync.Cond // a turn has; its lock is mu
	next  uint64    // number of the turn that will be asked for next
	now   uint64    // of the one that is taken or, if that is next, none is
}

func (t *turn) init(mu *sync.Mutex) { t.mu, t.ended.L = mu, mu }

// Lock takes a turn. It gives mu up meanwhile.
func (t *turn) Lock() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.take()
}

// Unlock ends the turn.
func (t *turn) Unlock() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end()
}

// take is Lock by who holds mu.
func (t *turn) take() {
	mine := t.next
	t.next++
	for t.now != mine {
		t.ended.Wait()
	}
}

// end is Unlock by who holds mu.
func (t *turn) end() {
	t.now++
	if t.now != t.next {
		t.ended.Broadcast()
	}
}
