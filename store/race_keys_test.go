package store

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

// edgeOf is another server on the etcd of one that runs, whose calls follow the plans
// in their contexts. It runs no loops; its view is the other one's.
func edgeOf(t *testing.T, s *Store, o Options) *Store {
	t.Helper()
	o.Lease, o.Logger = s.opts.Lease, quiet()
	edge, err := New(edgeClient(s.client, nil), o)
	if err != nil {
		t.Fatal(err)
	}
	edge.view, edge.identity = s.view, s.known()
	return edge
}

// keyRaces are those of the keys and the period of grants. They are all daemons' of an
// etcd, so each race has one of its own.
func keyRaces() []race {
	return []race{
		{"RotateKeys", "rotated twice at once", tableKeys, func(t *testing.T, p *plan) error {
			s := rotating(t)
			daemon(t, s) // lacks what is published
			var first *KeyRing
			p.before = func() (err error) {
				first, err = s.RotateKeys(t.Context())
				return err
			}
			now, err := edgeOf(t, s, Options{}).RotateKeys(p.in(t.Context()))
			if err != nil {
				return err
			}
			return equal("what another server has published is there still", slices.Equal(now.Keys, first.Keys), true)
		}},
		{"RetireKey", "rotated meanwhile", tableKeys, func(t *testing.T, p *plan) error {
			s := rotating(t)
			before, err := s.RotateKeys(t.Context()) // nobody lacks it
			if err != nil {
				t.Fatal(err)
			}
			daemon(t, s)
			p.before = func() error { return rotated(s.RotateKeys(t.Context())) }
			now, err := edgeOf(t, s, Options{}).RetireKey(p.in(t.Context()), before.Keys[0].KeyID)
			if err != nil {
				return err
			}
			return equal("states of the keys", fmt.Sprint(states(now)), fmt.Sprint([]KeyState{KeyRetired, KeySigning, KeyPublished}))
		}},
		{"let a key sign", "one retired meanwhile", tableKeys, func(t *testing.T, p *plan) error {
			s := rotating(t)
			before, err := s.RotateKeys(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			published(t, s)
			p.before = func() error { return rotated(s.RetireKey(t.Context(), before.Keys[0].KeyID)) }
			err = edgeOf(t, s, Options{}).promoteKey(p.in(t.Context()))
			return errors.Join(err, statesAre(t, s, KeyRetired, KeyVerifying, KeySigning))
		}},
		{"let a key sign", "another server lets it sign", tableKeys, func(t *testing.T, p *plan) error {
			s := rotating(t)
			published(t, s)
			writes := versionOf(t, s, keyGrantKey)
			p.before = func() error { return s.promoteKey(t.Context()) }
			err := edgeOf(t, s, Options{}).promoteKey(p.in(t.Context()))
			return errors.Join(err, statesAre(t, s, KeyVerifying, KeySigning),
				equal("writes of the keys", versionOf(t, s, keyGrantKey), writes+1))
		}},
		{"let a key sign", "a daemon comes meanwhile", tableLive, func(t *testing.T, p *plan) error {
			s := rotating(t)
			published(t, s)
			late := daemonReq(t)
			p.before = func() error { return handedOut(s.Register(t.Context(), late)) }
			err := edgeOf(t, s, Options{}).promoteKey(p.in(t.Context()))
			return errors.Join(err, statesAre(t, s, KeySigning, KeyPublished))
		}},
		{"next period", "other servers are ahead", tableKeys, func(t *testing.T, p *plan) error {
			s := rotating(t)
			other := edgeOf(t, s, Options{GrantPeriod: 1}) // it has always lasted long enough
			p.before = func() error {
				for range 2 {
					if _, err := other.turnPeriod(t.Context()); err != nil {
						return err
					}
				}
				return nil
			}
			if _, err := edgeOf(t, s, Options{GrantPeriod: 1}).turnPeriod(p.in(t.Context())); err != nil {
				return err
			}
			es, _, err := s.read(t.Context(), keyPeriod)
			if err != nil {
				t.Fatal(err)
			}
			rec, err := decode[periodRecord](keyPeriod, es[0].value)
			return errors.Join(err, equal("period", rec.Period, 3), equal("writes", versionOf(t, s, keyPeriod), 3))
		}},
	}
}

func rotated(_ *KeyRing, err error) error { return err }

// published adds a key that is to sign and that nobody lacks.
func published(t *testing.T, s *Store) {
	t.Helper()
	if err := s.changeRing(t.Context(), func(r *keyRing, life uint64) (bool, error) { return true, r.publish(life) }); err != nil {
		t.Fatal(err)
	}
}

func statesAre(t *testing.T, s *Store, want ...KeyState) error {
	t.Helper()
	r, err := s.KeyRing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return equal("states of the keys", fmt.Sprint(states(r)), fmt.Sprint(want))
}
