package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog/control"
)

// callTimeout is for one call to one endpoint.
const callTimeout = 10 * time.Second

// calls are those of a recovering writer, to whichever endpoint answers.
type calls struct{ api *endpoints }

var _ control.API = calls{}

// through makes a call. A refusal that is the cluster's is in the response, as
// the caller of a client expects it.
func through[R openapi.Response](ctx context.Context, c calls, call func(context.Context, *openapi.ClientWithResponses) (R, error)) (R, error) {
	r, err := ask(ctx, c.api, callTimeout, call)
	var p *openapi.ProblemError
	if errors.As(err, &p) && !away(err) {
		return r, nil
	}
	return r, err
}

// capacityOf asks for the capacity of a log, which never changes.
func (c calls) capacityOf(ctx context.Context, log format.ID) (uint64, error) {
	r, err := ask(ctx, c.api, callTimeout, func(ctx context.Context, api *openapi.ClientWithResponses) (*openapi.GetLogResponse, error) {
		return api.GetLogWithResponse(ctx, log.String())
	})
	switch {
	case err != nil:
		return 0, fmt.Errorf("ask for log %s: %w", log, err)
	case r.JSON200 == nil || r.JSON200.CapacityBytes <= 0:
		return 0, fmt.Errorf("ask for log %s: %s answered %s without a capacity", log, c.api.url(), r.Status())
	}
	return uint64(r.JSON200.CapacityBytes), nil
}

// OpenLogWithResponse implements [control.API].
func (c calls) OpenLogWithResponse(ctx context.Context, log openapi.LogRef, params *openapi.OpenLogParams, body openapi.OpenLogJSONRequestBody, edit ...openapi.RequestEditorFn) (*openapi.OpenLogResponse, error) {
	return through(ctx, c, func(ctx context.Context, api *openapi.ClientWithResponses) (*openapi.OpenLogResponse, error) {
		return api.OpenLogWithResponse(ctx, log, params, body, edit...)
	})
}

// RenewLogWithResponse implements [control.API].
func (c calls) RenewLogWithResponse(ctx context.Context, log openapi.LogRef, body openapi.RenewLogJSONRequestBody, edit ...openapi.RequestEditorFn) (*openapi.RenewLogResponse, error) {
	return through(ctx, c, func(ctx context.Context, api *openapi.ClientWithResponses) (*openapi.RenewLogResponse, error) {
		return api.RenewLogWithResponse(ctx, log, body, edit...)
	})
}

// CloseLogWithResponse implements [control.API].
func (c calls) CloseLogWithResponse(ctx context.Context, log openapi.LogRef, body openapi.CloseLogJSONRequestBody, edit ...openapi.RequestEditorFn) (*openapi.CloseLogResponse, error) {
	return through(ctx, c, func(ctx context.Context, api *openapi.ClientWithResponses) (*openapi.CloseLogResponse, error) {
		return api.CloseLogWithResponse(ctx, log, body, edit...)
	})
}

// StartReplacementWithResponse implements [control.API].
func (c calls) StartReplacementWithResponse(ctx context.Context, log openapi.LogRef, params *openapi.StartReplacementParams, body openapi.StartReplacementJSONRequestBody, edit ...openapi.RequestEditorFn) (*openapi.StartReplacementResponse, error) {
	return through(ctx, c, func(ctx context.Context, api *openapi.ClientWithResponses) (*openapi.StartReplacementResponse, error) {
		return api.StartReplacementWithResponse(ctx, log, params, body, edit...)
	})
}

// RecordLogEventWithResponse implements [control.API].
func (c calls) RecordLogEventWithResponse(ctx context.Context, log openapi.LogRef, params *openapi.RecordLogEventParams, body openapi.RecordLogEventJSONRequestBody, edit ...openapi.RequestEditorFn) (*openapi.RecordLogEventResponse, error) {
	return through(ctx, c, func(ctx context.Context, api *openapi.ClientWithResponses) (*openapi.RecordLogEventResponse, error) {
		return api.RecordLogEventWithResponse(ctx, log, params, body, edit...)
	})
}

// ChangeReplicasWithResponse implements [control.API].
func (c calls) ChangeReplicasWithResponse(ctx context.Context, log openapi.LogRef, body openapi.ChangeReplicasJSONRequestBody, edit ...openapi.RequestEditorFn) (*openapi.ChangeReplicasResponse, error) {
	return through(ctx, c, func(ctx context.Context, api *openapi.ClientWithResponses) (*openapi.ChangeReplicasResponse, error) {
		return api.ChangeReplicasWithResponse(ctx, log, body, edit...)
	})
}
