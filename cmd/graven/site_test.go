package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gravenio/graven/internal/fleet"
	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog"
	"github.com/gravenio/graven/replog/control"
)

// site is a cluster of processes with an etcd of its own that tests take apart.
type site struct {
	*fleet.Fleet
	t   *testing.T
	api string
	ctl *control.Client
}

// siteTTL is the lease of its daemons and writers.
const siteTTL = 2 * time.Second

// newSite starts one etcd member, with more flags for it, two API servers and as
// many agents.
func newSite(t *testing.T, agents int, etcd ...string) *site {
	t.Helper()
	s := &site{Fleet: fleet.New(t.ArtifactDir()), t: t}
	t.Cleanup(func() {
		for _, died := range s.Died() {
			t.Error(died)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		scandals, err := s.Scandals()
		if err != nil || len(scandals) > 0 {
			t.Error(err, scandals)
		}
	})
	s.ok(s.AddEtcd(1, etcd...))
	s.ok(s.StartEtcd(s.ctx()))
	for range 2 {
		srv, err := s.AddServer("--ttl", siteTTL.String())
		s.ok(err)
		s.ok(srv.Start())
		s.ok(srv.Ready(s.ctx()))
	}
	s.api = strings.Join(s.URLs(), ",")
	for i := range agents {
		a, err := s.AddAgent("d"+string(rune('1'+i)), 32<<20, true, "--ttl", siteTTL.String())
		s.ok(err)
		s.ok(a.Start())
	}
	s.up()
	api, err := (&app{endpoints: s.api}).client()
	s.ok(err)
	s.ctl = control.New(api, "test", siteTTL)
	return s
}

// ctx ends when what has to happen has not.
func (s *site) ctx() context.Context {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	s.t.Cleanup(cancel)
	return ctx
}

func (s *site) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// until waits for a condition that no event announces across processes.
func (s *site) until(what string, cond func() bool) {
	s.t.Helper()
	eventually(s.t, func() string { return what }, cond)
}

// graven runs a command that has to succeed.
func (s *site) graven(args ...string) string {
	s.t.Helper()
	return must(s.t, append(args, "--api", s.api)...)
}

// tool runs one of etcd's own programs.
func (s *site) tool(name string, args ...string) string {
	s.t.Helper()
	out, err := exec.CommandContext(s.ctx(), name, args...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// shown decodes what a command prints with -o json.
func shown[T any](s *site, args ...string) T {
	s.t.Helper()
	var v T
	s.ok(json.Unmarshal([]byte(s.graven(append(args, "-o", "json")...)), &v))
	return v
}

// up waits until every agent that runs is registered.
func (s *site) up() {
	s.t.Helper()
	for _, a := range s.Agents() {
		if !a.Running() {
			continue
		}
		s.until(a.ID+" is up", func() bool {
			out, _, status := graven(s.t, nil, "daemon", "show", a.ID, "-o", "json", "--api", s.api)
			var d openapi.Daemon
			return status == 0 && json.Unmarshal([]byte(out), &d) == nil && d.State == openapi.DaemonUp
		})
	}
}

func (s *site) create(name string, more ...string) openapi.Log {
	s.t.Helper()
	s.graven(append([]string{"log", "create", name, "--replicas", "3", "--ack", "2", "--capacity", "1MiB"}, more...)...)
	return shown[openapi.Log](s, "log", "show", name)
}

// writer opens a log, waiting for daemons that are on their way back.
func (s *site) writer(log string) *replog.Writer {
	s.t.Helper()
	w, err := replog.Open(s.ctx(), s.ctl, replog.OpenRequest{Log: log, Takeover: true}, replog.Options{ReplaceAfter: -1})
	s.ok(err)
	s.t.Cleanup(func() { _ = w.Close() })
	return w
}

// write appends records and returns once all are acknowledged.
func (s *site) write(w *replog.Writer, records ...string) {
	s.t.Helper()
	for _, r := range records {
		if _, err := w.Append(s.ctx(), format.Record{Payload: []byte(r)}); err != nil {
			s.t.Fatalf("append %q: %v", r, err)
		}
	}
}

// append opens a log, appends, and closes it.
func (s *site) append(log string, records ...string) uint64 {
	s.t.Helper()
	w := s.writer(log)
	s.write(w, records...)
	s.ok(w.Settle(s.ctx()))
	s.ok(w.Close())
	return w.Grant().Term.Epoch
}

// holds opens a log and compares all its records.
func (s *site) holds(log string, want ...string) uint64 {
	s.t.Helper()
	w := s.writer(log)
	var got []string
	_, err := w.Read(w.TrimLSN(), func(_ format.Header, p []byte) error {
		got = append(got, string(p))
		return nil
	})
	s.ok(err)
	if !slices.Equal(got, want) {
		s.t.Errorf("log %s holds %q, want %q", log, got, want)
	}
	s.ok(w.Close())
	return w.Grant().Term.Epoch
}

// etcdClient talks to the site's etcd.
func (s *site) etcdClient() *clientv3.Client {
	s.t.Helper()
	c, err := s.Client()
	s.ok(err)
	s.t.Cleanup(func() {
		if err := c.Close(); err != nil && !errors.Is(err, context.Canceled) {
			s.t.Error(err)
		}
	})
	return c
}

// alarms are the kinds that the status shows.
func (s *site) alarms() []openapi.AlarmKind {
	s.t.Helper()
	var kinds []openapi.AlarmKind
	for _, a := range shown[openapi.Status](s, "status").Alarms {
		kinds = append(kinds, a.Kind)
	}
	return kinds
}

// removeAll deletes a folder.
func (s *site) removeAll(dir string) {
	s.t.Helper()
	s.ok(os.RemoveAll(dir))
}
