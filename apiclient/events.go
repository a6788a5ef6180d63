package apiclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/gravenio/graven/openapi"
)

// Pauses between attempts to go on with a stream.
const (
	firstResume   = 100 * time.Millisecond
	slowestResume = 5 * time.Second
)

// Events follows the cluster's events over any number of streams: where one
// ends, it goes on behind what was seen, at whichever server answers. It belongs
// to one goroutine.
type Events struct {
	c     *Client
	last  int64
	begun bool // there was a stream
	open  *openapi.EventReader
	pause *backoff.ExponentialBackOff

	// OnBreak, if set, is called when a stream could not be made or has failed and
	// will be tried again; not when a server ended it in order.
	OnBreak func(error)
}

// Events returns what happens behind a revision, or from now on if that is 0.
// Close it.
func (c *Client) Events(after int64) *Events {
	e := &Events{c: c, last: after, pause: &backoff.ExponentialBackOff{
		InitialInterval: firstResume, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: slowestResume,
	}}
	e.pause.Reset()
	return e
}

// Next blocks until the next event. After a reconnect some events of the last
// revision may come again.
//
// Errors: the context's; a *openapi.ProblemError for a refusal that asking again
// does not cure, such as events-gap, after which the caller reads how everything
// is and goes on with Resume; and what went wrong if no stream has begun yet.
func (e *Events) Next(ctx context.Context) (openapi.Event, error) {
	for {
		err := e.connect(ctx)
		if err == nil {
			var ev openapi.Event
			if ev, err = e.read(ctx); err == nil {
				return ev, nil
			}
		}
		if err = e.again(ctx, err); err != nil {
			return openapi.Event{}, err
		}
	}
}

// LastEventID is the revision behind which the stream goes on.
func (e *Events) LastEventID() int64 { return e.last }

// Resume goes on behind another revision.
func (e *Events) Resume(after int64) {
	e.Close()
	e.last = after
}

// Close ends the stream that is open.
func (e *Events) Close() {
	if e.open != nil {
		_ = e.open.Close()
		e.open = nil
	}
}

func (e *Events) connect(ctx context.Context) error {
	if e.open != nil {
		return nil
	}
	after := e.last
	rsp, err := e.c.api.GetEvents(ctx, &openapi.GetEventsParams{LastEventID: &after}) //nolint:bodyclose // The reader owns it.
	if err != nil {
		return err
	}
	e.open, err = openapi.NewEventReader(rsp)
	return err
}

func (e *Events) read(ctx context.Context) (openapi.Event, error) {
	e.begun = true
	stop := context.AfterFunc(ctx, func() { _ = e.open.Close() })
	defer stop()
	ev, err := e.open.Next()
	e.last = max(e.last, e.open.LastEventID())
	if err != nil {
		return ev, fmt.Errorf("%s: %w", e.c.URL(), err)
	}
	e.pause.Reset()
	return ev, nil
}

// again returns nil when the stream is worth another attempt, after a pause.
func (e *Events) again(ctx context.Context, err error) error {
	e.Close()
	ended := errors.Is(err, io.EOF) // the server stops, or the reader was too slow for it
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case !e.begun, refused(err):
		return err
	case !ended && e.OnBreak != nil:
		e.OnBreak(err)
	}
	t := time.NewTimer(e.pause.NextBackOff())
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// refused says that the cluster has answered, and will answer the same again.
func refused(err error) bool {
	p, ok := errors.AsType[*openapi.ProblemError](err)
	return ok && p.Problem.Type != openapi.ProblemBlank && p.Problem.Status < http.StatusInternalServerError &&
		p.Problem.Status != http.StatusTooManyRequests
}
