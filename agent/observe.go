package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/gravenio/graven/openapi"
)

const (
	headerTimeout = 5 * time.Second
	idleTimeout   = time.Minute
)

// observability is what the agent answers over HTTP: /metrics for Prometheus,
// and /healthz, which is 503 while the medium takes no writes.
func (a *Agent) observability() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.opts.Registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		h := a.health()
		if h.State == openapi.HealthReadOnly {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprintln(w, h.State, h.Reason)
	})
	return mux
}

// observe serves HTTP on ln until ctx ends.
func (a *Agent) observe(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler: a.observability(), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() }) // nothing that is answered here is worth waiting for
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("agent: serve metrics: %w", err)
	}
	return nil
}
