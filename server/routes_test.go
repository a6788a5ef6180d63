package server_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-chi/chi/v5"
	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/server"
)

func TestRoutesAndContractAgree(t *testing.T) {
	t.Parallel()
	c := bare(t, server.Options{})
	var served []string
	err := chi.Walk(c.server.Handler().(chi.Routes), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		served = append(served, method+" "+route)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(openapi.Document())
	if err != nil {
		t.Fatal(err)
	}
	var promised []string
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			promised = append(promised, method+" "+path)
		}
	}
	for _, r := range served {
		if !slices.Contains(promised, r) {
			t.Errorf("%s is served and not in the contract", r)
		}
	}
	for _, r := range promised {
		if !slices.Contains(served, r) {
			t.Errorf("%s is in the contract and not served", r)
		}
	}
}

func TestOperations(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	for path, want := range map[string]string{
		"/healthz": "ok\n", "/readyz": "ready\n", "/openapi.yaml": string(openapi.Document()),
	} {
		if a := c.do(http.MethodGet, path, ""); a.status != http.StatusOK || string(a.body) != want {
			t.Errorf("GET %s: %d %.80q", path, a.status, a.body)
		}
	}
	for path, mediaType := range map[string]string{
		"/": "text/html; charset=utf-8", "/ui/app.js": "text/javascript; charset=utf-8",
		"/ui/style.css": "text/css; charset=utf-8", "/ui/icon.svg": "image/svg+xml",
	} {
		a := c.do(http.MethodGet, path, "")
		if a.status != http.StatusOK || a.header.Get("Content-Type") != mediaType || a.header.Get("Content-Security-Policy") == "" {
			t.Errorf("GET %s: %d %v", path, a.status, a.header)
		}
	}
}
