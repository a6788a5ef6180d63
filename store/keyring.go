package store

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/gravenio/graven/grant"
)

// ringSchema is the version that a ring carries. Schema 1 had one key, its seed,
// and is carried over when the keys change first.
const ringSchema = 2

// MaxKeys bounds the keys of a ring. A key that was retired leaves it when a new
// one needs the place, the oldest first.
const MaxKeys = 16

// KeyState is the place of a key in its life.
type KeyState string

// The states of a key, in their order. Only the signing key and a published one
// have their private half in etcd.
const (
	KeyPublished KeyState = "published" // daemons are learning it
	KeySigning   KeyState = "signing"
	KeyVerifying KeyState = "verifying" // grants that it has signed are good
	KeyRetired   KeyState = "retired"   // good for reconnecting only
)

// keyRing is all that grants are signed and verified with: one value, so that
// every change of it is one comparison. There is exactly one signing key.
type keyRing struct {
	version
	KeysVersion uint64    `json:"keys_version"`
	Keys        []ringKey `json:"keys"` // the newest last
}

type ringKey struct {
	ID        string            `json:"id"`
	State     KeyState          `json:"state"`
	Seed      []byte            `json:"seed,omitempty"`
	Public    ed25519.PublicKey `json:"public"`
	CreatedAt time.Time         `json:"created_at,omitzero"`
	// Since is the version of the ring that published it.
	Since uint64 `json:"since"`
}

func freshKey(state KeyState, since uint64) ringKey {
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed) // never fails
	k, err := keyOf(seed)
	if err != nil {
		panic(err) // the seed has the right length
	}
	k.State, k.Since, k.CreatedAt = state, since, time.Now().UTC()
	return k
}

func keyOf(seed []byte) (ringKey, error) {
	k, err := grant.NewKey(seed)
	if err != nil {
		return ringKey{}, err
	}
	return ringKey{ID: k.ID(), Seed: seed, Public: ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)}, nil
}

func freshRing() keyRing {
	return keyRing{version: version{ringSchema}, KeysVersion: 1, Keys: []ringKey{freshKey(KeySigning, 1)}}
}

// decodeRing reads a ring, or the single key of schema 1.
func decodeRing(key string, value []byte) (keyRing, error) {
	var v version
	if err := json.Unmarshal(value, &v); err != nil {
		return keyRing{}, fmt.Errorf("store: value of %s: %w", key, err)
	}
	if v.V != ringSchema {
		old, err := decode[keyRecord](key, value) // and refuses any other version
		if err != nil {
			return keyRing{}, err
		}
		k, err := keyOf(old.Seed)
		if err != nil {
			return keyRing{}, fmt.Errorf("store: value of %s: %w", key, err)
		}
		k.State, k.Since = KeySigning, 1
		return keyRing{version: version{ringSchema}, KeysVersion: 1, Keys: []ringKey{k}}, nil
	}
	var r keyRing
	if err := json.Unmarshal(value, &r); err != nil {
		return r, fmt.Errorf("store: value of %s: %w", key, err)
	}
	if err := r.check(); err != nil {
		return r, fmt.Errorf("store: value of %s: %w", key, err)
	}
	return r, nil
}

func (r *keyRing) check() error {
	signing := 0
	for _, k := range r.Keys {
		if len(k.Public) != ed25519.PublicKeySize {
			return fmt.Errorf("key %s has a public key of %d bytes, not %d", clip(k.ID), len(k.Public), ed25519.PublicKeySize)
		}
		if k.State == KeySigning {
			signing++
		}
	}
	if signing != 1 {
		return fmt.Errorf("%d keys sign, there must be one", signing)
	}
	return nil
}

// signer is the key that grants are signed with.
func (r *keyRing) signer() (grant.Key, error) {
	k := r.in(KeySigning)
	if k == nil {
		return grant.Key{}, fmt.Errorf("%w: the grant keys are not known yet", ErrUnavailable)
	}
	return grant.NewKey(k.Seed)
}

// in is the newest key in a state, or nil.
func (r *keyRing) in(s KeyState) *ringKey {
	for i := len(r.Keys) - 1; i >= 0; i-- {
		if r.Keys[i].State == s {
			return &r.Keys[i]
		}
	}
	return nil
}

func (r *keyRing) find(id string) *ringKey {
	for i := range r.Keys {
		if r.Keys[i].ID == id {
			return &r.Keys[i]
		}
	}
	return nil
}

// clone is a copy whose keys may be changed.
func (r *keyRing) clone() keyRing {
	c := *r
	c.version, c.Keys = version{ringSchema}, slices.Clone(r.Keys)
	return c
}

// publish adds a key that is to sign. An etcd that was set back counts its
// versions anew, far above those that daemons may have heard of.
func (r *keyRing) publish(life uint64) error {
	if len(r.Keys) >= MaxKeys {
		i := slices.IndexFunc(r.Keys, func(k ringKey) bool { return k.State == KeyRetired })
		if i < 0 {
			return &KeyError{KeyID: r.Keys[0].ID, Detail: fmt.Sprintf("there are %d keys, no more are kept; retire old ones first", len(r.Keys))}
		}
		r.Keys = slices.Delete(r.Keys, i, i+1)
	}
	r.advance(life)
	r.Keys = append(r.Keys, freshKey(KeyPublished, r.KeysVersion))
	return nil
}

// promote lets the published key sign. The one before forgets its private half.
func (r *keyRing) promote(life uint64) {
	old, next := r.in(KeySigning), r.in(KeyPublished)
	old.State, old.Seed = KeyVerifying, nil
	next.State = KeySigning
	r.advance(life)
}

// retire reports whether that has changed anything.
func (r *keyRing) retire(id string, life uint64) (changed bool, err error) {
	switch k := r.find(id); {
	case k == nil:
		return false, fmt.Errorf("key %s: %w", clip(id), ErrNotFound)
	case k.State == KeyRetired:
		return false, nil
	case k.State != KeyVerifying:
		return false, &KeyError{KeyID: id, Detail: "it is " + string(k.State) + "; rotate, and retire it once another one signs"}
	default:
		k.State = KeyRetired
	}
	r.advance(life)
	return true, nil
}

func (r *keyRing) advance(life uint64) {
	r.KeysVersion = max(r.KeysVersion+1, life<<lifeShift)
}

// public are the keys that grants are verified with, and those that are good for
// reconnecting only, key ID to base64.
func (r *keyRing) public() (keys, retired map[string]string) {
	keys, retired = map[string]string{}, map[string]string{}
	for _, k := range r.Keys {
		to := keys
		if k.State == KeyRetired {
			to = retired
		}
		to[k.ID] = grant.EncodeKey(k.Public)
	}
	return keys, retired
}
