package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/placement"
	"github.com/gravenio/graven/store"
	"github.com/prometheus/client_golang/prometheus"
)

// Every sentinel has its type, also when it is wrapped or carried by a typed
// error.
func TestTypeOf(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err    error
		typ    openapi.ProblemType
		status int32
	}{
		{store.ErrNoSpace, openapi.ProblemEtcdNoSpace, 503},
		{store.ErrUnavailable, openapi.ProblemUnavailable, 503},
		{store.ErrInvalid, openapi.ProblemInvalidRequest, 400},
		{store.ErrNotFound, openapi.ProblemNotFound, 404},
		{store.ErrConflict, openapi.ProblemConflict, 409},
		{store.ErrPrecondition, openapi.ProblemPreconditionFailed, 412},
		{store.ErrNameTaken, openapi.ProblemNameTaken, 409},
		{store.ErrPoolRolledBack, openapi.ProblemPoolRolledBack, 409},
		{store.ErrPoolMismatch, openapi.ProblemPoolMismatch, 409},
		{store.ErrPoolWiped, openapi.ProblemPoolWiped, 409},
		{store.ErrPoolCloned, openapi.ProblemPoolCloned, 409},
		{store.ErrIncarnationAhead, openapi.ProblemIncarnationAhead, 409},
		{store.ErrStaleIncarnation, openapi.ProblemStaleIncarnation, 409},
		{store.ErrAddressInUse, openapi.ProblemAddressInUse, 409},
		{store.ErrLeaseExpired, openapi.ProblemLeaseExpired, 404},
		{store.ErrForeignDaemon, openapi.ProblemForeignDaemon, 403},
		{store.ErrForeignLog, openapi.ProblemForeignLog, 403},
		{store.ErrGone, openapi.ProblemDaemonGone, 410},
		{store.ErrDaemonBusy, openapi.ProblemDaemonInUse, 409},
		{store.ErrSetBehind, openapi.ProblemSetBehind, 409},
		{store.ErrLastCopies, openapi.ProblemLastCopies, 409},
		{store.ErrOperatorEnded, openapi.ProblemConflict, 409},
		{store.ErrLogInUse, openapi.ProblemLogInUse, 409},
		{store.ErrSuperseded, openapi.ProblemSuperseded, 409},
		{store.ErrEpochAhead, openapi.ProblemConflict, 409},
		{store.ErrWriterClosed, openapi.ProblemLeaseExpired, 404},
		{store.ErrReplacing, openapi.ProblemReplacementInProgress, 409},
		{store.ErrAbandoned, openapi.ProblemReplacementAbandoned, 409},
		{&placement.RefusedError{DaemonID: "d1", Rule: placement.RuleSpace}, openapi.ProblemNoPlacement, 409},
		{store.ErrIdempotencyMismatch, openapi.ProblemIdempotencyMismatch, 422},
		{store.ErrCompacted, openapi.ProblemEventsGap, 410},
		{&store.DaemonError{DaemonID: "d1", Err: store.ErrAddressInUse}, openapi.ProblemAddressInUse, 409},
		{&store.UnfitError{DaemonID: "d1", Rule: "space"}, openapi.ProblemConflict, 409},
		{&placement.NoPlacementError{Rule: placement.RuleDaemons}, openapi.ProblemNoPlacement, 409},
		{&placement.RequestError{Field: "replicas", Rule: "must be 1 to 7"}, openapi.ProblemInvalidRequest, 400},
		{context.DeadlineExceeded, openapi.ProblemUnavailable, 503},
		{errors.New("disk on fire at 10.0.0.1"), openapi.ProblemBlank, 500},
		{store.ErrSlow, openapi.ProblemBlank, 500},
	} {
		for _, err := range []error{tc.err, fmt.Errorf("some work: %w", tc.err)} {
			if p := problemOf(err); p.Type != tc.typ || p.Status != tc.status || p.Title == "" {
				t.Errorf("%v: %+v, want %s %d", err, p, tc.typ, tc.status)
			}
		}
	}
}

// The table that clients read says the same statuses as the one in the code.
func TestStatusesAgreeWithContract(t *testing.T) {
	t.Parallel()
	doc, err := openapi3.NewLoader().LoadFromData(openapi.Document())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range doc.Components.Schemas["ProblemType"].Value.Enum {
		typ := openapi.ProblemType(v.(string))
		row := fmt.Sprintf("| `%s` | %d |", typ, kindOf(typ).status)
		if typ != openapi.ProblemBlank && !strings.Contains(doc.Info.Description, row) {
			t.Errorf("the contract's table has no row %s", row)
		}
	}
}

// What nobody foresaw is told to the log and not to the client.
func TestUnforeseenIsHidden(t *testing.T) {
	t.Parallel()
	var lines strings.Builder
	s := &Server{o: Options{Logger: slog.New(slog.NewTextHandler(&lines, nil))}}
	reg := prometheus.NewRegistry()
	var err error
	if s.metrics, err = newMetrics(reg, nil); err != nil {
		t.Fatal(err)
	}
	for name, handler := range map[string]http.HandlerFunc{
		"error": func(w http.ResponseWriter, r *http.Request) { s.fail(w, r, errors.New("secret at 10.0.0.1")) },
		"panic": func(http.ResponseWriter, *http.Request) { panic("secret at 10.0.0.1") },
	} {
		lines.Reset()
		rec := httptest.NewRecorder()
		s.identify(s.observe(s.recoverPanic(handler))).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/v1/status", nil))
		body, _ := io.ReadAll(rec.Body)
		if rec.Code != http.StatusInternalServerError || strings.Contains(string(body), "secret") {
			t.Errorf("%s: %d %s", name, rec.Code, body)
		}
		id := rec.Header().Get("X-Request-Id")
		if !strings.Contains(string(body), id) || !strings.Contains(lines.String(), id) || !strings.Contains(lines.String(), "secret") {
			t.Errorf("%s: request %s, body %s, log %s", name, id, body, lines.String())
		}
	}
}

// An error after the first byte must not be glued to what is out already, and
// the connection must break off, or the client would take that for all.
func TestNoSecondAnswer(t *testing.T) {
	t.Parallel()
	s := &Server{o: Options{Logger: slog.New(slog.DiscardHandler)}}
	var err error
	if s.metrics, err = newMetrics(prometheus.NewRegistry(), nil); err != nil {
		t.Fatal(err)
	}
	half := func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("half an answer"))
		panic("then this")
	}
	rec := httptest.NewRecorder()
	defer func() {
		if err, _ := recover().(error); !errors.Is(err, http.ErrAbortHandler) || rec.Body.String() != "half an answer" {
			t.Errorf("panic %v, %d %q", err, rec.Code, rec.Body)
		}
	}()
	s.identify(s.observe(s.recoverPanic(http.HandlerFunc(half)))).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/v1/status", nil))
}
