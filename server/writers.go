package server

import (
	"context"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/store"
)

// OpenLog implements openapi.StrictServerInterface.
func (s *Server) OpenLog(ctx context.Context, r openapi.OpenLogRequestObject) (openapi.OpenLogResponseObject, error) {
	b := r.Body
	ttl, err := leaseTTL(b.LeaseTTLSeconds)
	if err != nil {
		return nil, err
	}
	got, err := s.store.OpenLog(ctx, store.OpenLogRequest{
		Log: r.Log, Name: b.Writer.Name, Host: b.Writer.Host, PID: int(b.Writer.PID),
		Takeover: b.Takeover, Recovering: b.Recovering, MinEpoch: uint64(b.MinEpoch),
		LeaseTTL: ttl, IdempotencyKey: deref(r.Params.IdempotencyKey), ClientKey: clientKey(ctx, b.ClientKey),
	})
	if err != nil {
		return nil, err
	}
	return openapi.OpenLog200JSONResponse{
		LogID: got.LogID, Name: got.Name, ClusterID: got.ClusterID, WriterID: got.WriterID,
		Epoch: int64(got.Epoch), Nonce: got.Nonce, SetVersion: int64(got.SetVersion),
		AckQuorum: int32(got.AckQuorum), CapacityBytes: got.CapacityBytes, Grant: got.Grant,
		Replicas:        s.endpoints(got.Replicas),
		LeaseTTLSeconds: wholeSeconds(got.LeaseTTL), RenewEverySeconds: got.RenewEvery.Seconds(), AfterClose: got.AfterClose,
	}, nil
}

// RenewLog implements openapi.StrictServerInterface.
func (s *Server) RenewLog(ctx context.Context, r openapi.RenewLogRequestObject) (openapi.RenewLogResponseObject, error) {
	got, err := s.store.Renew(ctx, writerRef(r.Log, r.Body))
	if err != nil {
		return nil, err
	}
	return openapi.RenewLog200JSONResponse{
		LeaseTTLSeconds: wholeSeconds(got.LeaseTTL), RenewEverySeconds: got.RenewEvery.Seconds(),
		SetVersion: int64(got.SetVersion), Replicas: s.endpoints(got.Replicas), Operators: operators(got.Steps),
		Grant: got.Grant,
	}, nil
}

// CloseLog implements openapi.StrictServerInterface.
func (s *Server) CloseLog(ctx context.Context, r openapi.CloseLogRequestObject) (openapi.CloseLogResponseObject, error) {
	if err := s.store.CloseLog(ctx, writerRef(r.Log, r.Body)); err != nil {
		return nil, err
	}
	return openapi.CloseLog204Response{}, nil
}

func writerRef(log string, b *openapi.WriterRequest) store.WriterRef {
	return store.WriterRef{Log: log, WriterID: b.WriterID, Epoch: uint64(b.Epoch), Nonce: b.Nonce, ClientKey: b.ClientKey}
}

// endpoints adds what people want to see of the daemons; the addresses are
// etcd's.
func (s *Server) endpoints(es []store.Endpoint) []openapi.Endpoint {
	view := s.store.View()
	out := make([]openapi.Endpoint, len(es))
	for i, e := range es {
		d, _ := view.Daemon(e.DaemonID)
		out[i] = openapi.Endpoint{
			ReplicaID: e.ReplicaID, DaemonID: e.DaemonID, State: openapi.ReplicaState(e.State),
			Replaces: e.Replaces, DaemonState: endpointState(e.Live, d.Draining), Media: openapi.Media(d.Media),
			TCPAddr: e.TCPAddr, TCPPort: int32(e.TCPPort), RNICAddr: e.RNICAddr, RNICPort: int32(e.RNICPort),
		}
	}
	return out
}

func endpointState(live, draining bool) openapi.DaemonState {
	switch {
	case !live:
		return openapi.DaemonDown
	case draining:
		return openapi.DaemonDraining
	}
	return openapi.DaemonUp
}
