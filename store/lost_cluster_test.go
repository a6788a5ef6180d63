package store

import (
	"context"
	"errors"
	"testing"
)

// lostOfTheCluster are those about what is made once. Each has an etcd of its own.
func lostOfTheCluster() []lostAnswer {
	identity := func(table, key string, writes int64) func(t *testing.T, s *Store) (lostCall, func() error) {
		return func(t *testing.T, s *Store) (lostCall, func() error) {
			return func(ctx context.Context, s *Store) (any, error) {
				return nil, loaded(s.loadIdentity(ctx, newLife{}))
			}, func() error { return equal("writes of "+key, versionOf(t, s, key), writes) }
		}
	}
	return []lostAnswer{
		{action: "identity", how: "of the cluster", at: "cluster", servers: freshPair, stage: identity("cluster", keyCluster, 2)}, // and etcd's ID
		{action: "identity", how: "and its keys", at: tableKeys, servers: freshPair, stage: identity(tableKeys, keyGrantKey, 1)},
		{action: "new life", at: "cluster", skip: 1, servers: freshPair, stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			ofAnotherEtcd(t, s)
			return func(ctx context.Context, s *Store) (any, error) {
					return nil, loaded(s.loadIdentity(ctx, newLife{}))
				}, func() error {
					return errors.Join(equal("life", recordedCluster(t, s).Life, 1), equal("writes", versionOf(t, s, keyCluster), 2),
						equal("entries", entriesOf(t, s, JournalEtcdRestored, ""), 1))
				}
		}},
	}
}

// rotatingPair are two servers on an etcd of their own.
func rotatingPair(o Options) func(t *testing.T) (edge, other *Store) {
	return func(t *testing.T) (edge, other *Store) {
		t.Helper()
		other = rotating(t)
		return edgeOf(t, other, o), other
	}
}

func lostOfKeys() []lostAnswer {
	return []lostAnswer{
		{action: "RotateKeys", servers: rotatingPair(Options{}), stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			daemon(t, s) // lacks what is published
			return func(ctx context.Context, s *Store) (any, error) { return s.RotateKeys(ctx) },
				func() error { return statesAre(t, s, KeySigning, KeyPublished) }
		}},
		{action: "RetireKey", servers: rotatingPair(Options{}), stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			r, err := s.RotateKeys(t.Context()) // nobody lacks it
			if err != nil {
				t.Fatal(err)
			}
			writes := versionOf(t, s, keyGrantKey)
			return func(ctx context.Context, s *Store) (any, error) { return s.RetireKey(ctx, r.Keys[0].KeyID) }, func() error {
				return errors.Join(statesAre(t, s, KeyRetired, KeySigning), equal("writes", versionOf(t, s, keyGrantKey), writes+1))
			}
		}},
		{action: "let a key sign", servers: rotatingPair(Options{}), stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			published(t, s)
			writes := versionOf(t, s, keyGrantKey)
			return func(ctx context.Context, s *Store) (any, error) { return nil, s.promoteKey(ctx) }, func() error {
				return errors.Join(statesAre(t, s, KeyVerifying, KeySigning), equal("writes", versionOf(t, s, keyGrantKey), writes+1))
			}
		}},
		// The period has always lasted long enough for the first server alone.
		{action: "next period", servers: rotatingPair(Options{GrantPeriod: 1}), stage: func(t *testing.T, s *Store) (lostCall, func() error) {
			return func(ctx context.Context, s *Store) (any, error) { return s.turnPeriod(ctx) },
				func() error { return equal("writes", versionOf(t, s, keyPeriod), 2) }
		}},
	}
}
