package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/gravenio/graven/openapi"
)

// post sends a body and decodes a success.
func post[T any](c *cluster, path, body string, headers ...string) T {
	c.t.Helper()
	a := c.do(http.MethodPost, path, body, headers...)
	var v T
	if a.status != http.StatusOK {
		c.t.Fatalf("POST %s: %d %s", path, a.status, a.body)
	}
	if err := json.Unmarshal(a.body, &v); err != nil {
		c.t.Fatalf("POST %s: %v", path, err)
	}
	return v
}

// refuses expects a problem of this type.
func (c *cluster) refuses(typ openapi.ProblemType, method, path, body string) openapi.Problem {
	c.t.Helper()
	a := c.do(method, path, body)
	p := a.problem(c.t)
	if p.Type != typ {
		c.t.Errorf("%s %s %s: %d %s, want %s", method, path, body, a.status, a.body, typ)
	}
	return p
}

func changeOf(o openapi.OpenedLog, version int64, replica, state string) string {
	return fmt.Sprintf(`{"epoch":%d,"nonce":%q,"set_version":%d,"replicas":[{"replica_id":%q,"state":%q}]}`,
		o.Epoch, o.Nonce, version, replica, state)
}

// A replica's life from the start of its replacement to its end, as a person, a
// writer and an agent see it over the API alone.
func TestReplacement(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	c.three()
	l := c.createLog("l1")
	journal := c.follow(c.store.View().Revision())
	o := c.open("l1", `{"writer":{"host":"h","pid":7}}`)
	c.makePresent(o)
	const path = "/v1/logs/l1/replacement"
	old := l.Replicas[0]
	none := c.refuses(openapi.ProblemNoPlacement, http.MethodPost, path, `{"replica":"`+old.DaemonID+`"}`)
	if none.Placement == nil || none.Placement.Rule != "failure-domain" || none.Placement.Removed["exclude"] != 1 {
		t.Errorf("without a spare daemon: %+v", none)
	}
	c.refuses(openapi.ProblemNotFound, http.MethodDelete, path, "")

	c.register(daemonSpec{id: "d4", n: 4, labels: map[string]string{"host": l.Replicas[1].DaemonID}})
	taken := c.refuses(openapi.ProblemNoPlacement, http.MethodPost, path, `{"replica":"`+old.DaemonID+`","to":"d4"}`)
	if taken.Placement == nil || taken.Placement.Rule != "failure-domain" || !strings.Contains(taken.Detail, l.Replicas[1].DaemonID) {
		t.Errorf("to a daemon on another replica's host: %+v", taken)
	}
	c.register(daemonSpec{id: "d5", n: 5, labels: map[string]string{"host": "d5"}})
	ask := `{"replica":"` + old.DaemonID + `"}`
	first := post[openapi.Log](c, path, ask, "Idempotency-Key", "r1")
	learner := first.Replicas[3]
	if learner.DaemonID != "d5" || learner.State != openapi.ReplicaLearner || learner.Replaces != old.ReplicaID ||
		first.SetVersion != 1 || first.State != openapi.LogOpen {
		t.Fatalf("started %+v", first)
	}
	if again := post[openapi.Log](c, path, ask, "Idempotency-Key", "r1"); again.Replicas[3].ReplicaID != learner.ReplicaID {
		t.Errorf("again: %+v", again)
	}
	busy := c.refuses(openapi.ProblemReplacementInProgress, http.MethodPost, path, `{"replica":"`+l.Replicas[1].ReplicaID+`"}`)
	if !strings.Contains(busy.Detail, "d5") || !strings.Contains(busy.Detail, old.DaemonID) {
		t.Errorf("another replacement: %q", busy.Detail)
	}
	if s := get[openapi.Status](c, "/v1/status"); !alarmed(s, openapi.AlarmReplacement, "d5") || alarmed(s, openapi.AlarmLogDegraded, "") {
		t.Errorf("alarms %+v", s.Alarms)
	}

	renewed := post[openapi.RenewedLog](c, "/v1/logs/l1/renew", writerRef(o))
	if renewed.Grant == "" || renewed.Grant == o.Grant || len(renewed.Replicas) != 4 || renewed.Replicas[3].Replaces != old.ReplicaID {
		t.Errorf("renewed %+v", renewed)
	}
	c.giveUpAndStartAgain(o, &learner, ask)
	promote := changeOf(o, 1, learner.ReplicaID, "present")
	for range 2 { // the second time, the answer was lost
		set := post[openapi.ReplicaSet](c, "/v1/logs/l1/replicas", promote)
		if set.SetVersion != 2 || len(set.Replicas) != 3 || set.Replicas[2].ReplicaID != learner.ReplicaID {
			t.Errorf("promoted %+v", set)
		}
	}
	c.refuses(openapi.ProblemConflict, http.MethodPost, "/v1/logs/l1/replicas", changeOf(o, 1, learner.ReplicaID, "condemned"))
	h := post[openapi.HeartbeatAnswer](c, "/v1/daemons/"+old.DaemonID+"/heartbeat", `{"incarnation":1,"free_bytes":4294967296}`)
	if len(h.Operators) != 1 || h.Operators[0].Kind != openapi.OperatorRemoveReplica || h.Operators[0].ReplicaID != old.ReplicaID {
		t.Errorf("operators of the replaced daemon: %+v", h.Operators)
	}
	var kinds []openapi.JournalKind
	until(t, journal, "the replacement's end", func(e openapi.Event) bool {
		if e.Kind != openapi.EventJournal || e.Journal != nil && !strings.HasPrefix(string(e.Journal.Kind), "replacement-") {
			return false
		}
		if e.Journal == nil || e.Journal.LogID != l.LogID || e.Journal.LogName != "l1" || e.Journal.DaemonID != "d5" || e.Journal.Detail == "" {
			t.Errorf("entry %+v", e.Journal)
		}
		kinds = append(kinds, e.Journal.Kind)
		return e.Journal.Kind == openapi.JournalReplacementDone
	})
	if got := fmt.Sprint(kinds); got != "[replacement-started replacement-abandoned replacement-started replacement-done]" {
		t.Errorf("journal %s", got)
	}
}

// giveUpAndStartAgain is the writer's way out, and the person's way back in.
func (c *cluster) giveUpAndStartAgain(o openapi.OpenedLog, learner *openapi.Replica, ask string) {
	t := c.t
	t.Helper()
	const path = "/v1/logs/l1/replicas"
	mixed := strings.Replace(changeOf(o, 1, learner.ReplicaID, "present"), `"replicas":[`,
		`"replicas":[{"replica_id":"`+o.Replicas[1].ReplicaID+`","state":"present"},`, 1)
	c.refuses(openapi.ProblemInvalidRequest, http.MethodPost, path, mixed)
	c.refuses(openapi.ProblemInvalidRequest, http.MethodPost, path, changeOf(o, 1, o.Replicas[1].ReplicaID, "condemned"))
	for range 2 {
		if set := post[openapi.ReplicaSet](c, path, changeOf(o, 1, learner.ReplicaID, "condemned")); len(set.Replicas) != 3 || set.SetVersion != 1 {
			t.Errorf("given up: %+v", set)
		}
	}
	p := c.refuses(openapi.ProblemReplacementAbandoned, http.MethodPost, path, changeOf(o, 1, learner.ReplicaID, "present"))
	if p.Status != http.StatusConflict {
		t.Errorf("promoting what was given up: %+v", p)
	}
	again := post[openapi.Log](c, "/v1/logs/l1/replacement", ask)
	if again.Replicas[3].ReplicaID == learner.ReplicaID {
		t.Error("a replica ID was used again")
	}
	*learner = again.Replicas[3]
}

func alarmed(s openapi.Status, kind openapi.AlarmKind, daemon string) bool {
	for _, a := range s.Alarms {
		if a.Kind == kind && (daemon == "" || a.DaemonID == daemon) {
			return true
		}
	}
	return false
}

// Without a writer, the learner's agent is asked; a person may stop it all.
func TestReplacementWithoutAWriter(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	c.three()
	l := c.createLog("l1")
	c.register(daemonSpec{id: "d4", n: 4, labels: map[string]string{"host": "d4"}})
	started := post[openapi.Log](c, "/v1/logs/l1/replacement", `{"replica":"`+l.Replicas[0].ReplicaID+`","to":"d4"}`)
	const beat = "/v1/daemons/d4/heartbeat"
	h := post[openapi.HeartbeatAnswer](c, beat, `{"incarnation":1,"free_bytes":4294967296}`)
	if len(h.Operators) != 1 || h.Operators[0].Kind != openapi.OperatorRecoverLog || h.Operators[0].OperatorID != "replace-"+l.Replicas[0].ReplicaID ||
		h.Operators[0].ReplicaID != started.Replicas[3].ReplicaID {
		t.Fatalf("operators %+v", h.Operators)
	}
	h = post[openapi.HeartbeatAnswer](c, beat, fmt.Sprintf(
		`{"incarnation":1,"free_bytes":4294967296,"results":[{"operator_id":%q,"kind":"recover-log","replica_id":%q,"ok":false,"error":"too few replicas"}]}`,
		h.Operators[0].OperatorID, h.Operators[0].ReplicaID))
	if len(h.Operators) != 1 {
		t.Errorf("after a failure: %+v", h.Operators)
	}
	if s := get[openapi.Status](c, "/v1/status"); s.Logs.Closed != 1 || s.Bytes.Reserved != 4*l.ReplicaBytes {
		t.Errorf("status %+v %+v", s.Logs, s.Bytes)
	}
	if a := c.do(http.MethodDelete, "/v1/logs/l1/replacement", "", "If-Match", `"1"`); a.status != http.StatusPreconditionFailed {
		t.Errorf("abandon of another version: %d %s", a.status, a.body)
	}
	tag := c.do(http.MethodGet, "/v1/logs/l1", "").header.Get("ETag")
	if a := c.do(http.MethodDelete, "/v1/logs/l1/replacement", "", "If-Match", tag); a.status != http.StatusNoContent {
		t.Errorf("abandon: %d %s", a.status, a.body)
	}
	if s := get[openapi.Status](c, "/v1/status"); s.Bytes.Reserved != 3*l.ReplicaBytes || alarmed(s, openapi.AlarmReplacement, "") {
		t.Errorf("after the abandon: %+v %+v", s.Bytes, s.Alarms)
	}
}

// The rules that a log was created with hold for its replacements.
func TestReplacementKeepsTheRules(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	for n := 1; n <= 4; n++ {
		spec := daemonSpec{id: fmt.Sprintf("d%d", n), n: n, labels: map[string]string{"rack": fmt.Sprintf("r%d", min(n, 3)), "pool": "a"}}
		if n <= 3 {
			spec.media = openapi.MediaVolatile
		}
		c.register(spec)
	}
	a := c.do(http.MethodPost, "/v1/logs",
		`{"name":"l1","capacity_bytes":1048576,"placement":{"failure_domain":"rack","media":"volatile","transport":"tcp","labels":{"pool":"a"}}}`)
	if a.status != http.StatusCreated {
		t.Fatalf("create: %d %s", a.status, a.body)
	}
	c.register(daemonSpec{id: "d5", n: 5, media: openapi.MediaVolatile, labels: map[string]string{"rack": "r2", "pool": "a"}})
	c.register(daemonSpec{id: "d6", n: 6, media: openapi.MediaVolatile, labels: map[string]string{"rack": "r4", "pool": "b"}})
	for to, rule := range map[string]string{"d4": "media", "d5": "failure-domain", "d6": "label"} {
		p := c.refuses(openapi.ProblemNoPlacement, http.MethodPost, "/v1/logs/l1/replacement", `{"replica":"d1","to":"`+to+`"}`)
		if p.Placement == nil || p.Placement.Rule != rule {
			t.Errorf("to %s: %+v, want rule %s", to, p, rule)
		}
	}
	l := post[openapi.Log](c, "/v1/logs/l1/replacement", `{"replica":"d2"}`)
	if l.Replicas[3].DaemonID != "d5" {
		t.Errorf("placed on %s, want d5 in the replaced one's rack", l.Replicas[3].DaemonID)
	}
}

func TestRecordLogEvent(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	c.three()
	c.createLog("l1")
	o := c.open("l1", `{"writer":{"host":"h","pid":7}}`)
	events := c.follow(c.store.View().Revision())
	body := func(o openapi.OpenedLog) string {
		return fmt.Sprintf(`{"writer_id":%q,"epoch":%d,"nonce":%q,"kind":"data-loss-accepted","detail":"opened without d2","given_up":[{"replica_id":%q,"detail":"no answer"}]}`,
			o.WriterID, o.Epoch, o.Nonce, o.Replicas[1].ReplicaID)
	}
	for range 2 { // the second time, the answer was lost
		if a := c.do(http.MethodPost, "/v1/logs/l1/events", body(o), "Idempotency-Key", "e1"); a.status != http.StatusNoContent {
			t.Fatalf("record: %d %s", a.status, a.body)
		}
	}
	e := until(t, events, "the entry", func(e openapi.Event) bool { return e.Kind == openapi.EventJournal })
	if j := e.Journal; j == nil || j.Kind != openapi.JournalDataLossAccepted || j.Epoch != 1 || j.Detail != "opened without d2" ||
		len(j.GivenUp) != 1 || j.GivenUp[0].ReplicaID != o.Replicas[1].ReplicaID || j.At.IsZero() {
		t.Errorf("entry %+v", e.Journal)
	}
	c.open("l1", `{"writer":{"host":"h","pid":8},"takeover":true}`)
	c.refuses(openapi.ProblemSuperseded, http.MethodPost, "/v1/logs/l1/events", body(o))
	until(t, events, "the end", func(e openapi.Event) bool {
		if e.Kind == openapi.EventJournal && e.Journal.Kind != openapi.JournalLogTakenOver {
			t.Errorf("a second entry: %+v", e.Journal)
		}
		return e.Log != nil && e.Log.Epoch == 2
	})
}
