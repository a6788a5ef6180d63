package openapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

func load(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(Document())
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestDocumentIsValid(t *testing.T) {
	t.Parallel()
	if err := load(t).Validate(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// Every problem type must be in the table that people read, in the enum that
// clients switch on, and named where it may come; and nothing else.
func TestProblemTypesAgree(t *testing.T) {
	t.Parallel()
	doc := load(t)
	enum := map[string]bool{}
	for _, v := range doc.Components.Schemas["ProblemType"].Value.Enum {
		enum[strings.TrimPrefix(v.(string), ProblemPrefix)] = true
	}
	table := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(doc.Info.Description, -1) {
		table[strings.TrimPrefix(m[1], ProblemPrefix)] = true
	}
	used := map[string]bool{}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			for status, rsp := range op.Responses.Map() {
				types, _ := rsp.Value.Extensions["x-problem-types"].([]any)
				isProblem := rsp.Value.Content.Get(ProblemMediaType) != nil
				if isProblem != (len(types) > 0) {
					t.Errorf("%s %s %s: x-problem-types is there without a problem or the other way round", method, path, status)
				}
				for _, v := range types {
					used[v.(string)] = true
				}
			}
		}
	}
	for _, c := range []struct {
		name string
		have map[string]bool
	}{{"table", table}, {"x-problem-types", used}} {
		for slug := range enum {
			if !c.have[slug] {
				t.Errorf("%s is in the enum and not in the %s", slug, c.name)
			}
		}
		for slug := range c.have {
			if !enum[slug] {
				t.Errorf("%s is in the %s and not in the enum", slug, c.name)
			}
		}
	}
}

// What has no roles would have to be guessed, and a guess must not be "all".
func TestEveryOperationNamesItsRoles(t *testing.T) {
	t.Parallel()
	known := []string{"viewer", "client", "daemon", "admin"}
	for path, item := range load(t).Paths.Map() {
		for method, op := range item.Operations() {
			list, _ := op.Extensions["x-roles"].([]any)
			if len(list) == 1 && list[0] == "anybody" {
				continue
			}
			if len(list) == 0 {
				t.Errorf("%s %s: has no x-roles: list who may call it, of %v, or anybody alone", method, path, known)
			}
			for _, v := range list {
				if role, _ := v.(string); !slices.Contains(known, role) {
					t.Errorf("%s %s: x-roles has %v, which is none of %v", method, path, v, known)
				}
			}
		}
	}
}

// A request body that takes unknown members would swallow a typing error.
func TestRequestsRefuseUnknownMembers(t *testing.T) {
	t.Parallel()
	for path, item := range load(t).Paths.Map() {
		for method, op := range item.Operations() {
			if op.RequestBody == nil {
				continue
			}
			s := op.RequestBody.Value.Content.Get("application/json").Schema
			if has := s.Value.AdditionalProperties.Has; has == nil || *has {
				t.Errorf("%s %s: the body lacks additionalProperties: false", method, path)
			}
		}
	}
}

// A pool that holds nothing any more must be able to say so.
func TestEmptyInventoryIsSent(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]HeartbeatRequest{
		`{"free_bytes":0,"incarnation":1,"replicas":[]}`: {Incarnation: 1, Replicas: []ReplicaSummary{}},
		`{"free_bytes":0,"incarnation":1}`:               {Incarnation: 1},
	} {
		if b, err := json.Marshal(r); err != nil || string(b) != want {
			t.Errorf("%s, %v, want %s", b, err, want)
		}
	}
}

func TestEventReader(t *testing.T) {
	t.Parallel()
	stream := ": hello\n\nevent: daemon\ndata: {\"revision\":7,\"kind\":\"daemon\",\"id\":\"d1\",\"deleted\":true}\n\n" +
		"event: log\ndata: {\"revision\":7,\"kind\":\"log\",\"id\":\"x\",\"deleted\":true}\nid: 7\n\nid: 8\n\n"
	r := readEvents(io.NopCloser(strings.NewReader(stream)))
	first, err := r.Next()
	if err != nil || first.ID != "d1" || !first.Deleted || r.LastEventID() != 0 {
		t.Fatalf("first: %+v, last %d, %v", first, r.LastEventID(), err)
	}
	second, err := r.Next()
	if err != nil || second.Kind != EventLog || r.LastEventID() != 7 {
		t.Fatalf("second: %+v, last %d, %v", second, r.LastEventID(), err)
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) || r.LastEventID() != 8 {
		t.Fatalf("end: last %d, %v", r.LastEventID(), err)
	}
}

// A newer server has kinds of events that this client does not know. It goes on
// behind them.
func TestEventReaderIgnoresOtherKinds(t *testing.T) {
	t.Parallel()
	const other = "event: weather\ndata: {\"revision\":7,\"kind\":\"weather\",\"id\":\"x\",\"weather\":{\"rain\":true}}\nid: 7\n\n"
	r := readEvents(io.NopCloser(strings.NewReader(other +
		"data: {\"revision\":8,\"kind\":\"daemon\",\"id\":\"d1\"}\n\n" + strings.Replace(other, "id: 7", "id: 9", 1))))
	e, err := r.Next()
	if err != nil || e.ID != "d1" || r.LastEventID() != 7 {
		t.Errorf("first: %+v, last %d, %v", e, r.LastEventID(), err)
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) || r.LastEventID() != 9 {
		t.Errorf("end: last %d, %v", r.LastEventID(), err)
	}
}

func TestEventReaderRefusesGarbage(t *testing.T) {
	t.Parallel()
	for name, stream := range map[string]string{
		"no JSON":      "data: {\n\n",
		"no kind":      "data: {\"revision\":1,\"id\":\"a\"}\n\n",
		"no ID":        "data: {\"revision\":1,\"kind\":\"x\"}\n\n",
		"bad id":       "id: -3\n\n",
		"endless line": "data: " + strings.Repeat("x", maxEventBytes),
		"endless data": strings.Repeat("data: "+strings.Repeat("x", maxEventBytes/2)+"\n", 3),
	} {
		if _, err := readEvents(io.NopCloser(strings.NewReader(stream))).Next(); !errors.Is(err, ErrEventStream) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzEventReader(f *testing.F) {
	f.Add(": hello\n\ndata: {\"revision\":7,\"kind\":\"daemon\",\"id\":\"d1\"}\nid: 7\n\n")
	f.Add("data: {\"revision\":7,\n\nid: x\n\n")
	f.Add("data\nid\n\n")
	f.Fuzz(func(t *testing.T, stream string) {
		r := readEvents(io.NopCloser(strings.NewReader(stream)))
		for {
			e, err := r.Next()
			if err != nil {
				return
			}
			if !e.Kind.Valid() || r.LastEventID() < 0 {
				t.Fatalf("accepted %+v with last event ID %d", e, r.LastEventID())
			}
		}
	})
}

func TestProblemError(t *testing.T) {
	t.Parallel()
	body := `{"type":"urn:graven:problem:log-in-use","title":"The log is in use","status":409,"detail":"by h1"}`
	err := error(newProblemError(http.StatusConflict, "application/problem+json; charset=utf-8", []byte(body)))
	if !IsProblem(err, ProblemLogInUse) || err.Error() != "by h1 (log-in-use)" {
		t.Fatalf("%v", err)
	}
	for _, c := range []struct{ contentType, body string }{
		{"text/html", "<h1>Bad gateway</h1>"},
		{ProblemMediaType, "{"},
		{ProblemMediaType, body}, // its status is not the one answered
	} {
		err := newProblemError(http.StatusBadGateway, c.contentType, []byte(c.body))
		if err.Problem.Type != ProblemBlank || err.Problem.Status != http.StatusBadGateway {
			t.Errorf("%q: %+v", c.body, err.Problem)
		}
	}
}
