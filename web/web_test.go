package web

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func TestHandler(t *testing.T) {
	t.Parallel()
	h := Handler(http.NotFoundHandler())
	for path, want := range map[string]int{
		"/": 200, "/ui/app.js": 200, "/ui/style.css": 200, "/ui/icon.svg": 200,
		"/ui/index.html": 404, "/ui/": 404, "/ui/..%2fweb.go": 404, "/ui/../web.go": 404, "/ui/none.js": 404, "/index.html": 404,
	} {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
		if rec.Code != want {
			t.Errorf("GET %s: %d, want %d", path, rec.Code, want)
		}
		if want == 200 && (rec.Header().Get("Content-Security-Policy") != policy || rec.Header().Get("Content-Type") == "") {
			t.Errorf("GET %s: headers %v", path, rec.Header())
		}
	}
}

// The page must work without any other machine and under its own policy.
func TestFilesAreSelfContained(t *testing.T) {
	t.Parallel()
	foreign := regexp.MustCompile(`(?i)(https?:)?//[a-z0-9.-]+\.[a-z]{2,}`)
	for _, name := range []string{"index.html", "app.js", "style.css", "icon.svg"} {
		b, err := fs.ReadFile(static, "static/"+name)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(b), `xmlns="http://www.w3.org/2000/svg"`, "")
		if found := foreign.FindString(text); found != "" {
			t.Errorf("%s mentions %s", name, found)
		}
		for _, bad := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style=", "onclick"} {
			if strings.Contains(text, bad) {
				t.Errorf("%s uses %s, which the policy or good sense forbids", name, bad)
			}
		}
		if mediaType(name) == "" {
			t.Errorf("%s has no media type", name)
		}
	}
}
