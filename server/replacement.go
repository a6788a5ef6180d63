package server

import (
	"context"
	"fmt"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/store"
)

// StartReplacement implements openapi.StrictServerInterface.
func (s *Server) StartReplacement(context.Context, openapi.StartReplacementRequestObject) (openapi.StartReplacementResponseObject, error) {
	return nil, fmt.Errorf("%w: replacing a replica", store.ErrUnsupported)
}

// AbandonReplacement implements openapi.StrictServerInterface.
func (s *Server) AbandonReplacement(context.Context, openapi.AbandonReplacementRequestObject) (openapi.AbandonReplacementResponseObject, error) {
	return nil, fmt.Errorf("%w: replacing a replica", store.ErrUnsupported)
}

// RecordLogEvent implements openapi.StrictServerInterface.
func (s *Server) RecordLogEvent(context.Context, openapi.RecordLogEventRequestObject) (openapi.RecordLogEventResponseObject, error) {
	return nil, fmt.Errorf("%w: recording a writer's event", store.ErrUnsupported)
}
