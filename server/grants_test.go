package server_test

import (
	"strings"
	"testing"

	"github.com/gravenio/graven/grant"
	"github.com/gravenio/graven/openapi"
)

// Keys over the API: asking twice makes one, what signs can't be retired, and a
// grant says the key that was named.
func TestGrantKeys(t *testing.T) {
	t.Parallel()
	api := start(t, setup{}).api()
	ring := func(r *openapi.KeyRing, err error) *openapi.KeyRing {
		t.Helper()
		if err != nil || r == nil {
			t.Fatal(err)
		}
		return r
	}
	list, err := api.ListKeysWithResponse(t.Context())
	first := ring(list.JSON200, err)
	if len(first.Items) != 1 || first.Items[0].State != openapi.KeySigning || first.Waiting == nil {
		t.Fatalf("at first: %+v", first)
	}
	rotated, err := api.RotateKeysWithResponse(t.Context())
	now := ring(rotated.JSON200, err)
	if len(now.Items) != 2 || now.Items[1].State != openapi.KeySigning || now.Items[0].State != openapi.KeyVerifying {
		t.Fatalf("rotated without daemons: %+v", now)
	}
	if _, err := grant.ParseKeys(map[string]string{now.Items[1].KeyID: now.Items[1].PublicKey}); err != nil {
		t.Error(err)
	}
	for id, want := range map[string]openapi.ProblemType{
		now.Items[1].KeyID: openapi.ProblemKeyInUse,
		"0000000000000000": openapi.ProblemNotFound,
		"nokey":            openapi.ProblemInvalidRequest,
	} {
		r, err := api.RetireKeyWithResponse(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if err := openapi.Check(r); !openapi.IsProblem(err, want) {
			t.Errorf("retire %s: %v, want %s", id, err, want)
		}
	}
	retired, err := api.RetireKeyWithResponse(t.Context(), now.Items[0].KeyID)
	if r := ring(retired.JSON200, err); r.Items[0].State != openapi.KeyRetired || r.KeysVersion <= now.KeysVersion {
		t.Errorf("retired: %+v", r)
	}
	open, err := api.OpenLogWithResponse(t.Context(), "l", nil, openapi.OpenLogRequest{
		Writer: openapi.WriterInfo{Host: "h"}, ClientKey: strings.Repeat("AB", 32),
	})
	if err != nil || !openapi.IsProblem(openapi.Check(open), openapi.ProblemInvalidRequest) {
		t.Errorf("a client key in capitals: %v, %s", err, open.Body)
	}
	read, err := api.GrantReadWithResponse(t.Context(), "nobody", openapi.ReadGrantRequest{})
	if err != nil || !openapi.IsProblem(openapi.Check(read), openapi.ProblemNotFound) {
		t.Errorf("a grant to read what is not there: %v, %s", err, read.Body)
	}
}
