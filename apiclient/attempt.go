package apiclient

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/gravenio/graven/openapi"
)

// attempt is what came of asking one server.
type attempt struct {
	response *http.Response
	err      error
	away     bool // the answer is only that server's
	harmless bool // the server can't have begun anything
}

// attempt asks server n; so many servers may still be asked, this one included.
func (c *Client) attempt(r *http.Request, n, left int) (a attempt) {
	ctx, cancel := context.WithCancelCause(r.Context())
	limit := c.share(r.Context(), left)
	timer := time.AfterFunc(limit, func() { cancel(&timeoutError{"no answer", limit}) })
	var connected atomic.Bool
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	aimed, err := c.aimed(traced, r, c.servers.url(n))
	if err == nil {
		a.response, err = c.http.Do(aimed) //nolint:bodyclose // It is read whole, or handed on.
	}
	if err == nil && isStream(a.response) {
		if timer.Stop() {
			a.response.Body = newStream(a.response.Body, c.o.StreamIdle, cancel)
			return a
		}
		err = context.Cause(ctx)
		_ = a.response.Body.Close()
	}
	if err == nil {
		err = c.whole(a.response)
	}
	if err != nil {
		a.response, a.harmless = nil, !connected.Load()
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
	}
	timer.Stop()
	cancel(nil)
	if a.err = err; err == nil {
		a.judge()
	}
	return a
}

// whole replaces the body by what is in it.
func (c *Client) whole(r *http.Response) error {
	defer func() { _ = r.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(r.Body, maxAnswer+1))
	switch {
	case err != nil:
		return err
	case len(b) > maxAnswer:
		return ErrAnswerTooLong
	}
	r.Body = &read{bytes.NewReader(b), b}
	return nil
}

// read is the body of an answer that is here.
type read struct {
	*bytes.Reader
	all []byte
}

func (*read) Close() error { return nil }

// judge says whether another server, or the same one later, may answer
// otherwise.
func (a *attempt) judge() {
	r := a.response
	if r.StatusCode < http.StatusMultipleChoices {
		return
	}
	a.harmless = r.StatusCode == http.StatusUnauthorized
	a.away = a.harmless || r.StatusCode >= http.StatusInternalServerError || !isProblem(r)
}

// isProblem says whether the error is one of the contract's.
func isProblem(r *http.Response) bool {
	mt, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	b, ok := r.Body.(*read)
	var p openapi.Problem
	return ok && mt == openapi.ProblemMediaType && json.Unmarshal(b.all, &p) == nil &&
		p.Type != "" && p.Type != openapi.ProblemBlank
}

func isStream(r *http.Response) bool {
	mt, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return r.StatusCode == http.StatusOK && mt == "text/event-stream"
}

// stream is the body of a stream of events. Each read starts its time anew.
type stream struct {
	io.ReadCloser
	idle   time.Duration
	timer  *time.Timer
	cancel context.CancelCauseFunc
	silent *atomic.Bool
}

func newStream(body io.ReadCloser, idle time.Duration, cancel context.CancelCauseFunc) *stream {
	s := &stream{ReadCloser: body, idle: idle, cancel: cancel, silent: new(atomic.Bool)}
	s.timer = time.AfterFunc(idle, func() {
		s.silent.Store(true)
		cancel(nil)
	})
	return s
}

func (s *stream) Read(b []byte) (int, error) {
	s.timer.Reset(s.idle)
	n, err := s.ReadCloser.Read(b)
	if err != nil && s.silent.Load() {
		err = &timeoutError{"nothing on the stream", s.idle}
	}
	return n, err
}

func (s *stream) Close() error {
	s.timer.Stop()
	s.cancel(nil)
	return s.ReadCloser.Close()
}
