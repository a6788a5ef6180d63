package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"github.com/gravenio/graven/openapi"
)

// Limits of those who read metrics.
const (
	readTimeout  = 5 * time.Second // of a whole request
	writeTimeout = time.Minute     // of an answer
	idleTimeout  = time.Minute
	maxHeaders   = 64 << 10
	maxReaders   = 64 // connections at once; more wait to be accepted
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

// localOnly keeps web pages of others from reading through a browser on this
// machine: a name that a foreign DNS points at loopback is refused by its Host.
func localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := (&url.URL{Host: r.Host}).Hostname()
		if ip := net.ParseIP(host); !strings.EqualFold(host, "localhost") && (ip == nil || !ip.IsLoopback()) {
			http.Error(w, fmt.Sprintf("Host %.100q is refused: these metrics are served to localhost, 127.0.0.1 and [::1] only", r.Host), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// listenForReaders listens for those who read metrics, so many at once.
func listenForReaders(address string, secured *tls.Config) (net.Listener, error) {
	ln, err := listen("MetricsListen", address)
	if err != nil {
		return nil, err
	}
	ln = netutil.LimitListener(ln, maxReaders)
	if secured != nil {
		ln = tls.NewListener(ln, secured)
	}
	return ln, nil
}

// observe serves HTTP on ln until ctx ends.
func (a *Agent) observe(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler: a.observability(), ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaders, ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
	if at, ok := ln.Addr().(*net.TCPAddr); ok && at.IP.IsLoopback() && a.opts.MetricsTLS == nil {
		srv.Handler = localOnly(srv.Handler)
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() }) // nothing that is answered here is worth waiting for
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("agent: serve metrics: %w", err)
	}
	return nil
}
