package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/gravenio/graven/identity"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/store"
)

// requestInfo is what the middlewares know of a request. It belongs to the
// request's goroutine.
type requestInfo struct {
	id  string
	err error // what fail was called with

	// Of the contract, once it is known which of its operations is meant.
	route     string // its path
	operation *openapi3.Operation
	found     *routers.Route
	params    map[string]string

	who      identity.Principal
	stillMay func() error // asks again whether the caller may; nil before it was asked

	// For the audit.
	problem openapi.ProblemType // that was answered
	about   []slog.Attr
}

type requestInfoKey struct{}

func infoOf(r *http.Request) *requestInfo {
	if info, ok := r.Context().Value(requestInfoKey{}).(*requestInfo); ok {
		return info
	}
	return &requestInfo{}
}

var requestIDPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// identify gives the request an ID, the caller's if it brings a usable one.
func (s *Server) identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("X-Request-Id")
		if !requestIDPattern.MatchString(id) {
			id = newRequestID()
		}
		h := w.Header()
		h.Set("X-Request-Id", id)
		h.Set("X-Content-Type-Options", "nosniff")
		info := &requestInfo{id: id}
		ctx := store.WithOrigin(r.Context(), store.Origin{Remote: r.RemoteAddr, RequestID: id})
		next.ServeHTTP(w, r.WithContext(context.WithValue(ctx, requestInfoKey{}, info)))
	})
}

func newRequestID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // It never fails: crypto/rand ends the process instead.
	return hex.EncodeToString(b[:])
}

// observe counts, times and logs the request.
func (s *Server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		defer func() {
			took := time.Since(start)
			s.metrics.observe(r.Method, infoOf(r).route, statusOf(ww), took)
			s.log(r, statusOf(ww), took)
			s.audit(r, statusOf(ww))
		}()
		next.ServeHTTP(ww, r)
	})
}

func statusOf(w middleware.WrapResponseWriter) int {
	if w.Status() == 0 {
		return http.StatusOK
	}
	return w.Status()
}

// begun says whether a part of the answer has been sent.
func begun(w http.ResponseWriter) bool {
	ww, ok := w.(middleware.WrapResponseWriter)
	return ok && ww.Status() != 0
}

// log writes one line: a server's fault is an error, anything else is only of
// interest to somebody who looks for it.
func (s *Server) log(r *http.Request, status int, took time.Duration) {
	info := infoOf(r)
	level := slog.LevelDebug
	switch {
	case status == http.StatusServiceUnavailable:
		level = slog.LevelWarn
	case status >= http.StatusInternalServerError:
		level = slog.LevelError
	}
	attrs := []slog.Attr{
		slog.String("method", r.Method),
		slog.String("path", r.URL.Path),
		slog.Int("status", status),
		slog.Duration("took", took),
		slog.String("request_id", info.id),
		slog.String("remote", r.RemoteAddr),
	}
	if info.who.Name != "" {
		attrs = append(attrs, slog.String("principal", info.who.Name), slog.String("via", string(info.who.Via)))
	}
	if info.err != nil {
		attrs = append(attrs, slog.Any("error", info.err))
	}
	s.o.Logger.LogAttrs(r.Context(), level, "request", attrs...)
}

// recoverPanic turns a panic into a 500, so that one bad request does not end
// the others.
func (s *Server) recoverPanic(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch v := recover(); v {
			case nil:
			case http.ErrAbortHandler:
				panic(v)
			default:
				half := begun(w)
				s.fail(w, r, fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
				if half {
					panic(http.ErrAbortHandler) // or half an answer would look whole
				}
			}
		}()
		next.ServeHTTP(w, r)
	})
}
