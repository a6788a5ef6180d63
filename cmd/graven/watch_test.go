package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
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
		w.Header().Set("Graven-Revision", "41")
		answerJSON(w, http.StatusOK, openapi.LogList{Items: []openapi.Log{}})
	case "/v1/operators":
		w.Header().Set("Graven-Revision", "39") // another server, which is behind
		answerJSON(w, http.StatusOK, openapi.OperatorList{Items: []openapi.OperatorStatus{{OperatorID: "scrub-d1", Kind: openapi.PurposeScrub, State: openapi.OperatorRunning}}})
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
	if got := strings.Join(s.asked, " "); got != "7 9 10 39" {
		t.Errorf("resumed behind %s, want 7 9 10 39", got)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Join(strings.Fields(line)[1:4], " "))
	}
	if want := "8 daemon d1,10 daemon d1,39 daemon d1,39 operator scrub-d1,41 daemon d1"; strings.Join(got, ",") != want {
		t.Errorf("shown %q, want %s", got, want)
	}
	if !strings.Contains(errs.String(), "no longer kept") {
		t.Errorf("the gap is not mentioned: %s", errs.String())
	}
}

// watched prints events as a watch does.
func watched(t *testing.T, output string, events ...openapi.Event) string {
	t.Helper()
	var out bytes.Buffer
	w := &watcher{app: &app{streams: streams{out: &out}, output: output}, shown: map[string]shownLine{}}
	for _, e := range events {
		if err := w.print(e); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

// operatorEvent is one about an operator in some state; in none it is deleted.
func operatorEvent(state openapi.OperatorState, edit ...func(*openapi.OperatorStatus)) openapi.Event {
	e := openapi.Event{Revision: 9, Kind: openapi.EventOperator, ID: "drain-r1", Deleted: state == ""}
	if !e.Deleted {
		e.Operator = &openapi.OperatorStatus{
			OperatorID: e.ID, Kind: openapi.PurposeDrain, State: state, Reason: openapi.ReasonDraining, LogID: "7f", LogName: "l1", DaemonID: "d1",
		}
		for _, f := range edit {
			f(e.Operator)
		}
	}
	return e
}

// An operator is shown with each of its states, once, and with what it waits for and
// what went wrong. That one which has ended is listed no more is not.
func TestWatchShowsOperators(t *testing.T) {
	t.Parallel()
	begun := func(o *openapi.OperatorStatus) { o.To, o.Attempts = "d4", 1 }
	lines := watched(t, outputTable,
		operatorEvent(openapi.OperatorPlanned, func(o *openapi.OperatorStatus) { o.WaitsFor = "a daemon that fits" }),
		operatorEvent(openapi.OperatorRunning, begun),
		operatorEvent(openapi.OperatorRunning, begun, func(o *openapi.OperatorStatus) { o.ReplicaID = "r1" }), // nothing that is shown
		operatorEvent(openapi.OperatorFailed, begun, func(o *openapi.OperatorStatus) { o.Error = "no progress" }),
		operatorEvent(openapi.OperatorRunning, begun),
		operatorEvent(openapi.OperatorDone, begun),
		operatorEvent(""),
		operatorEvent(openapi.OperatorPlanned, func(o *openapi.OperatorStatus) { o.LogName = "" }),
		operatorEvent(""),
		operatorEvent(""), // one that this watch knows nothing of
	)
	var got []string
	for line := range strings.Lines(lines) {
		_, text, _ := strings.Cut(strings.TrimSpace(line), "operator ")
		got = append(got, text)
	}
	want := []string{
		"drain-r1 planned (draining) of log l1 on d1: waits for a daemon that fits",
		"drain-r1 running (draining) of log l1 on d1 to d4",
		"drain-r1 failed (draining) of log l1 on d1 to d4: no progress",
		"drain-r1 running (draining) of log l1 on d1 to d4",
		"drain-r1 done (draining) of log l1 on d1 to d4",
		"drain-r1 planned (draining) of log 7f on d1",
		"drain-r1 is listed no more",
		"drain-r1 is listed no more",
	}
	if !slices.Equal(got, want) {
		t.Errorf("shown\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// With -o json every event is a line, as the API sent it.
func TestWatchOperatorsAsJSON(t *testing.T) {
	t.Parallel()
	sent := []openapi.Event{operatorEvent(openapi.OperatorDone), operatorEvent(openapi.OperatorDone), operatorEvent("")}
	lines := strings.Split(strings.TrimSpace(watched(t, outputJSON, sent...)), "\n")
	if len(lines) != len(sent) {
		t.Fatalf("%d lines: %q", len(lines), lines)
	}
	for i, line := range lines {
		var e openapi.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Kind != openapi.EventOperator || e.Deleted != (e.Operator == nil) || e.ID != sent[i].ID {
			t.Errorf("line %d is %s: %v", i, line, err)
		}
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
