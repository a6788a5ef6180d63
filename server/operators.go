package server

import (
	"context"
	"slices"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/store"
)

// ListOperators implements openapi.StrictServerInterface.
func (s *Server) ListOperators(_ context.Context, r openapi.ListOperatorsRequestObject) (openapi.ListOperatorsResponseObject, error) {
	all, rev := s.store.View().Operators()
	all = slices.DeleteFunc(all, func(o store.Operator) bool { return !concerns(&o, &r.Params) })
	items, next, err := page(all, r.Params.Limit, r.Params.Continue, func(o *store.Operator) string { return o.OperatorID })
	if err != nil {
		return nil, err
	}
	body := openapi.OperatorList{Items: make([]openapi.OperatorStatus, len(items)), Continue: next}
	for i := range items {
		body.Items[i] = operator(&items[i])
	}
	return openapi.ListOperators200JSONResponse{
		Body: body, Headers: openapi.ListOperators200ResponseHeaders{GravenRevision: rev},
	}, nil
}

// concerns says whether an operator passes the filters.
func concerns(o *store.Operator, p *openapi.ListOperatorsParams) bool {
	return (p.State == nil || string(*p.State) == string(o.State)) &&
		(p.Kind == nil || string(*p.Kind) == string(o.Kind)) &&
		(p.Daemon == nil || *p.Daemon == o.DaemonID || *p.Daemon == o.To) &&
		(p.Log == nil || *p.Log == o.LogID || *p.Log == o.LogName)
}

// GetOperator implements openapi.StrictServerInterface.
func (s *Server) GetOperator(_ context.Context, r openapi.GetOperatorRequestObject) (openapi.GetOperatorResponseObject, error) {
	view := s.store.View()
	rev := view.Revision()
	o, ok := view.Operator(r.OperatorID)
	if !ok {
		return nil, &notFoundError{"operator", r.OperatorID}
	}
	return openapi.GetOperator200JSONResponse{
		Body: operator(&o), Headers: openapi.GetOperator200ResponseHeaders{GravenRevision: rev},
	}, nil
}

// CancelOperator implements openapi.StrictServerInterface.
func (s *Server) CancelOperator(ctx context.Context, r openapi.CancelOperatorRequestObject) (openapi.CancelOperatorResponseObject, error) {
	if err := s.store.CancelOperator(ctx, r.OperatorID); err != nil {
		return nil, err
	}
	return openapi.CancelOperator204Response{}, nil
}

// PauseOperators implements openapi.StrictServerInterface.
func (s *Server) PauseOperators(ctx context.Context, _ openapi.PauseOperatorsRequestObject) (openapi.PauseOperatorsResponseObject, error) {
	now, err := s.store.PauseOperators(ctx, true)
	if err != nil {
		return nil, err
	}
	return openapi.PauseOperators200JSONResponse{
		Body: settings(&now), Headers: openapi.PauseOperators200ResponseHeaders{ETag: etag(now.ModRevision)},
	}, nil
}

// ResumeOperators implements openapi.StrictServerInterface.
func (s *Server) ResumeOperators(ctx context.Context, _ openapi.ResumeOperatorsRequestObject) (openapi.ResumeOperatorsResponseObject, error) {
	now, err := s.store.PauseOperators(ctx, false)
	if err != nil {
		return nil, err
	}
	return openapi.ResumeOperators200JSONResponse{
		Body: settings(&now), Headers: openapi.ResumeOperators200ResponseHeaders{ETag: etag(now.ModRevision)},
	}, nil
}

// GetOperatorSettings implements openapi.StrictServerInterface.
func (s *Server) GetOperatorSettings(context.Context, openapi.GetOperatorSettingsRequestObject) (openapi.GetOperatorSettingsResponseObject, error) {
	now, rev := s.store.View().OperatorSettings()
	return openapi.GetOperatorSettings200JSONResponse{
		Body: settings(&now), Headers: openapi.GetOperatorSettings200ResponseHeaders{ETag: etag(now.ModRevision), GravenRevision: rev},
	}, nil
}

// SetOperatorLimits implements openapi.StrictServerInterface.
func (s *Server) SetOperatorLimits(ctx context.Context, r openapi.SetOperatorLimitsRequestObject) (openapi.SetOperatorLimitsResponseObject, error) {
	rev, err := anyRevisionOf(r.Params.IfMatch)
	if err != nil {
		return nil, err
	}
	b := r.Body
	now, err := s.store.SetOperatorLimits(ctx, store.OperatorLimits{
		GraceSeconds: b.GraceSeconds, TimeoutSeconds: b.TimeoutSeconds, PerDaemon: int(b.PerDaemon), Cluster: int(b.Cluster),
		MaxDownPercent: int(b.MaxDownPercent), ScrubEverySeconds: b.ScrubEverySeconds,
	}, rev)
	if err != nil {
		return nil, err
	}
	return openapi.SetOperatorLimits200JSONResponse{
		Body: settings(&now), Headers: openapi.SetOperatorLimits200ResponseHeaders{ETag: etag(now.ModRevision)},
	}, nil
}

func operator(o *store.Operator) openapi.OperatorStatus {
	return openapi.OperatorStatus{
		OperatorID: o.OperatorID, Kind: openapi.OperatorPurpose(o.Kind), State: openapi.OperatorState(o.State),
		Reason: openapi.OperatorStatusReason(o.Reason), LogID: o.LogID, LogName: o.LogName, ReplicaID: o.ReplicaID,
		DaemonID: o.DaemonID, LearnerID: o.LearnerID, To: o.To, WaitsFor: o.WaitsFor, Error: o.Error, Attempts: o.Attempts,
		CreatedAt: o.CreatedAt.UTC(), StartedAt: o.StartedAt.UTC(), EndedAt: o.EndedAt.UTC(),
	}
}

func settings(s *store.OperatorSettings) openapi.OperatorSettings {
	l := s.Limits
	return openapi.OperatorSettings{Paused: s.Paused, Limits: openapi.OperatorLimits{
		GraceSeconds: l.GraceSeconds, TimeoutSeconds: l.TimeoutSeconds, PerDaemon: int32(l.PerDaemon), Cluster: int32(l.Cluster),
		MaxDownPercent: int32(l.MaxDownPercent), ScrubEverySeconds: l.ScrubEverySeconds,
	}}
}

func countOperators(view *store.View) openapi.OperatorCounts {
	set, _ := view.OperatorSettings()
	n := openapi.OperatorCounts{Leader: view.Leader(), Paused: set.Paused, Braked: view.Brake() != ""}
	all, _ := view.Operators()
	for i := range all {
		switch openapi.OperatorState(all[i].State) {
		case openapi.OperatorPlanned:
			n.Planned++
		case openapi.OperatorRunning:
			n.Running++
		case openapi.OperatorFailed:
			n.Failed++
		}
	}
	return n
}

// operatorAlarms say that nothing is begun, and why.
func operatorAlarms(view *store.View) []openapi.Alarm {
	var out []openapi.Alarm
	if brake := view.Brake(); brake != "" {
		out = append(out, openapi.Alarm{Kind: openapi.AlarmOperatorsBraked, Detail: "no data is moved: " + brake})
	}
	if set, _ := view.OperatorSettings(); set.Paused {
		out = append(out, openapi.Alarm{Kind: openapi.AlarmOperatorsPaused, Detail: "no data is moved: operators are paused; `graven operator resume` begins them again"})
	}
	return out
}
