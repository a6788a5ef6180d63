package server

import (
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/web"
)

// newRouter is the whole table. What is not in it, the contract does not have.
func (s *Server) newRouter() *chi.Mux {
	api := s.operations()
	r := chi.NewRouter()
	r.Use(s.identify, s.observe, s.recoverPanic, s.guardOrigin, s.route, s.admit, s.validate)
	notFound := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.fail(w, r, errNoPath) })
	page := web.Handler(notFound)
	r.NotFound(notFound)

	r.Get("/v1/daemons", api.ListDaemons)
	r.Put("/v1/daemons/{daemon_id}", api.RegisterDaemon)
	r.Get("/v1/daemons/{daemon_id}", api.GetDaemon)
	r.Delete("/v1/daemons/{daemon_id}", api.DeleteDaemon)
	r.Post("/v1/daemons/{daemon_id}/heartbeat", api.HeartbeatDaemon)
	r.Post("/v1/daemons/{daemon_id}/drain", api.DrainDaemon)
	r.Post("/v1/daemons/{daemon_id}/undrain", api.UndrainDaemon)

	r.Get("/v1/placements", api.GetPlacement)

	r.Get("/v1/logs", api.ListLogs)
	r.Post("/v1/logs", api.CreateLog)
	r.Get("/v1/logs/{log}", api.GetLog)
	r.Delete("/v1/logs/{log}", api.DeleteLog)
	r.Post("/v1/logs/{log}/open", api.OpenLog)
	r.Post("/v1/logs/{log}/grant", api.GrantRead)
	r.Post("/v1/logs/{log}/renew", api.RenewLog)
	r.Post("/v1/logs/{log}/close", api.CloseLog)
	r.Post("/v1/logs/{log}/replicas", api.ChangeReplicas)
	r.Post("/v1/logs/{log}/replacement", api.StartReplacement)
	r.Delete("/v1/logs/{log}/replacement", api.AbandonReplacement)
	r.Post("/v1/logs/{log}/events", api.RecordLogEvent)

	r.Get("/v1/operators", api.ListOperators)
	r.Post("/v1/operators/pause", api.PauseOperators)
	r.Post("/v1/operators/resume", api.ResumeOperators)
	r.Get("/v1/operators/settings", api.GetOperatorSettings)
	r.Put("/v1/operators/settings", api.SetOperatorLimits)
	r.Get("/v1/operators/{operator_id}", api.GetOperator)
	r.Delete("/v1/operators/{operator_id}", api.CancelOperator)
	r.Get("/v1/keys", api.ListKeys)
	r.Post("/v1/keys/rotate", api.RotateKeys)
	r.Post("/v1/keys/{key_id}/retire", api.RetireKey)

	r.Get("/v1/status", api.GetStatus)
	r.Get("/v1/journal", api.ListJournal)
	r.Get("/v1/events", api.GetEvents)

	r.Get("/healthz", api.GetHealth)
	r.Get("/readyz", api.GetReady)
	r.Method(http.MethodGet, "/metrics", s.metrics.handler())
	r.Get("/openapi.yaml", serveContract)

	r.Method(http.MethodGet, "/", page)
	r.Method(http.MethodGet, "/ui/{file}", page)
	return r
}

// operations wraps the strict handlers in the generated decoders.
func (s *Server) operations() *openapi.ServerInterfaceWrapper {
	return &openapi.ServerInterfaceWrapper{
		Handler: openapi.NewStrictHandlerWithOptions(s, []openapi.StrictMiddlewareFunc{noteRequest}, openapi.StrictHTTPServerOptions{
			RequestErrorHandlerFunc:  s.failDecode,
			ResponseErrorHandlerFunc: s.fail,
		}),
		ErrorHandlerFunc: s.failDecode,
	}
}

var _ openapi.StrictServerInterface = (*Server)(nil)

func serveContract(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(openapi.Document()) // A client that went away is nobody's error.
}
