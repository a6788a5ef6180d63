package pmemlog_test

import (
	"path/filepath"
	"runtime"
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
)

// TestMemoryDoesNotGrowWithThePool opens a small pool and a large one, each with
// many replicas that have been fenced, read and written to, and counts what they
// keep. It runs beside no other test.
func TestMemoryDoesNotGrowWithThePool(t *testing.T) { //nolint:paralleltest // others would be counted
	const replicas = 64
	small := openCost(t, 64<<20, replicas, 256<<10)
	large := openCost(t, 8<<30, replicas, 256<<10)
	long := openCost(t, 8<<30, 1, 16<<20)
	t.Logf("a pool of 64 MiB with %d replicas keeps %d bytes, one of 8 GiB %d; one with a ring of 16 MiB %d", replicas, small, large, long)
	const share = 1 << 20
	for name, kept := range map[string]int64{"small": small / replicas, "large": large / replicas, "long": long} {
		if kept > share {
			t.Errorf("the %s pool keeps %d bytes a replica, more than %d", name, kept, share)
		}
	}
	if large > small+small/4+64<<10 {
		t.Errorf("a pool of 8 GiB keeps %d bytes, one of 64 MiB %d", large, small)
	}
}

// openCost returns the bytes of memory that a pool keeps that has been opened and
// used.
func openCost(t *testing.T, size int64, replicas int, capacity uint64) int64 {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pool")
	p := get[*pmemlog.Pool](t)(pmemlog.CreateFilePool(path, fileOptions(size)))
	for i := range replicas {
		must(t, create(p, spec(byte(i), capacity)))
	}
	must(t, p.Close())
	before := heap()
	p = get[*pmemlog.Pool](t)(pmemlog.OpenFilePool(path))
	sessions := make([]*pmemlog.Session, replicas)
	for i := range sessions {
		sessions[i] = useAll(t, get[*pmemlog.Replica](t)(p.Replica(id(byte(i)))))
	}
	kept := heap() - before
	runtime.KeepAlive(sessions)
	must(t, p.Close())
	return kept
}

// useAll fences, writes to and fences a replica again; nothing of the test's stays.
func useAll(t *testing.T, r *pmemlog.Replica) *pmemlog.Session {
	t.Helper()
	w := openWriter(t, r, 1)
	for range 4 {
		w.append(4000)
		w.flush()
	}
	must(t, r.PersistHint())
	must(t, w.s.Trim(w.point()))
	rep := get[format.Report](t)(w.s.Fence(w.term))
	if rep.Tail != w.chain.LSN {
		t.Fatalf("tail %d, want %d", rep.Tail, w.chain.LSN)
	}
	return w.s
}

// heap returns the bytes in use after all garbage is gone.
func heap() int64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.GC() // what finalizers and pools held for one more
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}
