package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog/format"
)

// callTimeout is for one call to one endpoint.
const callTimeout = 10 * time.Second

// capacityOf asks for the capacity of a log, which never changes.
func (l *lane) capacityOf(ctx context.Context, log format.ID) (uint64, error) {
	r, err := ask(ctx, callTimeout, func(ctx context.Context) (*openapi.GetLogResponse, error) {
		return l.api.API().GetLogWithResponse(ctx, log.String())
	})
	switch {
	case err != nil:
		return 0, fmt.Errorf("ask for log %s: %w", log, err)
	case r.JSON200 == nil || r.JSON200.CapacityBytes <= 0:
		return 0, fmt.Errorf("ask for log %s: %s answered %s without a capacity", log, l.api.URL(), r.Status())
	}
	return uint64(r.JSON200.CapacityBytes), nil
}
