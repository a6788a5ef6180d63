package server

import (
	"context"
	"math/rand/v2"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/placement"
	"github.com/gravenio/graven/store"
)

// GetPlacement implements openapi.StrictServerInterface.
func (s *Server) GetPlacement(_ context.Context, r openapi.GetPlacementRequestObject) (openapi.GetPlacementResponseObject, error) {
	want, err := selectors(r.Params.Label)
	if err != nil {
		return nil, err
	}
	view := s.store.View()
	ids, rev, err := view.Place(placement.Request{
		Replicas:      int(r.Params.Replicas),
		ReplicaBytes:  r.Params.ReplicaSize + store.ReplicaOverheadBytes,
		FailureDomain: placement.FailureDomain(deref(r.Params.FailureDomain)),
		Transport:     string(deref(r.Params.Transport)),
		Media:         string(deref(r.Params.Media)),
		Labels:        want,
		Exclude:       r.Params.Exclude,
	}, rand.Uint64())
	if err != nil {
		return nil, err
	}
	body := openapi.GetPlacement200JSONResponse{Revision: rev, Daemons: make([]openapi.PlacedDaemon, len(ids))}
	for i, id := range ids {
		d, _ := view.Daemon(id) // Deleted since: its ID is all that is known.
		body.Daemons[i] = openapi.PlacedDaemon{
			DaemonID: id, Media: openapi.Media(d.Media), FreeBytes: d.FreeBytes, Labels: labels(d.Labels),
		}
	}
	return body, nil
}
