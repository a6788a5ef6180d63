package agent

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog"
)

// A pool on persistent memory serves, says what it is, and keeps what it
// acknowledged.
func TestPmem(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	o := c.options("d1")
	o.Media, o.Durability, o.Pool = MediaPmem, pmemlog.DurabilityFlush, filepath.Join(t.TempDir(), "elsewhere")
	makeNamed(t, o)
	a := start(t, o)
	if d := c.untilState(a.ID(), openapi.DaemonUp); d.Media != openapi.MediaPmem {
		t.Errorf("media %q", d.Media)
	}
	log := c.createLog("l", 1)
	opened := c.open(log)
	w := write(t, a.Addr(), hello(t, opened, 0), nil)
	c.present(opened)
	w.commit("x")
	w.commit("y")
	a.end()
	a = start(t, o)
	w = write(t, a.Addr(), hello(t, c.open(log), 0), nil)
	if got := w.payloads(); !slices.Equal(got, []string{"x", "y"}) {
		t.Errorf("after a restart the log holds %q", got)
	}
	a.end()

	o.Durability = pmemlog.DurabilityAuto
	if a, err := New(o); err == nil {
		_ = a.Close() // the temporary folder is on DAX
	} else if !errors.Is(err, pmemlog.ErrNotPersistent) {
		t.Errorf("without a word on durability: %v", err)
	}
	o.Durability, o.Pool = pmemlog.DurabilityFlush, "/dev/null"
	if _, err := New(o); !errors.Is(err, pmemlog.ErrNoPool) || !strings.Contains(err.Error(), "device-dax") {
		t.Errorf("a device that is none: %v", err)
	}
}
