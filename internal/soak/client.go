package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog"
	"github.com/gravenio/graven/replog/control"
)

// client is one of those that work at once.
type client struct {
	run *run
	n   int
	rng *rand.Rand
	api *session
	ctl *control.Client
	seq int
	own sync.WaitGroup // writers that were left behind
}

func (r *run) newClient(n int) (*client, error) {
	api, err := r.connect(n)
	if err != nil {
		return nil, err
	}
	return &client{
		run: r, n: n, api: api, rng: rand.New(rand.NewPCG(r.o.Seed, uint64(n))),
		ctl: control.New(api, fmt.Sprintf("soak%d", n), leaseTTL),
	}, nil
}

// work does one thing after the other until ctx ends, and then ends its writers.
func (c *client) work(ctx context.Context) {
	defer c.api.close()
	defer c.own.Wait()
	for ctx.Err() == nil {
		switch p := c.rng.IntN(100); {
		case p < 8:
			c.create()
		case p < 16:
			c.remove()
		case p < 78:
			c.session(ctx)
		case p < 88:
			c.replace()
		case p < 91:
			c.abandon()
		case p < 93:
			c.drain(ctx)
		case p < 94:
			c.pause(ctx)
		case p < 95:
			c.cancel()
		default:
			c.look()
		}
	}
}

// create makes a log under one of the few names.
func (c *client) create() {
	name, key := fmt.Sprintf("log%02d", c.rng.IntN(c.run.o.Names)), uuid.NewString()
	replicas := int32(3)
	if c.rng.IntN(12) == 0 { // few: it has no copy to lose, so its hosts can't be given up
		replicas = 2
	}
	var made *openapi.Log
	call := c.run.names.call()
	err, _ := c.api.definite("create", func(ctx context.Context) (openapi.Response, error) {
		rsp, err := c.api.CreateLogWithResponse(ctx, &openapi.CreateLogParams{IdempotencyKey: &key}, openapi.CreateLogRequest{
			Name: name, Replicas: replicas, AckQuorum: 2, CapacityBytes: ringBytes,
		})
		if err != nil {
			return nil, err
		}
		made = rsp.JSON201
		return rsp, nil
	})
	in := nameInput{call: callCreate, name: name}
	switch {
	case err == nil:
		c.run.adopt(made.LogID, name)
		c.run.names.record(c.n, in, call, nameOutput{ok: true, id: made.LogID})
	case openapi.IsProblem(err, openapi.ProblemNameTaken):
		c.run.names.record(c.n, in, call, nameOutput{})
	}
}

// remove deletes a log.
func (c *client) remove() {
	h := c.run.pick(c.rng)
	if h == nil {
		return
	}
	call := c.run.names.call()
	err, repeated := c.api.definite("delete", func(ctx context.Context) (openapi.Response, error) {
		return answered(c.api.DeleteLogWithResponse(ctx, h.id, nil))
	})
	c.ended(h, callDelete, call, err, repeated)
}

// ended records a call on a log by its ID.
func (c *client) ended(h *history, what nameCall, call int64, err error, repeated bool) {
	in := nameInput{call: what, name: h.name, id: h.id}
	switch {
	case err == nil, openapi.IsProblem(err, openapi.ProblemNotFound):
		c.run.names.record(c.n, in, call, nameOutput{ok: err == nil, repeated: repeated})
		c.run.drop(h.id)
	case openapi.IsProblem(err, openapi.ProblemLogInUse):
		c.run.names.record(c.n, in, call, nameOutput{refused: true})
	}
}

// openTime is how long an open may wait for replicas: too many of them may be
// away.
const openTime = 20 * time.Second

// session opens a log, checks all its records, appends some, and closes it, or
// leaves the writer behind for somebody else to take the log from.
func (c *client) session(ctx context.Context) {
	h := c.run.pick(c.rng)
	if h == nil {
		return
	}
	takeover := c.rng.IntN(3) == 0
	w := c.open(ctx, h, takeover)
	if w == nil {
		return
	}
	c.append(ctx, h, w, 1+c.rng.IntN(40))
	if c.rng.IntN(6) == 0 {
		c.run.done.add("leave", 1)
		rng := rand.New(rand.NewPCG(c.rng.Uint64(), 0))
		c.own.Go(func() { c.linger(ctx, h, w, rng) })
		return
	}
	c.close(w)
}

func (c *client) close(w *replog.Writer) {
	if err := w.Close(); err != nil {
		c.run.refusals.add("close", 1)
		return
	}
	c.run.done.add("close", 1)
}

// open takes the log and reads it, or counts why not.
func (c *client) open(ctx context.Context, h *history, takeover bool) *replog.Writer {
	octx, cancel := context.WithTimeout(context.WithoutCancel(ctx), openTime)
	defer cancel()
	o := replog.Options{QuorumTimeout: 10 * time.Second, RetryMax: 500 * time.Millisecond, DialTimeout: 2 * time.Second, ReplaceAfter: -1}
	if c.rng.IntN(2) == 0 {
		o.ReplaceAfter = 2 * time.Second
	}
	what := "open"
	if takeover {
		what = "takeover"
	}
	want, call := h.expect(), c.run.names.call()
	w, err := replog.Open(octx, c.ctl, replog.OpenRequest{Log: h.id, Takeover: takeover}, o)
	in := nameInput{call: callOpen, name: h.name, id: h.id}
	switch {
	case err == nil:
		c.run.names.record(c.n, in, call, nameOutput{ok: true, epoch: w.Grant().Term.Epoch})
	case openapi.IsProblem(err, openapi.ProblemNotFound):
		// The log may have gone while the open waited for its replicas.
		c.run.refusals.add(what+" not-found", 1)
		c.run.drop(h.id)
		return nil
	default:
		c.run.refusals.add(what+" "+reason(err), 1)
		return nil
	}
	c.run.done.add(what, 1)
	c.read(h, w, want)
	return w
}

// reason puts an open's failure into a word.
func reason(err error) string {
	p, ok := errors.AsType[*openapi.ProblemError](err)
	switch {
	case errors.Is(err, replog.ErrInUse):
		return "log-in-use"
	case errors.Is(err, replog.ErrSuperseded), errors.Is(err, replog.ErrFenced):
		return "superseded"
	case errors.Is(err, context.DeadlineExceeded):
		return "waited-in-vain"
	case ok:
		return string(p.Problem.Type)
	}
	return "unreachable"
}

// read checks all that the log holds.
func (c *client) read(h *history, w *replog.Writer, want expectation) {
	from := w.TrimLSN()
	var found []read
	_, err := w.Read(from, func(hd format.Header, payload []byte) error {
		key, err := keyOf(payload)
		if err != nil {
			return fmt.Errorf("LSN %d: %w", hd.LSN, err)
		}
		found = append(found, read{key: key, lsn: hd.LSN})
		return nil
	})
	if err != nil {
		c.run.differ("log %s (%s) can't be read: %v", h.id, h.name, err)
		return
	}
	c.run.done.add("read", 1)
	c.run.done.add("records read", int64(len(found)))
	for _, wrong := range h.check(want, from, found) {
		c.run.differ("%s", wrong)
	}
}

// append writes n records, a few at once, and notes which were acknowledged.
func (c *client) append(ctx context.Context, h *history, w *replog.Writer, n int) {
	const inFlight = 4
	for n > 0 && w.Err() == nil {
		type sent struct {
			key    string
			ticket *replog.Ticket
		}
		var batch []sent
		for range min(n, inFlight) {
			c.seq++
			key := fmt.Sprintf("%d.%d", c.n, c.seq)
			h.try(key)
			t, err := w.Submit(ctx, format.Record{Payload: payload(key, c.rng.IntN(16<<10))})
			if err != nil {
				c.run.refusals.add("append "+trouble(err), 1)
				if errors.Is(err, replog.ErrFull) {
					c.trim(h, w)
					continue
				}
				break
			}
			batch = append(batch, sent{key, t})
		}
		for _, s := range batch {
			if err := s.ticket.Wait(context.WithoutCancel(ctx)); err != nil {
				c.run.refusals.add("append "+trouble(err), 1)
				continue
			}
			c.run.done.add("append", 1)
			if err := h.acknowledge(s.key, s.ticket.LSN); err != nil {
				c.run.differ("%v", err)
			}
		}
		n -= inFlight
		if ctx.Err() != nil {
			return
		}
	}
}

func trouble(err error) string {
	switch {
	case errors.Is(err, replog.ErrFull):
		return "full"
	case errors.Is(err, replog.ErrFenced), errors.Is(err, replog.ErrSuperseded):
		return "fenced"
	case errors.Is(err, replog.ErrNoQuorum):
		return "no-quorum"
	case errors.Is(err, replog.ErrClosed):
		return "closed"
	}
	return "failed"
}

// trim makes room: it gives up everything below a record that was acknowledged.
func (c *client) trim(h *history, w *replog.Writer) {
	to := w.Commit()
	if c.rng.IntN(2) == 0 { // or the later half only
		to = w.TrimLSN()
		half := to + (w.Commit()-to)/2
		_, _ = w.Read(to, func(hd format.Header, _ []byte) error {
			if hd.LSN <= half {
				to = hd.LSN
			}
			return nil
		})
	}
	h.trim(to)
	if err := w.Trim(to); err != nil {
		c.run.refusals.add("trim", 1)
		return
	}
	c.run.done.add("trim", 1)
}

// linger goes on appending with a writer that nobody closes, until another one
// has taken the log or a while has passed: its lease is renewed all the while.
func (c *client) linger(ctx context.Context, h *history, w *replog.Writer, rng *rand.Rand) {
	defer w.Close() // it may have been fenced, which is what is hoped for
	until := time.Now().Add(time.Duration(2+rng.IntN(8)) * time.Second)
	for i := 0; ctx.Err() == nil && w.Err() == nil && time.Now().Before(until); i++ {
		key := fmt.Sprintf("%d.%s.%d", c.n, w.Grant().Writer[:8], i)
		h.try(key)
		lsn, err := w.Append(context.WithoutCancel(ctx), format.Record{Payload: payload(key, 200)})
		if err != nil {
			c.run.refusals.add("append "+trouble(err), 1)
			return
		}
		c.run.done.add("append", 1)
		if err := h.acknowledge(key, lsn); err != nil {
			c.run.differ("%v", err)
		}
		if wait(ctx, 20*time.Millisecond) != nil {
			return
		}
	}
}

// replace asks for another replica in the place of one.
func (c *client) replace() {
	h := c.run.pick(c.rng)
	if h == nil {
		return
	}
	agents := c.run.agents()
	c.replaceOn(h.id, agents[c.rng.IntN(len(agents))].ID)
}

func (c *client) replaceOn(log, daemon string) {
	key := uuid.NewString()
	_, _ = c.api.definite("replace", func(ctx context.Context) (openapi.Response, error) {
		return answered(c.api.StartReplacementWithResponse(ctx, log, &openapi.StartReplacementParams{IdempotencyKey: &key},
			openapi.StartReplacementRequest{Replica: daemon}))
	})
}

// abandon gives a replacement up.
func (c *client) abandon() {
	h := c.run.pick(c.rng)
	if h == nil {
		return
	}
	_, _ = c.api.definite("abandon", func(ctx context.Context) (openapi.Response, error) {
		return answered(c.api.AbandonReplacementWithResponse(ctx, h.id, nil))
	})
}

// look reads what the API shows, and its sums.
func (c *client) look() {
	_, _ = c.api.definite("look", func(ctx context.Context) (openapi.Response, error) {
		rsp, err := c.api.ListDaemonsWithResponse(ctx, nil)
		if err != nil {
			return nil, err
		}
		if rsp.JSON200 == nil {
			return rsp, nil
		}
		for _, d := range rsp.JSON200.Items {
			if d.FreeBytes < 0 || d.FreeBytes+d.ReservedBytes+d.QuarantinedBytes > d.CapacityBytes {
				c.run.differ("the API shows for daemon %s %d bytes free, %d reserved and %d quarantined of %d",
					d.DaemonID, d.FreeBytes, d.ReservedBytes, d.QuarantinedBytes, d.CapacityBytes)
			}
		}
		return rsp, nil
	})
}
