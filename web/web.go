package web

import (
	"embed"
	"net/http"
	"strings"
)

//go:embed static
var static embed.FS

// policy lets the page use its own files and API and be framed by nobody.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// mediaType lists the kinds of files that there are.
func mediaType(name string) string {
	switch _, ext, _ := strings.Cut(name, "."); ext {
	case "html":
		return "text/html; charset=utf-8"
	case "css":
		return "text/css; charset=utf-8"
	case "js":
		return "text/javascript; charset=utf-8"
	case "svg":
		return "image/svg+xml"
	}
	return ""
}

// Handler serves the page at / and its files at /ui/; notFound answers for
// anything else.
func Handler(notFound http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := "index.html"
		if r.URL.Path != "/" {
			name = strings.TrimPrefix(r.URL.Path, "/ui/")
		}
		body, err := static.ReadFile("static/" + name)
		if err != nil || (name == "index.html" && r.URL.Path != "/") {
			notFound.ServeHTTP(w, r)
			return
		}
		h := w.Header()
		h.Set("Content-Type", mediaType(name))
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		_, _ = w.Write(body) // A client that went away is nobody's error.
	})
}
