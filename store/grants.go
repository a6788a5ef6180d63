package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gravenio/graven/grant"
)

// GrantRules are what a daemon judges grants by; see package grant.
type GrantRules struct {
	KeysVersion uint64
	// Keys and Retired are key IDs to base64; nil for a daemon that has them.
	Keys, Retired map[string]string
	Period        uint64
	PeriodLength  time.Duration
}

type periodRecord struct {
	version
	Period uint64 `json:"period"`
}

// periodRow is the present period and when this server saw it begin, by its
// monotonic clock.
type periodRow struct {
	n   uint64
	mod int64
	at  time.Time
}

// rules are what etcd has, for a daemon that registers.
func (s *Store) rules(ctx context.Context) (GrantRules, error) {
	es, _, err := s.read(ctx, keyGrantKey, keyPeriod)
	if err != nil {
		return GrantRules{}, err
	}
	g, err := grantsOf(es[0], es[1])
	if err != nil {
		return GrantRules{}, err
	}
	return g.rules(s.opts.GrantPeriod, 0), nil
}

// granting is what grants are made by.
type granting struct {
	ring   *keyRing
	period uint64
}

// grantsOf reads the ring and the period.
func grantsOf(ring, period entry) (*granting, error) {
	if !ring.exists() || !period.exists() {
		return nil, fmt.Errorf("%w: the grant keys are not known yet", ErrUnavailable)
	}
	r, err := decodeRing(ring.key, ring.value)
	if err != nil {
		return nil, err
	}
	p, err := decode[periodRecord](period.key, period.value)
	return &granting{&r, p.Period}, err
}

// granting is what the view has.
func (v *View) granting() (*granting, error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.t.granting()
}

func (t *tables) granting() (*granting, error) {
	if t.ring == nil || t.period.mod == 0 {
		return nil, fmt.Errorf("%w: the grant keys are not known yet", ErrUnavailable)
	}
	return &granting{t.ring, t.period.n}, nil
}

// rules leave out the keys for a daemon that has them.
func (g *granting) rules(length time.Duration, has uint64) GrantRules {
	r := GrantRules{KeysVersion: g.ring.KeysVersion, Period: g.period, PeriodLength: length}
	if has != r.KeysVersion {
		r.Keys, r.Retired = g.ring.public()
	}
	return r
}

// write is the token for the record's newest epoch, which names its learner,
// too. key is the client's, or "".
func (g *granting) write(cluster, logID string, rec *logRecord, key string) (string, error) {
	c := claimsOf(cluster, logID, rec, key)
	c.Rights, c.Epoch, c.Nonce = grant.RightWrite, rec.Epoch, rec.Nonce
	return g.sign(c)
}

// read is a token that serves to read the replicas.
func (g *granting) read(cluster, logID string, rec *logRecord, key string) (string, error) {
	c := claimsOf(cluster, logID, rec, key)
	c.Rights = grant.RightRead
	return g.sign(c)
}

func claimsOf(cluster, logID string, rec *logRecord, key string) grant.Claims {
	c := grant.Claims{Cluster: cluster, LogID: logID, ClientKey: key}
	for _, r := range rec.Replicas {
		c.Replicas = append(c.Replicas, grant.Replica{ReplicaID: r.ReplicaID, DaemonID: r.DaemonID, State: string(r.State)})
	}
	return c
}

func (g *granting) sign(c grant.Claims) (string, error) {
	signer, err := g.ring.signer()
	if err != nil {
		return "", err
	}
	c.Period = g.period
	token, err := grant.Sign(signer, c)
	if err != nil {
		return "", fmt.Errorf("grant for log %s: %w", c.LogID, err)
	}
	return token, nil
}

// ReadGrant answers GrantRead.
type ReadGrant struct {
	Grant string
	// GoodFor is how long it serves to begin at least.
	GoodFor time.Duration
}

// GrantRead makes a grant to read a log's replicas. It changes nothing. key is
// the client's, or "".
//
// Errors: ErrInvalid, ErrNotFound, ErrForeignLog, ErrUnavailable.
func (s *Store) GrantRead(ctx context.Context, log, key string) (*ReadGrant, error) {
	if err := checkClientKey(key); err != nil {
		return nil, err
	}
	ident, err := s.mustKnow()
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.call(ctx)
	defer cancel()
	l, err := s.readLog(ctx, log, keyGrantKey, keyPeriod)
	if err != nil {
		return nil, err
	}
	if err := l.mayOwn(ctx); err != nil {
		return nil, err
	}
	g, err := grantsOf(l.extra[0], l.extra[1])
	if err != nil {
		return nil, err
	}
	token, err := g.read(ident.clusterID, l.id, &l.rec, key)
	if err != nil {
		return nil, err
	}
	return &ReadGrant{Grant: token, GoodFor: s.opts.GrantPeriod}, nil
}

func checkClientKey(key string) error {
	if key != "" && !grant.IsClientKey(key) {
		return invalid("client_key", "must be the SHA-256 of a public key in 64 lower-case hexadecimal digits")
	}
	return nil
}

// keepPeriods begins the next period when the present one has lasted long enough
// by this server's monotonic clock. Any server may do it; the transaction lets
// one of them win, and all count anew from there.
func (s *Store) keepPeriods(ctx context.Context) error {
	for {
		wait, err := s.turnPeriod(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.Debug("the next period of grants could not be begun and will be tried again", "error", err)
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// turnPeriod returns when to look again.
func (s *Store) turnPeriod(ctx context.Context) (time.Duration, error) {
	length := s.opts.GrantPeriod
	again := min(time.Second, length/4) + rand.N(min(time.Second, length/4)+1)
	p, fresh := s.view.period()
	if p.mod == 0 || !fresh {
		return again, nil
	}
	if left := length - time.Since(p.at); left > 0 {
		return left + rand.N(again), nil
	}
	ctx, cancel := s.call(ctx)
	defer cancel()
	_, _, err := s.commit(ctx,
		[]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(keyPeriod), "=", p.mod)},
		[]clientv3.Op{put(keyPeriod, periodRecord{version: current(), Period: p.n + 1})})
	return again, err
}

func (v *View) period() (periodRow, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.t.period, v.lag() <= v.maxLag
}
