package server

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-chi/httprate"
	"github.com/gravenio/graven/identity"
)

// RateWindow is the time over which Options.RateLimit is counted.
const RateWindow = 10 * time.Second

// refusalsPerMinute bounds how often one address may be refused for who it is
// before it is told no more than to wait.
const refusalsPerMinute = 120

// rolesExtension is where the contract says who may call an operation.
const rolesExtension = "x-roles"

// anybody is the entry for an operation that needs no identity.
const anybody = "anybody"

// forbiddenError refuses a principal whose roles are others.
type forbiddenError struct {
	who   identity.Principal
	roles []identity.Role
}

func (e *forbiddenError) Error() string {
	names := make([]string, 0, len(e.roles)+1)
	for _, r := range e.roles {
		if r != identity.RoleAdmin {
			names = append(names, string(r))
		}
	}
	return fmt.Sprintf("%s may not do this: it takes the role %s", e.who, strings.Join(append(names, string(identity.RoleAdmin)), " or "))
}

// rateError refuses who asks too often.
type rateError struct{ key string }

func (e *rateError) Error() string { return e.key + " asks too often: wait, and ask less often" }

// readRoles makes the table of who may call what. It fails for an operation that
// does not say so.
func readRoles(doc *openapi3.T) (map[*openapi3.Operation][]identity.Role, error) {
	table := map[*openapi3.Operation][]identity.Role{}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			roles, err := rolesOf(op)
			if err != nil {
				return nil, fmt.Errorf("server: contract: %s %s: %w", method, path, err)
			}
			table[op] = roles
		}
	}
	return table, nil
}

// rolesOf is nil for an operation that anybody may call.
func rolesOf(op *openapi3.Operation) ([]identity.Role, error) {
	list, _ := op.Extensions[rolesExtension].([]any)
	if len(list) == 0 {
		return nil, errors.New("has no " + rolesExtension + ": list the roles that may call it, or anybody")
	}
	if len(list) == 1 && list[0] == anybody {
		return nil, nil
	}
	var roles []identity.Role
	for _, v := range list {
		name, _ := v.(string)
		role, err := identity.ParseRole(name)
		if err != nil {
			return nil, err
		}
		roles = append(roles, role)
	}
	return roles, nil
}

// limits count requests. A nil one limits nothing.
type limits struct {
	requests *httprate.RateLimiter // by principal, else by address
	refusals *httprate.RateLimiter // by address
}

func newLimits(perSecond int) limits {
	l := limits{refusals: httprate.NewRateLimiter(refusalsPerMinute, time.Minute)}
	if perSecond > 0 {
		l.requests = httprate.NewRateLimiter(perSecond*int(RateWindow/time.Second), RateWindow)
	}
	return l
}

// over counts the request.
func over(l *httprate.RateLimiter, w http.ResponseWriter, r *http.Request, key string) bool {
	return l != nil && l.OnLimit(w, r, key)
}

// admit lets through those whom the contract names, with the principal in the
// context. It comes after the route is known and before anything of the request
// is read.
func (s *Server) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := s.admitted(w, r)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(identity.With(r.Context(), p)))
	})
}

func (s *Server) admitted(w http.ResponseWriter, r *http.Request) (identity.Principal, error) {
	info := infoOf(r)
	address := "the address " + addressOf(r)
	p, err := s.mayCall(r)
	info.who = p
	if err != nil {
		if over(s.limits.refusals, w, r, address) {
			err = &rateError{address}
		}
		return p, err
	}
	key := address
	if p.Name != "" {
		key = p.String()
	}
	if over(s.limits.requests, w, r, key) {
		return p, &rateError{key}
	}
	info.stillMay = func() error {
		_, err := s.mayCall(r)
		return err
	}
	return p, nil
}

// mayCall says who sends the request, and whether the contract lets him.
func (s *Server) mayCall(r *http.Request) (identity.Principal, error) {
	roles := s.roles[infoOf(r).operation]
	if s.o.Identities == nil {
		return identity.Principal{Via: identity.ViaNothing}, nil
	}
	if roles == nil {
		return identity.Principal{}, nil
	}
	p, err := s.o.Identities.Identify(r.TLS, r.Header.Get("Authorization"))
	if err != nil {
		return identity.Principal{}, err
	}
	if !slices.ContainsFunc(roles, p.Is) {
		return p, &forbiddenError{p, roles}
	}
	return p, nil
}

// addressOf is the other end of the connection, never what a header claims. An
// IPv6 host has a whole /64 to come from.
func addressOf(r *http.Request) string {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	ip := at.Addr().Unmap().WithZone("")
	if ip.Is6() {
		if prefix, err := ip.Prefix(64); err == nil {
			return prefix.String()
		}
	}
	return ip.String()
}

// challenge says how to prove who one is, for a 401 (RFC 6750).
func challenge(err error) string {
	const scheme = `Bearer realm="graven"`
	switch {
	case errors.Is(err, identity.ErrTokenExpired):
		return scheme + `, error="invalid_token", error_description="expired"`
	case errors.Is(err, identity.ErrTokenInvalid):
		return scheme + `, error="invalid_token"`
	}
	return scheme
}
