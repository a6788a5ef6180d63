package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

// JWTOptions say which JSON Web Tokens are believed. Keys, Issuer and Audience
// are required.
type JWTOptions struct {
	// Keys is the file of the issuer's public keys, a JSON Web Key Set (RFC
	// 7517). It is read again when it changes.
	Keys string
	// Issuer and Audience must be those of the token ("iss", one of "aud").
	Issuer, Audience string
	// RolesClaim and GroupsClaim name the claims that list roles and groups;
	// graven_roles and graven_groups if empty.
	RolesClaim, GroupsClaim string
	// Leeway is how far the issuer's clock may be from this one; 1 minute if
	// zero, at most 10.
	Leeway time.Duration
}

const (
	defaultLeeway = time.Minute
	maxLeeway     = 10 * time.Minute
	maxJWTBytes   = 16 << 10
	minRSABits    = 2048
)

// jwtMethods is all that is ever accepted. Nothing symmetric is in it, so that
// nobody can sign with a public key, and not "none".
func jwtMethods() []string {
	return []string{
		jwt.SigningMethodEdDSA.Alg(), jwt.SigningMethodES256.Alg(), jwt.SigningMethodRS256.Alg(),
	}
}

func (o JWTOptions) withDefaults() JWTOptions {
	if o.RolesClaim == "" {
		o.RolesClaim = "graven_roles"
	}
	if o.GroupsClaim == "" {
		o.GroupsClaim = "graven_groups"
	}
	if o.Leeway == 0 {
		o.Leeway = defaultLeeway
	}
	return o
}

func (o JWTOptions) validate() error {
	switch {
	case o.Keys == "" || o.Issuer == "" || o.Audience == "":
		return errors.New("identity: JSON Web Tokens need the issuer's keys, its name (iss) and this cluster's (aud)")
	case o.Leeway < 0 || o.Leeway > maxLeeway:
		return fmt.Errorf("identity: a leeway of %v must be 0 to %v", o.Leeway, maxLeeway)
	}
	return nil
}

// JWTs verifies JSON Web Tokens. It is safe for concurrent use.
type JWTs struct {
	o      JWTOptions
	keys   *watched[[]jwtKey]
	parser *jwt.Parser
}

// jwtKey is a public key and the one algorithm that it is used with.
type jwtKey struct {
	id, alg string
	public  any
}

// LoadJWTs reads the file of keys. Nil for the log means slog.Default.
func LoadJWTs(o JWTOptions, log *slog.Logger) (*JWTs, error) {
	return loadJWTs(o, log, time.Now)
}

func loadJWTs(o JWTOptions, log *slog.Logger, now func() time.Time) (*JWTs, error) {
	if log == nil {
		log = slog.Default()
	}
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	keys, err := watch(o.Keys, log, parseKeys)
	if err != nil {
		return nil, err
	}
	return &JWTs{o: o, keys: keys, parser: jwt.NewParser(
		jwt.WithValidMethods(jwtMethods()), jwt.WithIssuer(o.Issuer), jwt.WithAudience(o.Audience),
		jwt.WithExpirationRequired(), jwt.WithLeeway(o.Leeway), jwt.WithTimeFunc(now), jwt.WithStrictDecoding(),
	)}, nil
}

// parseKeys wants public keys only, each of a kind that is accepted. Keys that
// are for encryption are somebody else's.
func parseKeys(text []byte) ([]jwtKey, error) {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("is no JSON Web Key Set: %w", err)
	}
	var keys []jwtKey
	for i, k := range set.Keys {
		if k.Use == "enc" {
			continue
		}
		alg, err := algOf(k.Key)
		if err != nil {
			return nil, fmt.Errorf("key %d (%.100q): %w", i+1, k.KeyID, err)
		}
		if k.Algorithm != "" && k.Algorithm != alg {
			return nil, fmt.Errorf("key %d (%.100q): is for %.20q, must be for %s", i+1, k.KeyID, k.Algorithm, alg)
		}
		keys = append(keys, jwtKey{k.KeyID, alg, k.Key})
	}
	if len(keys) == 0 {
		return nil, errors.New("holds no key that tokens could be signed with")
	}
	return keys, nil
}

func algOf(key any) (string, error) {
	switch k := key.(type) {
	case ed25519.PublicKey:
		return jwt.SigningMethodEdDSA.Alg(), nil
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return jwt.SigningMethodES256.Alg(), nil
		}
	case *rsa.PublicKey:
		if k.N.BitLen() >= minRSABits {
			return jwt.SigningMethodRS256.Alg(), nil
		}
	}
	return "", fmt.Errorf("must be a public key: Ed25519, ECDSA on P-256, or RSA of %d bits or more", minRSABits)
}

// find says whose token it is.
func (j *JWTs) find(token string) (Principal, error) {
	if len(token) > maxJWTBytes {
		return Principal{}, tokenInvalid(fmt.Sprintf("it is over %d bytes", maxJWTBytes))
	}
	claims := jwt.MapClaims{}
	if _, err := j.parser.ParseWithClaims(token, claims, j.key); err != nil {
		return Principal{}, refusal(err, claims)
	}
	return j.principal(claims)
}

// key is the one that must have signed the token. The token only chooses among
// ours; the algorithm is the key's.
func (j *JWTs) key(t *jwt.Token) (any, error) {
	id, _ := t.Header["kid"].(string)
	var fit []jwtKey
	for _, k := range j.keys.current() {
		if k.alg == t.Method.Alg() && (id == "" || k.id == id) {
			fit = append(fit, k)
		}
	}
	if len(fit) != 1 {
		return nil, fmt.Errorf("%d known keys fit its kid %.100q and alg %s, must be one", len(fit), id, t.Method.Alg())
	}
	return fit[0].public, nil
}

// refusal says what is wrong in our words; the library's texts are for
// programmers.
func refusal(err error, claims jwt.MapClaims) error {
	switch {
	case errors.Is(err, jwt.ErrTokenMalformed):
		return tokenInvalid("it is garbled: neither one that `graven token new` made nor a JSON Web Token")
	case errors.Is(err, jwt.ErrTokenUnverifiable):
		return tokenInvalid("this server has no key of its issuer that fits it")
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return tokenInvalid("its signature is not one of the issuer's keys, or its algorithm is none of EdDSA, ES256 and RS256")
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return tokenInvalid("another issuer made it (iss)")
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return tokenInvalid("it is for somebody else (aud)")
	case errors.Is(err, jwt.ErrTokenExpired):
		at, _ := claims.GetExpirationTime()
		if at == nil {
			return tokenInvalid("it does not say when it expires (exp)")
		}
		return tokenExpired(at.Time)
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return tokenInvalid("it is not valid yet (nbf): compare the clocks")
	}
	return tokenInvalid("its claims are not as they must be: it needs exp, iss, aud and sub")
}

func (j *JWTs) principal(claims jwt.MapClaims) (Principal, error) {
	sub, err := claims.GetSubject()
	if err != nil || CheckName(sub) != nil {
		return Principal{}, tokenInvalid(fmt.Sprintf("its subject (sub) can't name a principal: 1 to %d letters, digits and ._@:+|=-", MaxName))
	}
	e := Entry{Principal: Principal{Name: sub, Via: ViaJWT}}
	roles, err := list(claims, j.o.RolesClaim)
	if err != nil {
		return Principal{}, err
	}
	for _, r := range roles {
		e.Principal.Roles = append(e.Principal.Roles, Role(r))
	}
	if e.Principal.Groups, err = list(claims, j.o.GroupsClaim); err != nil {
		return Principal{}, err
	}
	if err := e.check(); err != nil {
		return Principal{}, tokenInvalid(fmt.Sprintf("roles (%s) or groups (%s): %v", j.o.RolesClaim, j.o.GroupsClaim, err))
	}
	return e.Principal, nil
}

// list reads a claim that is a list of strings, or one string.
func list(claims jwt.MapClaims, name string) ([]string, error) {
	switch v := claims[name].(type) {
	case nil:
		return nil, nil
	case string:
		return []string{v}, nil
	case []any:
		out := make([]string, len(v))
		for i, x := range v {
			s, ok := x.(string)
			if !ok {
				return nil, tokenInvalid("its claim " + name + " must be a list of strings")
			}
			out[i] = s
		}
		return out, nil
	}
	return nil, tokenInvalid("its claim " + name + " must be a list of strings")
}
