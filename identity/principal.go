package identity

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Role is what a principal is for. The contract says which roles may call an
// operation.
type Role string

// The roles. An admin may do whatever any other may.
const (
	RoleViewer Role = "viewer" // reads everything, changes nothing
	RoleClient Role = "client" // makes logs and writes its own
	RoleDaemon Role = "daemon" // registers and renews one daemon
	RoleAdmin  Role = "admin"
)

// Via says how a principal proved who it is.
type Via string

// The ways. Nobody proved anything where a server runs without identities: then
// everybody is an admin, and the records say so.
const (
	ViaNothing     Via = "none"
	ViaCertificate Via = "certificate"
	ViaToken       Via = "token"
	ViaJWT         Via = "jwt"
)

// Principal is who makes a request.
type Principal struct {
	Name   string   // a certificate's name, a token's, or a JWT's subject; "" if nobody was asked
	Roles  []Role   // at least one, unless nobody was asked
	Groups []string // who shares the logs that it makes
	Via    Via
	// Key is the SHA-256 of the public key (SubjectPublicKeyInfo, DER) that the
	// principal's TLS connection proved, in lower-case hex; "" without one.
	Key string
}

// Is says whether the principal has the role, or is an admin.
func (p Principal) Is(role Role) bool {
	return p.Via == ViaNothing || slices.Contains(p.Roles, role) || slices.Contains(p.Roles, RoleAdmin)
}

type principalKey struct{}

// With returns a context that carries the principal.
func With(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// From returns the context's principal; without one, the zero value, which has
// no rights. A server that asks nobody says so with ViaNothing.
func From(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}

// String is for logs and error texts: name and roles.
func (p Principal) String() string {
	if p.Via == ViaNothing {
		return "anybody"
	}
	if p.Name == "" {
		return "nobody"
	}
	return fmt.Sprintf("%q (%s)", p.Name, strings.Join(texts(p.Roles), ", "))
}

// In is From, and whether there is a principal at all. Where there is none, the
// program acts by itself.
func In(ctx context.Context) (Principal, bool) {
	p, ok := ctx.Value(principalKey{}).(Principal)
	return p, ok
}
