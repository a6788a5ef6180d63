package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/store"
)

// eventually polls a condition that no event announces.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// follow opens the event stream behind a revision.
func (c *cluster) follow(after int64) *openapi.EventReader {
	c.t.Helper()
	rsp, err := c.api().GetEvents(c.t.Context(), &openapi.GetEventsParams{LastEventID: &after})
	if err != nil {
		c.t.Fatal(err)
	}
	r, err := openapi.NewEventReader(rsp)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = r.Close() })
	return r
}

// until reads events to the first one that fits.
func until(t *testing.T, r *openapi.EventReader, what string, ok func(openapi.Event) bool) openapi.Event {
	t.Helper()
	for {
		e, err := r.Next()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if ok(e) {
			return e
		}
	}
}

// What curl alone can do: register with a short lease, see the daemon up, stop
// renewing, see it down, with nobody having written that.
func TestDaemonComesAndGoes(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	revision := c.store.View().Revision()
	a := c.do(http.MethodPut, "/v1/daemons/d1", body("lease_ttl_seconds", "2", "labels", `{"zone":"z1"}`, "transports", ""))
	var reg openapi.Registration
	if err := json.Unmarshal(a.body, &reg); a.status != http.StatusOK || err != nil {
		t.Fatalf("register: %d %s", a.status, a.body)
	}
	if reg.LeaseTTLSeconds != 2 || reg.ClusterID == "" || len(reg.Grants.Keys) != 1 || reg.RenewEverySeconds >= 2 {
		t.Errorf("registration %+v", reg)
	}
	if d := get[openapi.Daemon](c, "/v1/daemons/d1"); d.State != openapi.DaemonUp || d.DownSince != nil {
		t.Errorf("after registering: %+v", d)
	}
	if l := get[openapi.DaemonList](c, "/v1/daemons?state=up&label=zone=z1&media=file&transport=tcp"); len(l.Items) != 1 {
		t.Errorf("filtered list: %+v", l)
	}
	for _, none := range []string{"state=down", "label=zone=z2", "label=rack=z1", "media=pmem", "transport=verbs"} {
		if l := get[openapi.DaemonList](c, "/v1/daemons?"+none); len(l.Items) != 0 {
			t.Errorf("list with %s: %+v", none, l)
		}
	}
	if a := c.do(http.MethodPost, "/v1/daemons/d1/heartbeat", `{"incarnation":1,"free_bytes":4294967296}`); a.status != http.StatusOK {
		t.Errorf("heartbeat: %d %s", a.status, a.body)
	}
	events := c.follow(revision)
	until(t, events, "up", func(e openapi.Event) bool {
		return e.ID == "d1" && e.Daemon != nil && e.Daemon.State == openapi.DaemonUp
	})
	down := until(t, events, "down", func(e openapi.Event) bool {
		return e.ID == "d1" && e.Daemon != nil && e.Daemon.State == openapi.DaemonDown
	})
	if down.Daemon.DownSince == nil {
		t.Error("a down daemon without down_since")
	}
	if l := get[openapi.DaemonList](c, "/v1/daemons?state=down"); len(l.Items) != 1 {
		t.Errorf("down list: %+v", l)
	}
	late := c.do(http.MethodPost, "/v1/daemons/d1/heartbeat", `{"incarnation":1,"free_bytes":4294967296}`)
	if p := late.problem(t); late.status != http.StatusNotFound || p.Type != openapi.ProblemLeaseExpired {
		t.Errorf("late heartbeat: %d %s", late.status, late.body)
	}
	// The next incarnation is the same daemon; the one before is told to stop.
	if a := c.do(http.MethodPut, "/v1/daemons/d1", body("incarnation", "2")); a.status != http.StatusOK {
		t.Fatalf("register again: %d %s", a.status, a.body)
	}
	stale := c.do(http.MethodPost, "/v1/daemons/d1/heartbeat", `{"incarnation":1,"free_bytes":0}`)
	if p := stale.problem(t); stale.status != http.StatusConflict || p.Type != openapi.ProblemStaleIncarnation {
		t.Errorf("stale heartbeat: %d %s", stale.status, stale.body)
	}
	old := c.do(http.MethodPut, "/v1/daemons/d1", body("incarnation", "1"))
	if p := old.problem(t); old.status != http.StatusConflict || p.Type != openapi.ProblemPoolRolledBack {
		t.Errorf("rolled-back pool: %d %s", old.status, old.body)
	}
}

// The contract's largest inventory fits into the largest body, and one more
// replica is named as too many.
func TestLargestInventory(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	const most, far = 3072, int64(1)<<53 - 1
	d := daemonSpec{id: "d1", n: 1}.request()
	for i := range most {
		d.Replicas = append(d.Replicas, openapi.ReplicaSummary{
			ReplicaID: fmt.Sprintf("10000000-0000-4000-8000-%012d", i), LogID: noUUID, Bytes: 1 << 30, Epoch: far,
			TrimLSN: far, TailLSN: far, DurableLSN: far, CommitLSN: far, Suspect: true,
		})
	}
	for i := range 32 {
		d.Replicas[i].DamageLSN, d.Replicas[i].Damage = far, strings.Repeat("x", 256)
	}
	var set []string
	for i := range 7 {
		set = append(set, d.Replicas[i].ReplicaID)
	}
	for i := range 2048 {
		d.Seals = append(d.Seals, openapi.ReplicaSeal{ReplicaID: d.Replicas[i].ReplicaID, SetVersion: far, Set: set})
	}
	rsp, err := c.api().RegisterDaemonWithResponse(t.Context(), "d1", d)
	if err != nil {
		t.Fatal(err)
	}
	if err := openapi.Check(rsp); err != nil {
		t.Fatal(err)
	}
	if v := rsp.JSON200.Replicas; len(v) != most || v[0].Action != openapi.ActionQuarantine {
		t.Errorf("%d verdicts, the first %+v", len(v), v[:1])
	}
	d.Replicas = append(d.Replicas, d.Replicas[0])
	if rsp, err = c.api().RegisterDaemonWithResponse(t.Context(), "d1", d); err != nil {
		t.Fatal(err)
	}
	if err := openapi.Check(rsp); !openapi.IsProblem(err, openapi.ProblemInvalidRequest) {
		t.Errorf("one more: %v", err)
	}
}

func TestDaemonLeaves(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	c.register(daemonSpec{id: "d1", n: 1})
	a := c.do(http.MethodPost, "/v1/daemons/d1/heartbeat", `{"incarnation":1,"free_bytes":0,"leaving":true}`)
	var h openapi.HeartbeatAnswer
	if err := json.Unmarshal(a.body, &h); err != nil || a.status != http.StatusOK || h.LeaseTTLSeconds != 0 {
		t.Fatalf("leaving: %d %s", a.status, a.body)
	}
	if d := get[openapi.Daemon](c, "/v1/daemons/d1"); d.State != openapi.DaemonDown {
		t.Errorf("after leaving: %s", d.State)
	}
	tag := c.do(http.MethodGet, "/v1/daemons/d1", "").header.Get("ETag")
	if a := c.do(http.MethodDelete, "/v1/daemons/d1", "", "If-Match", `"1"`); a.status != http.StatusPreconditionFailed {
		t.Errorf("delete of another version: %d %s", a.status, a.body)
	}
	eventually(t, "the delete is let through", func() bool {
		// down_since is written a moment after the lease has gone.
		tag = c.do(http.MethodGet, "/v1/daemons/d1", "").header.Get("ETag")
		return c.do(http.MethodDelete, "/v1/daemons/d1", "", "If-Match", tag).status == http.StatusNoContent
	})
	gone := c.do(http.MethodPost, "/v1/daemons/d1/heartbeat", `{"incarnation":1,"free_bytes":0}`)
	if p := gone.problem(t); gone.status != http.StatusGone || p.Type != openapi.ProblemDaemonGone {
		t.Errorf("heartbeat of a deleted daemon: %d %s", gone.status, gone.body)
	}
}

// A log from its creation to its deletion.
func TestLogLife(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	c.three()
	place := get[openapi.Placement](c, "/v1/placements?replicas=3&replica_size=1048576&failure_domain=zone&transport=tcp")
	if len(place.Daemons) != 3 || place.Revision == 0 {
		t.Errorf("placement %+v", place)
	}
	l := c.createLog("l1")
	if len(l.Replicas) != 3 || l.AckQuorum != 2 || l.Epoch != 0 || l.State != openapi.LogClosed || l.Replicas[0].State != openapi.ReplicaAllocated {
		t.Errorf("created %+v", l)
	}
	if byID := get[openapi.Log](c, "/v1/logs/"+l.LogID); byID.Name != "l1" {
		t.Errorf("by ID: %+v", byID)
	}
	if ls := get[openapi.LogList](c, "/v1/logs?state=closed&daemon=d1"); len(ls.Items) != 1 {
		t.Errorf("list: %+v", ls)
	}
	o := c.open("l1", `{"writer":{"name":"w","host":"h","pid":7}}`)
	if o.Epoch != 1 || o.Grant == "" || len(o.Replicas) != 3 || o.Replicas[0].TCPPort == 0 || o.Replicas[0].Media != openapi.MediaFile {
		t.Errorf("opened %+v", o)
	}
	busy := c.do(http.MethodPost, "/v1/logs/l1/open", `{"writer":{"host":"h2","pid":8}}`)
	if p := busy.problem(t); busy.status != http.StatusConflict || p.Type != openapi.ProblemLogInUse || p.Writer == nil || p.Writer.Host != "h" {
		t.Errorf("second open: %d %s", busy.status, busy.body)
	}
	if del := c.do(http.MethodDelete, "/v1/logs/l1", ""); del.status != http.StatusConflict || del.problem(t).Type != openapi.ProblemLogInUse {
		t.Errorf("delete under a writer: %d %s", del.status, del.body)
	}
	c.makePresent(o)
	ref := writerRef(o)
	if a := c.do(http.MethodPost, "/v1/logs/l1/renew", ref); a.status != http.StatusOK {
		t.Errorf("renew: %d %s", a.status, a.body)
	}
	o2 := c.open("l1", `{"writer":{"host":"h2","pid":8},"takeover":true}`)
	for _, verb := range []string{"renew", "close"} {
		a := c.do(http.MethodPost, "/v1/logs/l1/"+verb, ref)
		if p := a.problem(t); a.status != http.StatusConflict || p.Type != openapi.ProblemSuperseded || p.Epoch != o2.Epoch {
			t.Errorf("%s after a takeover: %d %s", verb, a.status, a.body)
		}
	}
	wrongNonce := o2
	wrongNonce.Nonce = "0000000000000000"
	if a := c.do(http.MethodPost, "/v1/logs/l1/renew", writerRef(wrongNonce)); a.status != http.StatusConflict {
		t.Errorf("renew with another nonce: %d %s", a.status, a.body)
	}
	if a := c.do(http.MethodPost, "/v1/logs/l1/close", writerRef(o2)); a.status != http.StatusNoContent {
		t.Errorf("close: %d %s", a.status, a.body)
	}
	closed := c.do(http.MethodPost, "/v1/logs/l1/renew", writerRef(o2))
	if p := closed.problem(t); closed.status != http.StatusNotFound || p.Type != openapi.ProblemLeaseExpired {
		t.Errorf("renew after close: %d %s", closed.status, closed.body)
	}
	tag := c.do(http.MethodGet, "/v1/logs/l1", "").header.Get("ETag")
	if a := c.do(http.MethodDelete, "/v1/logs/l1", "", "If-Match", tag); a.status != http.StatusNoContent {
		t.Fatalf("delete: %d %s", a.status, a.body)
	}
	c.removeCondemned(l)
}

func (c *cluster) open(name, request string, headers ...string) openapi.OpenedLog {
	c.t.Helper()
	a := c.do(http.MethodPost, "/v1/logs/"+name+"/open", request, headers...)
	var o openapi.OpenedLog
	if err := json.Unmarshal(a.body, &o); err != nil || a.status != http.StatusOK {
		c.t.Fatalf("open %s: %d %s", name, a.status, a.body)
	}
	return o
}

func writerRef(o openapi.OpenedLog) string {
	return fmt.Sprintf(`{"writer_id":%q,"epoch":%d,"nonce":%q}`, o.WriterID, o.Epoch, o.Nonce)
}

// makePresent does the writer's compare-and-swap, right and wrong.
func (c *cluster) makePresent(o openapi.OpenedLog) {
	t := c.t
	t.Helper()
	change := func(nonce string, version int64) answer {
		var parts []string
		for _, r := range o.Replicas {
			parts = append(parts, fmt.Sprintf(`{"replica_id":%q,"state":"present"}`, r.ReplicaID))
		}
		return c.do(http.MethodPost, "/v1/logs/"+o.LogID+"/replicas", fmt.Sprintf(
			`{"epoch":%d,"nonce":%q,"set_version":%d,"replicas":[%s]}`, o.Epoch, nonce, version, strings.Join(parts, ",")))
	}
	if a := change("0000000000000000", o.SetVersion); a.status != http.StatusConflict || a.problem(t).Type != openapi.ProblemSuperseded {
		t.Errorf("change with another nonce: %d %s", a.status, a.body)
	}
	if a := change(o.Nonce, o.SetVersion+1); a.status != http.StatusConflict || a.problem(t).Type != openapi.ProblemConflict {
		t.Errorf("change with another set version: %d %s", a.status, a.body)
	}
	for range 2 { // The second time it is so already.
		a := change(o.Nonce, o.SetVersion)
		var set openapi.ReplicaSet
		if err := json.Unmarshal(a.body, &set); err != nil || a.status != http.StatusOK || set.Replicas[0].State != openapi.ReplicaPresent {
			t.Fatalf("change: %d %s", a.status, a.body)
		}
	}
}

// removeCondemned sees the space come back with each daemon's word.
func (c *cluster) removeCondemned(l openapi.Log) {
	t := c.t
	t.Helper()
	if s := get[openapi.Status](c, "/v1/status"); s.Bytes.Condemned != 3*l.ReplicaBytes || s.Bytes.Reserved != s.Bytes.Condemned {
		t.Errorf("after the delete: %+v, replicas of %d", s.Bytes, l.ReplicaBytes)
	}
	for _, r := range l.Replicas {
		beat := fmt.Sprintf("/v1/daemons/%s/heartbeat", r.DaemonID)
		a := c.do(http.MethodPost, beat, `{"incarnation":1,"free_bytes":4294967296}`)
		var h openapi.HeartbeatAnswer
		if err := json.Unmarshal(a.body, &h); err != nil || len(h.Operators) != 1 || h.Operators[0].ReplicaID != r.ReplicaID {
			t.Fatalf("operators of %s: %s", r.DaemonID, a.body)
		}
		c.do(http.MethodPost, beat, fmt.Sprintf(`{"incarnation":1,"free_bytes":4294967296,"results":[{"operator_id":%q,"kind":%q,"replica_id":%q,"ok":true}]}`,
			h.Operators[0].OperatorID, h.Operators[0].Kind, r.ReplicaID))
	}
	eventually(t, "the space is free again", func() bool {
		return get[openapi.Status](c, "/v1/status").Bytes.Reserved == 0
	})
}

func TestIdempotency(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	c.three()
	const size = `4294950912` // all but the headers of each pool
	create := `{"name":"big","capacity_bytes":` + size + `}`
	first := c.do(http.MethodPost, "/v1/logs", create, "Idempotency-Key", "k1")
	again := c.do(http.MethodPost, "/v1/logs", create, "Idempotency-Key", "k1")
	if first.status != http.StatusCreated || again.status != http.StatusCreated || string(first.body) != string(again.body) {
		t.Errorf("create twice: %d %s\n%d %s", first.status, first.body, again.status, again.body)
	}
	if first.header.Get("ETag") != again.header.Get("ETag") {
		t.Errorf("ETags %s and %s", first.header.Get("ETag"), again.header.Get("ETag"))
	}
	other := c.do(http.MethodPost, "/v1/logs", `{"name":"other","capacity_bytes":1048576}`, "Idempotency-Key", "k1")
	if p := other.problem(t); other.status != http.StatusUnprocessableEntity || p.Type != openapi.ProblemIdempotencyMismatch {
		t.Errorf("the key for another log: %d %s", other.status, other.body)
	}
	without := c.do(http.MethodPost, "/v1/logs", create)
	if without.status != http.StatusConflict {
		t.Errorf("create without the key: %d %s", without.status, without.body)
	}
	open := `{"writer":{"host":"h","pid":1}}`
	o1, o2 := c.open("big", open, "Idempotency-Key", "k2"), c.open("big", open, "Idempotency-Key", "k2")
	if o1.Epoch != 1 || o2.Epoch != 1 || o1.Nonce != o2.Nonce || o1.WriterID != o2.WriterID {
		t.Errorf("open twice: %+v and %+v", o1, o2)
	}
	p := c.do(http.MethodPost, "/v1/logs/big/open", `{"writer":{"host":"h","pid":2}}`, "Idempotency-Key", "k2")
	if p.status != http.StatusUnprocessableEntity {
		t.Errorf("the key for another open: %d %s", p.status, p.body)
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	c.three()
	var want, got []string
	for i := range 7 {
		want = append(want, c.createLog(fmt.Sprintf("l%d", i)).Name)
	}
	path := "/v1/logs?limit=3"
	pages := 0
	for next := ""; ; pages++ {
		l := get[openapi.LogList](c, path+next)
		for _, i := range l.Items {
			got = append(got, i.Name)
		}
		if l.Continue == "" {
			break
		}
		next = "&continue=" + l.Continue
		// What the page ended with may be gone by the next one.
		c.do(http.MethodDelete, "/v1/logs/"+l.Items[len(l.Items)-1].Name, "")
	}
	if pages != 2 || strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%d pages: %v, want %v", pages+1, got, want)
	}
}

// Many creates at once for room that only some of them get: each is told so, and
// none is told that the server is at fault.
func TestContentionIsNoServerError(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	const each, room, asked = 1 << 20, 8, 14
	for n := 1; n <= 3; n++ {
		c.register(daemonSpec{id: fmt.Sprintf("d%d", n), n: n, capacity: room * (each + store.ReplicaOverheadBytes)})
	}
	answers := make(chan answer, asked)
	for i := range asked {
		go func() {
			a, err := c.try(http.MethodPost, "/v1/logs", fmt.Sprintf(`{"name":"l%d","capacity_bytes":%d}`, i, each))
			if err != nil {
				t.Error(err)
			}
			answers <- a
		}()
	}
	made := 0
	for range asked {
		switch a := <-answers; a.status {
		case http.StatusCreated:
			made++
		case http.StatusConflict:
			if p := a.problem(t); p.Type != openapi.ProblemNoPlacement && p.Type != openapi.ProblemConflict {
				t.Errorf("refused with %s", a.body)
			}
		default:
			t.Errorf("answer %d %s", a.status, a.body)
		}
	}
	if s := get[openapi.Status](c, "/v1/status"); s.Bytes.Reserved > s.Bytes.Capacity {
		t.Errorf("promised twice: %+v", s.Bytes)
	}
	t.Logf("%d of %d", made, room)
	if made == 0 || made > room {
		t.Errorf("%d logs were made where %d fit", made, room)
	}
}
