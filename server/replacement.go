package server

import (
	"context"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/store"
)

// StartReplacement implements openapi.StrictServerInterface.
func (s *Server) StartReplacement(ctx context.Context, r openapi.StartReplacementRequestObject) (openapi.StartReplacementResponseObject, error) {
	l, err := s.store.StartReplacement(ctx, store.StartReplacementRequest{
		Log: r.Log, Replica: r.Body.Replica, To: r.Body.To, IdempotencyKey: deref(r.Params.IdempotencyKey),
	})
	if err != nil {
		return nil, err
	}
	if now, ok := s.store.View().Log(l.LogID); ok && now.ModRevision >= l.ModRevision {
		l = &now // a repeated start gets the log as it is now
	}
	return openapi.StartReplacement200JSONResponse{
		Body:    log(l),
		Headers: openapi.StartReplacement200ResponseHeaders{ETag: etag(l.ModRevision)},
	}, nil
}

// AbandonReplacement implements openapi.StrictServerInterface.
func (s *Server) AbandonReplacement(ctx context.Context, r openapi.AbandonReplacementRequestObject) (openapi.AbandonReplacementResponseObject, error) {
	rev, err := revisionOf(r.Params.IfMatch)
	if err != nil {
		return nil, err
	}
	if err := s.store.AbandonReplacement(ctx, r.Log, rev); err != nil {
		return nil, err
	}
	return openapi.AbandonReplacement204Response{}, nil
}

// ChangeReplicas implements openapi.StrictServerInterface.
func (s *Server) ChangeReplicas(ctx context.Context, r openapi.ChangeReplicasRequestObject) (openapi.ChangeReplicasResponseObject, error) {
	req := store.SetReplicasRequest{
		Log: r.Log, Epoch: uint64(r.Body.Epoch), Nonce: r.Body.Nonce, SetVersion: uint64(r.Body.SetVersion),
	}
	for _, c := range r.Body.Replicas {
		switch c.State {
		case openapi.ChangeToPresent:
			req.Present = append(req.Present, c.ReplicaID)
		case openapi.ChangeToCondemned:
			req.Condemned = append(req.Condemned, c.ReplicaID)
		}
	}
	l, err := s.store.SetReplicas(ctx, req)
	if err != nil {
		return nil, err
	}
	return openapi.ChangeReplicas200JSONResponse{
		LogID: l.LogID, Epoch: int64(l.Epoch), SetVersion: int64(l.SetVersion), Replicas: replicas(l.Replicas),
	}, nil
}

// RecordLogEvent implements openapi.StrictServerInterface.
func (s *Server) RecordLogEvent(ctx context.Context, r openapi.RecordLogEventRequestObject) (openapi.RecordLogEventResponseObject, error) {
	b := r.Body
	req := store.LogEventRequest{
		Writer: store.WriterRef{Log: r.Log, WriterID: b.WriterID, Epoch: uint64(b.Epoch), Nonce: b.Nonce},
		Kind:   store.JournalKind(b.Kind), Detail: b.Detail, IdempotencyKey: deref(r.Params.IdempotencyKey),
	}
	for _, g := range b.GivenUp {
		req.GivenUp = append(req.GivenUp, store.GivenUp{ReplicaID: g.ReplicaID, Detail: g.Detail})
	}
	if err := s.store.RecordLogEvent(ctx, req); err != nil {
		return nil, err
	}
	return openapi.RecordLogEvent204Response{}, nil
}
