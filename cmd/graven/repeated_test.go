package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gravenio/graven/openapi"
)

// forgetful are two API servers. The first does what it is asked to remove, and
// its answer is lost; the second knows of that.
func forgetful(t *testing.T) (first, second string) {
	t.Helper()
	var removed atomic.Bool
	serve := func(remove http.HandlerFunc) string {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodDelete {
				remove(w, r)
				return
			}
			answerJSON(w, http.StatusOK, openapi.Log{LogID: "00000000-0000-4000-8000-000000000001", Name: "l1"})
		}))
		t.Cleanup(srv.Close)
		return srv.URL
	}
	first = serve(func(http.ResponseWriter, *http.Request) {
		removed.Store(true)
		panic(http.ErrAbortHandler)
	})
	second = serve(func(w http.ResponseWriter, _ *http.Request) {
		if removed.Load() {
			answerJSON(w, http.StatusNotFound, openapi.Problem{Type: openapi.ProblemNotFound, Title: "There is no such thing", Status: 404})
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	return first, second
}

// What is removed by a call whose answer was lost is removed, whatever the next
// server says; what nobody has removed is not there.
func TestLostAnswerOfARemoval(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"daemon", "rm", "d1"},
		{"daemon", "rm", "d1", "--lost"},
		{"log", "rm", "l1"},
		{"log", "replace", "l1", "--abandon"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			first, second := forgetful(t)
			must(t, append(args, "--api", first+","+second)...)
			if args[1] == "rm" && args[0] == "log" {
				return // it has just seen the log there
			}
			if _, stderr, status := graven(t, nil, append(args, "--api", second)...); status != 1 || !strings.Contains(stderr, "not-found") {
				t.Errorf("once more: exit status %d, %s", status, stderr)
			}
		})
	}
}
