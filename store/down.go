package store

import (
	"context"
	"maps"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// markDown writes down_since into the records of daemons whose lease has gone,
// so that it outlives this server. The state of a daemon does not wait for this:
// it is down as soon as its lease is.
func (l *leader) markDown(ctx context.Context) {
	for _, m := range l.s.view.unmarked() {
		if err := l.mark(ctx, m); err != nil && ctx.Err() == nil {
			l.s.log.Debug("down_since was not recorded and will be tried again",
				"daemon", m.id, "error", err)
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

func (l *leader) mark(ctx context.Context, m downMark) error {
	ctx, cancel := l.s.call(ctx)
	defer cancel()
	key := prefixDaemons + m.id
	m.rec.DownSince, m.rec.LastSeen = m.since, m.lastSeen
	_, err := l.commit(ctx,
		[]clientv3.Cmp{
			clientv3.Compare(clientv3.ModRevision(key), "=", m.mod),
			clientv3.Compare(clientv3.CreateRevision(prefixLive+m.id), "=", 0),
		},
		[]clientv3.Op{put(key, m.rec)})
	return err
}
