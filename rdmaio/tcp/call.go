package tcp

import (
	"bytes"
	"context"
	"fmt"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
)

// readAhead is how many parts of one Read are under way at a time.
const readAhead = 4

// request is one question and whoever waits for its answer.
type request struct {
	id   uint32
	want kind
	dst  []byte // takes the body of Bytes

	done chan struct{}
	body []byte
	err  error
}

func (r *request) finish(err error) {
	r.err = err
	close(r.done)
}

// answer takes a reply, whose body is valid only now. It returns an error that
// ends the session when the reply makes no sense.
func (r *request) answer(h header, body []byte) error {
	switch {
	case h.kind == kindError:
		r.finish(decodeError(body))
	case h.kind != r.want:
		return refuse(rdmaio.ErrFrame, "%v is no answer where %v is expected", h.kind, r.want)
	case h.kind == kindBytes && len(body) != len(r.dst):
		return refuse(rdmaio.ErrFrame, "%d bytes read, %d were asked for", len(body), len(r.dst))
	case h.kind == kindBytes:
		copy(r.dst, body)
		r.finish(nil)
	default:
		r.body = bytes.Clone(body)
		r.finish(nil)
	}
	return nil
}

// slot waits for its turn to ask; await gives the slot back.
func (c *Conn) slot(ctx context.Context) error {
	select {
	case c.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.done:
		return c.reason()
	}
}

// ask sends a request without waiting for the answer. The caller has a slot,
// which is given back here when ask fails.
func (c *Conn) ask(k kind, arg uint64, body []byte, r *request) error {
	r.done = make(chan struct{})
	err := c.out.message(k, arg, body, func(id uint32) {
		r.id = id
		c.expect(r)
	})
	if err != nil {
		<-c.slots
		return err
	}
	c.alive.watch()
	return nil
}

func (c *Conn) expect(r *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending == nil {
		r.finish(c.err)
		return
	}
	c.pending[r.id] = r
}

// await waits for an answer. When the context ends first, the answer is
// forgotten: nothing writes to r.dst after await has returned.
func (c *Conn) await(ctx context.Context, r *request) error {
	defer func() { <-c.slots }()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, r.id)
	select {
	case <-r.done: // it came after all
		return r.err
	default:
		return context.Cause(ctx)
	}
}

func (c *Conn) reason() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// call asks and waits.
func (c *Conn) call(ctx context.Context, k, want kind, arg uint64, body []byte) ([]byte, error) {
	r := &request{want: want}
	err := c.slot(ctx)
	if err == nil {
		err = c.ask(k, arg, body, r)
	}
	if err == nil {
		err = c.await(ctx, r)
	}
	if err != nil {
		return nil, fmt.Errorf("%v: %w", k, err)
	}
	return r.body, nil
}

// Fence implements [rdmaio.Session].
func (c *Conn) Fence(ctx context.Context) (format.Report, error) {
	if c.readOnly {
		return format.Report{}, fmt.Errorf("%v: %w", kindFence, rdmaio.ErrReadOnly)
	}
	body, err := c.call(ctx, kindFence, kindReport, 0, nil)
	if err != nil {
		return format.Report{}, err
	}
	return decodeReport(body)
}

// Read implements [rdmaio.Session]. Parts are asked for ahead while that takes
// no turn from anybody who holds none.
func (c *Conn) Read(ctx context.Context, lsn uint64, p []byte) error {
	var parts []*request
	var failed error
	for failed == nil && len(p) > 0 || len(parts) > 0 {
		if failed == nil && len(p) > 0 && len(parts) < readAhead && c.turn(ctx, len(parts) > 0, &failed) {
			r := &request{want: kindBytes, dst: p[:min(len(p), maxBytes)]}
			if failed = c.ask(kindRead, lsn, le.AppendUint32(nil, uint32(len(r.dst))), r); failed == nil {
				parts = append(parts, r)
				lsn, p = lsn+uint64(len(r.dst)), p[len(r.dst):]
			}
			continue
		}
		if len(parts) == 0 {
			break
		}
		if err := c.await(ctx, parts[0]); failed == nil {
			failed = err
		}
		parts = parts[1:]
	}
	if failed != nil {
		return fmt.Errorf("%v: %w", kindRead, failed)
	}
	return nil
}

// turn takes a slot: at once or not at all for one who holds some already, else
// as slot does.
func (c *Conn) turn(ctx context.Context, holding bool, failed *error) bool {
	if !holding {
		*failed = c.slot(ctx)
		return *failed == nil
	}
	select {
	case c.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

// Align implements [rdmaio.Session].
func (c *Conn) Align(ctx context.Context, lsn uint64) error {
	return c.change(ctx, kindAlign, lsn, nil)
}

// Reset implements [rdmaio.Session].
func (c *Conn) Reset(ctx context.Context, at format.TrimPoint) error {
	return c.change(ctx, kindReset, at.LSN, appendTrim(nil, at))
}

// Trim implements [rdmaio.Session].
func (c *Conn) Trim(ctx context.Context, at format.TrimPoint) error {
	return c.change(ctx, kindTrim, at.LSN, appendTrim(nil, at))
}

// Seal implements [rdmaio.Session].
func (c *Conn) Seal(ctx context.Context, s rdmaio.SealIn) error {
	body, err := encodeSeal(&s)
	if err != nil {
		return fmt.Errorf("%v: %w", kindSeal, err)
	}
	return c.change(ctx, kindSeal, s.Tail, body)
}

// change makes a request that is answered with Done.
func (c *Conn) change(ctx context.Context, k kind, lsn uint64, body []byte) error {
	if c.readOnly {
		return fmt.Errorf("%v: %w", k, rdmaio.ErrReadOnly)
	}
	_, err := c.call(ctx, k, kindDone, lsn, body)
	return err
}

// Info implements [rdmaio.Session].
func (c *Conn) Info(ctx context.Context) (rdmaio.Info, error) {
	body, err := c.call(ctx, kindInfo, kindState, 0, nil)
	if err != nil {
		return rdmaio.Info{}, err
	}
	return decodeInfo(body)
}
