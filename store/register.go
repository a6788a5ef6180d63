package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Register makes the daemon live, as a new one or as another incarnation of a
// known one, and says what to do with what its pool holds.
//
// Errors: ErrInvalid, ErrPoolWiped, ErrPoolMismatch, ErrPoolRolledBack,
// ErrPoolCloned, ErrIncarnationAhead, ErrAddressInUse, ErrGone (given up as
// lost), ErrConflict (retry),
// ErrUnavailable.
func (s *Store) Register(ctx context.Context, r RegisterRequest) (*Registration, error) {
	if r.LeaseTTL == 0 {
		r.LeaseTTL = s.opts.DaemonTTL
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	ident, err := s.mustKnow()
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.call(ctx)
	defer cancel()
	lease, ttl, err := s.grantLease(ctx, r.LeaseTTL)
	if err != nil {
		return nil, err
	}
	var reg *Registration
	err = retry(ctx, fmt.Errorf("register %s: %w", r.DaemonID, ErrConflict), func() (done bool, err error) {
		reg, err = s.tryRegister(ctx, r, lease, ttl)
		return reg != nil, err
	})
	if err != nil {
		s.noteRefusal(ctx, r.DaemonID, err)
		if !errors.Is(err, ErrUnavailable) { // else the daemon may be live under it
			s.revokeLease(ctx, lease)
		}
		return nil, err
	}
	// Read after the daemon is live: a key that is published later waits for it.
	reg.ClusterID = ident.clusterID
	reg.Grants, err = s.rules(ctx)
	reg.Mark = s.mark()
	s.keysHeard(ctx, r.KeysVersion)
	return reg, err
}

// registering is what a registration is decided on.
type registering struct {
	req                             RegisterRequest
	daemon, live, space, pool, gone entry
	addresses                       []entry      // of the claims
	rec                             daemonRecord // zero if the daemon is new
	liveRec                         *liveRecord
}

func (s *Store) tryRegister(ctx context.Context, r RegisterRequest, lease clientv3.LeaseID, ttl time.Duration) (*Registration, error) {
	g, rev, err := s.readRegistering(ctx, r)
	if err != nil {
		return nil, err
	}
	ident, err := s.mustKnow() // as of that read
	if err != nil {
		return nil, err
	}
	name, err := g.rec.boundName(ctx, r.DaemonID)
	if err != nil {
		return nil, err
	}
	if err := g.guard(); err != nil {
		return nil, err
	}
	found, err := s.judge(ctx, rev, r)
	if err != nil {
		return nil, err
	}
	if err := s.barred(g.gone, &r); err != nil {
		return nil, err
	}
	if proved, err := s.outrun(ctx, r.DaemonID, r.Mark, ident, rev); proved || err != nil {
		return nil, err // in the new life, from a new read
	}
	cmps := []clientv3.Cmp{g.daemon.unchanged(), g.live.unchanged(), g.pool.unchanged(), g.gone.unchanged()}
	ops := []clientv3.Op{
		put(g.daemon.key, g.newRecord(name, found.verdicts)),
		put(g.live.key, g.newLive(found, ttl, ident.life), clientv3.WithLease(lease)),
		put(g.pool.key, ownerRecord{version: current(), DaemonID: r.DaemonID}),
		clientv3.OpDelete(prefixGone + r.DaemonID),
	}
	claimIf, claimOps := claiming(g.addresses, r.DaemonID, lease)
	cmps, ops = append(cmps, claimIf...), append(ops, claimOps...)
	if !g.daemon.exists() {
		told, err := s.daemonEntry(ctx, JournalDaemonRegistered, r.DaemonID,
			"for the first time, with pool %s of %d bytes on %s at %s", r.PoolID, r.Capacity, r.Media, hostPort(r.Addresses))
		if err != nil {
			return nil, err
		}
		ops = append(ops, told)
	}
	if !g.space.exists() {
		cmps = append(cmps, g.space.unchanged())
		ops = append(ops, put(g.space.key, spaceRecord{version: current()}))
	}
	rev, ok, err := s.commit(ctx, cmps, ops)
	if err != nil || !ok {
		return nil, err
	}
	s.revokeLease(ctx, g.live.lease)
	return &Registration{
		LeaseTTL: ttl, RenewEvery: ttl / 3, Replicas: found.verdicts, Missing: found.missing, Revision: rev,
	}, nil
}

func (s *Store) readRegistering(ctx context.Context, r RegisterRequest) (*registering, int64, error) {
	es, rev, err := s.read(ctx, append(keysOf(r.claims()),
		prefixDaemons+r.DaemonID, prefixLive+r.DaemonID, prefixSpace+r.DaemonID, prefixPools+r.PoolID, prefixGone+r.DaemonID)...)
	if err != nil {
		return nil, 0, err
	}
	n := len(r.claims())
	g := &registering{
		req: r, addresses: es[:n], daemon: es[n], live: es[n+1], space: es[n+2], pool: es[n+3], gone: es[n+4],
	}
	if g.daemon.exists() {
		if g.rec, err = decode[daemonRecord](g.daemon.key, g.daemon.value); err != nil {
			return nil, 0, err
		}
	}
	if g.live.exists() {
		rec, err := decode[liveRecord](g.live.key, g.live.value)
		if err != nil {
			return nil, 0, err
		}
		g.liveRec = &rec
	}
	return g, rev, nil
}

// guard refuses who must not be this daemon.
func (g *registering) guard() error {
	poolOwner, err := ownerOf(g.pool)
	if err != nil {
		return err
	}
	if err := g.guardPool(poolOwner); err != nil {
		return err
	}
	if err := g.guardIncarnation(); err != nil {
		return err
	}
	for i, c := range g.req.claims() {
		if err := c.free(g.addresses[i], g.req.DaemonID); err != nil {
			return err
		}
	}
	return nil
}

func (g *registering) refuse(err error, format string, args ...any) error {
	return &DaemonError{DaemonID: g.req.DaemonID, Detail: fmt.Sprintf(format, args...), Err: err}
}

// guardPool binds a pool to one ID and an ID to one pool.
func (g *registering) guardPool(owner string) error {
	switch {
	case owner != "" && owner != g.req.DaemonID:
		return g.refuse(ErrPoolMismatch, "pool %s belongs to daemon %s", g.req.PoolID, owner)
	case g.daemon.exists() && g.rec.PoolID != g.req.PoolID:
		return g.refuse(ErrPoolWiped, "it has pool %s, not %s; a wiped or new pool needs a new daemon ID",
			g.rec.PoolID, g.req.PoolID)
	}
	return nil
}

// guardIncarnation lets a pool's count of starts only grow. A daemon that is
// new begins from zero.
func (g *registering) guardIncarnation() error {
	r, recorded := &g.req, g.rec.Incarnation
	switch {
	case r.Incarnation < recorded:
		return &RolledBackError{DaemonID: r.DaemonID, Offered: r.Incarnation, Recorded: recorded}
	case r.Incarnation-recorded > MaxIncarnationJump:
		return g.refuse(ErrIncarnationAhead, "incarnation %d is offered, the record says %d; at most %d more are believed",
			r.Incarnation, recorded, MaxIncarnationJump)
	case r.Incarnation == recorded && g.liveRec != nil && g.liveRec.Addresses != r.Addresses:
		return g.refuse(ErrPoolCloned, "incarnation %d is live at %s already: the pool runs twice",
			r.Incarnation, hostPort(g.liveRec.Addresses))
	}
	return nil
}

func ownerOf(e entry) (string, error) {
	if !e.exists() {
		return "", nil
	}
	rec, err := decode[ownerRecord](e.key, e.value)
	return rec.DaemonID, err
}

// judge compares the inventory with a view that is at least as new as rev.
func (s *Store) judge(ctx context.Context, rev int64, r RegisterRequest) (found findings, err error) {
	if err := s.view.WaitRevision(ctx, rev); err != nil {
		return found, err
	}
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	found.verdicts, found.missing = s.view.t.reconcile(r.DaemonID, r.Replicas)
	found.ahead = s.view.t.ahead(r.Replicas, r.Seals)
	return found, nil
}

// findings are what an inventory shows.
type findings struct {
	verdicts []ReplicaVerdict
	missing  []string
	ahead    []SealReport
}

func (g *registering) newRecord(name string, verdicts []ReplicaVerdict) daemonRecord {
	r := &g.req
	rec := daemonRecord{
		version: current(), PoolID: r.PoolID, Incarnation: r.Incarnation, Addresses: r.Addresses,
		CapacityBytes: r.Capacity, Media: r.Media, Transports: r.Transports, FlushModes: r.FlushModes,
		Labels: r.Labels, Version: r.Version, Draining: g.rec.Draining, Identity: name, RegisteredAt: time.Now().UTC(),
	}
	for i, v := range verdicts {
		if v.Verdict == VerdictQuarantine {
			rec.Quarantined = append(rec.Quarantined, v.ReplicaID)
			rec.QuarantinedBytes += r.Replicas[i].Bytes
		}
	}
	return rec
}

func (g *registering) newLive(found findings, ttl time.Duration, life uint64) liveRecord {
	r := &g.req
	return liveRecord{
		version: current(), Incarnation: r.Incarnation, Addresses: r.Addresses, FreeBytes: r.Free,
		Health: r.Health, Replicas: r.Replicas, Missing: found.missing, Seals: found.ahead, ReportedAt: time.Now().UTC(),
		TTLSeconds: int64(ttl / time.Second), Life: life, KeysVersion: r.KeysVersion,
	}
}
