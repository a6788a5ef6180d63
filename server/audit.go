package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/getkin/kin-openapi/routers"
	"golang.org/x/time/rate"

	"github.com/gravenio/graven/openapi"
)

// Refusals that one host may have audited, so that nobody fills the disk by being
// refused: a burst, and then one a second. What is left out is counted in the next
// record.
const (
	auditBurst    = 100
	auditEvery    = time.Second
	maxAuditHosts = 1024
)

// auditing writes one record for each call that changes something, or was refused.
type auditing struct {
	log *slog.Logger

	mu    sync.Mutex
	hosts map[string]*auditHost
}

type auditHost struct {
	limit   *rate.Limiter
	dropped int
}

func newAuditing(log *slog.Logger) *auditing {
	return &auditing{log: log, hosts: make(map[string]*auditHost)}
}

// refused says whether a refusal of the host gets a record, and how many before
// it got none.
func (a *auditing) refused(host string) (ok bool, dropped int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	h := a.hosts[host]
	if h == nil {
		if len(a.hosts) >= maxAuditHosts { // those that are full again have nothing to say
			a.forget()
		}
		if len(a.hosts) >= maxAuditHosts {
			host = ""
		}
		if h = a.hosts[host]; h == nil {
			h = &auditHost{limit: rate.NewLimiter(rate.Every(auditEvery), auditBurst)}
			a.hosts[host] = h
		}
	}
	if !h.limit.Allow() {
		h.dropped++
		return false, 0
	}
	dropped, h.dropped = h.dropped, 0
	return true, dropped
}

func (a *auditing) forget() {
	for host, h := range a.hosts {
		if h.dropped == 0 && h.limit.Tokens() >= auditBurst {
			delete(a.hosts, host)
		}
	}
}

// audited says whether a call of the operation, which is no GET, is on record:
// every one, or only when it was refused, where the contract says so.
func audited(route *routers.Route, refused bool) bool {
	return route != nil && (refused || route.Operation.Extensions["x-audit"] != "refusals")
}

// audit writes the record of a request that has been answered.
func (s *Server) audit(r *http.Request, status int) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return
	}
	info := infoOf(r)
	if info.found == nil {
		info.found, _ = s.find(r)
	}
	if !audited(info.found, outcome(status) == outcomeRefused) {
		return
	}
	attrs := []slog.Attr{
		slog.String("who", info.who.Name), slog.String("via", string(info.who.Via)),
		slog.String("operation", info.found.Operation.OperationID),
		slog.String("resource", r.URL.Path),
		slog.String("outcome", outcome(status)), slog.Int("status", status),
	}
	if status >= http.StatusBadRequest {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		ok, dropped := s.auditing.refused(host)
		if !ok {
			s.metrics.unaudited.Inc()
			return
		}
		if dropped > 0 {
			attrs = append(attrs, slog.Int("refusals_left_out", dropped))
		}
		attrs = append(attrs, slog.String("problem", string(info.problem)))
	}
	attrs = append(attrs, slog.String("remote", r.RemoteAddr), slog.String("request_id", info.id))
	s.metrics.audits.WithLabelValues(info.found.Operation.OperationID, outcome(status)).Inc()
	s.auditing.log.LogAttrs(r.Context(), slog.LevelInfo, "audit", append(attrs, info.about...)...)
}

// The outcomes.
const (
	outcomeDone    = "done"
	outcomeRefused = "refused"
	outcomeUnknown = "unknown"
)

// outcome tells what was done from what was refused, and from what may have been
// done.
func outcome(status int) string {
	switch {
	case status < http.StatusBadRequest:
		return outcomeDone
	case status >= http.StatusInternalServerError:
		return outcomeUnknown
	}
	return outcomeRefused
}

// noteRequest keeps what the audit says of the request.
func noteRequest(next openapi.StrictHandlerFunc, _ string) openapi.StrictHandlerFunc {
	return func(ctx context.Context, w http.ResponseWriter, r *http.Request, request any) (any, error) {
		infoOf(r).about = aboutRequest(request)
		return next(ctx, w, r, request)
	}
}

// aboutRequest is what a record says of a request beyond its path: never what is
// secret, and nothing whole.
func aboutRequest(request any) []slog.Attr {
	switch q := request.(type) {
	case openapi.CreateLogRequestObject:
		return []slog.Attr{slog.String("name", q.Body.Name), slog.Int("replicas", int(q.Body.Replicas)), slog.Int64("capacity_bytes", q.Body.CapacityBytes)}
	case openapi.OpenLogRequestObject:
		return []slog.Attr{slog.Bool("takeover", q.Body.Takeover), slog.Bool("recovering", q.Body.Recovering), slog.Int64("min_epoch", q.Body.MinEpoch)}
	case openapi.DeleteDaemonRequestObject:
		return []slog.Attr{slog.Bool("lost", deref(q.Params.Lost))}
	case openapi.RegisterDaemonRequestObject:
		return []slog.Attr{slog.String("pool_id", q.Body.PoolID), slog.Int64("incarnation", q.Body.Incarnation)}
	case openapi.StartReplacementRequestObject:
		return []slog.Attr{slog.String("replica", q.Body.Replica), slog.String("to", q.Body.To)}
	case openapi.SetOperatorLimitsRequestObject:
		return []slog.Attr{
			slog.Int64("grace_seconds", q.Body.GraceSeconds), slog.Int64("timeout_seconds", q.Body.TimeoutSeconds),
			slog.Int("per_daemon", int(q.Body.PerDaemon)), slog.Int("cluster", int(q.Body.Cluster)),
			slog.Int("max_down_percent", int(q.Body.MaxDownPercent)), slog.Int64("scrub_every_seconds", q.Body.ScrubEverySeconds),
		}
	case openapi.RecordLogEventRequestObject:
		return []slog.Attr{slog.String("kind", string(q.Body.Kind))}
	}
	return nil
}
