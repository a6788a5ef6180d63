package store

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gravenio/graven/placement"
)

// set takes one key's value into the tables. Tables that the view does not
// show are passed over.
func (t *tables) set(e entry, now time.Time) error {
	table, id := splitKey(e.key)
	switch table {
	case tableDaemons:
		return load(e, func(rec *daemonRecord) {
			d := t.row(id)
			d.rec, d.recMod = rec, e.mod
			t.refresh(id)
		})
	case tableLive:
		return load(e, func(rec *liveRecord) {
			d := t.row(id)
			if d.live == nil || d.live.lease != e.lease {
				d.session = e.mod
			}
			d.live, d.downAt = newLiveRow(rec, e, now), time.Time{}
			t.refresh(id)
		})
	case tableSpace:
		return load(e, func(rec *spaceRecord) {
			d := t.row(id)
			d.reserved, d.spaceMod = rec.ReservedBytes, e.mod
			t.refresh(id)
		})
	case tableLogs:
		return load(e, func(rec *logRecord) { t.setLog(id, rec, e.mod) })
	case tableWriters:
		return load(e, func(rec *writerRecord) {
			if l := t.logs[id]; l != nil {
				l.writer = &writerRow{rec: rec, mod: e.mod, lease: e.lease}
			}
		})
	case tableOperators:
		return load(e, func(rec *operatorRecord) { t.setOperator(id, rec, e.mod) })
	case tablePlanner:
		return load(e, func(rec *plannerRecord) { t.planner, t.plannerMod = rec, e.mod })
	case tableElection:
		t.candidates[e.key] = candidate{name: string(e.value), since: e.mod}
	case tableCondemned:
		daemonID, replicaID, ok := strings.Cut(id, "/")
		if !ok {
			return fmt.Errorf("store: key %s names no replica", e.key)
		}
		return load(e, func(rec *condemnedRecord) { t.row(daemonID).condemned[replicaID] = *rec })
	case tableEvents:
		t.journal.set(id, e)
	case tableKeys:
		return t.setGranting(e, now)
	}
	return nil
}

// setGranting takes what grants are made by.
func (t *tables) setGranting(e entry, now time.Time) error {
	switch e.key {
	case keyGrantKey:
		ring, err := decodeRing(e.key, e.value)
		if err != nil {
			return err
		}
		t.ring = &ring
	case keyPeriod:
		return load(e, func(rec *periodRecord) { t.period = periodRow{n: rec.Period, mod: e.mod, at: now} })
	}
	return nil
}

func load[T interface{ schemaVersion() int }](e entry, use func(*T)) error {
	rec, err := decode[T](e.key, e.value)
	if err != nil {
		return err
	}
	use(&rec)
	return nil
}

// remove takes one key out of the tables.
func (t *tables) remove(key string, now time.Time) {
	table, id := splitKey(key)
	switch table {
	case tableDaemons:
		t.row(id).rec = nil
		t.refresh(id)
	case tableLive:
		d := t.row(id)
		if d.live != nil {
			d.heard = latest(d.heard, d.live.lastRenewal(now))
		}
		d.live, d.downAt = nil, now
		t.refresh(id)
	case tableSpace:
		d := t.row(id)
		d.reserved, d.spaceMod = 0, 0
		t.refresh(id)
	case tableLogs:
		t.removeLog(id)
	case tableWriters:
		if l := t.logs[id]; l != nil {
			l.writer, l.lost = nil, now
		}
	case tableOperators:
		t.removeOperator(id)
	case tablePlanner:
		t.planner, t.plannerMod = newPlannerRecord(), 0
	case tableElection:
		delete(t.candidates, key)
	case tableCondemned:
		daemonID, replicaID, _ := strings.Cut(id, "/")
		delete(t.row(daemonID).condemned, replicaID)
		t.refresh(daemonID)
	case tableEvents:
		t.journal.remove(id)
	}
}

// lastRenewal is when the daemon was heard of at the latest by some server,
// given when its lease ended: that was at least a time to live after it. Only
// people look at it.
func (l *liveRow) lastRenewal(end time.Time) time.Time {
	return latest(l.rec.ReportedAt, end.Add(-time.Duration(l.rec.TTLSeconds)*time.Second))
}

// row returns the daemon's row, making it if need be.
func (t *tables) row(id string) *daemonRow {
	d := t.daemons[id]
	if d == nil {
		d = &daemonRow{
			replicas:  make(map[string]string),
			learners:  make(map[string]string),
			work:      make(map[string]*operatorRecord),
			condemned: make(map[string]condemnedRecord),
		}
		t.daemons[id] = d
	}
	return d
}

// refresh brings the indexes up to a daemon's row and drops a row that holds
// nothing.
func (t *tables) refresh(id string) {
	d := t.daemons[id]
	if d.live == nil && d.rec != nil && d.rec.DownSince.IsZero() {
		t.unmarked[id] = struct{}{}
	} else {
		delete(t.unmarked, id)
	}
	if d.rec == nil {
		t.index.Delete(id)
		if d.empty() {
			delete(t.daemons, id)
		}
		return
	}
	t.index.Put(d.placeable(id))
}

// placeable is the daemon as placement knows it.
func (d *daemonRow) placeable(id string) placement.Daemon {
	return placement.Daemon{
		ID: id, Labels: d.rec.Labels, Media: d.rec.Media, Transports: d.rec.Transports,
		FreeBytes: d.free(), CapacityBytes: d.rec.CapacityBytes,
		Up: d.live != nil, Draining: d.rec.Draining,
		ReadOnly: d.live != nil && d.live.rec.Health.readOnly(),
	}
}

func (t *tables) setLog(id string, rec *logRecord, mod int64) {
	l := t.logs[id]
	if l == nil {
		l = &logRow{}
		t.logs[id] = l
	} else {
		t.unlist(id, l.rec)
	}
	l.rec, l.mod = rec, mod
	t.names[rec.Name] = id
	for _, r := range rec.Replicas {
		d := t.row(r.DaemonID)
		d.replicas[r.ReplicaID] = id
		if r.State == ReplicaLearner {
			d.learners[r.ReplicaID] = id
		}
	}
}

func (t *tables) removeLog(id string) {
	if l := t.logs[id]; l != nil {
		t.unlist(id, l.rec)
		delete(t.logs, id)
	}
}

// unlist takes a log's record out of the indexes.
func (t *tables) unlist(id string, rec *logRecord) {
	if t.names[rec.Name] == id {
		delete(t.names, rec.Name)
	}
	for _, r := range rec.Replicas {
		d := t.row(r.DaemonID)
		delete(d.replicas, r.ReplicaID)
		delete(d.learners, r.ReplicaID)
		t.refresh(r.DaemonID)
	}
}

// inherit keeps what only this server knows of the daemons when the tables are
// built anew.
func (t *tables) inherit(old *tables) {
	if t.period.mod == old.period.mod {
		t.period.at = old.period.at
	}
	for id, d := range t.daemons {
		if o := old.daemons[id]; o != nil {
			d.heard = o.heard
			if d.live == nil {
				d.downAt, d.session = o.downAt, o.session
			}
			if d.live != nil && o.live != nil && d.live.mod == o.live.mod {
				d.live.at = o.live.at
			}
		}
	}
}

// reconcile judges a daemon's inventory by the logs and tombstones that etcd
// has. missing are replicas that should be present on it and are not to be had:
// the inventory does not have them, or claims something else under their ID.
func (t *tables) reconcile(daemonID string, inventory []ReplicaSummary) (verdicts []ReplicaVerdict, missing []string) {
	d := t.daemons[daemonID]
	if d == nil {
		d = &daemonRow{}
	}
	kept := make(map[string]bool, len(inventory))
	for _, r := range inventory {
		v := t.verdict(d, r)
		kept[r.ReplicaID] = v.Verdict == VerdictKeep
		verdicts = append(verdicts, v)
	}
	for replicaID, logID := range d.replicas {
		if r := t.logs[logID].rec.replica(replicaID); r.State == ReplicaPresent && !kept[replicaID] {
			missing = append(missing, replicaID)
		}
	}
	slices.Sort(missing)
	return verdicts, missing
}

// verdict is what becomes of one region. Whatever does not agree with the books
// in every respect is nobody's: to serve it could be wrong, to remove it, too.
func (t *tables) verdict(d *daemonRow, r ReplicaSummary) ReplicaVerdict {
	v := ReplicaVerdict{ReplicaID: r.ReplicaID, LogID: r.LogID, Verdict: VerdictQuarantine}
	if rec, ok := d.condemned[r.ReplicaID]; ok && rec.LogID == r.LogID {
		v.Verdict, v.SetVersion = VerdictRemove, rec.SetVersion
	} else if logID, ok := d.replicas[r.ReplicaID]; ok && logID == r.LogID && t.logs[logID].rec.ReplicaBytes == r.Bytes {
		v.Verdict = VerdictKeep
	}
	return v
}
