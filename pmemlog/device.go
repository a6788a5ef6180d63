package pmemlog

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

const (
	zeroChunk = 1 << 20  // bytes that are zeroed at a time
	zeroSync  = 32 << 20 // bytes that are zeroed between syncs, so that other replicas' flushes don't wait for all of it
)

// device is a pool's medium with the two rules that all of the pool shares:
// one sync serves all that wait, and after a failure nothing is written.
type device struct {
	medium    Medium
	persister persister // what persists as it writes, so that a sync has nothing to do; nil for other media
	blocks    bool      // that may wait for a disk

	mu      sync.Mutex
	ended   sync.Cond // a sync has ended
	running bool
	waiting int    // callers that wait for the next sync
	begun   uint64 // syncs begun
	done    uint64 // syncs that have returned without error, by number

	failed atomic.Pointer[error]       // set once: the device is poisoned or closed
	tell   atomic.Pointer[func(error)] // who is to be told that it is poisoned; nil for nobody, or no more
}

func newDevice(m Medium) *device {
	d := &device{medium: m}
	d.ended.L = &d.mu
	if m.Kind() == KindPmem {
		d.persister = m.(persister) // what is not, can't keep what others store: a bug, not a lesser medium
		b, ok := m.(blocker)
		d.blocks = ok && b.Blocks()
	}
	return d
}

// failure returns why nothing can be written any more, or nil.
func (d *device) failure() error {
	if err := d.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// poison keeps the first failure and returns it.
func (d *device) poison(op string, cause error) error {
	return d.fail(&PoisonedError{Op: op, Err: cause})
}

// readAt reads on after a failure of writes, too. What can't be read is
// ErrUnreadable: for memory as for a disk, that is damage to one place.
func (d *device) readAt(p []byte, off int64) error {
	if err := d.medium.ReadAt(p, off); err != nil {
		return fmt.Errorf("%w, bytes %d to %d of the pool: %w", ErrUnreadable, off, off+int64(len(p)), err)
	}
	return nil
}

// writeAt writes whole pages even where they can't be read, if the medium knows
// how. An [UnwritableError], without poison, where one place alone can't be written.
func (d *device) writeAt(p []byte, off int64) error {
	if err := d.failure(); err != nil {
		return err
	}
	err := d.medium.WriteAt(p, off)
	if m, ok := d.medium.(rewriter); ok && OnePlace(err) && off%damagePage == 0 && len(p)%damagePage == 0 {
		err = m.Rewrite(p, off)
	}
	return d.wrote("write", err, off, int64(len(p)))
}

// wrote judges how a write of [off, off+n) has ended.
func (d *device) wrote(op string, err error, off, n int64) error {
	switch {
	case err == nil:
		return nil
	case OnePlace(err):
		return unwritable(err, off, n)
	default:
		return d.poison(op, err)
	}
}

// persist writes the spans, none of which depends on another, and returns when
// they are persistent.
func (d *device) persist(spans []Span) error {
	if d.persister == nil {
		return d.writeAndSync(spans)
	}
	if err := d.failure(); err != nil {
		return err
	}
	err := d.persister.Persist(spans)
	if OnePlace(err) {
		return d.writeAndSync(spans) // one at a time, which tells which one it is
	}
	return d.wrote("write", err, 0, d.medium.Size())
}

// persistFeed is persist of what a feed makes of p, on a medium with a persister. An
// error is for fed to judge: that may tell others, who may wait for what the caller
// holds.
func (d *device) persistFeed(p []byte, f Feed) error {
	if err := d.failure(); err != nil {
		return err
	}
	return d.persister.PersistFeed(p, f)
}

// persistOne is persistFeed of one span.
func (d *device) persistOne(p []byte, off int64) error {
	if err := d.failure(); err != nil {
		return err
	}
	return d.persister.PersistOne(p, off)
}

// fed judges how a persistFeed has ended.
func (d *device) fed(err error) error {
	if err == nil {
		return nil
	}
	return d.wrote("write", err, 0, d.medium.Size())
}

func (d *device) writeAndSync(spans []Span) error {
	for _, s := range spans {
		if err := d.writeAt(s.Bytes, s.Off); err != nil {
			return err
		}
	}
	return d.sync()
}

// writeBack begins to make persistent what others have stored, which the next
// persist completes: ErrWrongMedium where nobody can store.
func (d *device) writeBack(off, n int64) error {
	if err := d.failure(); err != nil {
		return err
	}
	switch {
	case d.persister != nil:
		return d.wrote("flush", d.persister.WriteBack(off, n), off, n)
	case d.medium.Kind() == KindVolatile:
		return nil
	default:
		return fmt.Errorf("%w: nothing can be stored behind the back of a pool on medium %s", ErrWrongMedium, d.medium.Kind())
	}
}

// settle makes sure that what is read of a range is persistent, though a process
// that was killed, or a network card, may have left it in the CPU's cache. That
// costs about as much as to read it. A medium that is synced is settled by that.
// A [FaultError], without poison, where it can't be read either: what lies before
// is settled.
func (d *device) settle(off, n int64) error {
	if d.persister == nil {
		return nil
	}
	if err := d.failure(); err != nil {
		return err
	}
	err := d.persister.WriteBack(off, n)
	var fault *FaultError
	if err != nil && !errors.As(err, &fault) {
		return d.poison("flush", err)
	}
	return errors.Join(err, d.persist(nil))
}

// settlePast is settle of all of a range but the pages that can't be read.
func (d *device) settlePast(off, n int64) error {
	err := d.settle(off, n)
	var fault *FaultError
	if !errors.As(err, &fault) {
		return err
	}
	if err := d.failure(); err != nil {
		return err
	}
	next := max(off, fault.Off)&^(damagePage-1) + damagePage
	if next >= off+n {
		return nil
	}
	return d.settlePast(next, off+n-next)
}

// sync makes persistent all writes that returned before it was called. A sync
// that runs already may have missed some of them, so the caller waits for the
// next one, which the first of all that wait carries out for the others.
func (d *device) sync() error {
	if d.persister != nil {
		return d.failure()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for want := d.begun + 1; d.done < want; {
		if err := d.failure(); err != nil { // rule: poisoned
			return err
		}
		if d.running {
			d.waiting++
			d.ended.Wait()
			d.waiting--
			continue
		}
		d.lead()
	}
	return nil
}

// lead carries out one sync, with the lock given up meanwhile.
func (d *device) lead() {
	d.running = true
	d.begun++
	n := d.begun
	d.mu.Unlock()
	err := d.medium.Sync()
	d.mu.Lock()
	d.running = false
	if err != nil {
		_ = d.poison("sync", err)
	} else {
		d.done = n
	}
	d.ended.Broadcast()
}

// zero writes zeroes. They are really written: a file's unwritten extents would
// make every later sync write its journal too. ErrNoSpace, without poison, when
// the medium has no room for them, [UnwritableError] where they can't be written:
// what is being made counts for nothing yet.
func (d *device) zero(off, n int64) error {
	if z, ok := d.medium.(zeroer); ok {
		if err := d.failure(); err != nil {
			return err
		}
		return d.zeroed(z.Zero(off, n), off, n)
	}
	zeroes := make([]byte, min(n, zeroChunk))
	for done := int64(0); done < n; {
		chunk := min(n-done, int64(len(zeroes)))
		if err := d.grow(zeroes[:chunk], off+done); err != nil {
			return err
		}
		done += chunk
		if done%zeroSync == 0 {
			if err := d.sync(); err != nil {
				return err
			}
		}
	}
	return nil
}

// grow writes where a sparse medium may have nothing yet.
func (d *device) grow(p []byte, off int64) error {
	if err := d.failure(); err != nil {
		return err
	}
	return d.zeroed(d.medium.WriteAt(p, off), off, int64(len(p)))
}

// zeroed judges how zeroing has ended.
func (d *device) zeroed(err error, off, n int64) error {
	if full(err) {
		return fmt.Errorf("%w: %w", ErrNoSpace, advise(err))
	}
	return d.wrote("zero", err, off, n)
}

// close fails all later writes and syncs with ErrClosed, waits for a sync that
// runs, and closes the medium.
func (d *device) close() error {
	err := ErrClosed
	d.failed.Store(&err)
	d.mu.Lock()
	for d.running {
		d.ended.Wait()
	}
	d.ended.Broadcast()
	d.mu.Unlock()
	return d.medium.Close()
}
