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
	writers   map[string]bool            // by log
	others    map[string]int             // keys, by table
}

func newBooks() *books {
	return &books{
		daemons: map[string]daemonRecord{}, live: map[string]liveRecord{}, space: map[string]spaceRecord{},
		logs: map[string]logRecord{}, names: map[string]nameRecord{}, condemned: map[string]condemnedRecord{},
		writers: map[string]bool{}, others: map[string]int{},
	}
}

func (b *books) clone() *books {
	return &books{
		revision: b.revision,
		daemons:  maps.Clone(b.daemons), live: maps.Clone(b.live), space: maps.Clone(b.space),
		logs: maps.Clone(b.logs), names: maps.Clone(b.names), condemned: maps.Clone(b.condemned),
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

// restless lists what is still under way.
func (b *books) restless() []string {
	var out []string
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
