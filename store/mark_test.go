package store

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	caller "github.com/gravenio/graven/identity"
)

// marked is a mark that a server of this store's cluster has made.
func marked(s *Store, life uint64, revision int64) EtcdMark {
	m := EtcdMark{Life: life, Revision: revision}
	m.Proof = fmt.Sprintf("%x", s.known().proof(&m))
	return m
}

// restores are the journal's entries about new lives.
func restores(t *testing.T, s *Store) []JournalEntry {
	t.Helper()
	if err := s.View().WaitRevision(t.Context(), etcdRevision(t, s)); err != nil {
		t.Fatal(err)
	}
	es, _ := s.View().Journal(JournalFilter{Kinds: []JournalKind{JournalEtcdRestored}})
	return es
}

// A copied data folder is put back while no server runs. The servers that start
// then have heard nothing of what is lost; the first daemon that comes back has, by
// its registration or, if its lease is in the copy, by a heartbeat.
func TestADaemonKnowsThatEtcdWasSetBack(t *testing.T) {
	t.Parallel()
	for name, comes := range map[string]func(t *testing.T, s *Store, d RegisterRequest) error{
		"registering": func(t *testing.T, s *Store, d RegisterRequest) error {
			a, err := s.Register(t.Context(), d)
			if err == nil && (a.Mark.Life != 1 || a.Mark.Revision < a.Revision) {
				t.Errorf("registered at revision %d, it is given %+v", a.Revision, a.Mark)
			}
			if err == nil { // it has registered in the new life
				_, err = s.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: d.DaemonID, Incarnation: d.Incarnation, Free: d.Free})
			}
			return err
		},
		"renewing": func(t *testing.T, s *Store, d RegisterRequest) error {
			_, err := s.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: d.DaemonID, Incarnation: d.Incarnation, Free: d.Free, Mark: d.Mark})
			if !errors.Is(err, ErrLeaseExpired) {
				t.Errorf("its heartbeat: %v, want %v", err, ErrLeaseExpired)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRestartable(t)
			s, stop := r.until()
			d := daemon(t, s)
			l := makeLog(t, s)
			open(t, s, l.Name)
			yesterday := r.copied()
			eventually(t, "the server is back", func() bool { return s.Ready() == nil })
			for range 3 {
				open(t, s, l.Name, func(o *OpenLogRequest) { o.Takeover = true })
			}
			beat := HeartbeatRequest{DaemonID: d.DaemonID, Incarnation: d.Incarnation, Free: d.Free}
			a, err := s.Heartbeat(t.Context(), beat)
			if err != nil {
				t.Fatal(err)
			}
			d.Mark = a.Mark
			stop()
			r.stop()
			r.putBack(yesterday)

			first, second := r.through(), r.through()
			if first.known().life != 0 || second.known().life != 0 || etcdRevision(t, first) >= d.Mark.Revision {
				t.Fatalf("this was to be noticed by nobody: %+v, %+v, mark %+v", first.known(), second.known(), d.Mark)
			}
			if err := comes(t, first, d); err != nil {
				t.Fatal(err)
			}
			// The other server hands out no epoch of the life before either.
			for i, s := range []*Store{second, first} {
				if a := open(t, s, l.Name, func(o *OpenLogRequest) { o.Takeover = true }); a.Epoch != uint64(1<<lifeShift+i) {
					t.Errorf("open %d: epoch %d in the new life", i+1, a.Epoch)
				}
			}
			es := restores(t, second)
			if len(es) != 1 || es[0].DaemonID != d.DaemonID || !strings.Contains(es[0].Detail, fmt.Sprintf("daemon %s proves", d.DaemonID)) {
				t.Errorf("the journal has %+v", es)
			}
			// All register anew, with all that their pools hold; the mark is spent.
			if _, err := second.Heartbeat(t.Context(), beat); !errors.Is(err, ErrLeaseExpired) && name == "renewing" {
				t.Errorf("a heartbeat of the life before: %v", err)
			}
			for _, s := range []*Store{second, first} {
				if _, err := s.Register(t.Context(), d); err != nil {
					t.Fatal(err)
				}
				beat.Mark = d.Mark
				if _, err := s.Heartbeat(t.Context(), beat); err != nil {
					t.Error(err)
				}
			}
			if rec := recordedCluster(t, first); rec.Life != 1 {
				t.Errorf("one mark began life %d", rec.Life)
			}
		})
	}
}

// What proves nothing changes nothing, and keeps nobody out: an etcd that was
// restored from before there were marks has another secret.
func TestMarksThatProveNothing(t *testing.T) {
	t.Parallel()
	s := startOwn(t, own(t, t.TempDir()), Options{})
	if _, err := s.relearn(t.Context(), newLife{least: 1}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the life has begun", func() bool { return s.Ready() == nil })
	d := daemon(t, s)
	ahead := s.known().heard.Load() + 1000
	other := *s.known()
	other.clusterID = "5d3c2f4e-8f5a-4b7e-9a55-0d7f5b0c9a11"
	for name, m := range map[string]func() EtcdMark{
		"none":                      func() EtcdMark { return EtcdMark{} },
		"what etcd is at":           func() EtcdMark { return marked(s, 1, etcdRevision(t, s)) },
		"of before":                 func() EtcdMark { return marked(s, 1, 1) },
		"of a life that is over":    func() EtcdMark { return marked(s, 0, ahead) },
		"forged, of this life":      func() EtcdMark { return EtcdMark{Life: 1, Revision: ahead, Proof: strings.Repeat("0", 64)} },
		"forged, of a later life":   func() EtcdMark { return EtcdMark{Life: MaxLife, Revision: 1, Proof: strings.Repeat("f", 64)} },
		"with another one's proof":  func() EtcdMark { m := marked(s, 1, 1); m.Revision = ahead; return m },
		"with another life's proof": func() EtcdMark { m := marked(s, 0, ahead); m.Life = 1; return m },
		"of another cluster": func() EtcdMark {
			m := EtcdMark{Life: 1, Revision: ahead}
			m.Proof = fmt.Sprintf("%x", other.proof(&m))
			return m
		},
	} {
		d.Mark = m()
		a, err := s.Register(t.Context(), d)
		if err != nil || a.Mark.Life != 1 || a.Mark.Revision < a.Revision || !s.known().believes(&a.Mark) {
			t.Errorf("registering with a mark %s: %+v, %v", name, a, err)
		}
		h, err := s.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: d.DaemonID, Incarnation: d.Incarnation, Free: d.Free, Mark: m()})
		if err != nil || !s.known().believes(&h.Mark) {
			t.Errorf("a heartbeat with a mark %s: %+v, %v", name, h, err)
		}
		if rec := recordedCluster(t, s); rec.Life != 1 {
			t.Fatalf("a mark %s began life %d", name, rec.Life)
		}
	}
	if es := restores(t, s); len(es) != 1 {
		t.Errorf("the journal has %+v", es)
	}
}

// A mark of a life that etcd has never heard of: no epoch of that one comes again
// either.
func TestAMarkOfALifeThatWasForgotten(t *testing.T) {
	t.Parallel()
	e := own(t, t.TempDir())
	s, other := startOwn(t, e, Options{}), startOwn(t, e, Options{})
	l := makeLog(t, s)
	d := daemon(t, s)
	d.Mark = marked(s, 2, 1)
	a, err := s.Register(t.Context(), d)
	if err != nil || a.Mark.Life != 3 {
		t.Errorf("registered: %+v, %v", a, err)
	}
	eventually(t, "the other server hears of it without being asked", func() bool { return other.known().life == 3 })
	if a := open(t, other, l.Name); a.Epoch != 3<<lifeShift {
		t.Errorf("epoch %d", a.Epoch)
	}
}

// A server may have heard less than the one that made a mark: it looks at etcd
// before it believes that etcd was set back.
func TestAMarkOfAServerThatIsAhead(t *testing.T) {
	t.Parallel()
	e := own(t, t.TempDir())
	s, behind := startOwn(t, e, Options{}), startOwn(t, e, Options{})
	d := daemon(t, s)
	a, err := s.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: d.DaemonID, Incarnation: 1, Free: d.Free})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		behind.known().heard.Store(1)
		h, err := behind.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: d.DaemonID, Incarnation: 1, Free: d.Free, Mark: a.Mark})
		if err != nil || h.Mark.Life != 0 {
			t.Errorf("its heartbeat: %+v, %v", h, err)
		}
	}
	if rec := recordedCluster(t, s); rec.Life != 0 {
		t.Errorf("life %d has begun", rec.Life)
	}
}

// Only who may register a daemon is heard about what that knows.
func TestAMarkFromSomebodyElse(t *testing.T) {
	t.Parallel()
	s := startOwn(t, own(t, t.TempDir()), Options{})
	bound, thief := as(t, "d1", caller.RoleDaemon), as(t, "d2", caller.RoleDaemon)
	d := daemonReq(t)
	if _, err := s.Register(bound, d); err != nil {
		t.Fatal(err)
	}
	d.Mark = marked(s, 0, s.known().heard.Load()+1000)
	if _, err := s.Register(thief, d); !errors.Is(err, ErrForeignDaemon) {
		t.Errorf("a registration by another one: %v", err)
	}
	beat := HeartbeatRequest{DaemonID: d.DaemonID, Incarnation: 1, Free: d.Free, Mark: d.Mark}
	if _, err := s.Heartbeat(thief, beat); !errors.Is(err, ErrForeignDaemon) {
		t.Errorf("a heartbeat by another one: %v", err)
	}
	if rec := recordedCluster(t, s); rec.Life != 0 {
		t.Errorf("life %d has begun", rec.Life)
	}
	if _, err := s.Register(bound, d); err != nil {
		t.Error(err)
	}
	if es := restores(t, s); len(es) != 1 || es[0].Who != "d1" {
		t.Errorf("the journal has %+v", es)
	}
}

func TestMarksAreChecked(t *testing.T) {
	t.Parallel()
	good := EtcdMark{Life: MaxLife, Revision: 1, Proof: strings.Repeat("0a", 32)}
	if err := good.check(); err != nil {
		t.Errorf("%+v: %v", good, err)
	}
	for field, edit := range map[string]func(m *EtcdMark){
		"etcd_mark.life":     func(m *EtcdMark) { m.Life = MaxLife + 1 },
		"etcd_mark.revision": func(m *EtcdMark) { m.Revision = 0 },
		"etcd_mark.proof":    func(m *EtcdMark) { m.Proof = strings.Repeat("0A", 32) },
	} {
		bad := good
		edit(&bad)
		d := daemonReq(t)
		d.Mark = bad
		_, reg := shared.store.Register(t.Context(), d)
		_, beat := shared.store.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: d.DaemonID, Incarnation: 1, Mark: bad})
		for _, err := range []error{reg, beat} {
			var invalid *InvalidError
			if !errors.As(err, &invalid) || invalid.Field != field {
				t.Errorf("%+v: %v, want a rule of %s", bad, err, field)
			}
		}
	}
	for _, m := range []EtcdMark{{Revision: -1, Proof: good.Proof}, {Revision: 1 << 53, Proof: good.Proof}, {Revision: 1}, {Proof: good.Proof}} {
		if m.check() == nil {
			t.Errorf("%+v is taken", m)
		}
	}
}

// A life that a server knows is not forgotten with its record.
func TestAForgottenRecordOfALife(t *testing.T) {
	t.Parallel()
	s := startOwn(t, own(t, t.TempDir()), Options{})
	l := makeLog(t, s)
	before := recordedCluster(t, s)
	if _, err := s.relearn(t.Context(), newLife{least: 1}); err != nil {
		t.Fatal(err)
	}
	rewriteCluster(t, s, func(r *clusterRecord) { *r = before })
	if a := open(t, s, l.Name); a.Epoch != 2<<lifeShift {
		t.Errorf("epoch %d after life 1 was forgotten", a.Epoch)
	}
}

// Before etcd was heard of in a life, there is nothing to tell.
func TestNoMarkOfWhatWasNotHeard(t *testing.T) {
	t.Parallel()
	s := &Store{view: newView(0)}
	none := EtcdMark{}
	if m := s.mark(); m != none {
		t.Errorf("before the cluster is known: %+v", m)
	}
	s.keep(&identity{heard: new(atomic.Int64), mod: 1})
	if m := s.mark(); m != none {
		t.Errorf("before anything was heard: %+v", m)
	}
	s.known().hear(7)
	if m := s.mark(); m.Life != 0 || m.Revision != 7 {
		t.Errorf("at revision 7: %+v", m)
	}
	s.keep(&identity{heard: new(atomic.Int64), mod: 2}) // the record was written for another reason
	if m := s.mark(); m.Revision != 7 {
		t.Errorf("at revision 7 of the same life: %+v", m)
	}
	s.keep(&identity{heard: new(atomic.Int64), mod: 3, life: 1})
	if m := s.mark(); m != none {
		t.Errorf("what was heard in the life before is told of the new one: %+v", m)
	}
}
