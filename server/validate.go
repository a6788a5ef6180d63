package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/gravenio/graven/openapi"
)

// validate lets through what the contract allows, and tells what is wrong with
// everything else.
func (s *Server) validate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r, err := s.check(w, r)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// check returns the request with its body read and its path decoded.
func (s *Server) check(w http.ResponseWriter, r *http.Request) (*http.Request, error) {
	if err := checkPath(r); err != nil {
		return r, err
	}
	route, params, err := s.routes.FindRoute(r)
	if err != nil {
		return r, s.noRoute(r)
	}
	infoOf(r).route = route.Path
	if err := checkQuery(route, r); err != nil {
		return r, err
	}
	if route.Operation.RequestBody != nil {
		if r, err = readBody(w, r); err != nil {
			return r, err
		}
	}
	return r, explain(openapi3filter.ValidateRequest(r.Context(), &openapi3filter.RequestValidationInput{
		Request: r, Route: route, PathParams: params,
		Options: &openapi3filter.Options{MultiError: true, SkipSettingDefaults: true},
	}))
}

// checkPath refuses an encoded slash: an ID has none, and what matches the path
// sees it decoded. All other escapes are decoded here for the router.
func checkPath(r *http.Request) error {
	if strings.Contains(strings.ToLower(r.URL.EscapedPath()), "%2f") {
		return invalid("path", "must not contain an encoded slash (%%2F); IDs match [a-z0-9][a-z0-9._-]{0,62}")
	}
	r.URL.RawPath = ""
	return nil
}

// noRoute tells a wrong method from a wrong path.
func (s *Server) noRoute(r *http.Request) error {
	var allow []string
	for _, m := range []string{http.MethodDelete, http.MethodGet, http.MethodPost, http.MethodPut} {
		other := *r
		other.Method = m
		if _, _, err := s.routes.FindRoute(&other); err == nil {
			allow = append(allow, m)
		}
	}
	if len(allow) == 0 {
		return errNoPath
	}
	return &methodError{strings.Join(allow, ", ")}
}

// checkQuery refuses a parameter that does not exist, which is a typing error
// that would otherwise be answered as if it had not been there.
func checkQuery(route *routers.Route, r *http.Request) error {
	values, err := parseQuery(r)
	if err != nil {
		return err
	}
	var fields []openapi.FieldProblem
	for name := range values {
		if route.Operation.Parameters.GetByInAndName(openapi3.ParameterInQuery, name) == nil {
			fields = append(fields, openapi.FieldProblem{Name: clip(name), Rule: "is no parameter of this operation"})
		}
	}
	return invalidFields(fields)
}

// readBody reads the whole body, bounded in size and time, and replaces it.
func readBody(w http.ResponseWriter, r *http.Request) (*http.Request, error) {
	if mt, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); mt != "application/json" {
		return r, errMediaType
	}
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Now().Add(bodyTimeout)) // Not every test's writer has deadlines.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBodyBytes))
	_ = c.SetReadDeadline(time.Time{})
	if is[*http.MaxBytesError](err) {
		return r, errTooLarge
	}
	if err != nil {
		return r, invalid("body", "could not be read: %v", err)
	}
	if len(body) == 0 {
		return r, invalid("body", "is required")
	}
	if err := checkJSON(body); err != nil {
		return r, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	return r, nil
}

// checkJSON also refuses what follows the first value, which decoders ignore.
func checkJSON(body []byte) error {
	var raw json.RawMessage
	err := json.Unmarshal(body, &raw)
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return invalid("body", "is not JSON: %v at byte %d", e, e.Offset)
	}
	if err != nil {
		return invalid("body", "is not JSON: %v", err)
	}
	return nil
}

// explain turns the validator's errors into fields and rules.
func explain(err error) error {
	if err == nil {
		return nil
	}
	fields := fieldsIn(err, "")
	slices.SortFunc(fields, func(a, b openapi.FieldProblem) int {
		return strings.Compare(a.Name+a.Rule, b.Name+b.Rule)
	})
	const most = 20
	if len(fields) > most {
		fields = append(fields[:most], openapi.FieldProblem{Name: "body", Rule: fmt.Sprintf("and %d more", len(fields)-most)})
	}
	return &invalidError{slices.Compact(fields)}
}

// fieldsIn walks the validator's tree of errors; outer is the parameter that
// they are about, or "".
func fieldsIn(err error, outer string) []openapi.FieldProblem {
	switch e := err.(type) { //nolint:errorlint // The tree is walked by hand, one level at a time.
	case openapi3.MultiError:
		var fields []openapi.FieldProblem
		for _, inner := range e {
			fields = append(fields, fieldsIn(inner, outer)...)
		}
		return fields
	case *openapi3filter.RequestError:
		name := "body"
		if e.Parameter != nil {
			name, outer = e.Parameter.Name, e.Parameter.Name
		}
		if e.Err != nil {
			return fieldsIn(e.Err, outer)
		}
		return []openapi.FieldProblem{{Name: name, Rule: clip(e.Reason)}}
	case *openapi3.SchemaError:
		return []openapi.FieldProblem{{Name: schemaField(e, outer), Rule: clip(e.Reason)}}
	}
	if outer == "" {
		outer = "body"
	}
	return []openapi.FieldProblem{{Name: outer, Rule: clip(err.Error())}}
}

func schemaField(e *openapi3.SchemaError, outer string) string {
	name := strings.Join(e.JSONPointer(), ".")
	switch {
	case outer == "" && name == "":
		return "body"
	case outer == "":
		return clip(name)
	}
	return outer
}

func invalidFields(fields []openapi.FieldProblem) error {
	if len(fields) == 0 {
		return nil
	}
	return &invalidError{fields}
}

// clip bounds what is repeated of a client's own words.
func clip(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

func parseQuery(r *http.Request) (url.Values, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalid("query", "%v", err)
	}
	return values, nil
}
