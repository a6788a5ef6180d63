package identity

import (
	"context"
	"testing"
)

func TestIs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		p    Principal
		role Role
		want bool
	}{
		{Principal{}, RoleViewer, false},
		{Principal{Via: ViaNothing}, RoleAdmin, true},
		{Principal{Via: ViaToken, Roles: []Role{RoleClient}}, RoleClient, true},
		{Principal{Via: ViaToken, Roles: []Role{RoleClient}}, RoleDaemon, false},
		{Principal{Via: ViaToken, Roles: []Role{RoleAdmin}}, RoleDaemon, true},
	} {
		if got := c.p.Is(c.role); got != c.want {
			t.Errorf("%s is %s: %v, want %v", c.p, c.role, got, c.want)
		}
		if got := From(With(context.Background(), c.p)); got.String() != c.p.String() {
			t.Errorf("from the context comes %s, want %s", got, c.p)
		}
	}
	if From(context.Background()).Is(RoleViewer) {
		t.Error("without a principal there are rights")
	}
}
