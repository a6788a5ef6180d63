package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/gravenio/graven/openapi"
)

// awaitOperator polls until the operator is in this state: the leader decides when.
func (c *cluster) awaitOperator(id string, want openapi.OperatorState) openapi.OperatorStatus {
	c.t.Helper()
	var o openapi.OperatorStatus
	eventually(c.t, "operator "+id+" is "+string(want), func() bool {
		if c.do(http.MethodGet, "/v1/operators/"+id, "").status != http.StatusOK {
			return false
		}
		o = get[openapi.OperatorStatus](c, "/v1/operators/"+id)
		return o.State == want
	})
	return o
}

// A daemon drains by the API: the operator is listed, filtered, waits while
// operators are paused, runs, and is cancelled.
func TestOperators(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	c.three()
	l := c.createLog("l1")
	c.register(daemonSpec{id: "d4", n: 4, labels: map[string]string{"host": "d4"}})
	if s := post[openapi.OperatorSettings](c, "/v1/operators/pause", ""); !s.Paused || s.Limits.GraceSeconds != 600 {
		t.Errorf("paused: %+v", s)
	}
	old := l.Replicas[0]
	d := post[openapi.Daemon](c, "/v1/daemons/"+old.DaemonID+"/drain", "")
	if d.State != openapi.DaemonDraining {
		t.Errorf("draining: %+v", d)
	}
	id := "drain-" + old.ReplicaID
	if o := c.awaitOperator(id, openapi.OperatorPlanned); o.WaitsFor == "" || o.LogName != "l1" || o.Kind != openapi.PurposeDrain || o.Reason != openapi.ReasonDraining {
		t.Errorf("while paused: %+v", o)
	}
	s := get[openapi.Status](c, "/v1/status")
	if !s.Operators.Paused || s.Operators.Leader == "" || s.Operators.Planned != 1 || !strings.Contains(alarmKinds(s), "operators-paused") {
		t.Errorf("status: %+v", s)
	}
	if s := post[openapi.OperatorSettings](c, "/v1/operators/resume", ""); s.Paused {
		t.Errorf("resumed: %+v", s)
	}
	if o := c.awaitOperator(id, openapi.OperatorRunning); o.To != "d4" || o.LearnerID == "" || o.Attempts != 1 || o.StartedAt.IsZero() {
		t.Errorf("running: %+v", o)
	}
	for query, want := range map[string]int{
		"": 1, "?state=running": 1, "?state=done": 0, "?kind=drain": 1, "?kind=replace": 0, "?daemon=d4": 1, "?daemon=" + old.DaemonID: 1,
		"?log=l1": 1, "?log=" + l.LogID: 1, "?log=l2": 0, "?limit=1": 1,
	} {
		if list := get[openapi.OperatorList](c, "/v1/operators"+query); len(list.Items) != want || list.Continue != "" {
			t.Errorf("%s: %+v", query, list)
		}
	}
	metrics := string(c.do(http.MethodGet, "/metrics", "").body)
	for _, want := range []string{`graven_operators{kind="drain",state="running"} 1`, "graven_operators_paused 0", "graven_operators_braked 0"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	for range 2 {
		if a := c.do(http.MethodDelete, "/v1/operators/"+id, ""); a.status != http.StatusNoContent {
			t.Errorf("cancel: %d %s", a.status, a.body)
		}
	}
	if now := get[openapi.Log](c, "/v1/logs/l1"); len(now.Replicas) != 3 {
		t.Errorf("after the cancel: %+v", now.Replicas)
	}
	c.refuses(openapi.ProblemNotFound, http.MethodDelete, "/v1/operators/no-such", "")
	c.refuses(openapi.ProblemNotFound, http.MethodGet, "/v1/operators/no-such", "")
	if d = post[openapi.Daemon](c, "/v1/daemons/"+old.DaemonID+"/undrain", ""); d.State != openapi.DaemonUp {
		t.Errorf("undrained: %+v", d)
	}
	c.refuses(openapi.ProblemNotFound, http.MethodPost, "/v1/daemons/d9/drain", "")
}

// What operators do is in the event stream, as the API lists it, and a stream goes
// on behind what was seen when the server has been started again.
func TestOperatorEvents(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	c.three()
	l := c.createLog("l1")
	c.register(daemonSpec{id: "d4", n: 4, labels: map[string]string{"host": "d4"}})
	events := c.follow(c.store.View().Revision())
	old := l.Replicas[0]
	id := "drain-" + old.ReplicaID
	state := func(want openapi.OperatorState) openapi.OperatorStatus {
		t.Helper()
		e := until(t, events, id+" is "+string(want), func(e openapi.Event) bool {
			return e.ID == id && e.Operator != nil && e.Operator.State == want
		})
		if e.Kind != openapi.EventOperator || e.Operator.OperatorID != id || e.Operator.LogName != "l1" || e.Deleted {
			t.Errorf("%s: %+v", want, e)
		}
		return *e.Operator
	}
	post[openapi.Daemon](c, "/v1/daemons/"+old.DaemonID+"/drain", "")
	if o := state(openapi.OperatorRunning); o.To != "d4" || o.Kind != openapi.PurposeDrain || o.Reason != openapi.ReasonDraining {
		t.Errorf("running: %+v", o)
	}
	seen := events.LastEventID()
	if a := c.do(http.MethodDelete, "/v1/operators/"+id, ""); a.status != http.StatusNoContent {
		t.Fatalf("cancel: %d %s", a.status, a.body)
	}
	c.stop()
	c.restart()
	events = c.follow(seen)
	if o := state(openapi.OperatorCancelled); o.Error == "" || o.EndedAt.IsZero() {
		t.Errorf("cancelled: %+v", o)
	}
}

// Limits are changed as a whole, by whoever has seen them last.
func TestOperatorLimits(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	a := c.do(http.MethodGet, "/v1/operators/settings", "")
	const body = `{"grace_seconds":60,"timeout_seconds":900,"per_daemon":3,"cluster":16,"max_down_percent":25,"scrub_every_seconds":0}`
	unset := a.header.Get("ETag")
	set := c.do(http.MethodPut, "/v1/operators/settings", body, "If-Match", unset)
	if a.status != http.StatusOK || set.status != http.StatusOK {
		t.Fatalf("%d %s; %d %s", a.status, a.body, set.status, set.body)
	}
	if s := get[openapi.OperatorSettings](c, "/v1/operators/settings"); s.Limits.GraceSeconds != 60 || s.Limits.PerDaemon != 3 || s.Limits.ScrubEverySeconds != 0 {
		t.Errorf("settings: %+v", s)
	}
	tag := set.header.Get("ETag")
	if a = c.do(http.MethodPut, "/v1/operators/settings", strings.Replace(body, "60", "61", 1), "If-Match", tag); a.status != http.StatusOK {
		t.Errorf("with its tag: %d %s", a.status, a.body)
	}
	if a = c.do(http.MethodPut, "/v1/operators/settings", body, "If-Match", tag); a.status != http.StatusPreconditionFailed {
		t.Errorf("with a stale tag: %d %s", a.status, a.body)
	}
	if a = c.do(http.MethodPut, "/v1/operators/settings", body, "If-Match", unset); a.status != http.StatusPreconditionFailed {
		t.Errorf("with the tag of what nobody had set: %d %s", a.status, a.body)
	}
	for _, bad := range []string{
		strings.Replace(body, `"grace_seconds":60`, `"grace_seconds":0`, 1), strings.Replace(body, `"cluster":16,`, "", 1),
		strings.Replace(body, "25", "101", 1), strings.Replace(body, "{", `{"paused":true,`, 1),
	} {
		c.refuses(openapi.ProblemInvalidRequest, http.MethodPut, "/v1/operators/settings", bad)
	}
}

// A lost daemon is answered that it is gone, whatever it asks for.
func TestLostDaemonIsGone(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	c.three()
	c.createLog("l1")
	post[openapi.OpenedLog](c, "/v1/logs/l1/open", `{"writer":{"name":"w","host":"h","pid":1}}`)
	c.refuses(openapi.ProblemDaemonInUse, http.MethodDelete, "/v1/daemons/d1?lost=true", "")
	for _, id := range []string{"d1", "d2"} {
		c.do(http.MethodPost, "/v1/daemons/"+id+"/heartbeat", `{"incarnation":1,"free_bytes":0,"leaving":true}`)
	}
	c.refuses(openapi.ProblemLastCopies, http.MethodDelete, "/v1/daemons/d1?lost=true", "")
	c.register(daemonSpec{id: "d2", n: 2, labels: map[string]string{"host": "d2", "zone": "zd2"}})
	if a := c.do(http.MethodDelete, "/v1/daemons/d1?lost=true", ""); a.status != http.StatusNoContent {
		t.Fatalf("%d %s", a.status, a.body)
	}
	rsp, err := c.api().RegisterDaemonWithResponse(t.Context(), "d1", daemonSpec{id: "d1", n: 1}.request())
	if err != nil || !openapi.IsProblem(openapi.Check(rsp), openapi.ProblemDaemonGone) {
		t.Errorf("it registers: %v, %v", rsp.Status(), err)
	}
	c.refuses(openapi.ProblemDaemonGone, http.MethodPost, "/v1/daemons/d1/heartbeat", `{"incarnation":1,"free_bytes":0}`)
	if l := get[openapi.Log](c, "/v1/logs/l1"); len(l.Replicas) != 3 || l.State != openapi.LogDegraded && l.State != openapi.LogOpen {
		t.Errorf("the log: %+v", l)
	}
}
