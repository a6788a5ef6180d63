package server_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/server"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestEventsResume(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	first := c.follow(c.store.View().Revision())
	c.three()
	created := c.createLog("l1")
	until(t, first, "d2", func(e openapi.Event) bool { return e.ID == "d2" && e.Daemon != nil })
	resume := first.LastEventID()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	c.do(http.MethodDelete, "/v1/logs/l1", "")

	// Everything since comes again, in order, though nobody listened.
	second := c.follow(resume)
	var seen []string
	last := resume
	until(t, second, "the log is deleted", func(e openapi.Event) bool {
		if e.Revision < last {
			t.Errorf("revision %d after %d", e.Revision, last)
		}
		last = e.Revision
		seen = append(seen, e.ID)
		return e.ID == created.LogID && e.Deleted
	})
	if all := strings.Join(seen, " "); !strings.Contains(all, "d3") || strings.Count(all, created.LogID) == 0 {
		t.Errorf("after resuming: %s", all)
	}
}

// The header of a reconnecting browser wins over the address it was given.
func TestEventsSince(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	c.register(daemonSpec{id: "d1", n: 1})
	before := c.store.View().Revision()
	c.register(daemonSpec{id: "d2", n: 2})
	one := int64(1)
	rsp, err := c.api().GetEvents(t.Context(), &openapi.GetEventsParams{Since: &one, LastEventID: &before})
	if err != nil {
		t.Fatal(err)
	}
	r, err := openapi.NewEventReader(rsp)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if e, err := r.Next(); err != nil || e.ID != "d2" {
		t.Errorf("first event %+v, %v", e, err)
	}
}

// A log that a daemon's going makes degraded says so itself, and that it is whole
// again when the daemon is back.
func TestEventsOfALogThatDegrades(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	c.three()
	l := c.createLog("l1")
	events := c.follow(c.store.View().Revision())
	a := c.do(http.MethodPost, "/v1/daemons/d1/heartbeat", `{"incarnation":1,"free_bytes":0,"leaving":true}`)
	if a.status != http.StatusOK {
		t.Fatalf("leave: %d %s", a.status, a.body)
	}
	about := func(e openapi.Event) bool { return e.Kind == openapi.EventLog && e.ID == l.LogID }
	if e := until(t, events, "the log when d1 has gone", about); e.Log == nil || e.Log.State != openapi.LogDegraded {
		t.Errorf("d1 has gone: %+v", e)
	}
	c.register(daemonSpec{id: "d1", n: 1, labels: map[string]string{"host": "d1", "zone": "zd1"}})
	if e := until(t, events, "the log when d1 is back", about); e.Log == nil || e.Log.State != openapi.LogClosed {
		t.Errorf("d1 is back: %+v", e)
	}
}

func TestEventsGap(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	c.three()
	if _, err := c.etcd.Client.Compact(t.Context(), c.store.View().Revision(), clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	a := c.do(http.MethodGet, "/v1/events?since=2", "")
	if p := a.problem(t); a.status != http.StatusGone || p.Type != openapi.ProblemEventsGap {
		t.Errorf("compacted: %d %s", a.status, a.body)
	}
}

func TestEventsStayAlive(t *testing.T) {
	t.Parallel()
	c := start(t, setup{server: server.Options{KeepAlive: 10 * time.Millisecond}})
	rsp, err := c.api().GetEvents(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer rsp.Body.Close()
	var text strings.Builder
	for buf := make([]byte, 256); strings.Count(text.String(), ": still here\n\n") < 2; {
		n, err := rsp.Body.Read(buf)
		if text.Write(buf[:n]); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.HasPrefix(text.String(), "retry: ") {
		t.Errorf("stream begins with %q", text.String())
	}
}

// A server that is told to stop ends its streams, or it would wait for them.
func TestStopEndsStreams(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	r := c.follow(0)
	c.stop()
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("end of the stream: %v", err)
	}
}
