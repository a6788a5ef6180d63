package server

import (
	"context"
	"slices"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/store"
)

// ListLogs implements openapi.StrictServerInterface.
func (s *Server) ListLogs(_ context.Context, r openapi.ListLogsRequestObject) (openapi.ListLogsResponseObject, error) {
	all, rev := s.store.View().Logs()
	all = slices.DeleteFunc(all, func(l store.Log) bool {
		return (r.Params.State != nil && string(*r.Params.State) != string(l.State)) ||
			(r.Params.Daemon != nil && !onDaemon(&l, *r.Params.Daemon))
	})
	items, next, err := page(all, r.Params.Limit, r.Params.Continue, func(l *store.Log) string { return l.Name })
	if err != nil {
		return nil, err
	}
	body := openapi.LogList{Items: make([]openapi.Log, len(items)), Continue: next}
	for i := range items {
		body.Items[i] = log(&items[i])
	}
	return openapi.ListLogs200JSONResponse{
		Body:    body,
		Headers: openapi.ListLogs200ResponseHeaders{GravenRevision: rev},
	}, nil
}

func onDaemon(l *store.Log, id string) bool {
	return slices.ContainsFunc(l.Replicas, func(r store.Replica) bool { return r.DaemonID == id })
}

// GetLog implements openapi.StrictServerInterface.
func (s *Server) GetLog(_ context.Context, r openapi.GetLogRequestObject) (openapi.GetLogResponseObject, error) {
	view := s.store.View()
	rev := view.Revision()
	l, ok := view.Log(r.Log)
	if !ok {
		return nil, &notFoundError{"log", r.Log}
	}
	return openapi.GetLog200JSONResponse{
		Body:    log(&l),
		Headers: openapi.GetLog200ResponseHeaders{ETag: etag(l.ModRevision), GravenRevision: rev},
	}, nil
}

// DeleteLog implements openapi.StrictServerInterface.
func (s *Server) DeleteLog(ctx context.Context, r openapi.DeleteLogRequestObject) (openapi.DeleteLogResponseObject, error) {
	rev, err := revisionOf(r.Params.IfMatch)
	if err != nil {
		return nil, err
	}
	if err := s.store.DeleteLog(ctx, r.Log, rev); err != nil {
		return nil, err
	}
	return openapi.DeleteLog204Response{}, nil
}
