package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// restartable is an etcd whose server can't tell one process from the next.
type restartable struct {
	t    *testing.T
	dir  string
	port int
	etcd *Embedded
}

func (r *restartable) start() {
	r.t.Helper()
	var err error
	if r.etcd, err = StartEmbedded(r.t.Context(), r.dir, EmbeddedOptions{ClientPort: r.port, Logger: quiet()}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *restartable) stop() {
	r.t.Helper()
	if err := r.etcd.Close(); err != nil {
		r.t.Fatal(err)
	}
}

// through runs a store over the network, which goes on while etcd is away.
func (r *restartable) through() *Store {
	s, _ := r.until()
	return s
}

// until is through for a store that may end before the test.
func (r *restartable) until() (s *Store, stop func()) {
	r.t.Helper()
	x, err := Dial(r.t.Context(), []string{r.etcd.Endpoint()}, DialOptions{Logger: quiet()})
	if err != nil {
		r.t.Fatal(err)
	}
	s, err = New(x.Client, Options{Lease: x.Lease, Logger: quiet()})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
		if err := x.Close(); err != nil {
			r.t.Error(err)
		}
	})
	r.t.Cleanup(stop)
	if err := s.WaitReady(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	return s, stop
}

// copied is what the etcd's folder holds now. It is stopped for that.
func (r *restartable) copied() (folder string) {
	r.t.Helper()
	folder = filepath.Join(r.t.TempDir(), "copy")
	r.stop()
	if err := os.CopyFS(folder, os.DirFS(r.dir)); err != nil {
		r.t.Fatal(err)
	}
	r.start()
	return folder
}

// putBack starts the etcd, which is stopped, from a copy of its folder.
func (r *restartable) putBack(folder string) {
	r.t.Helper()
	if err := os.RemoveAll(r.dir); err != nil {
		r.t.Fatal(err)
	}
	if err := os.CopyFS(r.dir, os.DirFS(folder)); err != nil {
		r.t.Fatal(err)
	}
	r.start()
}

// newRestartable is one that is started, and stopped when the test ends.
func newRestartable(t *testing.T) *restartable {
	t.Helper()
	r := &restartable{t: t, dir: filepath.Join(t.TempDir(), "etcd"), port: freePort(t)}
	r.start()
	t.Cleanup(func() {
		if err := r.etcd.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// A copied data folder put back under the same etcd has its ID, so only its
// revision tells. The servers that ran through it notice, begin one life together,
// and build their views anew: the watch alone would wait for a revision that is to
// come, and show what is no more.
func TestACopiedFolderBeginsALife(t *testing.T) {
	t.Parallel()
	r := newRestartable(t)
	first, second := r.through(), r.through()
	old := makeLog(t, first)
	open(t, first, old.Name)
	d := daemon(t, first)

	yesterday := r.copied()
	eventually(t, "the servers are back", func() bool { return first.Ready() == nil && second.Ready() == nil })
	for range 3 {
		open(t, first, old.Name, func(o *OpenLogRequest) { o.Takeover = true })
	}
	lost := makeLog(t, second) // after the backup
	eventually(t, "both views have it", func() bool {
		_, a := first.View().Log(lost.Name)
		_, b := second.View().Log(lost.Name)
		return a && b
	})

	stream, err := first.Events(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	r.putBack(yesterday)
	for i, s := range []*Store{first, second} {
		eventually(t, "the server notices and shows what there is", func() bool {
			_, shown := s.View().Log(lost.Name)
			return !shown && s.known().life == 1 && s.Ready() == nil
		})
		a := open(t, s, old.Name, func(o *OpenLogRequest) { o.Takeover = true })
		if want := uint64(1<<lifeShift + i); a.Epoch != want {
			t.Errorf("server %d opens in epoch %d, want %d", i+1, a.Epoch, want)
		}
		if _, shown := s.View().Log(lost.Name); shown {
			t.Errorf("server %d shows a log that is no more", i+1)
		}
	}
	if rec := recordedCluster(t, first); rec.Life != 1 {
		t.Errorf("two servers noticed one restore and began life %d", rec.Life)
	}
	// A daemon tells anew what its pool holds: it may have got something since.
	beat := HeartbeatRequest{DaemonID: d.DaemonID, Incarnation: d.Incarnation, Free: d.Free}
	if _, err := second.Heartbeat(t.Context(), beat); !errors.Is(err, ErrLeaseExpired) {
		t.Errorf("a heartbeat of a daemon that registered in the life before: %v", err)
	}
	if _, err := second.Register(t.Context(), d); err != nil {
		t.Error(err)
	}
	if _, err := first.Heartbeat(t.Context(), beat); err != nil {
		t.Error(err)
	}
	for range stream.C { // what came before it ended
	}
	if err := stream.Err(); !errors.Is(err, ErrCompacted) {
		t.Errorf("a stream of events went on into another past: %v", err)
	}
	made := makeLog(t, second)
	eventually(t, "the first server sees what the second one makes", func() bool {
		_, shown := first.View().Log(made.Name)
		return shown
	})
}
