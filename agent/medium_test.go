package agent

import (
	"testing"

	"github.com/gravenio/graven/pmemlog"
)

// dropped is a medium that notes what its cache was to give up.
type dropped struct {
	pmemlog.Medium
	off, n int64
}

func (m *dropped) DropCache(off, n int64) { m.off, m.n = off, n }

// A scrub reads the disk, not the system's cache, through what watches the medium,
// too.
func TestWatchedMediumDropsItsCache(t *testing.T) {
	t.Parallel()
	m := &dropped{}
	watched, ok := new(observer).watch(m).(interface{ DropCache(off, n int64) })
	if !ok {
		t.Fatal("the cache can't be dropped")
	}
	if watched.DropCache(7, 9); m.off != 7 || m.n != 9 {
		t.Errorf("bytes %d, %d", m.off, m.n)
	}
	if _, ok := new(observer).watch(&pmemlog.PMem{}).(interface{ DropCache(off, n int64) }); !ok {
		t.Error("that of persistent memory can't")
	}
}
