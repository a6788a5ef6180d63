package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gravenio/graven/openapi"
)

// replaceServer starts replacements and then shows the log as it is in turn.
type replaceServer struct {
	mu     sync.Mutex
	start  func(w http.ResponseWriter)
	states []func(w http.ResponseWriter) // the last one stays
	asked  []string
}

func (s *replaceServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var body openapi.StartReplacementRequest
	_ = json.NewDecoder(r.Body).Decode(&body)
	s.asked = append(s.asked, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+body.Replica+" "+body.To))
	switch r.Method {
	case http.MethodPost:
		s.start(w)
	case http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	default:
		s.states[0](w)
		if len(s.states) > 1 {
			s.states = s.states[1:]
		}
	}
}

// logWith is l1 with replicas on these daemons, "d5=d2" being a learner on d5.
func logWith(writer *openapi.Writer, replicas ...string) openapi.Log {
	l := openapi.Log{Name: "l1", AckQuorum: 2, State: openapi.LogOpen, Writer: writer}
	for _, text := range replicas {
		daemon, replaces, learner := strings.Cut(text, "=")
		r := openapi.Replica{
			DaemonID: daemon, ReplicaID: "r-" + daemon, State: openapi.ReplicaPresent, DaemonState: openapi.DaemonUp,
			Reported: &openapi.ReplicaSummary{TrimLSN: 1 << 20, DurableLSN: 9 << 20},
		}
		if learner {
			r.State, r.Replaces, r.Reported = openapi.ReplicaLearner, "r-"+replaces, nil
		}
		l.Replicas = append(l.Replicas, r)
	}
	return l
}

func answers(v any) func(w http.ResponseWriter) {
	return func(w http.ResponseWriter) { answerJSON(w, http.StatusOK, v) }
}

func problem(status int, typ openapi.ProblemType) func(w http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		answerJSON(w, status, openapi.Problem{Type: typ, Title: "t", Status: int32(status), Detail: "because"})
	}
}

func TestReplace(t *testing.T) {
	t.Parallel()
	writer := &openapi.Writer{Name: "append", PID: 7, Host: "h"}
	learning := logWith(nil, "d1", "d2", "d3", "d5=d2")
	half := logWith(writer, "d1", "d2", "d3", "d5=d2")
	half.Replicas[3].Reported = &openapi.ReplicaSummary{TrimLSN: 1 << 20, DurableLSN: 5 << 20}
	dead := logWith(nil, "d1", "d2", "d3", "d5=d2")
	dead.Replicas[3].DaemonState = openapi.DaemonDown
	for name, tt := range map[string]struct {
		args   []string
		start  func(w http.ResponseWriter)
		states []func(w http.ResponseWriter)
		status int
		stdout string
		stderr []string
	}{
		"done": {
			[]string{"--from", "d2", "--to", "d5"},
			answers(learning),
			[]func(http.ResponseWriter){
				answers(learning), problem(503, openapi.ProblemUnavailable), answers(half), answers(logWith(nil, "d1", "d3", "d5")),
			},
			0, "acknowledged by  2 of 3",
			[]string{
				"a replica on d5 is to take the place of the one on d2; the log has no writer, so the agent of d5 fills it",
				"d5 has not begun", "trying again", "d5 has 4 MiB of 8 MiB; the log's writer fills it: append (process 7 on h)",
			},
		},
		"given up": {
			[]string{"--from", "d2"},
			answers(half),
			[]func(http.ResponseWriter){answers(half), answers(logWith(nil, "d1", "d2", "d3"))},
			1, "",
			[]string{"was given up: log l1 keeps its replica on d2", "hint: start it again"},
		},
		"done and replaced again": {
			[]string{"--from", "d2"},
			answers(half),
			[]func(http.ResponseWriter){answers(logWith(nil, "d1", "d3", "d6"))},
			0, "d6", nil,
		},
		"deleted": {
			[]string{"--from", "d2"},
			answers(half),
			[]func(http.ResponseWriter){problem(404, openapi.ProblemNotFound)},
			1, "",
			[]string{"log l1 was deleted"},
		},
		"not waited for": {
			[]string{"--from", "d2", "--no-wait"},
			answers(dead), nil,
			0, "learner for d2",
			[]string{"d5 is down: nothing fills it"},
		},
		"no place": {
			[]string{"--from", "d2"},
			problem(409, openapi.ProblemNoPlacement), nil,
			1, "",
			[]string{"because", "hint: start a daemon"},
		},
		"another one": {
			[]string{"--from", "d2"},
			problem(409, openapi.ProblemReplacementInProgress), nil,
			1, "",
			[]string{"because", "--abandon"},
		},
		"abandon": {[]string{"--abandon"}, nil, nil, 0, "abandoned", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &replaceServer{start: tt.start, states: tt.states}
			web := httptest.NewServer(s)
			defer web.Close()
			var out, errs bytes.Buffer
			args := append([]string{"log", "replace", "l1", "--api", web.URL}, tt.args...)
			if status := run(t.Context(), args, streams{out: &out, err: &errs}); status != tt.status {
				t.Errorf("exit status %d, want %d", status, tt.status)
			}
			if !strings.Contains(out.String(), tt.stdout) || tt.stdout == "" && out.Len() > 0 {
				t.Errorf("stdout %q, want %q", out.String(), tt.stdout)
			}
			for _, want := range tt.stderr {
				if !strings.Contains(errs.String(), want) {
					t.Errorf("stderr lacks %q:\n%s", want, errs.String())
				}
			}
			first := "POST /v1/logs/l1/replacement d2"
			if name == "abandon" {
				first = "DELETE /v1/logs/l1/replacement"
			}
			if !strings.HasPrefix(s.asked[0], first) || name == "done" && s.asked[0] != first+" d5" {
				t.Errorf("asked %q", s.asked)
			}
		})
	}
}

// Ctrl-C ends the waiting and nothing else, and says so.
func TestInterruptedReplace(t *testing.T) {
	t.Parallel()
	learning := logWith(nil, "d1", "d2", "d3", "d5=d2")
	s := &replaceServer{start: answers(learning), states: []func(http.ResponseWriter){answers(learning)}}
	web := httptest.NewServer(s)
	defer web.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var out, errs bytes.Buffer
	until := writerFunc(func(b []byte) (int, error) {
		if bytes.Contains(b, []byte("not begun")) {
			cancel(errSignal)
		}
		return errs.Write(b)
	})
	if status := run(ctx, []string{"log", "replace", "l1", "--from", "d2", "--api", web.URL}, streams{out: &out, err: until}); status != 1 {
		t.Errorf("exit status %d", status)
	}
	if got := errs.String(); !strings.Contains(got, "interrupted while waiting; the replacement of the replica on d2 goes on") ||
		!strings.Contains(got, "graven log replace l1 --abandon") {
		t.Errorf("stderr %s", got)
	}
	for _, asked := range s.asked {
		if strings.HasPrefix(asked, http.MethodDelete) {
			t.Errorf("asked %s", asked)
		}
	}
}

func TestALearnerIsShownAndNotCounted(t *testing.T) {
	t.Parallel()
	l := logWith(nil, "d1", "d2", "d3", "d5=d2")
	if got := replicaText(l.Replicas); got != "d1,d2,d3,d5(learner)" {
		t.Errorf("in a list: %s", got)
	}
	for i := 1; i < 4; i++ {
		l.Replicas[i].DaemonState = openapi.DaemonDown
	}
	if got := missingText(&l); !strings.Contains(got, "needs 2 of its 3 replicas, and those on d2, d3 are not there") {
		t.Errorf("what is missing: %s", got)
	}
	l.Replicas[1].DaemonState = openapi.DaemonUp
	if got := missingText(&l); got != "" {
		t.Errorf("with 2 of 3 there: %s", got)
	}
}

func TestWatchShowsTheJournal(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	w := &watcher{app: &app{streams: streams{out: &out}}, shown: map[string]shownLine{}}
	entry := openapi.Event{Revision: 9, Kind: openapi.EventJournal, ID: "e1", Journal: &openapi.JournalEntry{
		At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Kind: openapi.JournalDataLossAccepted, LogName: "l1", Detail: "opened without d2",
		GivenUp: []openapi.GivenUpReplica{{ReplicaID: "r2", Detail: "no answer"}},
	}}
	if err := w.print(entry); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.Contains(got, "03:04:05Z  9       journal log l1 data-loss-accepted: opened without d2; gave up replica r2: no answer") {
		t.Errorf("shown as %q", got)
	}
	if len(w.shown) != 0 {
		t.Errorf("kept in mind for ever: %v", w.shown)
	}
}
