package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gravenio/graven/openapi"
)

// TestPoolsThatAreRefused: each way in which a pool is not the daemon's has a
// type of its own, and leaves no trace.
func TestPoolsThatAreRefused(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	c.three()
	known := daemonSpec{id: "d9", n: 9}.request()
	known.Incarnation = 5
	if a := c.put("d9", known); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	before := c.contents()
	for _, tc := range []struct {
		name string
		id   string
		edit func(r *openapi.RegisterRequest)
		want openapi.ProblemType
	}{
		{"rolled back", "d9", func(r *openapi.RegisterRequest) { r.Incarnation = 4 }, openapi.ProblemPoolRolledBack},
		{"cloned", "d9", func(r *openapi.RegisterRequest) { r.TCPPort += 100 }, openapi.ProblemPoolCloned},
		{"cloned, under an ID of its own", "d8", func(r *openapi.RegisterRequest) { r.TCPPort += 100 }, openapi.ProblemPoolMismatch},
		{"another daemon's", "d9", func(r *openapi.RegisterRequest) { r.PoolID = daemonSpec{n: 1}.request().PoolID }, openapi.ProblemPoolMismatch},
		{"wiped", "d9", func(r *openapi.RegisterRequest) { r.PoolID = noUUID; r.Incarnation = 1 }, openapi.ProblemPoolWiped},
		{"out of reach", "d9", func(r *openapi.RegisterRequest) { r.Incarnation = 1<<53 - 1 }, openapi.ProblemIncarnationAhead},
		{"new and out of reach", "d8", func(r *openapi.RegisterRequest) {
			r.PoolID, r.TCPPort, r.Incarnation = noUUID, r.TCPPort+100, 1<<33
		}, openapi.ProblemIncarnationAhead},
		{"at another's address", "d9", func(r *openapi.RegisterRequest) { r.Incarnation, r.TCPPort = 6, 20001 }, openapi.ProblemAddressInUse},
		{"with a lease of a second", "d9", func(r *openapi.RegisterRequest) { r.LeaseTTLSeconds = 1 }, openapi.ProblemTTLTooShort},
		{"with too many labels", "d9", func(r *openapi.RegisterRequest) {
			r.Labels = map[string]string{}
			for i := range 65 {
				r.Labels[fmt.Sprint("l", i)] = "x"
			}
		}, openapi.ProblemInvalidRequest},
		{"with an endless label", "d9", func(r *openapi.RegisterRequest) {
			r.Labels = map[string]string{"zone": strings.Repeat("z", 256)}
		}, openapi.ProblemInvalidRequest},
		{"with a replica twice", "d9", func(r *openapi.RegisterRequest) {
			r.Replicas = []openapi.ReplicaSummary{{ReplicaID: noUUID, LogID: noUUID}, {ReplicaID: noUUID, LogID: noUUID, Bytes: 4096}}
		}, openapi.ProblemInvalidRequest},
	} {
		r := known
		tc.edit(&r)
		a := c.put(tc.id, r)
		if p := a.problem(t); p.Type != tc.want || p.Detail == "" {
			t.Errorf("a pool %s: %d %s, want %s", tc.name, a.status, a.body, tc.want)
		}
	}
	if a := c.do(http.MethodPost, "/v1/daemons/d9/heartbeat", `{"incarnation":9007199254740991,"free_bytes":1}`); a.problem(t).Type != openapi.ProblemLeaseExpired {
		t.Errorf("a heartbeat of an incarnation that never was: %d %s", a.status, a.body)
	}
	c.unchanged(before)
	// The true one goes on.
	if a := c.do(http.MethodPost, "/v1/daemons/d9/heartbeat", `{"incarnation":5,"free_bytes":4294967296}`); a.status != http.StatusOK {
		t.Errorf("its heartbeat: %d %s", a.status, a.body)
	}
}

func (c *cluster) put(id string, r openapi.RegisterRequest) answer {
	c.t.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.do(http.MethodPut, "/v1/daemons/"+id, string(b))
}

// TestInventoryOfEveryKind registers a pool with a region of each kind. Each is
// judged, listed and counted once: what is free is never promised twice.
func TestInventoryOfEveryKind(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	c.three()
	kept, gone, sized, lost := c.createLog("kept"), c.createLog("gone"), c.createLog("sized"), c.createLog("lost")
	c.present(kept)
	c.present(sized)
	c.present(lost)
	c.deleted(gone)
	of := func(l openapi.Log, daemon string) openapi.ReplicaSummary {
		i := slices.IndexFunc(l.Replicas, func(r openapi.Replica) bool { return r.DaemonID == daemon })
		return openapi.ReplicaSummary{ReplicaID: l.Replicas[i].ReplicaID, LogID: l.LogID, Bytes: l.ReplicaBytes}
	}
	stranger := openapi.ReplicaSummary{ReplicaID: noUUID, LogID: noUUID, Bytes: 8192}
	anothers := of(kept, "d2")
	wrongLog := of(gone, "d1")
	wrongLog.ReplicaID, wrongLog.LogID = of(lost, "d1").ReplicaID, kept.LogID
	wrongSize := of(sized, "d1")
	wrongSize.Bytes += 4096

	r := daemonSpec{id: "d1", n: 1, labels: map[string]string{"host": "d1", "zone": "zd1"}}.request()
	r.Incarnation = 2
	r.Replicas = []openapi.ReplicaSummary{of(kept, "d1"), of(gone, "d1"), stranger, anothers, wrongLog, wrongSize}
	var used int64
	for _, s := range r.Replicas {
		used += s.Bytes
	}
	r.FreeBytes = r.CapacityBytes - used
	a := c.put("d1", r)
	var got openapi.Registration
	if err := json.Unmarshal(a.body, &got); err != nil || a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	want := []openapi.ReplicaVerdictAction{
		openapi.ActionKeep, openapi.ActionRemove, openapi.ActionQuarantine, openapi.ActionQuarantine, openapi.ActionQuarantine, openapi.ActionQuarantine,
	}
	for i, v := range got.Replicas {
		if v.ReplicaID != r.Replicas[i].ReplicaID || v.Action != want[i] {
			t.Errorf("region %d: %+v, want %s", i, v, want[i])
		}
	}
	missing := []string{of(sized, "d1").ReplicaID, of(lost, "d1").ReplicaID}
	slices.Sort(missing)
	if !slices.Equal(got.Missing, missing) {
		t.Errorf("missing %v, want %v", got.Missing, missing)
	}

	d := get[openapi.Daemon](c, "/v1/daemons/d1")
	quarantined := stranger.Bytes + anothers.Bytes + wrongLog.Bytes + wrongSize.Bytes
	reserved := 4 * kept.ReplicaBytes // of three logs and the region to be removed
	if d.QuarantinedBytes != quarantined || len(d.Quarantined) != 4 || d.ReservedBytes != reserved ||
		d.FreeBytes != min(r.FreeBytes, r.CapacityBytes-quarantined-reserved) {
		t.Errorf("%d bytes quarantined in %d, %d reserved, %d free; want %d, 4, %d: %+v", d.QuarantinedBytes, len(d.Quarantined),
			d.ReservedBytes, d.FreeBytes, quarantined, reserved, d)
	}
	// A report repeats what is in the pool, and what is not as it should be.
	report, err := json.Marshal(openapi.HeartbeatRequest{Incarnation: 2, FreeBytes: r.FreeBytes, Replicas: r.Replicas})
	if err != nil {
		t.Fatal(err)
	}
	if a := c.do(http.MethodPost, "/v1/daemons/d1/heartbeat", string(report)); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for _, l := range []openapi.Log{sized, lost} {
		if now := get[openapi.Log](c, "/v1/logs/"+l.Name); now.State != openapi.LogDegraded {
			t.Errorf("log %s, of which a replica is missing: %s", l.Name, now.State)
		}
	}
	status := get[openapi.Status](c, "/v1/status")
	for _, kind := range []openapi.AlarmKind{openapi.AlarmQuarantine, openapi.AlarmReplicaMissing, openapi.AlarmLogDegraded} {
		if !slices.ContainsFunc(status.Alarms, func(al openapi.Alarm) bool { return al.Kind == kind }) {
			t.Errorf("no alarm of kind %s in %+v", kind, status.Alarms)
		}
	}
	if b := status.Bytes; b.Quarantined != quarantined || b.Reserved != 12*kept.ReplicaBytes || b.Condemned != 3*kept.ReplicaBytes {
		t.Errorf("bytes of all: %+v", b)
	}

	// The region is removed once, however often the daemon says so.
	for range 3 {
		c.removed("d1", 2, of(gone, "d1"))
		if d := get[openapi.Daemon](c, "/v1/daemons/d1"); d.ReservedBytes != reserved-kept.ReplicaBytes {
			t.Errorf("%d bytes reserved after the removal, want %d", d.ReservedBytes, reserved-kept.ReplicaBytes)
		}
	}
	// Nor does a word about another's region, or about one that stays, free a byte.
	c.removed("d1", 2, of(gone, "d2"))
	c.removed("d1", 2, of(kept, "d1"))
	if b := get[openapi.Status](c, "/v1/status").Bytes; b.Reserved != 11*kept.ReplicaBytes || b.Condemned != 2*kept.ReplicaBytes {
		t.Errorf("bytes of all after removals that were none: %+v", b)
	}
}

// removed is a daemon's word that a region is gone.
func (c *cluster) removed(daemon string, incarnation int64, r openapi.ReplicaSummary) {
	c.t.Helper()
	b, err := json.Marshal(openapi.HeartbeatRequest{
		Incarnation: incarnation, FreeBytes: 1 << 30,
		Results: []openapi.OperatorResult{{
			OperatorID: "remove-replica-" + r.ReplicaID, Kind: openapi.OperatorRemoveReplica, ReplicaID: r.ReplicaID, Ok: true,
		}},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	if a := c.do(http.MethodPost, "/v1/daemons/"+daemon+"/heartbeat", string(b)); a.status != http.StatusOK {
		c.t.Fatalf("%d %s", a.status, a.body)
	}
}

// present makes all replicas of a log present, as its first writer does.
func (c *cluster) present(l openapi.Log) {
	c.t.Helper()
	w := c.opened(l)
	var changes []string
	for _, r := range l.Replicas {
		changes = append(changes, fmt.Sprintf(`{"replica_id":%q,"state":"present"}`, r.ReplicaID))
	}
	a := c.do(http.MethodPost, "/v1/logs/"+l.Name+"/replicas", fmt.Sprintf(
		`{"epoch":%d,"nonce":%q,"set_version":1,"replicas":[%s]}`, w.Epoch, w.Nonce, strings.Join(changes, ",")))
	if a.status != http.StatusOK {
		c.t.Fatalf("%d %s", a.status, a.body)
	}
	c.closed(l, w)
}

// deleted opens and closes a log, so that grants may name it, and deletes it.
func (c *cluster) deleted(l openapi.Log) {
	c.t.Helper()
	c.closed(l, c.opened(l))
	if a := c.do(http.MethodDelete, "/v1/logs/"+l.Name, ""); a.status != http.StatusNoContent {
		c.t.Fatalf("%d %s", a.status, a.body)
	}
}

func (c *cluster) opened(l openapi.Log) (w openapi.OpenedLog) {
	c.t.Helper()
	a := c.do(http.MethodPost, "/v1/logs/"+l.Name+"/open", `{"writer":{"host":"h","pid":1}}`)
	if err := json.Unmarshal(a.body, &w); err != nil || a.status != http.StatusOK {
		c.t.Fatalf("%d %s", a.status, a.body)
	}
	return w
}

func (c *cluster) closed(l openapi.Log, w openapi.OpenedLog) {
	c.t.Helper()
	a := c.do(http.MethodPost, "/v1/logs/"+l.Name+"/close", fmt.Sprintf(`{"writer_id":%q,"epoch":%d,"nonce":%q}`, w.WriterID, w.Epoch, w.Nonce))
	if a.status >= 300 {
		c.t.Fatalf("%d %s", a.status, a.body)
	}
}

// TestSealsBeforeAnOpen: replicas that know a newer set than the record stop an open
// until all of that set is found, and are what it then goes on with.
func TestSealsBeforeAnOpen(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	c.three()
	l := c.createLog("l1")
	newer := daemonSpec{id: "d9", n: 9}.request()
	again := func(r openapi.RegisterRequest, id, replica string, seals ...openapi.ReplicaSeal) {
		t.Helper()
		r.Replicas, r.Seals = []openapi.ReplicaSummary{{ReplicaID: replica, LogID: l.LogID, Bytes: l.ReplicaBytes}}, seals
		if a := c.put(id, r); a.status != http.StatusOK {
			t.Fatalf("%s: %d %s", id, a.status, a.body)
		}
	}
	var set []string
	for _, r := range l.Replicas[1:] {
		set = append(set, r.ReplicaID)
	}
	set = append(set, noUUID)
	member, n := l.Replicas[1], 0
	if _, err := fmt.Sscanf(member.DaemonID, "d%d", &n); err != nil {
		t.Fatal(err)
	}
	again(daemonSpec{id: member.DaemonID, n: n}.request(), member.DaemonID, member.ReplicaID,
		openapi.ReplicaSeal{ReplicaID: member.ReplicaID, SetVersion: 2, Set: set})

	open := `{"writer":{"host":"h","pid":1}}`
	a := c.do(http.MethodPost, "/v1/logs/l1/open", open)
	if p := a.problem(t); p.Type != openapi.ProblemSetBehind || !strings.Contains(p.Detail, noUUID) {
		t.Errorf("an open without the newer replica: %d %s", a.status, a.body)
	}
	again(newer, "d9", noUUID)
	a = c.do(http.MethodPost, "/v1/logs/l1/open", open)
	var got openapi.OpenedLog
	if err := json.Unmarshal(a.body, &got); err != nil || got.SetVersion != 2 || len(got.Replicas) != 3 {
		t.Errorf("an open with it: %d %s", a.status, a.body)
	}
	if a := c.do(http.MethodPost, "/v1/daemons/d9/heartbeat", `{"incarnation":1,"free_bytes":1}`); a.problem(t).Type != openapi.ProblemLeaseExpired {
		t.Errorf("a heartbeat of the daemon that has it in quarantine: %d %s", a.status, a.body)
	}
	bad := newer
	bad.Seals = []openapi.ReplicaSeal{{ReplicaID: noUUID, SetVersion: 2, Set: set}}
	if a := c.put("d9", bad); a.problem(t).Type != openapi.ProblemInvalidRequest {
		t.Errorf("a seal of a replica that is not in the inventory: %d %s", a.status, a.body)
	}
}
