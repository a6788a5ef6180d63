package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/store"
)

const (
	eventsPath = "/v1/events"
	// eventWriteTimeout ends a stream whose client does not read.
	eventWriteTimeout = 20 * time.Second
)

// GetEvents implements openapi.StrictServerInterface.
func (s *Server) GetEvents(ctx context.Context, r openapi.GetEventsRequestObject) (openapi.GetEventsResponseObject, error) {
	after := deref(r.Params.Since)
	if r.Params.LastEventID != nil {
		after = *r.Params.LastEventID
	}
	if after == 0 {
		after = s.store.View().Revision()
	}
	sub, err := s.store.Events(ctx, after)
	if err != nil {
		return nil, err
	}
	info, _ := ctx.Value(requestInfoKey{}).(*requestInfo)
	return &eventStream{ctx: ctx, may: info.stillMay, server: s, sub: sub, after: after}, nil
}

// eventStream writes a subscription as server-sent events. It belongs to its
// request, which is why it may hold the request's context.
type eventStream struct {
	ctx    context.Context //nolint:containedctx // See above.
	may    func() error    // whether the caller still may follow
	server *Server
	sub    *store.Subscription
	after  int64 // revision that the stream begins behind

	w http.ResponseWriter
	c *http.ResponseController
}

// VisitGetEventsResponse writes until the client, the subscription or the
// server ends; none of these is an error.
func (e *eventStream) VisitGetEventsResponse(w http.ResponseWriter) error {
	defer e.sub.Close()
	e.server.metrics.streams.Inc()
	defer e.server.metrics.streams.Dec()
	e.w, e.c = w, http.NewResponseController(w)
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // for proxies that would hold events back
	w.WriteHeader(http.StatusOK)
	if err := e.write(fmt.Sprintf("retry: 1000\nid: %d\n\n", e.after)); err != nil {
		return err
	}
	return e.run()
}

func (e *eventStream) run() error {
	alive := time.NewTicker(e.server.o.KeepAlive)
	defer alive.Stop()
	for {
		var err error
		select {
		case ev, ok := <-e.sub.C:
			if !ok {
				return e.sub.Err()
			}
			err = e.event(&ev)
		case <-alive.C:
			if e.may() != nil {
				return nil // He learns why when he connects again.
			}
			err = e.write(": still here\n\n")
		case <-e.ctx.Done():
			return nil
		case <-e.server.stopping:
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// event writes one event, with the revision to go on behind once it was seen.
func (e *eventStream) event(ev *store.Event) error {
	out := openapi.Event{
		Revision: ev.Revision, Kind: openapi.EventKind(ev.Kind), ID: ev.ID, Deleted: ev.Deleted,
		Journal: journal(ev.Journal),
	}
	if ev.Daemon != nil {
		d := daemon(ev.Daemon)
		out.Daemon = &d
	}
	if ev.Log != nil {
		l := log(ev.Log)
		out.Log = &l
	}
	if ev.Operator != nil {
		o := operator(ev.Operator)
		out.Operator = &o
	}
	data, err := json.Marshal(out)
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	return e.write(fmt.Sprintf("event: %s\nid: %d\ndata: %s\n\n", out.Kind, ev.Resume, data))
}

func (e *eventStream) write(text string) error {
	_ = e.c.SetWriteDeadline(time.Now().Add(eventWriteTimeout)) // Not every test's writer has deadlines.
	if _, err := e.w.Write([]byte(text)); err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	if err := e.c.Flush(); err != nil {
		return fmt.Errorf("flush event: %w", err)
	}
	return nil
}
