package store

import (
	"cmp"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// journalTable is the journal as the view has it, by entry ID.
type journalTable struct {
	rows map[string]journalRow
	sums [classes]journalSum
}

type journalRow struct {
	entry JournalEntry
	bytes int
}

type journalSum struct{ entries, bytes int }

// set takes an entry. One that another version of the servers wrote is not
// shown: nothing depends on it, and the view must not end over it.
func (t *journalTable) set(id string, e entry) {
	rec, err := decode[journalRecord](e.key, e.value)
	if err != nil {
		return
	}
	t.remove(id)
	rec.EntryID, rec.Revision = id, e.mod
	row := journalRow{rec.JournalEntry, len(e.value)}
	t.rows[id] = row
	sum := &t.sums[row.entry.Kind.class()]
	sum.entries++
	sum.bytes += row.bytes
}

func (t *journalTable) remove(id string) {
	row, ok := t.rows[id]
	if !ok {
		return
	}
	delete(t.rows, id)
	sum := &t.sums[row.entry.Kind.class()]
	sum.entries--
	sum.bytes -= row.bytes
}

// newest returns the rows that are wanted, the newest first: as etcd has them, by
// nobody's clock. Those of one transaction are in the order of their IDs.
func (t *journalTable) newest(want func(*JournalEntry) bool) []journalRow {
	var out []journalRow
	for _, row := range t.rows {
		if want(&row.entry) {
			out = append(out, row)
		}
	}
	slices.SortFunc(out, func(a, b journalRow) int {
		return cmp.Or(cmp.Compare(b.entry.Revision, a.entry.Revision), cmp.Compare(b.entry.EntryID, a.entry.EntryID))
	})
	return out
}

// excess returns the IDs of the oldest entries of a class that are beyond its
// bounds.
func (t *journalTable) excess(c journalClass, entries, bytes int) []string {
	if t.sums[c].entries <= entries && t.sums[c].bytes <= bytes {
		return nil
	}
	var out []string
	var sum journalSum
	for _, row := range t.newest(func(e *JournalEntry) bool { return e.Kind.class() == c }) {
		sum.entries++
		sum.bytes += row.bytes
		if sum.entries > entries || sum.bytes > bytes {
			out = append(out, row.entry.EntryID)
		}
	}
	return out
}

// JournalFilter says which entries are wanted; what is zero is not asked.
type JournalFilter struct {
	Kinds    []JournalKind
	Log      string    // ID or name, also of a log that is gone
	Daemon   string    // ID
	From, To time.Time // not before From, before To
}

func (f *JournalFilter) wants(e *JournalEntry) bool {
	switch {
	case len(f.Kinds) > 0 && !slices.Contains(f.Kinds, e.Kind),
		f.Log != "" && f.Log != e.LogID && f.Log != e.LogName,
		f.Daemon != "" && f.Daemon != e.DaemonID,
		!f.From.IsZero() && e.At.Before(f.From),
		!f.To.IsZero() && !e.At.Before(f.To):
		return false
	}
	return true
}

// Journal returns the entries that are wanted, the newest first, and the
// revision.
func (v *View) Journal(f JournalFilter) ([]JournalEntry, int64) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	rows := v.t.journal.newest(f.wants)
	out := make([]JournalEntry, len(rows))
	for i, row := range rows {
		out[i] = row.entry
		out[i].GivenUp = slices.Clone(row.entry.GivenUp)
	}
	return out, v.revision
}

// JournalCounts returns how many entries of each kind are kept.
func (v *View) JournalCounts() map[JournalKind]int {
	v.mu.RLock()
	defer v.mu.RUnlock()
	out := make(map[JournalKind]int)
	for _, row := range v.t.journal.rows {
		out[row.entry.Kind]++
	}
	return out
}

// trimOps is how many entries a transaction removes; etcd takes 128 operations.
const trimOps = 100

// trimOp is the removal of entries by ID.
func trimOp(ids []string) []clientv3.Op {
	ops := make([]clientv3.Op, len(ids))
	for i, id := range ids {
		ops[i] = clientv3.OpDelete(prefixEvents + id)
	}
	return ops
}
