package grant

import (
	"errors"
	"fmt"
	"time"
)

// Ring is what a verifier has: keys that are good for all grants, and retired
// ones, whose grants are good only where their term has been fenced already. It
// must not be changed while it is in use.
type Ring struct {
	Keys    Keys
	Retired Keys
}

// Verify is as the function Verify, and says whether the key is a retired one.
func (r Ring) Verify(token string) (c Claims, retired bool, err error) {
	c, err = Verify(token, r.Keys)
	if errors.Is(err, ErrUnknownKey) {
		if c, rerr := Verify(token, r.Retired); !errors.Is(rerr, ErrUnknownKey) {
			return c, true, rerr
		}
	}
	return c, false, err
}

// MaxRetired bounds the retired keys of a Ring that Follow makes.
const MaxRetired = 32

// Follow returns the ring that comes after r when the control plane names these
// keys. What r had and nobody names any more, as after a restore of etcd, counts
// as retired: those who write may come back.
func (r Ring) Follow(keys, retired Keys) Ring {
	next := Ring{Keys: keys, Retired: make(Keys, len(retired))}
	for id, k := range retired {
		next.Retired[id] = k
	}
	for _, old := range []Keys{r.Keys, r.Retired} {
		for id, k := range old {
			if _, named := keys[id]; !named && len(next.Retired) < MaxRetired {
				next.Retired[id] = k
			}
		}
	}
	return next
}

// Periods is a verifier's notion of the control plane's present period. Its zero
// value knows nothing, and lets no grant expire.
type Periods struct {
	Heard  uint64        // the last one that the control plane has named
	At     time.Time     // when that was, with the monotonic clock's reading
	Length time.Duration // of one; 0 stops the counting
}

// Now is the present period: the one heard of, and those that must have passed
// since by the monotonic clock. No wall clock is looked at.
func (p Periods) Now(now time.Time) uint64 {
	since := now.Sub(p.At)
	if p.Length <= 0 || since <= 0 || p.Heard == 0 {
		return p.Heard
	}
	return p.Heard + uint64(since/p.Length)
}

// CheckFresh returns an error that wraps ErrExpired if the grant is of a period
// before the last one.
func (c Claims) CheckFresh(present uint64) error {
	if c.Period+1 < present {
		return fmt.Errorf("%w: it is of period %d, this is period %d", ErrExpired, c.Period, present)
	}
	return nil
}
