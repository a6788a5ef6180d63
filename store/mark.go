package store

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
)

// A server that starts after etcd was set back has heard nothing of what was lost.
// Daemons have: every answer to one has a mark, which says how far etcd was, and the
// daemon shows the highest when it comes again. One that is beyond what etcd is at
// now proves that it was set back, since a revision that was told is in etcd for
// good.
//
// A daemon can't make a mark: it carries a proof that takes a secret of the servers.
// Else one daemon that lies could end life after life, until there are none left. A
// true mark ends one life at most, since it says nothing of the life after that.

// EtcdMark says how far etcd was once, in one of its lives. The zero value is none.
type EtcdMark struct {
	// Life is which one, counted from 0.
	Life uint64 `json:"life"`
	// Revision is etcd's, from 1.
	Revision int64 `json:"revision"`
	// Proof is 64 hexadecimal digits, which say that a server has made the mark.
	Proof string `json:"proof"`
}

// MaxLife is the last life of etcd that has epochs of its own.
const MaxLife = MaxEpoch >> lifeShift

// markKeyBytes is the length of the secret.
const markKeyBytes = 32

func freshMarkKey() markKeyRecord {
	secret := make([]byte, markKeyBytes)
	rand.Read(secret) // never fails
	return markKeyRecord{version: current(), Secret: secret}
}

var proofPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (m *EtcdMark) check() error {
	switch {
	case *m == EtcdMark{}:
		return nil
	case m.Life > MaxLife:
		return invalid("etcd_mark.life", "must be 0 to %d, not %d", MaxLife, m.Life)
	case m.Revision < 1 || uint64(m.Revision) > MaxEpoch:
		return invalid("etcd_mark.revision", "must be 1 to %d, not %d", MaxEpoch, m.Revision)
	case !proofPattern.MatchString(m.Proof):
		return invalid("etcd_mark.proof", "must be 64 lower-case hexadecimal digits, as it was answered")
	}
	return nil
}

// mark is what daemons are given now, or none before etcd was heard of in this life.
// The revision is one that etcd has answered in a life not older than the mark's: a
// server that has not heard of a new life yet tells of the old one, which proves
// nothing any more.
func (s *Store) mark() EtcdMark {
	id := s.known()
	if id == nil {
		return EtcdMark{}
	}
	m := EtcdMark{Life: id.life, Revision: id.heard.Load()}
	if m.Revision < 1 {
		return EtcdMark{}
	}
	m.Proof = hex.EncodeToString(id.proof(&m))
	return m
}

// proof is what only the servers of this cluster can say of a mark.
func (i *identity) proof(m *EtcdMark) []byte {
	h := hmac.New(sha256.New, i.marks)
	fmt.Fprintf(h, "graven etcd mark\n%s\n%d\n%d\n", i.clusterID, m.Life, m.Revision)
	return h.Sum(nil)
}

// beyond says whether a mark is ahead of etcd, if that has the identity's life and
// was at the revision after the mark had come here.
func (m *EtcdMark) beyond(id *identity, revision int64) bool {
	return m.Life > id.life || m.Life == id.life && m.Revision > revision
}

// believes says whether a server of this cluster has made the mark.
func (i *identity) believes(m *EtcdMark) bool {
	proof, err := hex.DecodeString(m.Proof)
	return err == nil && hmac.Equal(proof, i.proof(m))
}

// outrun reports whether a daemon's mark proves that etcd was set back, and begins
// the new life then. The identity and the revision are as a read has them that
// began when the mark was here. The daemon's right to its ID has been seen to.
func (s *Store) outrun(ctx context.Context, daemonID string, m EtcdMark, id *identity, revision int64) (bool, error) {
	switch {
	case !m.beyond(id, revision):
		return false, nil
	case !id.believes(&m):
		s.log.Warn("a daemon shows a mark that no server of this cluster has made: it proves nothing and is passed over",
			"daemon", daemonID, "life", m.Life, "revision", m.Revision)
		return false, nil
	}
	how := fmt.Sprintf("daemon %s proves that etcd %s was at revision %d in life %d, and it is at %d in life %d: it was set back",
		daemonID, etcdName(id.etcdID), m.Revision, m.Life, revision, id.life)
	_, err := s.relearn(ctx, newLife{least: m.Life + 1, daemonID: daemonID, proof: how})
	return err == nil, err
}

// weighMark is for the mark in a heartbeat. While all is well it asks etcd nothing:
// what the mark says is what this server has heard, or less. When a new life begins
// the daemon has to register again, as all do.
func (s *Store) weighMark(ctx context.Context, daemonID string, incarnation uint64, m EtcdMark) error {
	id := s.known()
	if id == nil || m == (EtcdMark{}) || !m.beyond(id, id.heard.Load()) || !id.believes(&m) {
		return nil
	}
	_, at, err := s.readAt(ctx) // another server may have been ahead, rather than etcd
	if err != nil {
		return err
	}
	if id, err = s.mustKnow(); err != nil {
		return err
	}
	proved, err := s.outrun(ctx, daemonID, m, id, at.revision)
	if !proved || err != nil {
		return err
	}
	_, err = s.readLive(ctx, daemonID, incarnation)
	return err
}
