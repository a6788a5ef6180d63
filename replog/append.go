package replog

import (
	"context"
	"fmt"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog/core"
)

// Ticket is an append under way.
type Ticket struct {
	LSN  uint64 // of the record
	End  uint64 // LSN behind it
	done chan struct{}
	err  error
}

// Done is closed when the record is committed or the writer has failed.
func (t *Ticket) Done() <-chan struct{} { return t.done }

// Err returns the outcome; it may be called once Done is closed.
func (t *Ticket) Err() error { return t.err }

// Wait returns nil once the record is committed. When ctx ends first the outcome
// is unknown: the record may still be committed, and stays in its place.
func (t *Ticket) Wait(ctx context.Context) error {
	select {
	case <-t.done:
		return t.err
	case <-ctx.Done():
		return fmt.Errorf("append at LSN %d: outcome unknown: %w", t.LSN, context.Cause(ctx))
	}
}

// tickets is a queue in the order of LSNs.
type tickets struct {
	queue []*Ticket
	head  int
}

func (q *tickets) push(t *Ticket) { q.queue = append(q.queue, t) }

// finish completes every ticket that ends at or below end.
func (q *tickets) finish(end uint64, err error) {
	for q.head < len(q.queue) && q.queue[q.head].End <= end {
		t := q.queue[q.head]
		q.queue[q.head] = nil
		q.head++
		t.err = err
		close(t.done)
	}
	if q.head == len(q.queue) {
		q.queue, q.head = q.queue[:0], 0
	} else if q.head > 1024 && q.head > len(q.queue)/2 {
		n := copy(q.queue, q.queue[q.head:])
		clear(q.queue[n:])
		q.queue, q.head = q.queue[:n], 0
	}
}

// Append writes one record and returns its LSN when it is committed. The payload
// is copied; it may be reused when Append returns.
func (w *Writer) Append(ctx context.Context, rec format.Record) (uint64, error) {
	t, err := w.Submit(ctx, rec)
	if err != nil {
		return 0, err
	}
	return t.LSN, t.Wait(ctx)
}

// Submit begins an append and returns without waiting for its commit. It waits
// only for space in the ring, and only where Options.WaitForSpace says so.
// Errors: ErrTooLarge, ErrFull, ErrFenced, ErrClosed, ErrNoQuorum where
// Options.QuorumTimeout has passed, or ctx's.
func (w *Writer) Submit(ctx context.Context, rec format.Record) (*Ticket, error) {
	if len(rec.Payload) > w.MaxPayload() {
		return nil, fmt.Errorf("%w: payload of %d bytes, at most %d in a ring of %d", ErrTooLarge, len(rec.Payload), w.MaxPayload(), w.grant.Capacity)
	}
	size := format.RecordSize(len(rec.Payload))
	for {
		t, wait, err := w.trySubmit(rec, size)
		if err != nil || t != nil {
			return t, err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, fmt.Errorf("append: waiting for space: %w", context.Cause(ctx))
		}
	}
}

// trySubmit returns a ticket, or what to wait for before the next try.
func (w *Writer) trySubmit(rec format.Record, size uint64) (*Ticket, <-chan struct{}, error) {
	w.mu.Lock()
	defer w.unlock()
	need := size + format.PadBefore(w.core.Tail(), size, w.grant.Capacity)
	if err := w.quorum.failure; err != nil {
		return nil, nil, w.orClosed(err)
	}
	err := w.core.Admit(need)
	if err == core.ErrFull && w.opts.WaitForSpace { //nolint:errorlint // Admit returns it bare
		return nil, w.changed, nil
	}
	if err != nil {
		return nil, nil, w.orClosed(err)
	}
	w.dispatch()
	if closing := w.closing(); closing != nil {
		return nil, closing, nil // a session still reads what would be overwritten
	}
	h := w.mirror.Append(&w.chain, w.core.Commit(), rec)
	t := &Ticket{LSN: h.LSN, End: h.End(), done: make(chan struct{})}
	w.waiting.push(t)
	w.core.Appended(h.End())
	w.dispatch()
	return t, nil, nil
}

// closing returns what to wait for when a session that was cut is being closed.
func (w *Writer) closing() <-chan struct{} {
	for _, peers := range [...][]*peer{w.peers, w.leaving} {
		for _, p := range peers {
			if p.closing != nil {
				return p.closing
			}
		}
	}
	return nil
}

func (w *Writer) orClosed(err error) error {
	if e := w.errLocked(); e != nil {
		return e
	}
	return err
}
