package soak

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
)

const prefix = "/graven/"

// The records as this package reads them.
type (
	daemonRecord struct {
		PoolID           string   `json:"pool_id"`
		Capacity         int64    `json:"capacity_bytes"`
		Quarantined      []string `json:"quarantined"`
		QuarantinedBytes int64    `json:"quarantined_bytes"`
		Draining         bool     `json:"draining"`
	}
	goneRecord struct {
		PoolID string `json:"pool_id"`
		Lost   bool   `json:"lost"`
	}
	operatorRecord struct {
		Kind      string `json:"kind"`
		Reason    string `json:"reason"`
		State     string `json:"state"`
		LogID     string `json:"log_id"`
		LearnerID string `json:"learner_id"`
		DaemonID  string `json:"daemon_id"`
		To        string `json:"to"`
	}
	plannerRecord struct {
		Limits struct {
			Cluster   int `json:"cluster"`
			PerDaemon int `json:"per_daemon"`
		} `json:"limits"`
	}
	liveRecord struct {
		Incarnation uint64   `json:"incarnation"`
		Free        int64    `json:"free_bytes"`
		Missing     []string `json:"missing"`
	}
	spaceRecord struct {
		Reserved int64 `json:"reserved_bytes"`
	}
	replicaRecord struct {
		ID       string `json:"replica_id"`
		Daemon   string `json:"daemon_id"`
		State    string `json:"state"`
		Replaces string `json:"replaces"`
		Operator string `json:"operator"`
	}
	logRecord struct {
		Name         string          `json:"name"`
		ReplicaBytes int64           `json:"replica_bytes"`
		Replicas     []replicaRecord `json:"replicas"`
		SetVersion   uint64          `json:"set_version"`
		Epoch        uint64          `json:"epoch"`
		Nonce        string          `json:"nonce"`
	}
	nameRecord struct {
		LogID string `json:"log_id"`
	}
	condemnedRecord struct {
		LogID string `json:"log_id"`
		Bytes int64  `json:"bytes"`
	}
)

// books are all that etcd holds at one revision.
type books struct {
	revision  int64
	daemons   map[string]daemonRecord
	live      map[string]liveRecord
	space     map[string]spaceRecord
	logs      map[string]logRecord
	names     map[string]nameRecord
	condemned map[string]condemnedRecord // by daemon/replica
	gone      map[string]goneRecord
	operators map[string]operatorRecord
	planner   map[string]plannerRecord // one, by ""
	writers   map[string]bool          // by log
	others    map[string]int           // keys, by table
}

func newBooks() *books {
	return &books{
		daemons: map[string]daemonRecord{}, live: map[string]liveRecord{}, space: map[string]spaceRecord{},
		logs: map[string]logRecord{}, names: map[string]nameRecord{}, condemned: map[string]condemnedRecord{},
		gone: map[string]goneRecord{}, operators: map[string]operatorRecord{}, planner: map[string]plannerRecord{},
		writers: map[string]bool{}, others: map[string]int{},
	}
}

func (b *books) clone() *books {
	return &books{
		revision: b.revision,
		daemons:  maps.Clone(b.daemons), live: maps.Clone(b.live), space: maps.Clone(b.space),
		logs: maps.Clone(b.logs), names: maps.Clone(b.names), condemned: maps.Clone(b.condemned),
		gone: maps.Clone(b.gone), operators: maps.Clone(b.operators), planner: maps.Clone(b.planner),
		writers: maps.Clone(b.writers), others: maps.Clone(b.others),
	}
}

// set takes a key's new value.
func (b *books) set(key string, value []byte) error {
	table, id, _ := strings.Cut(strings.TrimPrefix(key, prefix), "/")
	switch table {
	case "daemons":
		return into(b.daemons, key, id, value)
	case "live":
		return into(b.live, key, id, value)
	case "space":
		return into(b.space, key, id, value)
	case "logs":
		return into(b.logs, key, id, value)
	case "lognames":
		return into(b.names, key, id, value)
	case "condemned":
		return into(b.condemned, key, id, value)
	case "gone":
		return into(b.gone, key, id, value)
	case "operators":
		return into(b.operators, key, id, value)
	case "planner":
		return into(b.planner, key, id, value)
	case "writers":
		b.writers[id] = true
	default:
		b.others[table]++
	}
	return nil
}

func into[T any](m map[string]T, key, id string, value []byte) error {
	var rec T
	if err := json.Unmarshal(value, &rec); err != nil {
		return fmt.Errorf("soak: value of %s: %w", key, err)
	}
	m[id] = rec
	return nil
}

// remove takes a key away.
func (b *books) remove(key string) {
	table, id, _ := strings.Cut(strings.TrimPrefix(key, prefix), "/")
	switch table {
	case "daemons":
		delete(b.daemons, id)
	case "live":
		delete(b.live, id)
	case "space":
		delete(b.space, id)
	case "logs":
		delete(b.logs, id)
	case "lognames":
		delete(b.names, id)
	case "condemned":
		delete(b.condemned, id)
	case "gone":
		delete(b.gone, id)
	case "operators":
		delete(b.operators, id)
	case "planner":
		delete(b.planner, id)
	case "writers":
		delete(b.writers, id)
	default:
		b.others[table]--
	}
}

// audit lists what does not add up. It holds at every revision.
func (b *books) audit() []string {
	var wrong []string
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	owed, where := b.owed(say)
	for _, id := range sorted(b.daemons) {
		space, ok := b.space[id]
		switch {
		case !ok:
			say("daemon %s has no books", id)
		case space.Reserved != owed[id]:
			say("daemon %s: %d bytes are reserved, its replicas and what is condemned on it are %d (%+d):\n    %s",
				id, space.Reserved, owed[id], space.Reserved-owed[id], strings.Join(where[id], "\n    "))
		case space.Reserved > b.daemons[id].Capacity:
			say("daemon %s: %d bytes are reserved of %d", id, space.Reserved, b.daemons[id].Capacity)
		}
	}
	for _, id := range sorted(b.space) {
		if _, ok := b.daemons[id]; !ok {
			say("books without a daemon: %s", id)
		}
	}
	b.auditNames(say)
	b.auditGone(say)
	b.auditOperators(say)
	for _, id := range sorted(b.writers) {
		if _, ok := b.logs[id]; !ok {
			say("log %s has a writer and no record", id)
		}
	}
	return wrong
}

// owed is what the replicas and the condemned ones take of each daemon, and
// which those are.
func (b *books) owed(say func(string, ...any)) (map[string]int64, map[string][]string) {
	owed, where, seen := map[string]int64{}, map[string][]string{}, map[string]string{}
	add := func(daemon, replica, what string, bytes int64) {
		if other, twice := seen[replica]; twice {
			say("replica %s is in two places: %s, %s", replica, other, what)
		}
		seen[replica] = what
		owed[daemon] += bytes
		where[daemon] = append(where[daemon], fmt.Sprintf("%d for %s, replica %s", bytes, what, replica))
	}
	for _, id := range sorted(b.logs) {
		l := b.logs[id]
		learners, on := 0, map[string]bool{}
		for _, r := range l.Replicas {
			if r.State == "learner" {
				learners++
			}
			if on[r.Daemon] {
				say("log %s (%s) has two replicas on %s", id, l.Name, r.Daemon)
			}
			on[r.Daemon] = true
			add(r.Daemon, r.ID, fmt.Sprintf("log %s (%s), %s", id, l.Name, r.State), l.ReplicaBytes)
		}
		if learners > 1 {
			say("log %s (%s) has %d learners", id, l.Name, learners)
		}
	}
	for _, key := range sorted(b.condemned) {
		daemon, replica, _ := strings.Cut(key, "/")
		add(daemon, replica, "condemned of log "+b.condemned[key].LogID, b.condemned[key].Bytes)
	}
	return owed, where
}

func (b *books) auditNames(say func(string, ...any)) {
	for _, name := range sorted(b.names) {
		if l, ok := b.logs[b.names[name].LogID]; !ok || l.Name != name {
			say("name %s leads to log %s, which is %q", name, b.names[name].LogID, l.Name)
		}
	}
	for _, id := range sorted(b.logs) {
		if b.names[b.logs[id].Name].LogID != id {
			say("log %s (%s) has no name", id, b.logs[id].Name)
		}
	}
}

// auditGone looks at what is on daemons that are not there: only replicas of those
// that were given up may be.
func (b *books) auditGone(say func(string, ...any)) {
	for _, id := range sorted(b.logs) {
		for _, r := range b.logs[id].Replicas {
			if _, here := b.daemons[r.Daemon]; !here && !b.gone[r.Daemon].Lost {
				say("log %s (%s) has a replica on %s, which is no daemon", id, b.logs[id].Name, r.Daemon)
			}
		}
	}
	for _, key := range sorted(b.condemned) {
		daemon, _, _ := strings.Cut(key, "/")
		if _, here := b.daemons[daemon]; !here {
			say("condemned on %s, which is no daemon", key)
		}
	}
	for _, id := range sorted(b.gone) {
		if d, here := b.daemons[id]; here && b.gone[id].Lost && d.PoolID == b.gone[id].PoolID {
			say("daemon %s was given up, and is back with pool %s", id, d.PoolID)
		}
	}
}

// requested is the reason of what a person, or a writer, asked for; no limit holds
// for that.
const requested = "requested"

// auditOperators compares the operators with the learners: each one that runs and
// has one is named by it, and the other way round. The planner's own keep to its
// limits.
func (b *books) auditOperators(say func(string, ...any)) {
	planned, working := 0, map[string]int{}
	for _, id := range sorted(b.operators) {
		o := b.operators[id]
		if o.State != "running" || o.Kind == "scrub" {
			continue
		}
		if o.Reason != requested {
			planned++
			working[o.worker()]++
		}
		if o.LearnerID != "" && !b.hasLearner(o.LogID, o.LearnerID, id) {
			say("operator %s runs, and log %s has no learner %s of it", id, o.LogID, o.LearnerID)
		}
	}
	if most := b.planner[""].Limits.Cluster; most > 0 && planned > most {
		say("%d planned operators run, and the limit is %d", planned, most)
	}
	for _, id := range sorted(working) {
		if most := b.planner[""].Limits.PerDaemon; most > 0 && working[id] > most {
			say("daemon %s works for %d planned operators, and the limit is %d", id, working[id], most)
		}
	}
	for _, id := range sorted(b.logs) {
		for _, r := range b.logs[id].Replicas {
			o := b.operators[r.Operator]
			if r.State == "learner" && (o.State != "running" || o.LogID != id || o.LearnerID != r.ID) {
				say("log %s (%s) has learner %s, and its operator %q is %+v", id, b.logs[id].Name, r.ID, r.Operator, o)
			}
		}
	}
}

// worker is the daemon that does the work: the one that takes the new replica, or
// recovers. One whose replica leaves may be down, and has none then.
func (o *operatorRecord) worker() string {
	if o.To != "" {
		return o.To
	}
	return o.DaemonID
}

func (b *books) hasLearner(log, learner, operator string) bool {
	return slices.ContainsFunc(b.logs[log].Replicas, func(r replicaRecord) bool {
		return r.State == "learner" && r.ID == learner && r.Operator == operator
	})
}

// empty says whether nothing is reserved on the daemon.
func (b *books) empty(daemon string) bool { return b.space[daemon].Reserved == 0 }

// orphans lists the replicas that were given up and are still in their logs.
func (b *books) orphans() []string {
	var out []string
	for _, id := range sorted(b.logs) {
		for _, r := range b.logs[id].Replicas {
			if b.gone[r.Daemon].Lost {
				out = append(out, fmt.Sprintf("log %s (%s) has a replica on %s, which was given up", id, b.logs[id].Name, r.Daemon))
			}
		}
	}
	return out
}

// restless lists what is still under way.
func (b *books) restless() []string {
	out := b.orphans()
	for _, id := range sorted(b.operators) {
		if o := b.operators[id]; o.State == "running" {
			out = append(out, fmt.Sprintf("operator %s runs: %+v", id, o))
		}
	}
	for _, id := range sorted(b.writers) {
		out = append(out, "log "+id+" has a writer's lease")
	}
	for _, key := range sorted(b.condemned) {
		out = append(out, "condemned: "+key)
	}
	for _, id := range sorted(b.logs) {
		for _, r := range b.logs[id].Replicas {
			if r.State == "learner" {
				out = append(out, fmt.Sprintf("log %s (%s) has a learner on %s", id, b.logs[id].Name, r.Daemon))
			}
		}
	}
	return append(out, b.away()...)
}

// away lists the daemons that are not all there.
func (b *books) away() []string {
	var out []string
	for _, id := range sorted(b.daemons) {
		live, ok := b.live[id]
		if !ok {
			out = append(out, "daemon "+id+" is down")
		}
		if len(live.Missing) > 0 {
			out = append(out, fmt.Sprintf("daemon %s misses %v", id, live.Missing))
		}
	}
	return out
}

func sorted[V any](m map[string]V) []string {
	keys := slices.Collect(maps.Keys(m))
	sort.Strings(keys)
	return keys
}
