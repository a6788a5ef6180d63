package server_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gravenio/graven/openapi"
)

// The journal is listed newest first, whatever clocks say, in pages, by kind, log,
// daemon and time, and says from where.
func TestListJournal(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	c.three()
	c.createLog("l1")
	// By a server whose clock was ahead: its ID sorts behind all others.
	if _, err := c.etcd.Client.Put(t.Context(), "/graven/events/fff6f0a2-6d5e-7c31-9a55-0d7f5b0c9a11",
		`{"v":1,"at":"2123-05-01T00:00:00Z","kind":"log-deleted","detail":"ahead"}`); err != nil {
		t.Fatal(err)
	}
	c.open("l1", `{"writer":{"host":"h","pid":7}}`)
	list := func(query string) []openapi.JournalEntry {
		t.Helper()
		var all []openapi.JournalEntry
		for next := ""; ; {
			path := "/v1/journal?limit=2&" + query
			if next != "" {
				path += "&continue=" + url.QueryEscape(next)
			}
			page := get[openapi.JournalList](c, path)
			all = append(all, page.Items...)
			if next = page.Continue; next == "" || len(all) > 20 {
				return all
			}
		}
	}
	kinds := func(es []openapi.JournalEntry) string {
		var out []string
		for _, e := range es {
			out = append(out, string(e.Kind))
		}
		return strings.Join(out, " ")
	}
	all := list("")
	if got := kinds(all); got != "log-opened log-deleted log-created daemon-registered daemon-registered daemon-registered" {
		t.Fatalf("journal %s", got)
	}
	if e := all[0]; e.From == "" || e.RequestID == "" || e.LogName != "l1" || e.Epoch != 1 || e.EntryID == "" {
		t.Errorf("%+v", e)
	}
	for query, want := range map[string]string{
		"kind=log-created&kind=log-opened": "log-opened log-created",
		"log=l1":                           "log-opened log-created",
		"log=" + all[0].LogID:              "log-opened log-created",
		"daemon=d2":                        "daemon-registered",
		"log=nothing":                      "",
		"from=" + url.QueryEscape(all[0].At.Format(time.RFC3339Nano)):      "log-opened log-deleted",
		"log=l1&to=" + url.QueryEscape(all[0].At.Format(time.RFC3339Nano)): "log-created",
	} {
		if got := kinds(list(query)); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	c.refuses(openapi.ProblemInvalidRequest, http.MethodGet, "/v1/journal?kind=nothing", "")
	c.refuses(openapi.ProblemInvalidRequest, http.MethodGet, "/v1/journal?continue=%21", "")
	c.refuses(openapi.ProblemInvalidRequest, http.MethodGet, "/v1/journal?from=yesterday", "")
}
