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

// slot takes a turn to ask, which await or forget gives back. One who would not
// wait is told false when there is none.
func (c *Conn) slot(ctx context.Context, wait bool) (bool, error) {
	select {
	case c.slots <- struct{}{}:
		return true, nil
	default:
	}
	if !wait {
		return false, nil
	}
	select {
	case c.slots <- struct{}{}:
		return true, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	case <-c.done:
		return false, c.reason()
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

// await waits for an answer, or until the context ends.
func (c *Conn) await(ctx context.Context, r *request) error {
	select {
	case <-r.done:
	case <-ctx.Done():
	}
	c.forget(r)
	select {
	case <-r.done:
		return r.err
	default:
		return context.Cause(ctx)
	}
}

// forget gives up a request: nothing writes to its dst any more.
func (c *Conn) forget(r *request) {
	c.mu.Lock()
	delete(c.pending, r.id)
	c.mu.Unlock()
	<-c.slots
}

func (c *Conn) reason() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// call asks and waits.
func (c *Conn) call(ctx context.Context, k, want kind, arg uint64, body []byte) ([]byte, error) {
	r := &request{want: want}
	_, err := c.slot(ctx, true)
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

// Read implements [rdmaio.Session].
func (c *Conn) Read(ctx context.Context, lsn uint64, p []byte) error {
	if err := c.readParts(ctx, lsn, p); err != nil {
		return fmt.Errorf("%v: %w", kindRead, err)
	}
	return nil
}

// readParts asks for parts ahead, as long as there are slots for them that
// nobody else waits for: whoever holds one must not wait for another.
func (c *Conn) readParts(ctx context.Context, lsn uint64, p []byte) error {
	var ahead []*request
	defer func() {
		for _, r := range ahead {
			c.forget(r)
		}
	}()
	for len(p) > 0 || len(ahead) > 0 {
		if len(p) > 0 && len(ahead) < readAhead {
			free, err := c.slot(ctx, len(ahead) == 0)
			if err != nil {
				return err
			}
			if free {
				r := &request{want: kindBytes, dst: p[:min(len(p), maxBytes)]}
				if err := c.ask(kindRead, lsn, le.AppendUint32(nil, uint32(len(r.dst))), r); err != nil {
					return err
				}
				ahead = append(ahead, r)
				lsn, p = lsn+uint64(len(r.dst)), p[len(r.dst):]
				continue
			}
		}
		r := ahead[0]
		ahead = ahead[1:]
		if err := c.await(ctx, r); err != nil {
			return err
		}
	}
	return nil
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

// Reseal implements [rdmaio.Session].
func (c *Conn) Reseal(ctx context.Context, version uint64, set []format.ID) error {
	body, err := encodeReseal(set)
	if err != nil {
		return fmt.Errorf("%v: %w", kindReseal, err)
	}
	return c.change(ctx, kindReseal, version, body)
}

// change makes a request that is answered with Done.
func (c *Conn) change(ctx context.Context, k kind, arg uint64, body []byte) error {
	if c.readOnly {
		return fmt.Errorf("%v: %w", k, rdmaio.ErrReadOnly)
	}
	_, err := c.call(ctx, k, kindDone, arg, body)
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
