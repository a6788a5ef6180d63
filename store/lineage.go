package store

import (
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// etcd's revision only grows, and a linearizable answer is never behind an answer
// that was there before the question. So an etcd that answers with a lower one has
// been set back: somebody put an older copy in its place. It need not have another
// ID. The view can't follow it by its watch, which would wait for a revision that
// is to come and miss all below.
//
// A server that has heard nothing yet learns it from a daemon that has: see marks.

// listening is what was known before a question to etcd.
type listening struct {
	ident *identity // nil if nothing
	heard int64
}

// listen is called before each linearizable question.
func (s *Store) listen() listening {
	l := listening{ident: s.known()}
	if l.ident != nil {
		l.heard = l.ident.heard.Load()
	}
	return l
}

// errSetBack says that an answer must not be used: a new life has begun since the
// question.
var errSetBack = fmt.Errorf("%w: etcd was restored from a backup, or set back; try again", ErrUnavailable)

// hear is called with the header of the answer. It returns errSetBack if etcd was
// set back or replaced since it last answered, once the new life is on record, and
// other errors if that could not be recorded.
func (s *Store) hear(ctx context.Context, before listening, h *pb.ResponseHeader) error {
	id := before.ident
	if id == nil {
		return nil
	}
	if h.ClusterId == id.etcdID && h.Revision >= before.heard {
		id.hear(h.Revision)
		return nil
	}
	s.log.Error("etcd is not what it was: it was restored from a backup, or set back",
		"etcd", etcdName(h.ClusterId), "revision", h.Revision, "etcd_before", etcdName(id.etcdID), "revision_before", before.heard)
	if _, err := s.relearn(ctx, newLife{least: id.life + 1}); err != nil {
		return err
	}
	return errSetBack
}

// heed is called after hear with the cluster's record, where the answer has it. It
// learns of a life that another server has begun, or begins one if this etcd has
// forgotten the present one.
func (s *Store) heed(ctx context.Context, before listening, record entry) error {
	id := before.ident
	if id == nil || !record.exists() || record.mod == id.mod {
		return nil
	}
	rec, err := decode[clusterRecord](record.key, record.value)
	if err != nil {
		return err
	}
	due := newLife{least: rec.Life}
	if rec.Life < id.life || record.mod < id.mod {
		due.least = id.life + 1
	}
	_, err = s.relearn(ctx, due)
	return err
}

// hear notes that etcd has been at this revision.
func (i *identity) hear(rev int64) {
	for {
		old := i.heard.Load()
		if rev <= old || i.heard.CompareAndSwap(old, rev) {
			return
		}
	}
}
