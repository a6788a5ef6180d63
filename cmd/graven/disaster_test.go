package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gravenio/graven/internal/fleet"
	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog"
)

// etcd is lost and yesterday's copy is put in its place, in the ways that people
// do it. Between the copy and the loss the cluster has worked: everything that etcd
// then knew nothing of is found again, or told.
func TestDisaster(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	t.Run("a snapshot restored under a token of its own", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, 5)
		disaster(s,
			func(copied string) { s.tool("etcdctl", "--endpoints", s.Endpoints()[0], "snapshot", "save", copied) },
			func(copied string) {
				m := s.Etcd()[0]
				s.ok(m.Kill())
				s.removeAll(m.Dir)
				s.tool("etcdutl", "snapshot", "restore", copied, "--name", "etcd1", "--data-dir", m.Dir,
					"--initial-cluster", "etcd1="+m.Peer, "--initial-advertise-peer-urls", m.Peer,
					"--initial-cluster-token", "graven-restored-2026-01-31")
			})
	})
	t.Run("a copied data folder", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, 5)
		disaster(s, s.copyEtcd, s.putEtcdBack)
	})
	// The servers have heard nothing of what is lost, and the daemons have.
	t.Run("a copied data folder and new servers", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, 5)
		disaster(s, s.copyEtcd, func(copied string) {
			s.putEtcdBack(copied)
			for _, srv := range s.Servers() {
				s.ok(srv.Kill())
				s.ok(srv.Start())
			}
		})
		for _, e := range s.journal("etcd-restored") {
			if !strings.Contains(e.Detail, "daemon "+e.DaemonID+" proves") {
				t.Errorf("it was not a daemon that knew: %+v", e)
			}
		}
	})
}

// copyEtcd copies the data folder of the site's etcd.
func (s *site) copyEtcd(to string) {
	s.t.Helper()
	m := s.Etcd()[0]
	s.ok(m.Stop())
	s.ok(os.CopyFS(to, os.DirFS(m.Dir)))
	s.ok(s.StartEtcd(s.ctx()))
}

// putEtcdBack ends the site's etcd and puts a copy in the place of its data folder.
func (s *site) putEtcdBack(copied string) {
	s.t.Helper()
	m := s.Etcd()[0]
	s.ok(m.Kill())
	s.removeAll(m.Dir)
	s.ok(os.CopyFS(m.Dir, os.DirFS(copied)))
}

// journal are the entries of a kind.
func (s *site) journal(kind string) []openapi.JournalEntry {
	s.t.Helper()
	return shown[openapi.JournalList](s, "events", "ls", "--kind", kind).Items
}

// firstEpochOfLife is the first epoch of a cluster's second life.
const firstEpochOfLife = 1 << 40

func disaster(s *site, backUp, restore func(copied string)) {
	t := s.t
	t.Helper()
	kept, replaced, deleted := s.create("kept"), s.create("replaced"), s.create("deleted")
	open, unopened := s.create("open"), s.create("unopened")
	s.create("never")
	for _, name := range []string{"kept", "replaced", "deleted", "open"} {
		s.append(name, "before 1", "before 2")
	}
	copied := filepath.Join(s.Dir(), "yesterday")
	backUp(copied)
	for _, srv := range s.Servers() {
		s.ok(srv.Ready(s.ctx()))
	}
	s.up()

	// What the copy knows nothing of.
	old := s.append("kept", "after 1")
	old = max(old, s.append("kept", "after 2"))
	s.append("unopened", "after 1")
	from := replaced.Replicas[0].DaemonID
	s.graven("log", "replace", "replaced", "--from", from)
	s.append("replaced", "after 1")
	now := shown[openapi.Log](s, "log", "show", "replaced")
	s.remove("deleted")
	s.remove("never")
	unknown := s.create("unknown")
	s.append("unknown", "after 1")
	live := s.writer("open") // through everything
	s.write(live, "after 1")
	s.until("the regions of the deleted log are gone", func() bool {
		return shown[openapi.Status](s, "status").Bytes.Condemned == 0
	})
	again := s.Agents()[4] // one that starts again since the copy
	s.ok(again.Stop())
	s.ok(again.Start())
	s.up()

	restored := time.Now()
	restore(copied)
	s.write(live, "while etcd is away")
	s.ok(s.StartEtcd(s.ctx()))
	for _, srv := range s.Servers() {
		s.ok(srv.Ready(s.ctx()))
	}
	s.until("the restore is in the journal, once", func() bool { return len(s.journal("etcd-restored")) == 1 })
	for _, a := range s.Agents() { // the copy may show it as up
		s.until(a.ID+" has registered anew", func() bool {
			return shown[openapi.Daemon](s, "daemon", "show", a.ID).RegisteredAt.After(restored)
		})
	}
	s.up()

	// Nothing acknowledged is lost, and no epoch comes again.
	if epoch := s.holds("kept", "before 1", "before 2", "after 1", "after 2"); epoch < firstEpochOfLife || old >= firstEpochOfLife {
		t.Errorf("opened in epoch %d after the restore, in %d before", epoch, old)
	}
	s.holds("unopened", "after 1")
	s.adopted(replaced, now)
	s.write(live, "after the restore")
	s.holds("open", "before 1", "before 2", "after 1", "while etcd is away", "after the restore")
	if _, err := live.Append(s.ctx(), format.Record{Payload: []byte("too late")}); err == nil {
		t.Error("the writer of before was not fenced by the open")
	}

	s.reconciled(deleted, unknown, kept, open, unopened, replaced)
}

// adopted is the log whose replica was replaced since the copy. Its record named
// the set of before; the daemons know better, and say so when they register. The
// open goes on with the newer set, with all that was acknowledged, and every byte
// is in the books again.
func (s *site) adopted(before, after openapi.Log) {
	t := s.t
	t.Helper()
	s.holds("replaced", "before 1", "before 2", "after 1")
	now := shown[openapi.Log](s, "log", "show", "replaced")
	if now.SetVersion != after.SetVersion || !slices.Equal(idsOf(now), idsOf(after)) {
		t.Errorf("opened with set version %d %v, it had %d %v", now.SetVersion, idsOf(now), after.SetVersion, idsOf(after))
	}
	s.append("replaced", "after the restore")
	s.until("all replicas of the newer set are served", func() bool {
		return shown[openapi.Log](s, "log", "show", "replaced").State == openapi.LogClosed
	})
	newer := idsOf(after)
	newer = slices.DeleteFunc(newer, func(id string) bool { return slices.Contains(idsOf(before), id) })
	for _, r := range after.Replicas {
		if !slices.Contains(newer, r.ReplicaID) {
			continue
		}
		s.until("the new replica is out of quarantine", func() bool {
			return !slices.Contains(shown[openapi.Daemon](s, "daemon", "show", r.DaemonID).Quarantined, r.ReplicaID)
		})
	}
	s.graven("log", "recover", "replaced") // what the new replica missed
	s.graven("log", "verify", "replaced")
}

func idsOf(l openapi.Log) []string {
	var ids []string
	for _, r := range l.Replicas {
		ids = append(ids, r.ReplicaID)
	}
	slices.Sort(ids)
	return ids
}

// remove deletes a log, which a daemon may be recovering just now.
func (s *site) remove(log string) {
	s.t.Helper()
	s.until("log "+log+" is deleted", func() bool {
		_, errs, status := graven(s.t, nil, "log", "rm", log, "--api", s.api)
		if status != 0 && !strings.Contains(errs, "(log-in-use)") {
			s.t.Fatalf("graven log rm %s: exit status %d\n%s", log, status, errs)
		}
		return status == 0
	})
}

// removeReplica does what only a person may do.
func (s *site) removeReplica(r openapi.Replica) {
	s.t.Helper()
	a := s.agent(r.DaemonID)
	s.ok(a.Stop())
	must(s.t, "pool", "remove", a.Pool, r.ReplicaID, "--yes")
	s.ok(a.Start())
	s.up()
}

// export is what a replica holds, read beside its daemon, which is stopped for it.
func (s *site) export(r openapi.Replica) string {
	s.t.Helper()
	a := s.agent(r.DaemonID)
	s.ok(a.Stop())
	out := must(s.t, "pool", "export", a.Pool, r.ReplicaID)
	s.ok(a.Start())
	s.up()
	return out
}

func (s *site) agent(id string) *fleet.Agent {
	s.t.Helper()
	agents := s.Agents()
	i := slices.IndexFunc(agents, func(a *fleet.Agent) bool { return a.ID == id })
	if i < 0 {
		s.t.Fatalf("no agent %s", id)
	}
	return agents[i]
}

// reconciled looks at what only a person can put in order: each is shown, and each
// has a way out.
func (s *site) reconciled(deleted, unknown openapi.Log, present ...openapi.Log) {
	t := s.t
	t.Helper()
	// A log that was deleted since is back in the record, and its replicas are not
	// there: it is shown, never opened empty, and can be deleted again.
	s.until("the log that was deleted shows as lost", func() bool {
		return slices.Contains(s.alarms(), openapi.AlarmReplicaMissing)
	})
	short, cancel := context.WithTimeout(s.ctx(), siteTTL)
	defer cancel()
	if _, err := replog.Open(short, s.ctl, replog.OpenRequest{Log: "deleted", Takeover: true}, replog.Options{}); err == nil {
		t.Error("a log without any replica was opened")
	}
	s.until("the lease of that attempt is gone", func() bool {
		return shown[openapi.Log](s, "log", "show", "deleted").Writer == nil
	})
	s.remove("deleted")
	s.remove("never")

	// The replicas of a log that was made since are kept and counted.
	bytes := map[string]int64{}
	for _, r := range unknown.Replicas {
		d := shown[openapi.Daemon](s, "daemon", "show", r.DaemonID)
		if !slices.Contains(d.Quarantined, r.ReplicaID) || d.QuarantinedBytes < unknown.ReplicaBytes {
			t.Errorf("daemon %s does not show the replica of the log that the copy does not know: %v, %d bytes", d.DaemonID, d.Quarantined, d.QuarantinedBytes)
		}
		bytes[d.DaemonID] = d.QuarantinedBytes
	}
	if !slices.Contains(s.alarms(), openapi.AlarmQuarantine) {
		t.Errorf("no alarm for what is quarantined: %v", s.alarms())
	}
	s.until("everything condemned is gone", func() bool {
		return shown[openapi.Status](s, "status").Bytes.Condemned == 0
	})

	// A person takes the records out of it, and then the replica away.
	r := unknown.Replicas[0]
	if out := s.export(r); !strings.Contains(out, "after 1") {
		t.Errorf("export of the quarantined replica: %q", out)
	}
	s.removeReplica(r)
	d := shown[openapi.Daemon](s, "daemon", "show", r.DaemonID)
	if got := bytes[r.DaemonID] - d.QuarantinedBytes; got != unknown.ReplicaBytes {
		t.Errorf("the removed replica gave back %d quarantined bytes of %d", got, unknown.ReplicaBytes)
	}

	// All in all: what is reserved is what the logs' replicas take.
	var list openapi.LogList
	s.ok(json.Unmarshal([]byte(s.graven("log", "ls", "-o", "json")), &list))
	var want int64
	for _, l := range list.Items {
		want += int64(len(l.Replicas)) * l.ReplicaBytes
	}
	if got := shown[openapi.Status](s, "status").Bytes; got.Reserved != want {
		t.Errorf("%d bytes are reserved, the logs' replicas take %d", got.Reserved, want)
	}
	if len(list.Items) != len(present) {
		t.Errorf("%d logs", len(list.Items))
	}
}
