package apiclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gravenio/graven/openapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// seen is what reached any of a test's servers, in order.
type seen struct {
	mu  sync.Mutex
	got []string
}

func (s *seen) add(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, text)
}

func (s *seen) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.got
	s.got = nil
	return got
}

// answers makes a server that gives every request the same answer.
func (s *seen) answers(t *testing.T, name string, status int, p openapi.ProblemType) string {
	t.Helper()
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what is missing shows in the test
		s.add(name + " " + r.Method + " " + r.URL.Path + " " + string(body))
		if p != "" {
			problem(w, status, p)
			return
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, name)
	})
}

// hangs makes a server that never answers.
func (s *seen) hangs(t *testing.T, name string) string {
	t.Helper()
	end := make(chan struct{})
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.add(name + " " + r.Method + " " + r.URL.Path + " " + string(body))
		select {
		case <-r.Context().Done():
		case <-end:
		}
	})
	t.Cleanup(func() { close(end) })
	return url
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func problem(w http.ResponseWriter, status int, p openapi.ProblemType) {
	w.Header().Set("Content-Type", openapi.ProblemMediaType)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(openapi.Problem{Type: p, Title: "no", Status: int32(status)})
}

// down is an address where nobody listens.
func down(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return "http://" + ln.Addr().String()
}

func client(t *testing.T, o Options, urls ...string) *Client {
	t.Helper()
	c, err := New(urls, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// ask sends a request and returns the status and the body, 0 and the error's
// text if there was no answer.
func ask(c *Client, ctx context.Context, method, key string) (int, string) { //nolint:revive // The client is the subject.
	r, err := http.NewRequestWithContext(ctx, method, c.servers.url(0).String()+"/v1/x", strings.NewReader("b"))
	if err != nil {
		return 0, err.Error()
	}
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	rsp, err := c.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = rsp.Body.Close() }()
	b, err := io.ReadAll(rsp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return rsp.StatusCode, string(b)
}

// TestFailover: who is asked, for each kind of failure and request. Never is sent
// twice what may not be done twice.
func TestFailover(t *testing.T) {
	t.Parallel()
	s := &seen{}
	well, other := s.answers(t, "well", 200, ""), s.answers(t, "other", 200, "")
	bare, sick := s.answers(t, "bare", 503, ""), s.answers(t, "sick", 503, openapi.ProblemUnavailable)
	stranger, broken := s.answers(t, "stranger", 404, ""), s.answers(t, "broken", 500, openapi.ProblemBlank)
	unknown := s.answers(t, "unknown", 401, openapi.ProblemInvalidRequest)
	missing, conflict := s.answers(t, "missing", 404, openapi.ProblemNotFound), s.answers(t, "conflict", 409, openapi.ProblemConflict)
	moved := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, well+"/v1/x", http.StatusTemporaryRedirect)
	})
	cut := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
	})
	hung, gone := s.hangs(t, "hung"), down(t)
	for _, tt := range []struct {
		name, method, key string
		mark              bool
		urls              []string
		status            int
		seen              string
	}{
		{"the first answers", "GET", "", false, []string{well, other}, 200, "well"},
		{"nobody listens: even a plain post goes on", "POST", "", false, []string{gone, well}, 200, "well"},
		{"unavailable: a put goes on", "PUT", "", false, []string{sick, well}, 200, "sick well"},
		{"unavailable: a delete goes on", "DELETE", "", false, []string{sick, well}, 200, "sick well"},
		{"unavailable: a plain post may have been done", "POST", "", false, []string{sick, well}, 503, "sick"},
		{"unavailable: a post with a key goes on", "POST", "k", false, []string{sick, well}, 200, "sick well"},
		{"unavailable: a post that may be repeated goes on", "POST", "", true, []string{sick, well}, 200, "sick well"},
		{"a bare 503", "GET", "", false, []string{bare, well}, 200, "bare well"},
		{"something else answers", "GET", "", false, []string{stranger, well}, 200, "stranger well"},
		{"an unforeseen error", "GET", "", false, []string{broken, well}, 200, "broken well"},
		{"who asks is not known there: nothing was done", "POST", "", false, []string{unknown, well}, 200, "unknown well"},
		{"the cluster's answer stands", "GET", "", false, []string{missing, well}, 404, "missing"},
		{"a conflict is the cluster's answer", "POST", "k", false, []string{conflict, well}, 409, "conflict"},
		{"a redirect is not followed", "GET", "", false, []string{moved, other}, 200, "other"},
		{"half an answer: a get goes on", "GET", "", false, []string{cut, well}, 200, "well"},
		{"half an answer: a plain post does not", "POST", "", false, []string{cut, well}, 0, ""},
		{"it hangs: a get goes on", "GET", "", false, []string{hung, well}, 200, "hung well"},
		{"it hangs: a plain post does not", "POST", "", false, []string{hung, well}, 0, "hung"},
		{"it hangs: a marked post goes on", "POST", "", true, []string{hung, well}, 200, "hung well"},
		{"one that is away, one that can't, one that can", "GET", "", false, []string{gone, sick, well}, 200, "sick well"},
		{"an answer is better than none", "GET", "", false, []string{sick, gone}, 503, "sick"},
		{"all are away", "GET", "", false, []string{gone, gone}, 0, ""},
	} {
		o := Options{Timeout: time.Minute}
		if strings.HasPrefix(tt.name, "it hangs") {
			o.Timeout = 200 * time.Millisecond
		}
		ctx := t.Context()
		if tt.mark {
			ctx = Repeatable(ctx)
		}
		status, _ := ask(client(t, o, tt.urls...), ctx, tt.method, tt.key)
		got := s.take()
		names := make([]string, len(got))
		for i, g := range got {
			if names[i], _, _ = strings.Cut(g, " "); !strings.HasSuffix(g, tt.method+" /v1/x b") {
				t.Errorf("%s: %q reached a server", tt.name, g)
			}
		}
		if status != tt.status || strings.Join(names, " ") != tt.seen {
			t.Errorf("%s: status %d, asked %q; want %d, %q", tt.name, status, names, tt.status, tt.seen)
		}
	}
}

// TestLostAnswers: what may have been done by a server whose answer did not come is
// known from what can't have been.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	s := &seen{}
	missing := s.answers(t, "missing", 404, openapi.ProblemNotFound)
	cut := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
	})
	unknown, sick := s.answers(t, "unknown", 401, openapi.ProblemUnauthenticated), s.answers(t, "sick", 503, openapi.ProblemUnavailable)
	for name, tt := range map[string]struct {
		urls []string
		lost bool
	}{
		"the first answers":              {[]string{missing, cut}, false},
		"nobody listens":                 {[]string{down(t), missing}, false},
		"who asks is not known there":    {[]string{unknown, missing}, false},
		"half an answer":                 {[]string{cut, missing}, true},
		"unavailable":                    {[]string{sick, missing}, true},
		"half an answer, and nobody":     {[]string{cut, down(t)}, true},
		"nobody, and then half of one":   {[]string{down(t), cut, missing}, true},
		"nobody listens, at any of them": {[]string{down(t), down(t)}, false},
	} {
		ctx, lost := NoteLost(t.Context())
		ask(client(t, Options{}, tt.urls...), ctx, http.MethodDelete, "")
		if lost() != tt.lost {
			t.Errorf("%s: lost is %v", name, lost())
		}
	}
}

func TestNoAnswer(t *testing.T) {
	t.Parallel()
	s := &seen{}
	gone, hung := down(t), s.hangs(t, "hung")
	c := client(t, Options{Timeout: 100 * time.Millisecond}, gone, hung)
	_, err := c.API().GetStatusWithResponse(t.Context())
	var none *NoAnswerError
	if !errors.As(err, &none) || len(none.Attempts) != 2 || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v", err)
	}
	for _, want := range []string{gone + " does not answer: connection refused", hung + " does not answer: no answer within 100ms"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
}

// A caller's deadline is shared among the servers, so that one that hangs leaves
// time for the next; a caller that gives up blames none.
func TestDeadlineIsShared(t *testing.T) {
	t.Parallel()
	s := &seen{}
	hung, well := s.hangs(t, "hung"), s.answers(t, "well", 200, "")
	c := client(t, Options{Timeout: time.Hour}, hung, well)
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second) // half of it for each
	defer cancel()
	if status, text := ask(c, ctx, http.MethodGet, ""); status != 200 {
		t.Errorf("status %d: %s", status, text)
	}
	c = client(t, Options{Timeout: time.Hour}, hung, well)
	ctx, cancel = context.WithCancel(t.Context())
	s.take()
	done := make(chan string)
	go func() {
		_, text := ask(c, ctx, http.MethodGet, "")
		done <- text
	}()
	for len(s.take()) == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if text := <-done; !strings.Contains(text, context.Canceled.Error()) {
		t.Errorf("cancelled: %s", text)
	}
	if c.URL() != hung || len(s.take()) != 0 {
		t.Errorf("%s is asked first after the caller gave up", c.URL())
	}
	if status, _ := ask(c, WithTimeout(t.Context(), 2*time.Second), http.MethodGet, ""); status != 200 {
		t.Error("the call's own time-out does not end its attempt")
	}
}

// TestSticky: the one that answered stays first, one that failed comes back after
// its pause and no sooner, and Apart has a memory of its own.
func TestSticky(t *testing.T) {
	t.Parallel()
	s := &seen{}
	urls := []string{s.answers(t, "a", 503, ""), s.answers(t, "b", 200, ""), s.answers(t, "c", 200, "")}
	c := client(t, Options{}, urls...)
	apart := c.Apart()
	for range 3 {
		ask(c, t.Context(), http.MethodGet, "")
	}
	if got := s.take(); len(got) != 4 || !strings.HasPrefix(got[0], "a ") || !strings.HasPrefix(got[3], "b ") {
		t.Errorf("asked %q, want a, b, b, b", got)
	}
	if c.URL() != urls[1] || apart.URL() != urls[0] {
		t.Errorf("%s and %s are asked first", c.URL(), apart.URL())
	}
	now := time.Now()
	c.servers.failed(1, now)
	if got := c.servers.order(now); got[0] != 2 {
		t.Errorf("order %v: the one that never failed comes first", got)
	}
	if got := c.servers.order(now.Add(longestPause)); !slices.Equal(got, []int{1, 2, 0}) {
		t.Errorf("order %v after the pauses, want 1, 2, 0", got)
	}
}

// The pause grows with each failure in a row, is bounded, and ends with an answer.
func TestPauses(t *testing.T) {
	t.Parallel()
	c := client(t, Options{}, "http://a", "http://b")
	now, last := time.Now(), time.Duration(0)
	for range 20 {
		c.servers.failed(0, now)
		c.servers.failed(0, now) // one of the same moment
		last = c.servers.list[0].until.Sub(now)
		now = c.servers.list[0].until
	}
	if last < longestPause/2 || last > longestPause*3/2 {
		t.Errorf("the twentieth pause is %v", last)
	}
	c.servers.answered(0)
	c.servers.failed(0, now)
	if p := c.servers.list[0].until.Sub(now); p < firstPause/2 || p > firstPause*3/2 {
		t.Errorf("the first pause after an answer is %v", p)
	}
}

func TestBoundedAnswer(t *testing.T) {
	t.Parallel()
	long := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		b := make([]byte, 1<<20)
		for range 9 {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	})
	if status, text := ask(client(t, Options{}, long), t.Context(), http.MethodGet, ""); status != 0 || !strings.Contains(text, "longer than") {
		t.Errorf("status %d: %.80s", status, text)
	}
}

// Servers may live below different paths, and IDs may hold what a path escapes.
func TestPathsAndToken(t *testing.T) {
	t.Parallel()
	var got []string
	last := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.URL.EscapedPath()+" "+r.Header.Get("Authorization"))
		problem(w, http.StatusNotFound, openapi.ProblemNotFound)
	})
	n := 0
	token := func() (string, error) { n++; return fmt.Sprint("t", n), nil }
	c := client(t, Options{Token: token}, down(t)+"/one/", last+"/two")
	if _, err := c.API().GetLogWithResponse(t.Context(), "a%2Fb"); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0] != "/two/v1/logs/a%252Fb Bearer t2" {
		t.Errorf("%q", got)
	}
	c = client(t, Options{Token: func() (string, error) { return "", errors.New("no such file") }}, last)
	if _, err := c.API().GetStatusWithResponse(t.Context()); err == nil || !strings.Contains(err.Error(), "read the token: no such file") || len(got) != 1 {
		t.Errorf("%v", err)
	}
}

func TestParseURL(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"127.0.0.1:7070": "http://127.0.0.1:7070", " https://h:1/ ": "https://h:1", "http://h/x/": "http://h/x", "[::1]:7070": "http://[::1]:7070",
		"": "", "ftp://h": "", "http://": "", "http://u:p@h": "", "http://h?x": "", "http://h#x": "", "http://h:port": "",
	} {
		u, err := ParseURL(in)
		switch {
		case (err == nil) != (want != ""), err == nil && u.String() != want:
			t.Errorf("ParseURL(%q) = %v, %v; want %q", in, u, err, want)
		case err != nil && !strings.Contains(err.Error(), "write http://HOST:PORT"):
			t.Errorf("ParseURL(%q): %v", in, err)
		}
	}
	if _, err := New(nil, Options{}); err == nil {
		t.Error("a client of no server")
	}
	if _, err := New([]string{"ftp://h"}, Options{}); err == nil {
		t.Error("a client of what is no server")
	}
}
