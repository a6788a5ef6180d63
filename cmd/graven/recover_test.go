package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog/core"
)

var (
	idOfD1 = format.ID{1}
	idOfD3 = format.ID{3}
)

func recoveryFor(in io.Reader, errs io.Writer) *recovery {
	r := &recovery{app: &app{streams: streams{in: in, err: errs}}, log: "l1"}
	r.names.addLog(&openapi.Log{Replicas: []openapi.Replica{
		{ReplicaID: idOfD1.String(), DaemonID: "d1"}, {ReplicaID: idOfD3.String(), DaemonID: "d3"},
	}})
	return r
}

// Only the log's name, as one line, gives data up.
func TestDataIsGivenUpOnlyByName(t *testing.T) {
	t.Parallel()
	loss := core.Loss{Chosen: idOfD3, Last: format.Position{Epoch: 2, LSN: 640}, Trim: 64, Unknown: []core.Unknown{
		{ID: idOfD1, Reason: errors.New("no route")}, {ID: format.ID{9}, Evidence: format.Position{Epoch: 2, LSN: 1024}},
	}}
	tooShort := loss
	tooShort.Trim = 704
	for name, tt := range map[string]struct {
		in     string
		yes    bool
		loss   core.Loss
		agreed bool
		says   string
	}{
		"the name":            {"l1\n", false, loss, true, "for good: given up; waiting"},
		"from a DOS terminal": {"l1\r\n", false, loss, true, ""},
		"no":                  {"no\n", false, loss, false, ""},
		"yes":                 {"yes\n", false, loss, false, ""},
		"another case":        {"L1\n", false, loss, false, ""},
		"nothing":             {"\n", false, loss, false, ""},
		"no line":             {"l1", false, loss, false, ""},
		"--yes":               {"", true, loss, true, ""},
		"nothing to go on":    {"l1\n", true, tooShort, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var errs bytes.Buffer
			opening, refuse := context.WithCancelCause(t.Context())
			defer refuse(nil)
			r := recoveryFor(strings.NewReader(tt.in), &errs)
			r.yes = tt.yes
			q := &lossQuestion{recovery: r, refuse: refuse, before: func() {}}
			if got := q.ask(t.Context(), tt.loss); got != tt.agreed {
				t.Errorf("agreed: %v\n%s", got, &errs)
			}
			var refused *refusedLoss
			if errors.As(context.Cause(opening), &refused) == tt.agreed {
				t.Errorf("the open ends with %v", context.Cause(opening))
			}
			for _, want := range []string{
				"the one on d3, which ends at LSN 640 of epoch 2", "d1 (replica 01000000-", "what it held is not known: no route",
				"up to LSN 1024 of epoch 2", "cut off", tt.says,
			} {
				if !strings.Contains(errs.String(), want) {
					t.Errorf("says nothing of %q:\n%s", want, &errs)
				}
			}
			if asked := strings.Contains(errs.String(), "Type the log's name"); asked == tt.yes {
				t.Errorf("asked: %v", asked)
			}
		})
	}
}

// When the log can be opened after all, nobody has to answer, and the open goes on.
func TestOpenedBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	in, typist := io.Pipe()
	defer typist.Close()
	opening, refuse := context.WithCancelCause(t.Context())
	defer refuse(nil)
	q := &lossQuestion{recovery: recoveryFor(in, io.Discard), refuse: refuse, before: func() {}}
	asking, opened := context.WithCancel(t.Context())
	answer := make(chan bool)
	go func() { answer <- q.ask(asking, core.Loss{}) }()
	opened()
	if <-answer {
		t.Error("agreed without an answer")
	}
	if err := opening.Err(); err != nil {
		t.Errorf("the open has ended: %v", context.Cause(opening))
	}
}

// A loss that has become another one is asked about again, on the same terminal.
func TestTwoQuestions(t *testing.T) {
	t.Parallel()
	opening, refuse := context.WithCancelCause(t.Context())
	defer refuse(nil)
	q := &lossQuestion{recovery: recoveryFor(strings.NewReader("l1\nl1\nno\n"), io.Discard), refuse: refuse, before: func() {}}
	for i, want := range []bool{true, true, false} {
		if got := q.ask(t.Context(), core.Loss{}); got != want || (opening.Err() == nil) != want {
			t.Errorf("answer %d: agreed %v, the open has ended with %v", i, got, opening.Err())
		}
	}
}

func TestReplicaNotes(t *testing.T) {
	t.Parallel()
	var errs bytes.Buffer
	r := recoveryFor(nil, &errs)
	n := &replicaNotes{out: &errs, names: &r.names}
	log := slog.New(n)
	for range 2 {
		log.Warn("should be replaced, and is not", "replica", idOfD1, "unwell_for", errs.Len(), "err", errors.New("no room"))
	}
	if !n.refused() {
		t.Error("a refusal is not seen")
	}
	log.Info("filling a learner", "learner", format.ID{5}, "daemon", "d5", "replaces", idOfD1)
	log.Info("writer stopped", "why", "closed")
	log.Debug("session over", "replica", idOfD1)
	if n.refused() {
		t.Error("a refusal lasts")
	}
	n.mute()
	log.Info("replaced a replica", "learner", format.ID{5})
	want := `note: should be replaced, and is not: replica 01000000-0000-0000-0000-000000000000 on d1: no room
note: filling a learner: replica 05000000-0000-0000-0000-000000000000 on d5 for replica 01000000-0000-0000-0000-000000000000 on d1
`
	if got := errs.String(); got != want {
		t.Errorf("says\n%s", got)
	}
}

func TestListed(t *testing.T) {
	t.Parallel()
	for want, in := range map[string][]string{"": nil, "d1": {"d1"}, "d1 and d2": {"d1", "d2"}, "d1, d2 and d3": {"d1", "d2", "d3"}} {
		if got := listed(in); got != want {
			t.Errorf("%v: %q", in, got)
		}
	}
}

// For a person 0 is never; for replog it is the default.
func TestReplaceAfterNever(t *testing.T) {
	t.Parallel()
	for in, want := range map[time.Duration]time.Duration{0: -1, -time.Second: -1, time.Minute: time.Minute} {
		fl := appendFlags{replaceAfter: in}
		if got := fl.options().ReplaceAfter; got != want {
			t.Errorf("--replace-after %v: %v", in, got)
		}
	}
}
