package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

// issuer signs tokens as an identity provider does.
type issuer struct {
	t   *testing.T
	set jose.JSONWebKeySet
}

func (i *issuer) add(id string, key crypto.Signer) {
	i.set.Keys = append(i.set.Keys, jose.JSONWebKey{Key: key.Public(), KeyID: id, Use: "sig"})
}

func (i *issuer) json() string {
	i.t.Helper()
	b, err := json.Marshal(i.set)
	if err != nil {
		i.t.Fatal(err)
	}
	return string(b)
}

func ed25519Key(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func ecdsaKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func rsaKey(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func signJWT(t *testing.T, method jwt.SigningMethod, id string, key any, claims jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	if id != "" {
		token.Header["kid"] = id
	}
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func goodClaims(now time.Time, change func(jwt.MapClaims)) jwt.MapClaims {
	c := jwt.MapClaims{
		"iss": "https://idp.example", "aud": []string{"graven", "other"}, "sub": "auth0|alice",
		"exp": now.Add(time.Hour).Unix(), "nbf": now.Unix(), "iat": now.Unix(),
		"graven_roles": []string{"client"}, "graven_groups": []string{"team"},
	}
	if change != nil {
		change(c)
	}
	return c
}

func set(name string, value any) func(jwt.MapClaims) {
	return func(c jwt.MapClaims) {
		if value == nil {
			delete(c, name)
			return
		}
		c[name] = value
	}
}

func TestJWTs(t *testing.T) {
	t.Parallel()
	is := &issuer{t: t}
	ed, ec, rs, foreign := ed25519Key(t), ecdsaKey(t, elliptic.P256()), rsaKey(t, 2048), ed25519Key(t)
	is.add("ed", ed)
	is.add("ec", ec)
	is.add("rs", rs)
	path := filepath.Join(t.TempDir(), "keys.json")
	writeFile(t, path, is.json())
	now := time.Now()
	jwts, err := loadJWTs(JWTOptions{Keys: path, Issuer: "https://idp.example", Audience: "graven"}, nil, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	rsPublic, err := x509.MarshalPKIXPublicKey(rs.Public())
	if err != nil {
		t.Fatal(err)
	}
	sign := func(change func(jwt.MapClaims)) string {
		return signJWT(t, jwt.SigningMethodEdDSA, "ed", ed, goodClaims(now, change))
	}
	good := sign(nil)
	for name, c := range map[string]struct {
		token string
		err   error
		want  string
	}{
		"EdDSA":               {good, nil, ""},
		"ES256":               {signJWT(t, jwt.SigningMethodES256, "ec", ec, goodClaims(now, nil)), nil, ""},
		"RS256":               {signJWT(t, jwt.SigningMethodRS256, "rs", rs, goodClaims(now, nil)), nil, ""},
		"no kid, one fits":    {signJWT(t, jwt.SigningMethodES256, "", ec, goodClaims(now, nil)), nil, ""},
		"expired a bit":       {sign(set("exp", now.Add(-30*time.Second).Unix())), nil, ""},
		"a little early":      {sign(set("nbf", now.Add(30*time.Second).Unix())), nil, ""},
		"role as a string":    {sign(set("graven_roles", "client")), nil, ""},
		"expired":             {sign(set("exp", now.Add(-2*time.Minute).Unix())), ErrTokenExpired, "expired on"},
		"no expiry":           {sign(set("exp", nil)), ErrTokenInvalid, "exp"},
		"not yet":             {sign(set("nbf", now.Add(2*time.Minute).Unix())), ErrTokenInvalid, "nbf"},
		"another issuer":      {sign(set("iss", "https://evil.example")), ErrTokenInvalid, "iss"},
		"no issuer":           {sign(set("iss", nil)), ErrTokenInvalid, ""},
		"another's audience":  {sign(set("aud", "other")), ErrTokenInvalid, "aud"},
		"no audience":         {sign(set("aud", nil)), ErrTokenInvalid, ""},
		"no subject":          {sign(set("sub", nil)), ErrTokenInvalid, "sub"},
		"bad subject":         {sign(set("sub", "a b")), ErrTokenInvalid, "sub"},
		"no roles":            {sign(set("graven_roles", nil)), ErrTokenInvalid, "roles"},
		"unknown role":        {sign(set("graven_roles", []string{"root"})), ErrTokenInvalid, "root"},
		"roles of numbers":    {sign(set("graven_roles", []int{1})), ErrTokenInvalid, "list of strings"},
		"groups of an object": {sign(set("graven_groups", map[string]int{})), ErrTokenInvalid, "list of strings"},
		"foreign key":         {signJWT(t, jwt.SigningMethodEdDSA, "ed", foreign, goodClaims(now, nil)), ErrTokenInvalid, "signature"},
		"unknown kid":         {signJWT(t, jwt.SigningMethodEdDSA, "x", foreign, goodClaims(now, nil)), ErrTokenInvalid, "no key"},
		"alg none":            {signJWT(t, jwt.SigningMethodNone, "ed", jwt.UnsafeAllowNoneSignatureType, goodClaims(now, nil)), ErrTokenInvalid, "algorithm"},
		"HMAC by a public key": {
			signJWT(t, jwt.SigningMethodHS256, "rs", rsPublic, goodClaims(now, nil)), ErrTokenInvalid, "algorithm",
		},
		"RS512, same key":         {signJWT(t, jwt.SigningMethodRS512, "rs", rs, goodClaims(now, nil)), ErrTokenInvalid, "algorithm"},
		"kid of another's alg":    {signJWT(t, jwt.SigningMethodES256, "ed", ec, goodClaims(now, nil)), ErrTokenInvalid, "no key"},
		"garbled":                 {"a.b.c", ErrTokenInvalid, "garbled"},
		"changed":                 {good[:len(good)-4] + "AAAA", ErrTokenInvalid, "signature"},
		"too large":               {good + strings.Repeat("a", maxJWTBytes), ErrTokenInvalid, "over"},
		"claims that are no ones": {good[:strings.Index(good, ".")] + ".W10." + good[strings.LastIndex(good, ".")+1:], ErrTokenInvalid, "garbled"},
	} {
		p, err := jwts.find(c.token)
		if !errors.Is(err, c.err) || (err != nil && !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %v with %q", name, err, c.err, c.want)
		}
		if err == nil && (p.Name != "auth0|alice" || p.Via != ViaJWT || !p.Is(RoleClient) || p.Is(RoleAdmin) || p.Groups[0] != "team") {
			t.Errorf("%s: got %+v", name, p)
		}
		if err != nil && (strings.Contains(err.Error(), c.token) || p.Name != "" || p.Via != "") {
			t.Errorf("%s: the error %v repeats the token, or there is a principal with it: %+v", name, err, p)
		}
	}

	is.set.Keys = is.set.Keys[1:]
	writeFile(t, path, is.json())
	if _, err := jwts.find(good); !errors.Is(err, ErrTokenInvalid) {
		t.Errorf("with its key taken out: %v", err)
	}
}

func TestParseKeysRefuses(t *testing.T) {
	t.Parallel()
	key := func(k any, alg string) string {
		b, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: k, KeyID: "k", Algorithm: alg}}})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	private := ed25519Key(t)
	for name, c := range map[string]struct{ text, want string }{
		"no JSON":          {"x", "is no JSON Web Key Set"},
		"no keys":          {`{"keys":[]}`, "holds no key"},
		"a shared secret":  {key([]byte("secret"), ""), "must be a public key"},
		"a private key":    {key(private, ""), "must be a public key"},
		"P-384":            {key(ecdsaKey(t, elliptic.P384()).Public(), ""), "must be a public key"},
		"RSA of 1024 bits": {`{"keys":[{"kty":"RSA","n":"` + strings.Repeat("z", 171) + `","e":"AQAB"}]}`, "must be a public key"},
		"another alg":      {key(private.Public(), "HS256"), "must be for EdDSA"},
	} {
		if _, err := parseKeys([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
	for name, o := range map[string]JWTOptions{
		"no issuer":     {Keys: "x", Audience: "a"},
		"no audience":   {Keys: "x", Issuer: "i"},
		"missing file":  {Keys: filepath.Join(t.TempDir(), "x"), Issuer: "i", Audience: "a"},
		"a long leeway": {Keys: "x", Issuer: "i", Audience: "a", Leeway: time.Hour},
	} {
		if _, err := LoadJWTs(o, nil); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
}

// No bytes make a principal but those that were signed.
func FuzzJWT(f *testing.F) {
	path := filepath.Join(f.TempDir(), "keys.json")
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.")
	f.Fuzz(func(t *testing.T, token string) {
		is := &issuer{t: t}
		is.add("ed", ed25519Key(t))
		writeFile(t, path, is.json())
		jwts, err := LoadJWTs(JWTOptions{Keys: path, Issuer: "i", Audience: "a"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if p, err := jwts.find(token); !errors.Is(err, ErrTokenInvalid) || p.Name != "" {
			t.Fatalf("%q: %v, %v", token, p, err)
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"a"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AAAA"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := parseKeys(text)
		if err != nil {
			return
		}
		for _, k := range keys {
			if alg, err := algOf(k.public); err != nil || alg != k.alg {
				t.Fatalf("took %T for %s: %v", k.public, k.alg, err)
			}
		}
	})
}
