package store

import (
	"context"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// describe says in a line what the log is.
func (l *logRecord) describe() string {
	daemons := make([]string, len(l.Replicas))
	for i, r := range l.Replicas {
		daemons[i] = r.DaemonID
	}
	text := fmt.Sprintf("%d bytes on %s, acknowledged by %d", l.CapacityBytes, strings.Join(daemons, ", "), l.AckQuorum)
	if l.Owner != "" {
		text += fmt.Sprintf("; it belongs to %q", l.Owner)
	}
	return text
}

// tell is the entry about an open: l is the log before, rec after it.
func (o *opening) tell(l *logEntries, rec *logRecord) JournalEntry {
	e := JournalEntry{Kind: JournalLogOpened, Detail: fmt.Sprintf("epoch %d for %s", rec.Epoch, rec.Writer.describe())}
	if o.req.Recovering {
		e.Kind = JournalLogRecovering
	}
	if before := l.writerRec; before != nil {
		e.Detail += fmt.Sprintf("; it ends epoch %d of %s", before.Epoch, before.describe())
		if !before.Recovering {
			e.Kind = JournalLogTakenOver
		}
	}
	if o.req.MinEpoch > l.rec.Epoch+1 {
		e.Detail += fmt.Sprintf("; replicas have seen more than the record's epoch %d: at least %d was asked for", l.rec.Epoch, o.req.MinEpoch)
	}
	e.Detail = clipDetail(e.Detail)
	return e
}

// describe names a writer for people.
func (w *Writer) describe() string {
	name := w.Name
	if name == "" {
		name = "an unnamed writer"
	}
	return fmt.Sprintf("%s (process %d on %s)", name, w.PID, w.Host)
}

// ringEntryOf is the write of the entry about a change of the grant keys.
func (s *Store) ringEntryOf(ctx context.Context, before, after *keyRing) (clientv3.Op, error) {
	var texts []string
	for _, k := range after.Keys {
		if old := before.find(k.ID); old == nil || old.State != k.State {
			texts = append(texts, fmt.Sprintf("key %s is %s now", k.ID, k.State))
		}
	}
	return s.entry(ctx, signed(ctx, JournalEntry{Kind: JournalGrantKeyRotated, Detail: clipDetail(strings.Join(texts, ", "))}))
}
