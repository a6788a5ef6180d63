package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/gravenio/graven/openapi"
)

// etcd reaches its quota: writes are refused at once with a type of their own,
// leases are renewed, open logs go on, people are told; and once there is room
// again all is as before.
func TestEtcdHasNoSpace(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	t.Parallel()
	const quota = 2 << 20
	s := newSite(t, 3, "--quota-backend-bytes", fmt.Sprint(quota))
	s.create("l1")
	w := s.writer("l1")
	s.write(w, "before")

	etcd := s.etcdClient()
	var err error
	for i := 0; err == nil; i++ { // somebody else fills it
		_, err = etcd.Put(s.ctx(), fmt.Sprint("filler/", i), strings.Repeat("x", 100<<10))
	}
	if !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Fatal(err)
	}

	_, errs, status := graven(t, nil, "log", "create", "l2", "--replicas", "3", "--capacity", "1MiB", "--api", s.api)
	if status != 1 || !strings.Contains(errs, "etcd has reached its quota") || !strings.Contains(errs, "defragment") {
		t.Errorf("create: status %d, %s", status, errs)
	}
	api, err := (&app{endpoints: s.api}).client()
	s.ok(err)
	rsp, err := api.CreateLogWithResponse(s.ctx(), nil, openapi.CreateLogRequest{Name: "l2", Replicas: 3, CapacityBytes: 1 << 20})
	s.ok(err)
	if err := openapi.Check(rsp); rsp.StatusCode() != http.StatusServiceUnavailable || !openapi.IsProblem(err, openapi.ProblemEtcdNoSpace) {
		t.Errorf("create: %d, %v", rsp.StatusCode(), err)
	}

	s.until("the status shows it", func() bool { return slices.Contains(s.alarms(), openapi.AlarmEtcdNoSpace) })
	for _, srv := range s.Servers() {
		s.until(srv.Name+" is ready and says so", func() bool {
			return strings.Contains(s.fetch(srv.URL+"/readyz"), "etcd has no space left")
		})
	}
	// Everybody keeps his lease, for longer than it lasts.
	begun := time.Now()
	for _, a := range s.Agents() {
		s.until(a.ID+" goes on being heard", func() bool {
			d := shown[openapi.Daemon](s, "daemon", "show", a.ID)
			if d.State != openapi.DaemonUp {
				t.Fatalf("%s is %s", a.ID, d.State)
			}
			return d.LastSeen.After(begun.Add(2 * siteTTL))
		})
	}
	if l := shown[openapi.Log](s, "log", "show", "l1"); l.Writer == nil {
		t.Error("the writer has lost its lease")
	}
	s.write(w, "meanwhile")

	// What docs/operations.md says.
	endpoint := s.Endpoints()[0]
	s.tool("etcdctl", "--endpoints", endpoint, "del", "--prefix", "filler/")
	now, err := etcd.Get(s.ctx(), "graven")
	s.ok(err)
	s.tool("etcdctl", "--endpoints", endpoint, "compact", fmt.Sprint(now.Header.Revision))
	s.tool("etcdctl", "--endpoints", endpoint, "defrag")
	s.tool("etcdctl", "--endpoints", endpoint, "alarm", "disarm")
	s.until("the alarm is over", func() bool { return !slices.Contains(s.alarms(), openapi.AlarmEtcdNoSpace) })
	s.create("l2")
	s.append("l2", "after")
	s.write(w, "after")
	s.ok(w.Close())
	s.holds("l1", "before", "meanwhile", "after")
	for _, srv := range s.Servers() {
		s.until(srv.Name+" is ready", func() bool { return s.fetch(srv.URL+"/readyz") == "ready\n" })
	}
}

// fetch is what a path answers, whatever the status.
func (s *site) fetch(address string) string {
	s.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	rsp, err := client.Get(address)
	if err != nil {
		return err.Error()
	}
	defer rsp.Body.Close()
	body, err := io.ReadAll(rsp.Body)
	s.ok(err)
	return string(body)
}
