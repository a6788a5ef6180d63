package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/gravenio/graven/openapi"
)

// route finds the contract's operation that is meant.
func (s *Server) route(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.locate(r); err != nil {
			s.fail(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// locate leaves the request with its path decoded.
func (s *Server) locate(r *http.Request) error {
	if err := checkPath(r); err != nil {
		return err
	}
	route, params := s.find(r)
	if route == nil {
		return s.noRoute(r)
	}
	info := infoOf(r)
	info.route, info.operation, info.found, info.params = route.Path, route.Operation, route, params
	return nil
}

// validate lets through what the contract allows, and tells what is wrong with
// everything else.
func (s *Server) validate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.check(w, r); err != nil {
			s.fail(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// check leaves the request with its body read.
func (s *Server) check(w http.ResponseWriter, r *http.Request) error {
	route, params := infoOf(r).found, infoOf(r).params
	if err := checkQuery(route, r); err != nil {
		return err
	}
	if route.Operation.RequestBody != nil {
		if err := s.readBody(w, r); err != nil {
			return err
		}
	}
	return explain(openapi3filter.ValidateRequest(r.Context(), &openapi3filter.RequestValidationInput{
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

// find is the contract's operation for the request. Its router takes /v1/logs
// for /v1/logs/{log} with nothing as the log, which no operation means.
func (s *Server) find(r *http.Request) (*routers.Route, map[string]string) {
	route, params, err := s.routes.FindRoute(r)
	if err != nil {
		return nil, nil
	}
	for _, v := range params {
		if v == "" {
			return nil, nil
		}
	}
	return route, params
}

// noRoute tells a wrong method from a wrong path.
func (s *Server) noRoute(r *http.Request) error {
	var allow []string
	for _, m := range []string{http.MethodDelete, http.MethodGet, http.MethodPost, http.MethodPut} {
		other := *r
		other.Method = m
		if route, _ := s.find(&other); route != nil {
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
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) error {
	if mt, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); mt != "application/json" {
		return errMediaType
	}
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Now().Add(s.o.BodyTimeout)) // Not every test's writer has deadlines.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBodyBytes))
	_ = c.SetReadDeadline(time.Time{})
	if is[*http.MaxBytesError](err) {
		return errTooLarge
	}
	if err != nil {
		return invalid("body", "could not be read: %v", err)
	}
	if len(body) == 0 {
		return invalid("body", "is required")
	}
	if err := checkJSON(body); err != nil {
		return err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	return nil
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

func invalidFields(fields []openapi.FieldProblem) error {
	if len(fields) == 0 {
		return nil
	}
	return &invalidError{fields}
}
