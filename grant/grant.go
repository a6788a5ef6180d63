package grant

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/golang-jwt/jwt/v5"
)

// Limits of a token.
const (
	// MaxTokenBytes bounds a token before anything of it is decoded.
	MaxTokenBytes = 8 << 10
	// MaxReplicas bounds the replicas of a grant; a replacement adds a learner
	// to each of up to seven.
	MaxReplicas = 14
	// NonceDigits is the length of a nonce.
	NonceDigits = 16
	// RightWrite allows fencing, reading and writing.
	RightWrite = "write"
	// RightRead allows reading what is there, without fencing.
	RightRead = "read"
)

// Verify's sentinels.
var (
	// ErrMalformed: the token is not a JWT of this form, or a claim is missing
	// or out of range.
	ErrMalformed = errors.New("grant: malformed")
	// ErrUnknownKey: none of the given keys has the token's key ID. The
	// verifier's keys may be out of date: register again.
	ErrUnknownKey = errors.New("grant: unknown key")
	// ErrSignature: the signature is wrong.
	ErrSignature = errors.New("grant: bad signature")
	// ErrAlgorithm: the token is signed with anything but EdDSA.
	ErrAlgorithm = errors.New("grant: algorithm is not EdDSA")
	// ErrExpired: the grant is too old for a first fence; see CheckFresh.
	ErrExpired = errors.New("grant: expired")
)

// Replica is one replica that the grant covers.
type Replica struct {
	ReplicaID string `json:"replica_id"`
	DaemonID  string `json:"daemon_id"`
	State     string `json:"state"`
}

// Claims is what a grant says.
type Claims struct {
	Cluster string `json:"cluster"`
	LogID   string `json:"log_id"`
	// Epoch and Nonce are the writer's term; a grant to read has none. Nonce is
	// NonceDigits lower-case hexadecimal digits.
	Epoch    uint64    `json:"epoch,omitempty"`
	Nonce    string    `json:"nonce,omitempty"`
	Replicas []Replica `json:"replicas"`
	Rights   string    `json:"rights"`
	// Period is the control plane's when the grant was made.
	Period uint64 `json:"period"`
	// ClientKey is the key that the bearer must prove, as the function ClientKey
	// returns it; "" where nobody named one.
	ClientKey string `json:"client_key,omitempty"`
}

// Replica returns the covered replica of this ID.
func (c Claims) Replica(replicaID string) (Replica, bool) {
	for _, r := range c.Replicas {
		if r.ReplicaID == replicaID {
			return r, true
		}
	}
	return Replica{}, false
}

// Check returns an error that wraps ErrMalformed if a claim is missing or out
// of range.
func (c Claims) Check() error {
	bad := func(field, rule string) error {
		return fmt.Errorf("%w: %s: %s", ErrMalformed, field, rule)
	}
	switch {
	case c.Cluster == "":
		return bad("cluster", "missing")
	case c.LogID == "":
		return bad("log_id", "missing")
	case c.Rights != RightWrite && c.Rights != RightRead:
		return bad("rights", "must be "+RightWrite+" or "+RightRead)
	case c.Rights == RightWrite && c.Epoch == 0:
		return bad("epoch", "must be at least 1")
	case c.Rights == RightWrite && !isHex(c.Nonce, NonceDigits):
		return bad("nonce", "must be 16 lower-case hexadecimal digits")
	case c.Rights == RightRead && (c.Epoch != 0 || c.Nonce != ""):
		return bad("epoch", "a grant to read has no term")
	case c.ClientKey != "" && !IsClientKey(c.ClientKey):
		return bad("client_key", "must be 64 lower-case hexadecimal digits")
	case len(c.Replicas) == 0 || len(c.Replicas) > MaxReplicas:
		return bad("replicas", fmt.Sprintf("must be 1 to %d", MaxReplicas))
	}
	for _, r := range c.Replicas {
		if r.ReplicaID == "" || r.DaemonID == "" || r.State == "" {
			return bad("replicas", "each needs replica_id, daemon_id and state")
		}
	}
	return nil
}

// Key is a signing key.
type Key struct {
	id      string
	private ed25519.PrivateKey
}

// NewKey makes the key of a seed of ed25519.SeedSize bytes.
func NewKey(seed []byte) (Key, error) {
	if len(seed) != ed25519.SeedSize {
		return Key{}, fmt.Errorf("grant: seed must have %d bytes, not %d", ed25519.SeedSize, len(seed))
	}
	private := ed25519.NewKeyFromSeed(seed)
	return Key{id: keyID(private.Public().(ed25519.PublicKey)), private: private}, nil
}

// ID is the key's ID.
func (k Key) ID() string { return k.id }

// Public is the public key in standard base64.
func (k Key) Public() string {
	return EncodeKey(k.private.Public().(ed25519.PublicKey))
}

// EncodeKey is a public key in standard base64, as ParseKeys reads it.
func EncodeKey(public ed25519.PublicKey) string { return base64.StdEncoding.EncodeToString(public) }

func keyID(public ed25519.PublicKey) string {
	sum := sha256.Sum256(public)
	return hex.EncodeToString(sum[:8])
}

// Keys are the public keys by key ID.
type Keys map[string]ed25519.PublicKey

// ParseKeys decodes base64 public keys by key ID, as a registration's answer
// carries them. A key whose ID is not its own is refused.
func ParseKeys(encoded map[string]string) (Keys, error) {
	keys := make(Keys, len(encoded))
	for id, text := range encoded {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(raw) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("grant: key %q is not the base64 of %d bytes", id, ed25519.PublicKeySize)
		}
		if public := ed25519.PublicKey(raw); keyID(public) != id {
			return nil, fmt.Errorf("grant: key %q has the ID %s", id, keyID(public))
		}
		keys[id] = raw
	}
	return keys, nil
}

// Encode returns the keys in base64 by key ID, as ParseKeys reads them.
func (k Keys) Encode() map[string]string {
	out := make(map[string]string, len(k))
	for id, public := range k {
		out[id] = EncodeKey(public)
	}
	return out
}

// Sign returns the token for the claims.
func Sign(k Key, c Claims) (string, error) {
	if err := c.Check(); err != nil {
		return "", err
	}
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, tokenClaims{Claims: c})
	t.Header["kid"] = k.id
	token, err := t.SignedString(k.private)
	if err != nil {
		return "", fmt.Errorf("grant: sign: %w", err)
	}
	if len(token) > MaxTokenBytes {
		return "", fmt.Errorf("%w: token of %d bytes, at most %d", ErrMalformed, len(token), MaxTokenBytes)
	}
	return token, nil
}

// Verify returns the claims of a token that one of the keys has signed. The
// error wraps ErrMalformed, ErrAlgorithm, ErrUnknownKey or ErrSignature.
func Verify(token string, keys Keys) (Claims, error) {
	if len(token) > MaxTokenBytes {
		return Claims{}, fmt.Errorf("%w: token of %d bytes, at most %d", ErrMalformed, len(token), MaxTokenBytes)
	}
	var c tokenClaims
	t, err := parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		id, _ := t.Header["kid"].(string)
		if public, ok := keys[id]; ok {
			return public, nil
		}
		return nil, fmt.Errorf("%w: %q", ErrUnknownKey, id)
	})
	switch {
	case err == nil:
	case errors.Is(err, ErrUnknownKey):
		return Claims{}, err
	case errors.Is(err, jwt.ErrTokenMalformed):
		return Claims{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	case t != nil && t.Header["alg"] != jwt.SigningMethodEdDSA.Alg():
		return Claims{}, fmt.Errorf("%w: %.40q", ErrAlgorithm, t.Header["alg"])
	default:
		return Claims{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if err := c.Check(); err != nil {
		return Claims{}, err
	}
	return c.Claims, nil
}

// parser is read-only once made.
var parser = jwt.NewParser(
	jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}),
	jwt.WithoutClaimsValidation(),
	jwt.WithStrictDecoding(),
)

// tokenClaims satisfies jwt.Claims; none of the registered claims is used.
type tokenClaims struct{ Claims }

func (tokenClaims) GetExpirationTime() (*jwt.NumericDate, error) { return nil, nil }
func (tokenClaims) GetIssuedAt() (*jwt.NumericDate, error)       { return nil, nil }
func (tokenClaims) GetNotBefore() (*jwt.NumericDate, error)      { return nil, nil }
func (tokenClaims) GetIssuer() (string, error)                   { return "", nil }
func (tokenClaims) GetSubject() (string, error)                  { return "", nil }
func (tokenClaims) GetAudience() (jwt.ClaimStrings, error)       { return nil, nil }
