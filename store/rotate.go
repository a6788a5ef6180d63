package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Key is one of the keys that daemons know; its private half stays here.
type Key struct {
	KeyID     string
	State     KeyState
	Public    string // base64
	CreatedAt time.Time
}

// KeyRing is what grants are signed and verified with.
type KeyRing struct {
	KeysVersion uint64
	Keys        []Key // the newest last
	// Waiting are the live daemons that have not told yet that they keep the
	// published key; empty without one.
	Waiting []string
}

// KeyRing reads the keys.
//
// Errors: ErrUnavailable.
func (s *Store) KeyRing(ctx context.Context) (*KeyRing, error) {
	ctx, cancel := s.call(ctx)
	defer cancel()
	r, err := s.readRing(ctx)
	if err != nil {
		return nil, err
	}
	return s.describe(ctx, r)
}

// ringEntry is the ring as etcd has it.
type ringEntry struct {
	keyRing
	entry entry
	rev   int64
}

func (s *Store) readRing(ctx context.Context) (*ringEntry, error) {
	es, rev, err := s.read(ctx, keyGrantKey)
	if err != nil {
		return nil, err
	}
	if !es[0].exists() {
		return nil, fmt.Errorf("%w: the grant keys are not known yet", ErrUnavailable)
	}
	ring, err := decodeRing(es[0].key, es[0].value)
	return &ringEntry{ring, es[0], rev}, err
}

func (s *Store) describe(ctx context.Context, r *ringEntry) (*KeyRing, error) {
	if err := s.view.WaitRevision(ctx, r.rev); err != nil {
		return nil, err
	}
	out := &KeyRing{KeysVersion: r.KeysVersion}
	keys, retired := r.public()
	for _, k := range r.Keys {
		public := keys[k.ID]
		if k.State == KeyRetired {
			public = retired[k.ID]
		}
		out.Keys = append(out.Keys, Key{KeyID: k.ID, State: k.State, Public: public, CreatedAt: k.CreatedAt})
	}
	if p := r.in(KeyPublished); p != nil {
		out.Waiting, _ = s.view.withoutKeys(p.Since)
	}
	return out, nil
}

// withoutKeys are the live daemons that have not told that they keep the ring of
// this version or a later one, and the revision that this was seen at.
func (v *View) withoutKeys(keysVersion uint64) ([]string, int64) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var ids []string
	for id, d := range v.t.daemons {
		if d.live != nil && d.live.rec.KeysVersion < keysVersion {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, v.revision
}

// RotateKeys publishes a new key, unless one is published already, and lets it
// sign if every live daemon has told that it keeps it. Otherwise the heartbeat of
// the last of them does: no clock decides how long that takes.
//
// Errors: ErrKeyInUse (there are MaxKeys of them and none is retired),
// ErrConflict (retry), ErrUnavailable.
func (s *Store) RotateKeys(ctx context.Context) (*KeyRing, error) {
	ctx, cancel := s.call(ctx)
	defer cancel()
	if err := s.changeRing(ctx, func(r *keyRing, life uint64) (bool, error) {
		if r.in(KeyPublished) != nil {
			return false, nil
		}
		return true, r.publish(life)
	}); err != nil {
		return nil, err
	}
	if err := s.promoteKey(ctx); err != nil && !errors.Is(err, ErrConflict) {
		return nil, err
	}
	r, err := s.readRing(ctx)
	if err != nil {
		return nil, err
	}
	return s.describe(ctx, r)
}

// RetireKey makes a key that has signed one that is good for reconnecting only.
//
// Errors: ErrNotFound, ErrKeyInUse as a KeyError (it signs, or is to), ErrConflict
// (retry), ErrUnavailable.
func (s *Store) RetireKey(ctx context.Context, id string) (*KeyRing, error) {
	ctx, cancel := s.call(ctx)
	defer cancel()
	if err := s.changeRing(ctx, func(r *keyRing, life uint64) (bool, error) { return r.retire(id, life) }); err != nil {
		return nil, err
	}
	r, err := s.readRing(ctx)
	if err != nil {
		return nil, err
	}
	return s.describe(ctx, r)
}

// changeRing writes what change makes of the ring in this life of etcd, if it is
// still that one.
func (s *Store) changeRing(ctx context.Context, change func(r *keyRing, life uint64) (bool, error)) error {
	return retry(ctx, fmt.Errorf("change the grant keys: %w", ErrConflict), func() (bool, error) {
		r, err := s.readRing(ctx)
		if err != nil {
			return false, err
		}
		ident, err := s.mustKnow() // as of that read
		if err != nil {
			return false, err
		}
		next := r.clone()
		if changed, err := change(&next, ident.life); err != nil || !changed {
			return err == nil, err
		}
		told, err := s.ringEntryOf(ctx, &r.keyRing, &next)
		if err != nil {
			return false, err
		}
		_, ok, err := s.commit(ctx, []clientv3.Cmp{r.entry.unchanged()}, []clientv3.Op{put(keyGrantKey, next), told})
		return ok, err
	})
}

// promoteKey lets the published key sign, if there is one and no live daemon
// lacks it. The transaction compares the ring, and that no daemon has come or
// changed since the view was looked at: one that comes later is given the key
// when it registers.
func (s *Store) promoteKey(ctx context.Context) error {
	return retry(ctx, fmt.Errorf("let the published key sign: %w", ErrConflict), func() (bool, error) {
		r, err := s.readRing(ctx)
		if err != nil {
			return false, err
		}
		p := r.in(KeyPublished)
		if p == nil {
			return true, nil
		}
		if err := s.view.WaitRevision(ctx, r.rev); err != nil {
			return false, err
		}
		waiting, seen := s.view.withoutKeys(p.Since)
		if len(waiting) > 0 {
			return true, nil
		}
		ident, err := s.mustKnow()
		if err != nil {
			return false, err
		}
		next := r.clone()
		next.promote(ident.life)
		told, err := s.ringEntryOf(ctx, &r.keyRing, &next)
		if err != nil {
			return false, err
		}
		_, ok, err := s.commit(ctx, r.promotion(seen), []clientv3.Op{put(keyGrantKey, next), told})
		if ok {
			s.log.Info("grants are signed with another key", "key", p.ID, "keys_version", next.KeysVersion)
		}
		return ok, err
	})
}

// promotion is what a published key waits for: the ring is the one read, and no
// daemon has come or told something since the revision at which none was missing.
func (r *ringEntry) promotion(seen int64) []clientv3.Cmp {
	return []clientv3.Cmp{
		r.entry.unchanged(),
		clientv3.Compare(clientv3.ModRevision(prefixLive), "<", seen+1).WithPrefix(),
	}
}

// keysHeard is called when a daemon has told which keys it keeps: it may have
// been the last one that a published key waits for.
func (s *Store) keysHeard(ctx context.Context, keysVersion uint64) {
	p := s.view.publishedKey()
	if p == nil || keysVersion < p.Since {
		return
	}
	if waiting, _ := s.view.withoutKeys(p.Since); len(waiting) > 0 {
		return
	}
	if err := s.promoteKey(ctx); err != nil {
		s.log.Debug("a published key does not sign yet; the next heartbeat tries again", "key", p.ID, "error", err)
	}
}

func (v *View) publishedKey() *ringKey {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.t.ring == nil {
		return nil
	}
	return v.t.ring.in(KeyPublished)
}
