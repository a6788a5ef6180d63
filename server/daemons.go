package server

import (
	"context"
	"slices"
	"time"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/store"
)

// ListDaemons implements openapi.StrictServerInterface.
func (s *Server) ListDaemons(_ context.Context, r openapi.ListDaemonsRequestObject) (openapi.ListDaemonsResponseObject, error) {
	want, err := selectors(r.Params.Label)
	if err != nil {
		return nil, err
	}
	all, rev := s.store.View().Daemons()
	all = slices.DeleteFunc(all, func(d store.Daemon) bool { return !wanted(&d, &r.Params, want) })
	items, next, err := page(all, r.Params.Limit, r.Params.Continue, func(d *store.Daemon) string { return d.DaemonID })
	if err != nil {
		return nil, err
	}
	body := openapi.DaemonList{Items: make([]openapi.Daemon, len(items)), Continue: next}
	for i := range items {
		body.Items[i] = daemon(&items[i])
	}
	return openapi.ListDaemons200JSONResponse{
		Body:    body,
		Headers: openapi.ListDaemons200ResponseHeaders{GravenRevision: rev},
	}, nil
}

func wanted(d *store.Daemon, p *openapi.ListDaemonsParams, labels map[string]string) bool {
	for k, v := range labels {
		if have, ok := d.Labels[k]; !ok || have != v {
			return false
		}
	}
	return (p.State == nil || string(*p.State) == string(d.State)) &&
		(p.Media == nil || string(*p.Media) == d.Media) &&
		(p.Transport == nil || slices.Contains(d.Transports, string(*p.Transport)))
}

// RegisterDaemon implements openapi.StrictServerInterface.
func (s *Server) RegisterDaemon(ctx context.Context, r openapi.RegisterDaemonRequestObject) (openapi.RegisterDaemonResponseObject, error) {
	b := r.Body
	ttl, err := leaseTTL(b.LeaseTTLSeconds)
	if err != nil {
		return nil, err
	}
	transports := b.Transports
	if transports == nil {
		transports = []openapi.Transport{openapi.TransportTCP}
	}
	got, err := s.store.Register(ctx, store.RegisterRequest{
		DaemonID: r.DaemonID, PoolID: b.PoolID, Incarnation: uint64(b.Incarnation),
		Addresses: store.Addresses{
			TCPAddr: b.TCPAddr, TCPPort: int(b.TCPPort), RNICAddr: b.RNICAddr, RNICPort: int(b.RNICPort),
		},
		Capacity: b.CapacityBytes, Free: b.FreeBytes,
		Media: string(b.Media), Transports: convert[string](transports), FlushModes: convert[string](b.FlushModes),
		Labels: b.Labels, Version: b.Version, Health: storeHealth(b.Health),
		Replicas: storeSummaries(b.Replicas), Seals: storeSeals(b.Seals), LeaseTTL: ttl, KeysVersion: uint64(b.KeysVersion),
		Mark: storeMark(b.EtcdMark),
	})
	if err != nil {
		return nil, err
	}
	verdicts := make([]openapi.ReplicaVerdict, len(got.Replicas))
	for i, v := range got.Replicas {
		verdicts[i] = openapi.ReplicaVerdict{
			ReplicaID: v.ReplicaID, LogID: v.LogID, Action: openapi.ReplicaVerdictAction(v.Verdict), SetVersion: int64(v.SetVersion),
		}
	}
	return openapi.RegisterDaemon200JSONResponse{
		LeaseTTLSeconds: wholeSeconds(got.LeaseTTL), RenewEverySeconds: got.RenewEvery.Seconds(),
		ClusterID: got.ClusterID, Grants: grantRules(&got.Grants), EtcdMark: etcdMark(got.Mark),
		Replicas: verdicts, Missing: convert[string](got.Missing),
	}, nil
}

// HeartbeatDaemon implements openapi.StrictServerInterface.
func (s *Server) HeartbeatDaemon(ctx context.Context, r openapi.HeartbeatDaemonRequestObject) (openapi.HeartbeatDaemonResponseObject, error) {
	b := r.Body
	got, err := s.store.Heartbeat(ctx, store.HeartbeatRequest{
		DaemonID: r.DaemonID, Incarnation: uint64(b.Incarnation), Free: b.FreeBytes,
		Health: storeHealth(b.Health),
		Addresses: store.Addresses{
			TCPAddr: b.TCPAddr, TCPPort: int(b.TCPPort), RNICAddr: b.RNICAddr, RNICPort: int(b.RNICPort),
		},
		Replicas: storeSummaries(b.Replicas), Results: storeResults(b.Results), KeysVersion: uint64(b.KeysVersion),
		Mark: storeMark(b.EtcdMark),
	})
	if err != nil {
		return nil, err
	}
	answer := openapi.HeartbeatDaemon200JSONResponse{
		LeaseTTLSeconds: wholeSeconds(got.LeaseTTL), RenewEverySeconds: got.RenewEvery.Seconds(),
		Operators: operators(got.Steps), Grants: grantRules(&got.Grants), EtcdMark: etcdMark(got.Mark),
	}
	if !b.Leaving {
		return answer, nil
	}
	if err := s.store.Leave(ctx, r.DaemonID, uint64(b.Incarnation)); err != nil {
		return nil, err
	}
	return openapi.HeartbeatDaemon200JSONResponse{Operators: []openapi.Operator{}}, nil
}

// GetDaemon implements openapi.StrictServerInterface.
func (s *Server) GetDaemon(_ context.Context, r openapi.GetDaemonRequestObject) (openapi.GetDaemonResponseObject, error) {
	view := s.store.View()
	rev := view.Revision()
	d, ok := view.Daemon(r.DaemonID)
	if !ok {
		return nil, &notFoundError{"daemon", r.DaemonID}
	}
	return openapi.GetDaemon200JSONResponse{
		Body:    daemon(&d),
		Headers: openapi.GetDaemon200ResponseHeaders{ETag: etag(d.ModRevision), GravenRevision: rev},
	}, nil
}

// DeleteDaemon implements openapi.StrictServerInterface.
func (s *Server) DeleteDaemon(ctx context.Context, r openapi.DeleteDaemonRequestObject) (openapi.DeleteDaemonResponseObject, error) {
	rev, err := revisionOf(r.Params.IfMatch)
	if err != nil {
		return nil, err
	}
	if err := s.store.DeleteDaemon(ctx, r.DaemonID, deref(r.Params.Lost), rev); err != nil {
		return nil, err
	}
	return openapi.DeleteDaemon204Response{}, nil
}

// DrainDaemon implements openapi.StrictServerInterface.
func (s *Server) DrainDaemon(ctx context.Context, r openapi.DrainDaemonRequestObject) (openapi.DrainDaemonResponseObject, error) {
	d, err := s.setDraining(ctx, r.DaemonID, true, r.Params.IfMatch)
	if err != nil {
		return nil, err
	}
	return openapi.DrainDaemon200JSONResponse{
		Body: daemon(d), Headers: openapi.DrainDaemon200ResponseHeaders{ETag: etag(d.ModRevision)},
	}, nil
}

// UndrainDaemon implements openapi.StrictServerInterface.
func (s *Server) UndrainDaemon(ctx context.Context, r openapi.UndrainDaemonRequestObject) (openapi.UndrainDaemonResponseObject, error) {
	d, err := s.setDraining(ctx, r.DaemonID, false, r.Params.IfMatch)
	if err != nil {
		return nil, err
	}
	return openapi.UndrainDaemon200JSONResponse{
		Body: daemon(d), Headers: openapi.UndrainDaemon200ResponseHeaders{ETag: etag(d.ModRevision)},
	}, nil
}

func (s *Server) setDraining(ctx context.Context, id string, draining bool, ifMatch *string) (*store.Daemon, error) {
	rev, err := revisionOf(ifMatch)
	if err != nil {
		return nil, err
	}
	return s.store.SetDraining(ctx, id, draining, rev)
}

// leaseTTL is the lease asked for; zero leaves it to the store.
func leaseTTL(seconds int64) (time.Duration, error) {
	ttl := time.Duration(seconds) * time.Second
	if seconds != 0 && ttl < store.MinLeaseTTL {
		return 0, &ttlError{ttl}
	}
	return ttl, nil
}
