package apiclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gravenio/graven/openapi"
)

// sends makes a server whose streams name one revision each, the next one after
// what the client has seen, and then do what is left to the test.
func (s *seen) sends(t *testing.T, name string, then func(r *http.Request)) string {
	t.Helper()
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		var after int64
		_, _ = fmt.Sscan(r.Header.Get("Last-Event-ID"), &after) // none is 0
		s.add(fmt.Sprint(name, " ", after))
		w.Header().Set("Content-Type", "text/event-stream")
		b, _ := json.Marshal(openapi.Event{Revision: after + 1, Kind: openapi.EventDaemon, ID: name, Deleted: true})
		fmt.Fprintf(w, "event: daemon\nid: %d\ndata: %s\n\n", after+1, b)
		_ = http.NewResponseController(w).Flush()
		if then != nil {
			then(r)
		}
	})
}

// TestEventsGoOn: a stream that breaks, ends or falls silent goes on behind what
// was seen, at another server if need be.
func TestEventsGoOn(t *testing.T) {
	t.Parallel()
	s := &seen{}
	breaks := s.sends(t, "breaks", func(*http.Request) { panic(http.ErrAbortHandler) })
	silent := s.sends(t, "silent", func(r *http.Request) { <-r.Context().Done() })
	ends := s.sends(t, "ends", nil)
	sick := s.answers(t, "sick", 503, openapi.ProblemUnavailable)
	c := client(t, Options{StreamIdle: 100 * time.Millisecond}, breaks)
	e := c.Events(7)
	defer e.Close()
	var broken []string
	e.OnBreak = func(err error) { broken = append(broken, err.Error()) }
	for i, urls := range [][]string{{breaks}, {silent}, {ends}, {ends}, {sick, ends}} {
		other := client(t, Options{StreamIdle: 100 * time.Millisecond}, urls...)
		c.servers, c.o, e.c = other.servers, other.o, other
		ev, err := e.Next(t.Context())
		if err != nil || ev.Revision != int64(8+i) || e.LastEventID() != int64(8+i) {
			t.Fatalf("event %d: %+v, %v", i, ev, err)
		}
	}
	if got := strings.Join(s.take(), ","); !strings.HasPrefix(got, "breaks 7,silent 8,ends 9,ends 10,sick GET") || !strings.HasSuffix(got, "ends 11") {
		t.Errorf("asked %s", got)
	}
	if len(broken) != 2 || !strings.Contains(broken[1], "nothing on the stream within 100ms") {
		t.Errorf("told of %q: the break and the silence, not the ends", broken)
	}
}

// Events of kinds that this client does not know are passed over, and it goes on
// behind them.
func TestEventsOfOtherKinds(t *testing.T) {
	t.Parallel()
	s := &seen{}
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		after := r.Header.Get("Last-Event-ID")
		s.add(after)
		w.Header().Set("Content-Type", "text/event-stream")
		if after == "7" {
			_, _ = fmt.Fprint(w, "event: weather\nid: 8\ndata: {\"revision\":8,\"kind\":\"weather\",\"id\":\"rain\"}\n\n")
			return
		}
		_, _ = fmt.Fprint(w, "event: daemon\nid: 9\ndata: {\"revision\":9,\"kind\":\"daemon\",\"id\":\"d1\"}\n\n")
	})
	e := client(t, Options{}, url).Events(7)
	defer e.Close()
	e.OnBreak = func(err error) { t.Errorf("it is no break: %v", err) }
	if ev, err := e.Next(t.Context()); err != nil || ev.ID != "d1" || e.LastEventID() != 9 {
		t.Errorf("%+v, %v", ev, err)
	}
	if got := strings.Join(s.take(), ","); got != "7,8" {
		t.Errorf("asked behind %s, want 7,8", got)
	}
}

// What the cluster refuses is for the caller, and so is what fails at once; a
// cancelled wait ends.
func TestEventsEnd(t *testing.T) {
	t.Parallel()
	s := &seen{}
	e := client(t, Options{}, down(t)).Events(1)
	var none *NoAnswerError
	if _, err := e.Next(t.Context()); !errors.As(err, &none) {
		t.Errorf("nobody listens: %v", err)
	}
	e = client(t, Options{}, s.answers(t, "gap", 410, openapi.ProblemEventsGap)).Events(1)
	e.begun = true
	if _, err := e.Next(t.Context()); !openapi.IsProblem(err, openapi.ProblemEventsGap) {
		t.Errorf("a gap: %v", err)
	}
	e = client(t, Options{}, s.sends(t, "quiet", func(r *http.Request) { <-r.Context().Done() })).Events(1)
	defer e.Close()
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := e.Next(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := e.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	e.Resume(40)
	if ev, err := e.Next(t.Context()); err != nil || ev.Revision != 41 {
		t.Errorf("resumed: %+v, %v", ev, err)
	}
}
