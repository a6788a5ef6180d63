package server

import (
	"context"

	"github.com/gravenio/graven/identity"
	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/store"
)

// clientKey is the key that a grant is to name. One that the caller names goes
// before that of its connection: whoever may open the log may say which key of
// its own will write it, just as it could hand its grant on.
func clientKey(ctx context.Context, named string) string {
	if named != "" {
		return named
	}
	return identity.From(ctx).Key
}

// GrantRead implements openapi.StrictServerInterface.
func (s *Server) GrantRead(ctx context.Context, r openapi.GrantReadRequestObject) (openapi.GrantReadResponseObject, error) {
	got, err := s.store.GrantRead(ctx, r.Log, clientKey(ctx, r.Body.ClientKey))
	if err != nil {
		return nil, err
	}
	return openapi.GrantRead200JSONResponse{Grant: got.Grant, GoodSeconds: got.GoodFor.Seconds()}, nil
}

// ListKeys implements openapi.StrictServerInterface.
func (s *Server) ListKeys(ctx context.Context, _ openapi.ListKeysRequestObject) (openapi.ListKeysResponseObject, error) {
	got, err := s.store.KeyRing(ctx)
	if err != nil {
		return nil, err
	}
	return openapi.ListKeys200JSONResponse(keyRing(got)), nil
}

// RotateKeys implements openapi.StrictServerInterface.
func (s *Server) RotateKeys(ctx context.Context, _ openapi.RotateKeysRequestObject) (openapi.RotateKeysResponseObject, error) {
	got, err := s.store.RotateKeys(ctx)
	if err != nil {
		return nil, err
	}
	return openapi.RotateKeys200JSONResponse(keyRing(got)), nil
}

// RetireKey implements openapi.StrictServerInterface.
func (s *Server) RetireKey(ctx context.Context, r openapi.RetireKeyRequestObject) (openapi.RetireKeyResponseObject, error) {
	got, err := s.store.RetireKey(ctx, r.KeyID)
	if err != nil {
		return nil, err
	}
	return openapi.RetireKey200JSONResponse(keyRing(got)), nil
}

func keyRing(r *store.KeyRing) openapi.KeyRing {
	out := openapi.KeyRing{
		KeysVersion: int64(r.KeysVersion), Items: make([]openapi.GrantKey, len(r.Keys)), Waiting: convert[string](r.Waiting),
	}
	for i, k := range r.Keys {
		out.Items[i] = openapi.GrantKey{
			KeyID: k.KeyID, State: openapi.GrantKeyState(k.State), PublicKey: k.Public, CreatedAt: k.CreatedAt.UTC(),
		}
	}
	return out
}

func grantRules(r *store.GrantRules) openapi.GrantRules {
	return openapi.GrantRules{
		KeysVersion: int64(r.KeysVersion), Keys: r.Keys, Retired: r.Retired,
		Period: int64(r.Period), PeriodSeconds: r.PeriodLength.Seconds(),
	}
}
