package server

import (
	"context"
	"crypto/tls"
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
	"github.com/gravenio/graven/identity"
	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/store"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"
)

// Limits of one request.
const (
	// MaxBodyBytes is the largest body that is read.
	MaxBodyBytes = 2 << 20
	maxHeaders   = 64 << 10
	// maxConnections are served at once; more wait to be accepted.
	maxConnections = 16 << 10
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
	// Identities says who sends a request; then the contract's roles count. Nil
	// asks nobody: everybody is an admin.
	Identities *identity.Authenticator
	// TLS is what Run serves with; without TLS if nil. It must ask for clients'
	// certificates (tls.RequestClientCert) if these are to count.
	TLS *tls.Config
	// Hosts are the names and addresses under which browsers reach the server,
	// without ports; any other Host but loopback's is refused. Empty takes any.
	Hosts []string
	// RateLimit is how many requests a second one principal may make, or one
	// address where nobody is asked, counted over RateWindow; 0 is any number.
	RateLimit int
	// HeaderTimeout, BodyTimeout and WriteTimeout are what a client may take to
	// send a request's header and body, and to take the answer; 10 s, 30 s and
	// 1 min if zero. Event streams may last; each of their writes has its own time.
	HeaderTimeout, BodyTimeout, WriteTimeout time.Duration
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
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&o.ShutdownTimeout, 10*time.Second)
	def(&o.KeepAlive, 15*time.Second)
	def(&o.HeaderTimeout, 10*time.Second)
	def(&o.BodyTimeout, 30*time.Second)
	def(&o.WriteTimeout, time.Minute)
	return o
}

func (o Options) validate() error {
	for _, f := range []struct {
		name string
		v    time.Duration
	}{
		{"ShutdownTimeout", o.ShutdownTimeout},
		{"KeepAlive", o.KeepAlive},
		{"HeaderTimeout", o.HeaderTimeout},
		{"BodyTimeout", o.BodyTimeout},
		{"WriteTimeout", o.WriteTimeout},
		{"RateLimit", time.Duration(o.RateLimit)},
	} {
		if f.v < 0 {
			return fmt.Errorf("server: %s must not be negative", f.name)
		}
	}
	return nil
}

// Server answers the API.
type Server struct {
	store    *store.Store
	o        Options
	routes   routers.Router // the contract's
	roles    map[*openapi3.Operation][]identity.Role
	cross    *http.CrossOriginProtection
	limits   limits
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
	s := &Server{store: st, o: o, routes: routes, limits: newLimits(o.RateLimit), stopping: make(chan struct{})}
	if s.roles, err = readRoles(doc); err != nil {
		return nil, err
	}
	if s.cross, err = newCross(o.Hosts); err != nil {
		return nil, err
	}
	if s.metrics, err = newMetrics(o.Registry, st); err != nil {
		return nil, err
	}
	if err := s.watchCertificate(o.Registry); err != nil {
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
		ReadHeaderTimeout: s.o.HeaderTimeout,
		WriteTimeout:      s.o.WriteTimeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeaders,
		ErrorLog:          slog.NewLogLogger(s.o.Logger.Handler(), slog.LevelDebug),
	}
	ln = netutil.LimitListener(ln, maxConnections)
	if s.o.TLS != nil {
		ln = tls.NewListener(ln, s.o.TLS)
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
