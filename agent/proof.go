package agent

import (
	"errors"
	"strconv"

	"github.com/gravenio/graven/grant"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
)

// grantErrors says which of rdmaio's kinds an error of package grant travels as;
// read-only.
var grantErrors = []struct{ from, to error }{
	{grant.ErrMalformed, rdmaio.ErrGrantMalformed},
	{grant.ErrAlgorithm, rdmaio.ErrGrantAlgorithm},
	{grant.ErrUnknownKey, rdmaio.ErrGrantUnknownKey},
	{grant.ErrSignature, rdmaio.ErrGrantSignature},
	{grant.ErrExpired, rdmaio.ErrGrantExpired},
}

func grantError(err error) error {
	for _, row := range grantErrors {
		if errors.Is(err, row.from) {
			return refuse(row.to, "%v", err)
		}
	}
	return refuse(rdmaio.ErrGrant, "%v", err)
}

// proof is a grant that was checked, and what it says of the replica.
type proof struct {
	state   string // of the replica
	key     string // of the client
	retired bool   // it is signed by a retired key
	claims  grant.Claims
}

// check verifies that the grant is one for what the Hello asks. Whether it is too
// old for a first fence is not looked at.
func (s host) check(h *rdmaio.Hello) (proof, error) {
	claims, retired, err := s.a.trust.keys().Verify(h.Grant)
	if err != nil {
		return proof{}, grantError(err)
	}
	r, named := claims.Replica(h.Replica.String())
	switch {
	case claims.Cluster != h.Cluster.String():
		return proof{}, refuse(rdmaio.ErrGrantCluster, "it is for cluster %s, not for %s", claims.Cluster, h.Cluster)
	case claims.LogID != h.Log.String():
		return proof{}, refuse(rdmaio.ErrGrantLog, "it is for log %s, not for %s", claims.LogID, h.Log)
	case !named || r.DaemonID != s.a.id:
		return proof{}, refuse(rdmaio.ErrGrantReplica, "it does not name replica %s of daemon %s", h.Replica, s.a.id)
	}
	if err := checkTerm(&claims, h); err != nil {
		return proof{}, err
	}
	if err := s.checkKey(claims.ClientKey, h.Peer); err != nil {
		return proof{}, err
	}
	return proof{state: r.State, key: claims.ClientKey, retired: retired, claims: claims}, nil
}

// checkTerm compares a writer's term; a reader has none, and whoever may write may
// read.
func checkTerm(c *grant.Claims, h *rdmaio.Hello) error {
	if h.ReadOnly {
		return nil
	}
	if c.Rights != grant.RightWrite {
		return refuse(rdmaio.ErrGrantRights, "it allows to %s, not to write", c.Rights)
	}
	nonce, err := strconv.ParseUint(c.Nonce, 16, 64)
	if err != nil {
		return refuse(rdmaio.ErrGrantMalformed, "nonce %q: %v", c.Nonce, err)
	}
	if (format.Fence{Epoch: c.Epoch, Nonce: nonce}) != h.Term {
		return refuse(rdmaio.ErrGrantTerm, "it is for epoch %d nonce %016x, not for epoch %d nonce %016x", c.Epoch, nonce, h.Term.Epoch, h.Term.Nonce)
	}
	return nil
}

// checkKey compares the key that a grant names with the one that the connection
// has proved. An agent without TLS can't ask for proof.
func (s host) checkKey(named string, peer rdmaio.Peer) error {
	switch {
	case s.a.opts.TLS == nil:
		return nil
	case named == "":
		return refuse(rdmaio.ErrGrantNoKey, "daemon %s serves with TLS: have the log opened with the key that the connection proves (client_key)", s.a.id)
	case !peer.TLS || named != peer.Key:
		return refuse(rdmaio.ErrGrantClientKey, "it is for the key %s, the connection has proved %q", named, peer.Key)
	}
	return nil
}

// checkFirst is for a term that has not been fenced here: its grant must be new
// enough, and its key must not be retired.
func (s host) checkFirst(p *proof) error {
	if p.retired {
		return refuse(rdmaio.ErrGrantRetiredKey, "renew the lease for a new grant")
	}
	if err := p.claims.CheckFresh(s.a.trust.present()); err != nil {
		return grantError(err)
	}
	return nil
}

// checkReader is for a Hello that only wants to read. Where connections prove
// nothing, all may read who can connect.
func (s host) checkReader(h *rdmaio.Hello) error {
	if s.a.opts.TLS == nil {
		return nil
	}
	p, err := s.check(h)
	if err == nil {
		err = s.checkFirst(&p)
	}
	return err
}
