package grant

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

func key(t testing.TB, b byte) Key {
	t.Helper()
	k, err := NewKey(bytes.Repeat([]byte{b}, ed25519.SeedSize))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func keysOf(t testing.TB, ks ...Key) Keys {
	t.Helper()
	m := map[string]string{}
	for _, k := range ks {
		m[k.ID()] = k.Public()
	}
	keys, err := ParseKeys(m)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func claims() Claims {
	return Claims{
		Cluster: "c", LogID: "l", Epoch: 1<<53 - 1, Nonce: "00ff00ff00ff00ff", Rights: RightWrite,
		Replicas: []Replica{{"r1", "d1", "present"}, {"r2", "d2", "allocated"}},
	}
}

func TestSignedClaimsComeBack(t *testing.T) {
	t.Parallel()
	k := key(t, 1)
	token, err := Sign(k, claims())
	if err != nil {
		t.Fatal(err)
	}
	got, err := Verify(token, keysOf(t, key(t, 2), k))
	if err != nil || !reflect.DeepEqual(got, claims()) {
		t.Fatalf("Verify = %+v, %v", got, err)
	}
	if r, ok := got.Replica("r2"); !ok || r.DaemonID != "d2" {
		t.Errorf("Replica(r2) = %+v, %v", r, ok)
	}
	if _, ok := got.Replica("r3"); ok {
		t.Error("a replica that the grant does not name was found")
	}
}

func TestForgeriesAreRefused(t *testing.T) {
	t.Parallel()
	k, other := key(t, 1), key(t, 2)
	good, err := Sign(k, claims())
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")
	b64 := base64.RawURLEncoding.EncodeToString
	custom := func(m jwt.SigningMethod, secret any, c jwt.Claims, kid any) string {
		tok := jwt.NewWithClaims(m, c)
		tok.Header["kid"] = kid
		s, err := tok.SignedString(secret)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	broken := claims()
	broken.Epoch = 0
	public, _ := base64.StdEncoding.DecodeString(k.Public())

	for _, tc := range []struct {
		name, token string
		want        error
	}{
		{"empty", "", ErrMalformed},
		{"not a token", "hello", ErrMalformed},
		{"too long", strings.Repeat("a", MaxTokenBytes+1), ErrMalformed},
		{"claims that are not JSON", parts[0] + "." + b64([]byte("{")) + "." + parts[2], ErrMalformed},
		{"claims changed", parts[0] + "." + b64([]byte(`{"epoch":9}`)) + "." + parts[2], ErrSignature},
		{"signature cut", good[:len(good)-10], ErrSignature},
		{"another cluster's key", custom(jwt.SigningMethodEdDSA, other.private, tokenClaims{claims()}, other.ID()), ErrUnknownKey},
		{"another key under a known ID", custom(jwt.SigningMethodEdDSA, other.private, tokenClaims{claims()}, k.ID()), ErrSignature},
		{"no key ID", custom(jwt.SigningMethodEdDSA, k.private, tokenClaims{claims()}, nil), ErrUnknownKey},
		{"public key as HMAC secret", custom(jwt.SigningMethodHS256, public, tokenClaims{claims()}, k.ID()), ErrAlgorithm},
		{"algorithm none", custom(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, tokenClaims{claims()}, k.ID()), ErrAlgorithm},
		{"signed but incomplete", custom(jwt.SigningMethodEdDSA, k.private, tokenClaims{broken}, k.ID()), ErrMalformed},
	} {
		if _, err := Verify(tc.token, keysOf(t, k)); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
}

func TestIncompleteClaimsAreNotSigned(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*Claims){
		"cluster":         func(c *Claims) { c.Cluster = "" },
		"log_id":          func(c *Claims) { c.LogID = "" },
		"epoch":           func(c *Claims) { c.Epoch = 0 },
		"nonce":           func(c *Claims) { c.Nonce = "00FF00FF00FF00FF" },
		"nonce too short": func(c *Claims) { c.Nonce = "00" },
		"no replicas":     func(c *Claims) { c.Replicas = nil },
		"replica":         func(c *Claims) { c.Replicas[1].DaemonID = "" },
		"rights":          func(c *Claims) { c.Rights = "admin" },
	} {
		c := claims()
		spoil(&c)
		if _, err := Sign(key(t, 1), c); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
}

func TestBadKeysAreRefused(t *testing.T) {
	t.Parallel()
	if _, err := NewKey([]byte("short")); err == nil {
		t.Error("a short seed made a key")
	}
	for name, m := range map[string]map[string]string{
		"not base64": {"a": "!"},
		"short":      {"a": "YWJj"},
		"other ID":   {key(t, 2).ID(): key(t, 1).Public()},
	} {
		if _, err := ParseKeys(m); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// FuzzVerify: whatever comes in, no panic, and nothing but the signed token
// itself is accepted.
func FuzzVerify(f *testing.F) {
	k := key(f, 1)
	good, err := Sign(k, claims())
	if err != nil {
		f.Fatal(err)
	}
	keys := keysOf(f, k)
	for _, seed := range []string{good, "", "a.b.c", "..", good + ".", good[:40], strings.ToUpper(good)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		if _, err := Verify(token, keys); err == nil && token != good {
			t.Fatalf("accepted a token that was never signed: %q", token)
		}
	})
}
