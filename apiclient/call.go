package apiclient

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"
)

type (
	repeatableKey struct{}
	timeoutKey    struct{}
	lostKey       struct{}
)

// Repeatable marks the calls made with the context as ones that two servers may
// carry out without harm: their second time changes nothing, or is refused.
func Repeatable(ctx context.Context) context.Context {
	return context.WithValue(ctx, repeatableKey{}, true)
}

// WithTimeout sets the time that each attempt of the calls made with the context
// may take, instead of [Options.Timeout].
func WithTimeout(ctx context.Context, d time.Duration) context.Context {
	return context.WithValue(ctx, timeoutKey{}, d)
}

// NoteLost returns a context for calls, and what says after them whether an
// answer was lost: a server may have carried out what was asked of it before the
// one whose answer counts. That one finds a DELETE done, which it answers as if
// nothing had been there. lost may be called at any time, from any goroutine.
func NoteLost(ctx context.Context) (noted context.Context, lost func() bool) {
	var said atomic.Bool
	return context.WithValue(ctx, lostKey{}, &said), said.Load
}

// noteLost is for an attempt that a server may have carried out.
func noteLost(ctx context.Context) {
	if said, ok := ctx.Value(lostKey{}).(*atomic.Bool); ok {
		said.Store(true)
	}
}

// repeatable says whether a request may reach two servers.
func repeatable(r *http.Request) bool {
	if r.Body != nil && r.GetBody == nil {
		return false // it can be sent only once
	}
	switch {
	case r.Method != http.MethodPost && r.Method != http.MethodPatch, r.Header.Get("Idempotency-Key") != "":
		return true
	}
	said, _ := r.Context().Value(repeatableKey{}).(bool)
	return said
}

// share is how long an attempt may take when it and so many others may be
// needed: no longer than what the context has left for each.
func (c *Client) share(ctx context.Context, attempts int) time.Duration {
	d := c.o.Timeout
	if said, ok := ctx.Value(timeoutKey{}).(time.Duration); ok {
		d = said
	}
	if deadline, ok := ctx.Deadline(); ok {
		d = min(d, time.Until(deadline)/time.Duration(attempts))
	}
	return d
}
