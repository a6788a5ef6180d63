package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gravenio/graven/openapi"
)

// operatorServer has operators, two on a page, and settings. A refusal is answered
// instead of all, once it was asked for something that is not a GET if late is set.
type operatorServer struct {
	items    []openapi.OperatorStatus
	settings openapi.OperatorSettings
	etag     string
	refusal  func(w http.ResponseWriter)
	late     bool

	mu    sync.Mutex
	asked []string // method, path and query, If-Match, body
}

func (s *operatorServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	s.asked = append(s.asked, strings.Join(strings.Fields(r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("If-Match")+" "+string(body)), " "))
	if s.refusal != nil && (!s.late || r.Method != http.MethodGet) {
		s.refusal(w)
		return
	}
	id, one := strings.CutPrefix(r.URL.Path, "/v1/operators/")
	switch {
	case !one:
		s.list(w, r)
	case id == "pause", id == "resume":
		s.settings.Paused = id == "pause"
		answerJSON(w, http.StatusOK, s.settings)
	case id == "settings":
		if len(body) > 0 {
			_ = json.Unmarshal(body, &s.settings.Limits)
		}
		w.Header().Set("ETag", s.etag)
		w.Header().Set("Graven-Revision", "9")
		answerJSON(w, http.StatusOK, s.settings)
	case r.Method == http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	default:
		i := slices.IndexFunc(s.items, func(o openapi.OperatorStatus) bool { return o.OperatorID == id })
		if i < 0 {
			problem(http.StatusNotFound, openapi.ProblemNotFound)(w)
			return
		}
		answerJSON(w, http.StatusOK, s.items[i])
	}
}

func (s *operatorServer) list(w http.ResponseWriter, r *http.Request) {
	items, next := s.items, ""
	if r.URL.Query().Get("continue") != "" {
		items = items[min(2, len(items)):]
	} else if len(items) > 2 {
		items, next = items[:2], "more"
	}
	answerJSON(w, http.StatusOK, openapi.OperatorList{Items: items, Continue: next})
}

// graven runs a command against the server.
func (s *operatorServer) graven(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	web := httptest.NewServer(s)
	defer web.Close()
	var out, errs bytes.Buffer
	status = run(context.Background(), append([]string{"operator", "--api", web.URL}, args...), streams{out: &out, err: &errs})
	return status, out.String(), errs.String()
}

func (s *operatorServer) wasAsked(t *testing.T, want ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.asked, want) {
		t.Errorf("asked for\n%s\nwant\n%s", strings.Join(s.asked, "\n"), strings.Join(want, "\n"))
	}
}

var at = time.Date(2026, 11, 3, 10, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // A constant in all but its type.

func someOperators() *operatorServer {
	return &operatorServer{
		items: []openapi.OperatorStatus{
			{
				OperatorID: "drain-r1", Kind: openapi.PurposeDrain, State: openapi.OperatorRunning, Reason: openapi.ReasonDraining, LogID: "7f",
				LogName: "vm-1", ReplicaID: "r1", DaemonID: "d2", LearnerID: "r9", To: "d4", Attempts: 2, CreatedAt: at, StartedAt: at.Add(time.Minute),
				Error: "no progress for 900 s",
			},
			{
				OperatorID: "replace-r2", Kind: openapi.PurposeReplace, State: openapi.OperatorPlanned, Reason: openapi.ReasonLost, LogID: "8f",
				ReplicaID: "r2", DaemonID: "d3", WaitsFor: "a daemon that fits", CreatedAt: at,
			},
			{
				OperatorID: "scrub-d1", Kind: openapi.PurposeScrub, State: openapi.OperatorDone, Reason: openapi.ReasonDue, DaemonID: "d1",
				Attempts: 1, CreatedAt: at, StartedAt: at, EndedAt: at.Add(time.Hour), Error: "of the attempt before",
			},
		},
		settings: openapi.OperatorSettings{Limits: openapi.OperatorLimits{
			GraceSeconds: 600, TimeoutSeconds: 900, PerDaemon: 2, Cluster: 16, MaxDownPercent: 25, ScrubEverySeconds: 72000,
		}},
		etag: `"41"`,
	}
}

// squeezed is a text without what only aligns it.
func squeezed(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(lines, "\n")
}

func TestOperatorCommands(t *testing.T) {
	t.Parallel()
	const list = "GET /v1/operators?limit=1000"
	const settings = "GET /v1/operators/settings"
	shown := func(paused, grace, scrub string) string {
		return "paused " + paused + "\ngrace " + grace + "\nstuck after 15m0s\nper daemon 2\ncluster 16\nmax down 25%\nscrub every " + scrub
	}
	for name, tt := range map[string]struct {
		args   []string
		stdout string
		asked  []string
	}{
		"ls": {
			[]string{"ls"},
			"OPERATOR STATE REASON LOG DAEMON TO TRIES NOTE\n" +
				"drain-r1 running draining vm-1 d2 d4 2 no progress for 900 s\n" +
				"replace-r2 planned lost 8f d3 - 0 waits for a daemon that fits\n" +
				"scrub-d1 done due - d1 - 1 -",
			[]string{list, list + "&continue=more"},
		},
		"ls, filtered": {
			[]string{"ls", "--state", "failed", "--kind", "remove-replica", "--daemon", "d2", "--log", "vm-1"},
			"",
			[]string{
				"GET /v1/operators?state=failed&kind=remove-replica&daemon=d2&log=vm-1&limit=1000",
				"GET /v1/operators?state=failed&kind=remove-replica&daemon=d2&log=vm-1&limit=1000&continue=more",
			},
		},
		"show one that runs": {
			[]string{"show", "drain-r1"},
			"operator drain-r1\nkind drain\nstate running\nreason draining\nlog vm-1\nlog ID 7f\nreplica r1\ndaemon d2\nnew replica r9\nto d4\n" +
				"error no progress for 900 s\ntries 2\ncreated 2026-11-03 10:00:00Z\nstarted 2026-11-03 10:01:00Z",
			[]string{"GET /v1/operators/drain-r1"},
		},
		"show one that waits": {
			[]string{"show", "replace-r2"},
			"operator replace-r2\nkind replace\nstate planned\nreason lost\nlog ID 8f\nreplica r2\ndaemon d3\nwaits for a daemon that fits\n" +
				"tries 0\ncreated 2026-11-03 10:00:00Z",
			[]string{"GET /v1/operators/replace-r2"},
		},
		"show one that has ended": {
			[]string{"show", "scrub-d1"},
			"operator scrub-d1\nkind scrub\nstate done\nreason due\ndaemon d1\nerror of the attempt before\ntries 1\n" +
				"created 2026-11-03 10:00:00Z\nstarted 2026-11-03 10:00:00Z\nended 2026-11-03 11:00:00Z",
			[]string{"GET /v1/operators/scrub-d1"},
		},
		"cancel": {[]string{"cancel", "drain-r1"}, "cancelled drain-r1", []string{"DELETE /v1/operators/drain-r1"}},
		"pause":  {[]string{"pause"}, shown("true", "10m0s", "20h0m0s"), []string{"POST /v1/operators/pause"}},
		"resume": {[]string{"resume"}, shown("false", "10m0s", "20h0m0s"), []string{"POST /v1/operators/resume"}},
		"limits": {[]string{"limits"}, shown("false", "10m0s", "20h0m0s"), []string{settings}},
		"one limit": { // the others are sent as they were, if they still are
			[]string{"limits", "--grace", "90s"},
			shown("false", "1m30s", "20h0m0s"),
			[]string{settings, `PUT /v1/operators/settings "41" ` +
				`{"cluster":16,"grace_seconds":90,"max_down_percent":25,"per_daemon":2,"scrub_every_seconds":72000,"timeout_seconds":900}`},
		},
		"a limit as it was": {
			[]string{"limits", "--per-daemon", "2"},
			shown("false", "10m0s", "20h0m0s"),
			[]string{settings, `PUT /v1/operators/settings "41" ` +
				`{"cluster":16,"grace_seconds":600,"max_down_percent":25,"per_daemon":2,"scrub_every_seconds":72000,"timeout_seconds":900}`},
		},
		"all limits": {
			[]string{"limits", "--grace", "1s", "--stuck-after", "2m", "--per-daemon", "3", "--cluster", "4", "--max-down", "0", "--scrub-every", "0"},
			"paused false\ngrace 1s\nstuck after 2m0s\nper daemon 3\ncluster 4\nmax down 0%\nscrub every never",
			[]string{settings, `PUT /v1/operators/settings "41" ` +
				`{"cluster":4,"grace_seconds":1,"max_down_percent":0,"per_daemon":3,"scrub_every_seconds":0,"timeout_seconds":120}`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := someOperators()
			status, stdout, stderr := s.graven(t, tt.args...)
			if status != 0 || stderr != "" {
				t.Errorf("exit status %d\n%s", status, stderr)
			}
			if tt.stdout != "" && squeezed(stdout) != tt.stdout {
				t.Errorf("shown\n%s\nwant\n%s", squeezed(stdout), tt.stdout)
			}
			s.wasAsked(t, tt.asked...)
		})
	}
}

// With -o json it is the API's own bodies, a list as one.
func TestOperatorCommandsAsJSON(t *testing.T) {
	t.Parallel()
	decode := func(t *testing.T, text string, into any) {
		t.Helper()
		d := json.NewDecoder(strings.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(into); err != nil || d.More() {
			t.Errorf("%v: %s", err, text)
		}
	}
	for name, tt := range map[string]struct {
		args  []string
		check func(t *testing.T, text string)
	}{
		"ls": {[]string{"ls"}, func(t *testing.T, text string) {
			var l openapi.OperatorList
			if decode(t, text, &l); len(l.Items) != 3 || l.Items[2].OperatorID != "scrub-d1" || !l.Items[2].EndedAt.Equal(at.Add(time.Hour)) || l.Continue != "" {
				t.Errorf("%+v", l)
			}
		}},
		"show": {[]string{"show", "replace-r2"}, func(t *testing.T, text string) {
			var o openapi.OperatorStatus
			if decode(t, text, &o); o.WaitsFor != "a daemon that fits" || o.State != openapi.OperatorPlanned {
				t.Errorf("%+v", o)
			}
		}},
		"cancel": {[]string{"cancel", "drain-r1"}, func(t *testing.T, text string) {
			var c struct {
				OperatorID string `json:"operator_id"`
				Cancelled  bool   `json:"cancelled"`
			}
			if decode(t, text, &c); c.OperatorID != "drain-r1" || !c.Cancelled {
				t.Errorf("%+v", c)
			}
		}},
		"pause": {[]string{"pause"}, func(t *testing.T, text string) {
			var s openapi.OperatorSettings
			if decode(t, text, &s); !s.Paused || s.Limits.Cluster != 16 {
				t.Errorf("%+v", s)
			}
		}},
		"limits": {[]string{"limits", "--cluster", "7"}, func(t *testing.T, text string) {
			var s openapi.OperatorSettings
			if decode(t, text, &s); s.Limits.Cluster != 7 || s.Limits.GraceSeconds != 600 {
				t.Errorf("%+v", s)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, stdout, stderr := someOperators().graven(t, append(tt.args, "-o", "json")...)
			if status != 0 || stderr != "" {
				t.Errorf("exit status %d\n%s", status, stderr)
			}
			tt.check(t, stdout)
		})
	}
}

// An empty list is one, too.
func TestNoOperators(t *testing.T) {
	t.Parallel()
	for output, want := range map[string]string{"table": "OPERATOR STATE REASON LOG DAEMON TO TRIES NOTE", "json": "{\n\"items\": []\n}"} {
		status, stdout, stderr := (&operatorServer{items: []openapi.OperatorStatus{}}).graven(t, "ls", "-o", output)
		if status != 0 || squeezed(stdout) != want {
			t.Errorf("%s: exit status %d\n%s%s", output, status, stdout, stderr)
		}
	}
}

// Two who are the first to change settings are told of each other, too.
func TestLimitsOfNobody(t *testing.T) {
	t.Parallel()
	s := someOperators()
	s.etag = `"0"`
	if status, _, stderr := s.graven(t, "limits", "--cluster", "7"); status != 0 {
		t.Errorf("exit status %d\n%s", status, stderr)
	}
	s.wasAsked(t, "GET /v1/operators/settings", `PUT /v1/operators/settings "0" `+
		`{"cluster":7,"grace_seconds":600,"max_down_percent":25,"per_daemon":2,"scrub_every_seconds":72000,"timeout_seconds":900}`)
}

// What the API refuses is said with what to do, and nothing is shown.
func TestOperatorRefusals(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		args    []string
		refusal func(w http.ResponseWriter)
		late    bool
		status  int
		stderr  []string
	}{
		"ls":            {[]string{"ls"}, problem(503, openapi.ProblemUnavailable), false, 1, []string{"error: because", "hint: the API has no connection to etcd"}},
		"show, unknown": {[]string{"show", "drain-r7"}, nil, false, 1, []string{"error: because", "hint: see what there is with `graven operator ls`"}},
		"cancel, unknown": {
			[]string{"cancel", "drain-r7"}, problem(404, openapi.ProblemNotFound), false, 1, []string{"hint: see what there is with `graven operator ls`"},
		},
		"cancel, ended": {
			[]string{"cancel", "drain-r1"}, problem(409, openapi.ProblemConflict), false, 1, []string{"error: because", "hint: see how it stands with `graven operator ls`"},
		},
		"cancel, no right": {[]string{"cancel", "drain-r1"}, problem(403, openapi.ProblemForbidden), false, 1, []string{"hint: ask an admin"}},
		"pause, no right":  {[]string{"pause"}, problem(403, openapi.ProblemForbidden), false, 1, []string{"hint: ask an admin"}},
		"resume, conflict": {[]string{"resume"}, problem(409, openapi.ProblemConflict), false, 1, []string{"hint: it changed meanwhile"}},
		"limits": {
			[]string{"limits"}, problem(503, openapi.ProblemUnavailable), false, 1, []string{"hint: the API has no connection to etcd"},
		},
		"limits, out of bounds": {
			[]string{"limits", "--max-down", "101"},
			problem(400, openapi.ProblemInvalidRequest), true, 2,
			[]string{"error: because", "hint: see `graven operator limits --help`"},
		},
		"limits, changed meanwhile": {
			[]string{"limits", "--cluster", "7"},
			problem(412, openapi.ProblemPreconditionFailed), true, 1,
			[]string{"error: because", "hint: somebody else has changed the settings meanwhile"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := someOperators()
			s.refusal, s.late = tt.refusal, tt.late
			status, stdout, stderr := s.graven(t, tt.args...)
			if status != tt.status || stdout != "" {
				t.Errorf("exit status %d, shown %q", status, stdout)
			}
			for _, want := range tt.stderr {
				if !strings.Contains(stderr, want) {
					t.Errorf("stderr lacks %q:\n%s", want, stderr)
				}
			}
		})
	}
}

// A wrong command line has status 2, and the API is not asked.
func TestOperatorUsage(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"":                            "graven operator needs a command: cancel, limits, ls, pause, resume, show",
		"lst":                         "did you mean ls",
		"ls all":                      `unexpected argument "all"`,
		"ls --state over":             `--state is "over": must be one of planned, running, done, failed, cancelled`,
		"ls --kind move":              `--kind is "move": must be one of replace, drain, recover, remove-replica, scrub`,
		"ls --nope":                   "unknown flag: --nope",
		"ls -o yaml":                  "yaml",
		"show":                        "OPERATOR is missing",
		"show a b":                    `unexpected argument "b"`,
		"cancel":                      "OPERATOR is missing",
		"cancel a b":                  `unexpected argument "b"`,
		"pause now":                   `unexpected argument "now"`,
		"resume now":                  `unexpected argument "now"`,
		"limits 5":                    `unexpected argument "5"`,
		"limits --grace":              "flag needs an argument: --grace",
		"limits --grace soon":         `invalid argument "soon"`,
		"limits --grace 0s":           "--grace is 0s: must be whole seconds, at least 1, such as 90s or 10m",
		"limits --grace 1500ms":       "--grace is 1.5s: must be whole seconds",
		"limits --stuck-after -1s":    "--stuck-after is -1s: must be whole seconds, at least 1",
		"limits --scrub-every 500ms":  "--scrub-every is 500ms: must be whole seconds, at least 0",
		"limits --scrub-every -1h":    "--scrub-every is -1h0m0s: must be whole seconds, at least 0",
		"limits --per-daemon many":    `invalid argument "many"`,
		"limits --cluster 9999999999": "value out of range",
		"limits --max-down 25%":       `invalid argument "25%"`,
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			s := someOperators()
			status, stdout, stderr := s.graven(t, strings.Fields(args)...)
			if status != 2 || stdout != "" || !strings.Contains(stderr, want) {
				t.Errorf("exit status %d, shown %q\n%s", status, stdout, stderr)
			}
			s.wasAsked(t)
		})
	}
}

func TestOperatorsWithoutAPI(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"ls"}, {"show", "a"}, {"cancel", "a"}, {"pause"}, {"resume"}, {"limits"}, {"limits", "--cluster", "7"}} {
		var out, errs bytes.Buffer
		status := run(context.Background(), append([]string{"operator", "--api", "127.0.0.1:1"}, args...), streams{out: &out, err: &errs})
		if status != 1 || out.Len() != 0 || !strings.Contains(errs.String(), "hint: start a cluster with `graven dev`") {
			t.Errorf("%v: exit status %d, shown %q\n%s", args, status, out.String(), errs.String())
		}
	}
}
