package store

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// markDown writes down_since into the records of daemons whose lease has gone,
// so that it outlives this server. Any server may do it; the transaction lets
// one of them win. The state of a daemon does not wait for this: it is down as
// soon as its lease is.
func (s *Store) markDown(ctx context.Context) error {
	for {
		// The jitter keeps several servers from all writing at once.
		if err := sleep(ctx, 100*time.Millisecond+rand.N(200*time.Millisecond)); err != nil {
			return err
		}
		for _, m := range s.view.unmarked() {
			if err := s.mark(ctx, m); err != nil && ctx.Err() == nil {
				s.log.Debug("down_since was not recorded and will be tried again",
					"daemon", m.id, "error", err)
			}
		}
	}
}

type downMark struct {
	id       string
	rec      daemonRecord
	mod      int64
	since    time.Time
	lastSeen time.Time
}

func (v *View) unmarked() []downMark {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.lag() > v.maxLag {
		return nil
	}
	var marks []downMark
	for _, id := range slices.Sorted(maps.Keys(v.t.unmarked)) {
		d := v.t.daemons[id]
		since := d.downAt
		if since.IsZero() {
			since = time.Now()
		}
		marks = append(marks, downMark{
			id: id, rec: *d.rec, mod: d.recMod, since: since.UTC(),
			lastSeen: v.t.daemon(id, d).LastSeen,
		})
	}
	return marks
}

func (s *Store) mark(ctx context.Context, m downMark) error {
	ctx, cancel := s.call(ctx)
	defer cancel()
	key := prefixDaemons + m.id
	m.rec.DownSince, m.rec.LastSeen = m.since, m.lastSeen
	_, _, err := s.commit(ctx,
		[]clientv3.Cmp{
			clientv3.Compare(clientv3.ModRevision(key), "=", m.mod),
			clientv3.Compare(clientv3.CreateRevision(prefixLive+m.id), "=", 0),
		},
		[]clientv3.Op{put(key, m.rec)})
	return err
}
