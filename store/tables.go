package store

import (
	"maps"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gravenio/graven/placement"
)

// tables are what a View shows: decoded records and the indexes over them. The
// view's lock guards them. Records are replaced, never changed.
type tables struct {
	daemons map[string]*daemonRow
	logs    map[string]*logRow
	names   map[string]string // log name to ID
	index   *placement.Index
	// unmarked are daemons that are not live and whose record does not say so.
	unmarked map[string]struct{}
	journal  journalTable
	made     time.Time // what ended before is not known

	operators  map[string]*operatorRow
	planner    *plannerRecord
	plannerMod int64
	candidates map[string]candidate // for the loops, by key
	ring       *keyRing
	period     periodRow
}

type daemonRow struct {
	rec       *daemonRecord // nil if only parts have been seen
	recMod    int64
	live      *liveRow
	reserved  int64
	spaceMod  int64
	replicas  map[string]string          // replica ID to log ID, from the logs' records
	learners  map[string]string          // those of replicas that are learners
	work      map[string]*operatorRecord // that the daemon is to carry out
	session   int64                      // another for each time that it was live; 0 if it has not been since
	condemned map[string]condemnedRecord
	heard     time.Time // newest renewal that this server handled
	downAt    time.Time // when this server saw the lease go
}

// liveRow is a daemon's sign of life. lease is what a heartbeat renews.
type liveRow struct {
	rec   *liveRecord
	mod   int64
	lease clientv3.LeaseID
	at    time.Time // when this server saw it

	summaries map[string]*ReplicaSummary // those of rec, by replica ID
}

func newLiveRow(rec *liveRecord, e entry, now time.Time) *liveRow {
	l := &liveRow{
		rec: rec, mod: e.mod, lease: e.lease, at: now,
		summaries: make(map[string]*ReplicaSummary, len(rec.Replicas)),
	}
	for i := range rec.Replicas {
		l.summaries[rec.Replicas[i].ReplicaID] = &rec.Replicas[i]
	}
	return l
}

type logRow struct {
	rec    *logRecord
	mod    int64
	writer *writerRow
	lost   time.Time // when the last writer's lease was seen to end
}

type writerRow struct {
	rec   *writerRecord
	mod   int64
	lease clientv3.LeaseID
}

func newTables() *tables {
	return &tables{
		daemons:  make(map[string]*daemonRow),
		logs:     make(map[string]*logRow),
		names:    make(map[string]string),
		index:    placement.NewIndex(),
		unmarked: make(map[string]struct{}),
		journal:  journalTable{rows: make(map[string]journalRow)},
		made:     time.Now(),

		operators:  make(map[string]*operatorRow),
		planner:    newPlannerRecord(),
		candidates: make(map[string]candidate),
	}
}

func (d *daemonRow) known() bool { return d.rec != nil }

func (d *daemonRow) empty() bool {
	return d.rec == nil && d.live == nil && d.spaceMod == 0 && len(d.replicas) == 0 && len(d.condemned) == 0 && len(d.work) == 0
}

func (d *daemonRow) state() DaemonState {
	switch {
	case d.live == nil:
		return DaemonDown
	case d.rec != nil && d.rec.Draining:
		return DaemonDraining
	}
	return DaemonUp
}

// addresses are the live ones, else the last known.
func (d *daemonRow) addresses() Addresses {
	switch {
	case d.live != nil:
		return d.live.rec.Addresses
	case d.rec != nil:
		return d.rec.Addresses
	}
	return Addresses{}
}

// free is what may still be promised.
func (d *daemonRow) free() int64 {
	if d.rec == nil {
		return 0
	}
	free := unreserved(d.rec, d.reserved)
	if d.live != nil {
		free = min(free, d.live.rec.FreeBytes)
	}
	return max(0, free)
}

// unreserved is what the books leave of a daemon's capacity.
func unreserved(rec *daemonRecord, reserved int64) int64 {
	return rec.CapacityBytes - rec.QuarantinedBytes - reserved
}

// daemon assembles the public form.
func (t *tables) daemon(id string, d *daemonRow) Daemon {
	out := Daemon{
		DaemonID: id, PoolID: d.rec.PoolID, Incarnation: d.rec.Incarnation,
		State: d.state(), Draining: d.rec.Draining, Addresses: d.addresses(),
		CapacityBytes: d.rec.CapacityBytes, FreeBytes: d.free(), ReservedBytes: d.reserved,
		QuarantinedBytes: d.rec.QuarantinedBytes, Media: d.rec.Media,
		Transports: slices.Clone(d.rec.Transports), FlushModes: slices.Clone(d.rec.FlushModes),
		Labels: maps.Clone(d.rec.Labels), Version: d.rec.Version,
		Quarantined: slices.Clone(d.rec.Quarantined), RegisteredAt: d.rec.RegisteredAt,
		LastSeen:    d.rec.LastSeen,
		Identity:    d.rec.Identity,
		ModRevision: max(d.recMod, d.spaceMod),
	}
	if l := d.live; l != nil {
		out.Health, out.LeaseTTLSeconds = l.rec.Health, l.rec.TTLSeconds
		out.Replicas, out.Missing = slices.Clone(l.rec.Replicas), slices.Clone(l.rec.Missing)
		out.ReportedAt = l.rec.ReportedAt
		out.LastSeen = latest(out.LastSeen, l.rec.ReportedAt, d.heard.UTC())
		out.ModRevision = max(out.ModRevision, l.mod)
		return out
	}
	out.DownSince = d.rec.DownSince
	if out.DownSince.IsZero() {
		out.DownSince = d.downAt.UTC()
		out.LastSeen = latest(out.LastSeen, d.heard.UTC())
	}
	return out
}

func latest(ts ...time.Time) time.Time {
	return slices.MaxFunc(ts, time.Time.Compare)
}

// log assembles the public form.
func (t *tables) log(id string, l *logRow) Log {
	out := Log{
		LogID: id, Name: l.rec.Name, AckQuorum: l.rec.AckQuorum,
		CapacityBytes: l.rec.CapacityBytes, ReplicaBytes: l.rec.ReplicaBytes,
		SetVersion: l.rec.SetVersion, Epoch: l.rec.Epoch,
		Replicas:  make([]Replica, len(l.rec.Replicas)),
		CreatedAt: l.rec.CreatedAt, ModRevision: l.mod, State: LogClosed,
		Owner: l.rec.Owner, Groups: slices.Clone(l.rec.Groups),
	}
	degraded := false
	for i, r := range l.rec.Replicas {
		out.Replicas[i] = t.replica(r)
		if r.State != ReplicaLearner && (out.Replicas[i].Missing || !out.Replicas[i].live()) {
			degraded = true
		}
	}
	if l.writer != nil {
		w := l.writer.rec.Writer
		out.Writer, out.State = &w, LogOpen
	}
	switch {
	case out.Writer != nil && out.Writer.Recovering:
		out.State = LogRecovering
	case degraded:
		out.State = LogDegraded
	}
	return out
}

func (r *Replica) live() bool {
	return r.DaemonState == DaemonUp || r.DaemonState == DaemonDraining
}

func (t *tables) replica(r replicaRecord) Replica {
	out := Replica{ReplicaID: r.ReplicaID, DaemonID: r.DaemonID, State: r.State, Replaces: r.Replaces}
	d := t.daemons[r.DaemonID]
	if d == nil || d.rec == nil {
		return out
	}
	out.DaemonState = d.state()
	if d.live == nil {
		return out
	}
	out.Missing = slices.Contains(d.live.rec.Missing, r.ReplicaID)
	if sum := d.live.summaries[r.ReplicaID]; sum != nil && !out.Missing { // else it is of something else
		reported := *sum
		out.Reported, out.ReportedAt = &reported, d.live.rec.ReportedAt
	}
	return out
}

// endpoints are where a log's replicas are to be reached.
func (t *tables) endpoints(replicas []replicaRecord) []Endpoint {
	out := make([]Endpoint, len(replicas))
	for i, r := range replicas {
		out[i] = Endpoint{ReplicaID: r.ReplicaID, DaemonID: r.DaemonID, State: r.State, Replaces: r.Replaces}
		if d := t.daemons[r.DaemonID]; d != nil {
			out[i].Live, out[i].Addresses = d.live != nil, d.addresses()
		}
	}
	return out
}
