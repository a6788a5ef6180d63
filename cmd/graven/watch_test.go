package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/gravenio/graven/openapi"
)

// eventServer answers each call of /v1/events with the next of its streams.
type eventServer struct {
	mu      sync.Mutex
	streams []func(w http.ResponseWriter, r *http.Request)
	asked   []string // Last-Event-ID of each call
}

func (s *eventServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/v1/status":
		answerJSON(w, http.StatusOK, openapi.Status{View: openapi.ViewStatus{Revision: 7}})
	case "/v1/daemons":
		w.Header().Set("Graven-Revision", "40")
		answerJSON(w, http.StatusOK, openapi.DaemonList{Items: []openapi.Daemon{{DaemonID: "d1", State: openapi.DaemonUp}}})
	case "/v1/logs":
		answerJSON(w, http.StatusOK, openapi.LogList{Items: []openapi.Log{}})
	case "/v1/events":
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked = append(s.asked, r.Header.Get("Last-Event-ID"))
		next := s.streams[0]
		if s.streams = s.streams[1:]; len(s.streams) == 0 {
			s.streams = append(s.streams, next)
		}
		next(w, r)
	}
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	if status >= 400 {
		w.Header().Set("Content-Type", openapi.ProblemMediaType)
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// stream sends daemon events and ends.
func stream(events ...openapi.Event) func(w http.ResponseWriter, r *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, e := range events {
			b, _ := json.Marshal(e)
			fmt.Fprintf(w, "event: %s\nid: %d\ndata: %s\n\n", e.Kind, e.Revision, b)
		}
	}
}

func daemonEvent(revision int64, id string, state openapi.DaemonState) openapi.Event {
	return openapi.Event{Revision: revision, Kind: openapi.EventDaemon, ID: id, Daemon: &openapi.Daemon{DaemonID: id, State: state}}
}

// A watch goes on where a stream ended, reads the lists over a gap, shows nothing
// twice, and ends with its context.
func TestWatchResumes(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s := &eventServer{}
	s.streams = []func(http.ResponseWriter, *http.Request){
		stream(daemonEvent(8, "d1", openapi.DaemonUp), daemonEvent(9, "d1", openapi.DaemonUp)),
		stream(daemonEvent(10, "d1", openapi.DaemonDown)),
		func(w http.ResponseWriter, _ *http.Request) {
			answerJSON(w, http.StatusGone, openapi.Problem{Type: openapi.ProblemEventsGap, Title: "gap", Status: http.StatusGone})
		},
		func(w http.ResponseWriter, r *http.Request) {
			stream(openapi.Event{Revision: 41, Kind: openapi.EventDaemon, ID: "d1", Deleted: true})(w, r)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
	}
	web := httptest.NewServer(s)
	defer web.Close()
	var out, errs bytes.Buffer
	until := writerFunc(func(b []byte) (int, error) {
		if bytes.Contains(b, []byte("deleted")) {
			cancel()
		}
		return out.Write(b)
	})
	if status := run(ctx, []string{"watch", "--api", web.URL}, streams{out: until, err: &errs}); status != 0 {
		t.Errorf("exit status %d\n%s", status, errs.String())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if got := strings.Join(s.asked, " "); got != "7 9 10 40" {
		t.Errorf("resumed behind %s, want 7 9 10 40", got)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Join(strings.Fields(line)[1:4], " "))
	}
	if want := "8 daemon d1,10 daemon d1,40 daemon d1,41 daemon d1"; strings.Join(got, ",") != want {
		t.Errorf("shown %q, want %s", got, want)
	}
	if !strings.Contains(errs.String(), "no longer kept") {
		t.Errorf("the gap is not mentioned: %s", errs.String())
	}
}

func TestWatchWithoutAPI(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	if status := run(context.Background(), []string{"watch", "--api", "127.0.0.1:1"}, streams{out: &out, err: &errs}); status != 1 {
		t.Errorf("exit status %d\n%s", status, errs.String())
	}
}

type writerFunc func(b []byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
