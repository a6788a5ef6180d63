package pmemlog

import "errors"

// Failure returns why the pool writes nothing any more: ErrPoisoned or
// ErrClosed; nil while it does.
func (p *Pool) Failure() error { return p.dev.failure() }

// OnFailure has told called, once, with the [PoisonedError] or [TakenError]
// when the pool is poisoned, at once if it is already. That a pool is closed is not told. told may
// be called with locks held: it waits for nothing, and of the pool's methods calls
// Failure only. A later OnFailure takes the place of one that has not been called.
func (p *Pool) OnFailure(told func(error)) {
	p.dev.tell.Store(&told)
	p.dev.tellFailure()
}

// fail keeps the first failure and returns it.
func (d *device) fail(err error) error {
	d.failed.CompareAndSwap(nil, &err)
	d.tellFailure()
	return d.failure()
}

// tellFailure tells who waits for it, if the device is poisoned.
func (d *device) tellFailure() {
	failure := d.failure()
	if !errors.Is(failure, ErrPoisoned) {
		return
	}
	if told := d.tell.Swap(nil); told != nil {
		(*told)(failure)
	}
}
