package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/store"
	"github.com/prometheus/client_golang/prometheus"
)

// Limits of one request.
const (
	// MaxBodyBytes is the largest body that is read.
	MaxBodyBytes = 1 << 20
	bodyTimeout  = 30 * time.Second
	writeTimeout = time.Minute
	maxHeaders   = 64 << 10
)

// Options tune a Server. The zero value is good for a server behind something
// that decides who may reach it.
type Options struct {
	// Logger takes one line a request; slog.Default() if nil.
	Logger *slog.Logger
	// Audit takes one record, "audit", for each call that changes something or that
	// was refused: who, what, from where. Logger if nil.
	Audit *slog.Logger
	// Version is shown in /v1/status.
	Version string
	// LoopbackOnly refuses requests whose Host or Origin is not this machine's
	// own, so that no web page elsewhere can drive a development server.
	LoopbackOnly bool
	// Registry takes the server's metrics and is served as /metrics; a new one
	// if nil.
	Registry *prometheus.Registry
	// ShutdownTimeout bounds how long Run waits for running requests; 10 s if
	// zero.
	ShutdownTimeout time.Duration
	// KeepAlive is the time between comments on an idle event stream; 15 s if
	// zero.
	KeepAlive time.Duration
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Audit == nil {
		o.Audit = o.Logger
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	if o.ShutdownTimeout == 0 {
		o.ShutdownTimeout = 10 * time.Second
	}
	if o.KeepAlive == 0 {
		o.KeepAlive = 15 * time.Second
	}
	return o
}

func (o Options) validate() error {
	if o.ShutdownTimeout < 0 {
		return errors.New("server: ShutdownTimeout must not be negative")
	}
	if o.KeepAlive < 0 {
		return errors.New("server: KeepAlive must not be negative")
	}
	return nil
}

// Server answers the API.
type Server struct {
	store    *store.Store
	o        Options
	routes   routers.Router // the contract's
	metrics  *metrics
	auditing *auditing
	handler  http.Handler

	stop     sync.Once
	stopping chan struct{} // closed when event streams must end
}

// New validates the options and the contract and starts nothing.
func New(st *store.Store, o Options) (*Server, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	doc, err := openapi3.NewLoader().LoadFromData(openapi.Document())
	if err != nil {
		return nil, fmt.Errorf("server: load contract: %w", err)
	}
	routes, err := legacy.NewRouter(doc)
	if err != nil {
		return nil, fmt.Errorf("server: contract: %w", err)
	}
	s := &Server{store: st, o: o, routes: routes, stopping: make(chan struct{})}
	if s.metrics, err = newMetrics(o.Registry, st); err != nil {
		return nil, err
	}
	s.auditing = newAuditing(o.Audit)
	s.handler = s.newRouter()
	return s, nil
}

// Handler returns what Run serves, for callers that bring their own server.
// Its event streams end with their requests, or when Run ends.
func (s *Server) Handler() http.Handler { return s.handler }

// Run serves on the listener, which it closes, until ctx ends; then it ends the
// event streams, waits for running requests and returns nil. It is called once.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: bodyTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeaders,
		ErrorLog:          slog.NewLogLogger(s.o.Logger.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	select {
	case err := <-served:
		s.endStreams()
		return fmt.Errorf("server: serve: %w", err)
	case <-ctx.Done():
	}
	s.endStreams()
	err := s.shutdown(ctx, srv)
	if serr := <-served; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("server: serve: %w", serr))
	}
	return err
}

func (s *Server) endStreams() { s.stop.Do(func() { close(s.stopping) }) }

func (s *Server) shutdown(ctx context.Context, srv *http.Server) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.o.ShutdownTimeout)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("server: requests still ran after %v: %w", s.o.ShutdownTimeout, err), srv.Close())
	}
	return nil
}
