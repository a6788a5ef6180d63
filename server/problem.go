package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gravenio/graven/identity"
	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/placement"
	"github.com/gravenio/graven/store"
)

// Errors that arise before a store is asked.
var (
	errNoPath    = errors.New("no such path; /openapi.yaml lists them all")
	errMediaType = errors.New("the body must be JSON: send Content-Type: application/json")
	errTooLarge  = fmt.Errorf("the body is over %d bytes", MaxBodyBytes)
)

// invalidError lists what is wrong with a request.
type invalidError struct{ fields []openapi.FieldProblem }

func (e *invalidError) Error() string {
	texts := make([]string, len(e.fields))
	for i, f := range e.fields {
		texts[i] = f.Name + ": " + f.Rule
	}
	return strings.Join(texts, "; ")
}

func invalid(name, format string, args ...any) error {
	return &invalidError{[]openapi.FieldProblem{{Name: name, Rule: fmt.Sprintf(format, args...)}}}
}

// ttlError refuses a lease.
type ttlError struct{ asked time.Duration }

func (e *ttlError) Error() string {
	return fmt.Sprintf("a lease of %v is too short; ask for at least %v", e.asked, store.MinLeaseTTL)
}

// methodError names the methods that the path has.
type methodError struct{ allow string }

func (e *methodError) Error() string { return "this path takes " + e.allow }

// notFoundError names what there is not.
type notFoundError struct{ what, id string }

func (e *notFoundError) Error() string { return "there is no " + e.what + " " + e.id }

// kind is what a problem type means on the wire.
type kind struct {
	status int
	title  string
}

// kindOf is the one table of statuses.
func kindOf(t openapi.ProblemType) kind {
	switch t {
	case openapi.ProblemInvalidRequest:
		return kind{http.StatusBadRequest, "The request is invalid"}
	case openapi.ProblemTTLTooShort:
		return kind{http.StatusBadRequest, "The lease is too short"}
	case openapi.ProblemUnauthenticated:
		return kind{http.StatusUnauthorized, "Who asks is not known"}
	case openapi.ProblemTokenInvalid:
		return kind{http.StatusUnauthorized, "The token is not valid"}
	case openapi.ProblemTokenExpired:
		return kind{http.StatusUnauthorized, "The token has expired"}
	case openapi.ProblemForbidden:
		return kind{http.StatusForbidden, "The role may not do this"}
	case openapi.ProblemForeignDaemon:
		return kind{http.StatusForbidden, "The daemon ID is another's"}
	case openapi.ProblemForeignLog:
		return kind{http.StatusForbidden, "The log is another's"}
	case openapi.ProblemForbiddenOrigin:
		return kind{http.StatusForbidden, "The origin is refused"}
	case openapi.ProblemNotFound:
		return kind{http.StatusNotFound, "There is no such thing"}
	case openapi.ProblemLeaseExpired:
		return kind{http.StatusNotFound, "The lease is gone"}
	case openapi.ProblemMethodNotAllowed:
		return kind{http.StatusMethodNotAllowed, "The method is not allowed"}
	case openapi.ProblemAddressInUse:
		return kind{http.StatusConflict, "The address is in use"}
	case openapi.ProblemConflict:
		return kind{http.StatusConflict, "The object has changed"}
	case openapi.ProblemDaemonInUse:
		return kind{http.StatusConflict, "The daemon is in use"}
	case openapi.ProblemSetBehind:
		return kind{http.StatusConflict, "The replicas know a newer set"}
	case openapi.ProblemLastCopies:
		return kind{http.StatusConflict, "The daemon has the last copies of a log"}
	case openapi.ProblemKeyInUse:
		return kind{http.StatusConflict, "The key is in use"}
	case openapi.ProblemLogInUse:
		return kind{http.StatusConflict, "The log is in use"}
	case openapi.ProblemNameTaken:
		return kind{http.StatusConflict, "The name is taken"}
	case openapi.ProblemNoPlacement:
		return kind{http.StatusConflict, "Too few daemons fit"}
	case openapi.ProblemIncarnationAhead:
		return kind{http.StatusConflict, "The incarnation is out of reach"}
	case openapi.ProblemPoolCloned:
		return kind{http.StatusConflict, "The pool runs twice"}
	case openapi.ProblemPoolMismatch:
		return kind{http.StatusConflict, "The pool is not this daemon's"}
	case openapi.ProblemPoolRolledBack:
		return kind{http.StatusConflict, "The pool is older than its record"}
	case openapi.ProblemPoolWiped:
		return kind{http.StatusConflict, "The pool is a new one"}
	case openapi.ProblemReplacementAbandoned:
		return kind{http.StatusConflict, "The learner was given up"}
	case openapi.ProblemReplacementInProgress:
		return kind{http.StatusConflict, "Another replica is being replaced"}
	case openapi.ProblemStaleIncarnation:
		return kind{http.StatusConflict, "A newer process has registered"}
	case openapi.ProblemSuperseded:
		return kind{http.StatusConflict, "A later open has the log"}
	case openapi.ProblemDaemonGone:
		return kind{http.StatusGone, "The daemon was deleted"}
	case openapi.ProblemEventsGap:
		return kind{http.StatusGone, "These events are no longer kept"}
	case openapi.ProblemPreconditionFailed:
		return kind{http.StatusPreconditionFailed, "The object has another version"}
	case openapi.ProblemTooLarge:
		return kind{http.StatusRequestEntityTooLarge, "The body is too large"}
	case openapi.ProblemUnsupportedMediaType:
		return kind{http.StatusUnsupportedMediaType, "The body is not JSON"}
	case openapi.ProblemIdempotencyMismatch:
		return kind{http.StatusUnprocessableEntity, "The key belongs to another request"}
	case openapi.ProblemRateLimited:
		return kind{http.StatusTooManyRequests, "Too many requests"}
	case openapi.ProblemEtcdNoSpace:
		return kind{http.StatusServiceUnavailable, "etcd has no space left"}
	case openapi.ProblemUnavailable:
		return kind{http.StatusServiceUnavailable, "The control plane is unavailable"}
	default:
		return kind{http.StatusInternalServerError, http.StatusText(http.StatusInternalServerError)}
	}
}

// typeOf finds the problem type of an error; about:blank is the unforeseen.
func typeOf(err error) openapi.ProblemType {
	for _, c := range []struct {
		err error
		t   openapi.ProblemType
	}{
		{identity.ErrUnauthenticated, openapi.ProblemUnauthenticated},
		{identity.ErrTokenInvalid, openapi.ProblemTokenInvalid},
		{identity.ErrTokenExpired, openapi.ProblemTokenExpired},
		{errNoPath, openapi.ProblemNotFound},
		{errMediaType, openapi.ProblemUnsupportedMediaType},
		{errTooLarge, openapi.ProblemTooLarge},
		{store.ErrInvalid, openapi.ProblemInvalidRequest},
		{store.ErrNotFound, openapi.ProblemNotFound},
		{store.ErrPrecondition, openapi.ProblemPreconditionFailed},
		{store.ErrNameTaken, openapi.ProblemNameTaken},
		{store.ErrPoolRolledBack, openapi.ProblemPoolRolledBack},
		{store.ErrPoolMismatch, openapi.ProblemPoolMismatch},
		{store.ErrPoolWiped, openapi.ProblemPoolWiped},
		{store.ErrPoolCloned, openapi.ProblemPoolCloned},
		{store.ErrIncarnationAhead, openapi.ProblemIncarnationAhead},
		{store.ErrStaleIncarnation, openapi.ProblemStaleIncarnation},
		{store.ErrAddressInUse, openapi.ProblemAddressInUse},
		{store.ErrLeaseExpired, openapi.ProblemLeaseExpired},
		{store.ErrWriterClosed, openapi.ProblemLeaseExpired},
		{store.ErrForeignDaemon, openapi.ProblemForeignDaemon},
		{store.ErrForeignLog, openapi.ProblemForeignLog},
		{store.ErrGone, openapi.ProblemDaemonGone},
		{store.ErrDaemonBusy, openapi.ProblemDaemonInUse},
		{store.ErrSetBehind, openapi.ProblemSetBehind},
		{store.ErrLastCopies, openapi.ProblemLastCopies},
		{store.ErrOperatorEnded, openapi.ProblemConflict},
		{store.ErrKeyInUse, openapi.ProblemKeyInUse},
		{store.ErrLogInUse, openapi.ProblemLogInUse},
		{store.ErrSuperseded, openapi.ProblemSuperseded},
		{store.ErrEpochAhead, openapi.ProblemConflict},
		{store.ErrReplacing, openapi.ProblemReplacementInProgress},
		{store.ErrAbandoned, openapi.ProblemReplacementAbandoned},
		{store.ErrIdempotencyMismatch, openapi.ProblemIdempotencyMismatch},
		{store.ErrCompacted, openapi.ProblemEventsGap},
		{store.ErrConflict, openapi.ProblemConflict},
		{store.ErrNoSpace, openapi.ProblemEtcdNoSpace},
		{store.ErrUnavailable, openapi.ProblemUnavailable},
		{context.DeadlineExceeded, openapi.ProblemUnavailable},
	} {
		if errors.Is(err, c.err) {
			return c.t
		}
	}
	return typeOfTyped(err)
}

func typeOfTyped(err error) openapi.ProblemType {
	switch {
	case is[*invalidError](err), is[*placement.RequestError](err):
		return openapi.ProblemInvalidRequest
	case is[*ttlError](err):
		return openapi.ProblemTTLTooShort
	case is[*forbiddenError](err):
		return openapi.ProblemForbidden
	case is[*rateError](err):
		return openapi.ProblemRateLimited
	case is[*originError](err):
		return openapi.ProblemForbiddenOrigin
	case is[*notFoundError](err):
		return openapi.ProblemNotFound
	case is[*methodError](err):
		return openapi.ProblemMethodNotAllowed
	case is[*placement.NoPlacementError](err), is[*placement.RefusedError](err):
		return openapi.ProblemNoPlacement
	}
	return openapi.ProblemBlank
}

func is[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

// unprefixed drops what says in which of our packages an error arose; read-only.
var unprefixed = strings.NewReplacer("store: ", "", "placement: ", "", "identity: ", "")

// problemOf renders an error for strangers: what was foreseen is told in full,
// anything else not at all.
func problemOf(err error) openapi.Problem {
	t := typeOf(err)
	k := kindOf(t)
	p := openapi.Problem{Type: t, Title: k.title, Status: int32(k.status)}
	switch t {
	case openapi.ProblemBlank:
		return p
	case openapi.ProblemEtcdNoSpace:
		p.Detail = "etcd has reached its quota and takes no writes: nothing was changed; open logs go on; compact, defragment and disarm it, as docs/operations.md says"
		return p
	case openapi.ProblemUnavailable:
		p.Detail = "etcd can't be reached, takes no writes, or this server has not caught up with it; try again"
		return p
	}
	p.Detail = unprefixed.Replace(err.Error())
	p.Fields = fieldsOf(err)
	if e, ok := errors.AsType[*placement.NoPlacementError](err); ok {
		p.Placement = placementProblem(e)
	}
	if e, ok := errors.AsType[*placement.RefusedError](err); ok {
		p.Placement = refusedProblem(e)
	}
	if e, ok := errors.AsType[*store.InUseError](err); ok {
		p.Writer = writer(&e.Writer)
	}
	if e, ok := errors.AsType[*store.SupersededError](err); ok {
		p.Epoch = int64(e.Epoch)
	}
	return p
}

func fieldsOf(err error) []openapi.FieldProblem {
	if e, ok := errors.AsType[*invalidError](err); ok {
		return e.fields
	}
	if e, ok := errors.AsType[*store.InvalidError](err); ok {
		return []openapi.FieldProblem{{Name: e.Field, Rule: e.Rule}}
	}
	if e, ok := errors.AsType[*placement.RequestError](err); ok {
		return []openapi.FieldProblem{{Name: e.Field, Rule: e.Rule}}
	}
	return nil
}

func placementProblem(e *placement.NoPlacementError) *openapi.PlacementProblem {
	p := &openapi.PlacementProblem{
		Rule: string(e.Rule), Replicas: e.Replicas, Daemons: e.Daemons,
		Eligible: e.Eligible, Domains: e.Domains, Removed: map[string]int{},
	}
	for rule, n := range e.Removed {
		if n > 0 {
			p.Removed[string(rule)] = n
		}
	}
	return p
}

// refusedProblem is for one daemon that was asked for and does not fit.
func refusedProblem(e *placement.RefusedError) *openapi.PlacementProblem {
	p := &openapi.PlacementProblem{Rule: string(e.Rule), Replicas: 1, Removed: map[string]int{}}
	if e.Rule != placement.RuleUnknown {
		p.Daemons, p.Removed[string(e.Rule)] = 1, 1
	}
	if e.Rule == placement.RuleFailureDomain {
		p.Eligible = 1 // by itself; its domain is taken
	}
	return p
}

// fail answers with the error's problem. The error itself goes to the request's
// log line.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	info := infoOf(r)
	info.err = err
	info.problem = typeOf(err)
	if r.Context().Err() != nil || begun(w) {
		return // Nobody reads an answer, or part of another one is out.
	}
	p := problemOf(err)
	p.Instance = r.URL.Path
	p.RequestID = info.id
	h := w.Header()
	h.Del("ETag")
	h.Set("Content-Type", openapi.ProblemMediaType)
	h.Set("Cache-Control", "no-store")
	if e, ok := errors.AsType[*methodError](err); ok {
		h.Set("Allow", e.allow)
	}
	switch p.Status {
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", strconv.Itoa(1))
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", challenge(err))
	}
	w.WriteHeader(int(p.Status))
	_ = json.NewEncoder(w).Encode(p) // A client that went away is nobody's error.
}

// failDecode is for what passed the contract's checks and still does not fit
// its Go type, such as 1e400 or a parameter given twice.
func (s *Server) failDecode(w http.ResponseWriter, r *http.Request, err error) {
	s.fail(w, r, invalid(decodeField(err), "%v", err))
}

func decodeField(err error) string {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return e.Field
	}
	if e, ok := errors.AsType[*openapi.InvalidParamFormatError](err); ok {
		return e.ParamName
	}
	if e, ok := errors.AsType[*openapi.TooManyValuesForParamError](err); ok {
		return e.ParamName
	}
	return "body"
}
