package openapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
)

// ProblemPrefix begins every problem type but about:blank.
const ProblemPrefix = "urn:graven:problem:"

// ProblemMediaType is the media type of a Problem on the wire.
const ProblemMediaType = "application/problem+json"

// Response is what every call of ClientWithResponses returns.
type Response interface {
	StatusCode() int
	ContentType() string
	GetBody() []byte
}

// ProblemError is a Problem that a server answered.
type ProblemError struct {
	Problem Problem
}

// Error says the detail, or the title where there is none.
func (e *ProblemError) Error() string {
	p := &e.Problem
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	if slug := strings.TrimPrefix(string(p.Type), ProblemPrefix); slug != string(ProblemBlank) {
		text += " (" + slug + ")"
	}
	if p.RequestID != "" && p.Status >= http.StatusInternalServerError {
		text += fmt.Sprintf(" [status %d, request %s]", p.Status, p.RequestID)
	}
	return text
}

// IsProblem reports whether err is, or wraps, a ProblemError of this type.
func IsProblem(err error, t ProblemType) bool {
	var p *ProblemError
	return errors.As(err, &p) && p.Problem.Type == t
}

// Check returns nil for a success (2xx) and a *ProblemError for anything else.
// An error that is no problem+json, from something between the client and the
// server, becomes an about:blank with the status.
func Check(r Response) error {
	if c := r.StatusCode(); c >= 200 && c < 300 {
		return nil
	}
	return newProblemError(r.StatusCode(), r.ContentType(), r.GetBody())
}

// newProblemError trusts the body only as far as it decodes.
func newProblemError(status int, contentType string, body []byte) *ProblemError {
	var p Problem
	mt, _, _ := mime.ParseMediaType(contentType)
	if mt == ProblemMediaType && json.Unmarshal(body, &p) == nil && p.Type != "" && p.Status == int32(status) {
		return &ProblemError{Problem: p}
	}
	return &ProblemError{Problem: Problem{
		Type:   ProblemBlank,
		Title:  http.StatusText(status),
		Status: int32(status),
		Detail: unexplained(status, body),
	}}
}

// unexplained says what a server may have meant that answered with no problem.
func unexplained(status int, body []byte) string {
	if status == http.StatusBadRequest && bytes.HasPrefix(body, []byte("Client sent an HTTP request to an HTTPS server")) {
		return "the server there speaks TLS: write https:// before its address, and name its authority with --tls-ca (`graven dev --tls` writes all of that into cli.yaml, for GRAVEN_CONFIG)"
	}
	return fmt.Sprintf("the server answered %d %s without saying why; is this the API's address?", status, http.StatusText(status))
}
