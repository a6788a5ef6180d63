package agent

import (
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
)

// badPage is a medium with a page that is bad and stays so; 0 for none yet.
type badPage struct {
	pmemlog.Medium
	at *atomic.Int64
}

func (m badPage) hit(p []byte, off int64) bool {
	at := m.at.Load()
	return at > 0 && off < at+4096 && at < off+int64(len(p))
}

func (m badPage) ReadAt(p []byte, off int64) error {
	if m.hit(p, off) {
		return unix.EIO
	}
	return m.Medium.ReadAt(p, off)
}

func (m badPage) WriteAt(p []byte, off int64) error {
	if m.hit(p, off) {
		return &os.PathError{Op: "write", Path: "pool", Err: unix.EIO}
	}
	return m.Medium.WriteAt(p, off)
}

// A page that can't be written ends the session of the log that it belongs to. The
// control plane hears which replica is damaged, and where; all other logs of the
// daemon go on.
func TestBadPageEndsOneLogOnly(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	o := c.options("d1")
	o.LeaseTTL = maxTTL // so that only news makes a heartbeat
	var at atomic.Int64
	o.wrap = func(m pmemlog.Medium) pmemlog.Medium { return badPage{m, &at} }
	a := start(t, o)
	c.untilState(a.ID(), openapi.DaemonUp)
	log := c.createLog("l", 1)
	h := hello(t, c.open(log), 0)
	w := write(t, a.Addr(), h, nil)
	other := write(t, a.Addr(), hello(t, c.open(c.createLog("other", 1)), 0), nil)
	w.commit("kept")
	other.commit("kept")
	for _, l := range a.pool.Replicas() {
		if l.Replica == h.Replica {
			at.Store(l.Offset + format.RingOffset + 4096)
		}
	}
	if err := w.until(w.append(make([]byte, 5000))); !errors.Is(err, rdmaio.ErrMedium) {
		t.Errorf("the writer got %v, want %v", err, rdmaio.ErrMedium)
	}
	other.commit("and more")
	if h := a.Health(); h.State != openapi.HealthOK {
		t.Errorf("health %+v", h)
	}
	reported := func() string {
		r, err := c.api.GetLogWithResponse(t.Context(), log.LogID)
		if err != nil || r.JSON200 == nil {
			t.Fatal(err, string(r.Body))
		}
		if said := r.JSON200.Replicas[0].Reported; said != nil {
			return said.Damage
		}
		return ""
	}
	eventually(t, "the control plane knows of the damage", func() bool {
		return strings.Contains(reported(), "can't be written, bytes ")
	})
}

// heard is a log in which a test looks something up.
type heard struct {
	mu   sync.Mutex
	said strings.Builder
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.said.Write(p)
}

// A daemon starts with a bad page under a copy of its pool's directory that can't be
// written anew, says so, and serves.
func TestStartWithABadPageOfTheDirectory(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	o := c.options("d1")
	var at atomic.Int64
	at.Store(8192) // copy A
	var log heard
	o.wrap = func(m pmemlog.Medium) pmemlog.Medium { return badPage{m, &at} }
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	a := start(t, o)
	c.untilState(a.ID(), openapi.DaemonUp)
	w := write(t, a.Addr(), hello(t, c.open(c.createLog("l", 1)), 0), nil)
	w.commit("kept")
	log.mu.Lock()
	defer log.mu.Unlock()
	if said := log.said.String(); !strings.Contains(said, "can't be written anew") || !strings.Contains(said, "directory, copy A") {
		t.Errorf("it says %s", said)
	}
}
