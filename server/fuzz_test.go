package server

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/gravenio/graven/openapi"
)

// Whatever is sent, it is let through or refused by name; nothing panics and
// nothing is the server's fault.
func FuzzRequest(f *testing.F) {
	for _, seed := range []struct{ method, target, header, body string }{
		{"GET", "/v1/daemons?state=up&limit=10", "", ""},
		{"GET", "/v1/daemons?state=%zz", "", ""},
		{"GET", "/v1/logs/a%2Fb", "", ""},
		{"GET", "/v1/placements?replicas=3&replica_size=1048576&label=zone=z1&exclude=d1", "", ""},
		{"GET", "/v1/placements?replicas=-1&replica_size=99999999999999999999", "", ""},
		{"POST", "/v1/logs", "k", `{"name":"x","capacity_bytes":1048576}`},
		{"POST", "/v1/logs", "a b", `{"name":"a/b","capacity_bytes":1e400,"replicas":-1,"placement":{"labels":{"":"\u0000"}}}`},
		{"POST", "/v1/logs", "", `{"name":`},
		{"POST", "/v1/logs/l1/open", "", `{"writer":{"host":"h","pid":1},"min_epoch":1e30}`},
		{"PUT", "/v1/daemons/d1", "", `{"pool_id":null,"incarnation":[],"replicas":[{}],"transports":["tcp","tcp"]}`},
		{"DELETE", "/v1/logs/l1", `W/"1"`, ""},
	} {
		f.Add(seed.method, seed.target, seed.header, []byte(seed.body))
	}
	s, err := New(nil, Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, method, target, header string, body []byte) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return // net/http refuses it
		}
		r, err := http.NewRequest(method, u.String(), strings.NewReader(string(body)))
		if err != nil {
			return
		}
		for _, name := range []string{"Idempotency-Key", "If-Match", "Last-Event-ID"} {
			r.Header.Set(name, header)
		}
		r.Header.Set("Content-Type", "application/json")
		r = r.WithContext(context.WithValue(r.Context(), requestInfoKey{}, &requestInfo{}))
		if err = s.locate(r); err == nil {
			err = s.check(httptest.NewRecorder(), r)
		}
		if err == nil {
			return
		}
		p := problemOf(err)
		if p.Status < 400 || p.Status > 499 || p.Type == openapi.ProblemBlank || p.Detail == "" {
			t.Errorf("%s %s: %v is answered as %+v", method, target, err, p)
		}
		for _, field := range p.Fields {
			if field.Name == "" || field.Rule == "" {
				t.Errorf("%s %s: a field without name or rule: %+v", method, target, p.Fields)
			}
		}
	})
}

// A continuation that no page ended with is refused or goes on somewhere; the
// pages that follow are the rest of the list, each item once.
func FuzzContinue(f *testing.F) {
	for _, seed := range []string{"", "ZDI", "a", "ZDI=", "____", "AAAA"} {
		f.Add(seed, int32(2))
	}
	all := []string{"d1", "d2", "d3", "d4", "d5"}
	key := func(s *string) string { return *s }
	f.Fuzz(func(t *testing.T, after string, limit int32) {
		limit = 1 + limit&3
		var got []string
		for first := true; first || after != ""; first = false {
			items, next, err := page(all, &limit, &after, key)
			if err != nil {
				if !first {
					t.Fatalf("what a page ended with is refused: %v", err)
				}
				return
			}
			if got = append(got, items...); len(got) > len(all) {
				t.Fatalf("pages repeat items: %v", got)
			}
			after = next
		}
		if !slices.Equal(got, all[len(all)-len(got):]) {
			t.Errorf("pages have %v, which is no rest of %v", got, all)
		}
	})
}
