package pmemlog_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gravenio/graven/pmemlog"
)

// dirtyBytes returns how much of a file that is mapped and touched here the system
// has not written to the disk yet.
func dirtyBytes(t *testing.T, path string) int {
	t.Helper()
	dirty, inside := 0, false
	for line := range strings.Lines(string(get[[]byte](t)(os.ReadFile("/proc/self/smaps")))) {
		fields := strings.Fields(line)
		if strings.Contains(fields[0], "-") {
			inside = strings.HasSuffix(strings.TrimSpace(line), " "+path)
			continue
		}
		if kb := 0; inside && (fields[0] == "Shared_Dirty:" || fields[0] == "Private_Dirty:") {
			get[int](t)(fmt.Sscan(fields[1], &kb))
			dirty = max(dirty, kb<<10)
		}
	}
	return dirty
}

// mapTouched maps a file and has a look at each of its pages.
func mapTouched(t *testing.T, path string) []byte {
	t.Helper()
	f := get[*os.File](t)(os.OpenFile(path, os.O_RDWR, 0))
	defer f.Close()
	size := int(get[os.FileInfo](t)(f.Stat()).Size())
	b := get[[]byte](t)(unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED))
	t.Cleanup(func() { must(t, unix.Munmap(b)) })
	sum := byte(0)
	for i := 0; i < len(b); i += os.Getpagesize() {
		sum += b[i]
	}
	t.Logf("a pool of %d bytes, sum %d", size, sum)
	return b
}

// needsDirtyBytes skips where the system writes nothing, or can't tell.
func needsDirtyBytes(t *testing.T, path string) {
	t.Helper()
	var st unix.Statfs_t
	must(t, unix.Statfs(path, &st))
	if st.Type == unix.TMPFS_MAGIC {
		t.Skip("a file system in memory never writes anything")
	}
	probe := filepath.Join(filepath.Dir(path), "probe")
	must(t, os.WriteFile(probe, make([]byte, 4096), 0o600))
	mapTouched(t, probe)[0]++
	if dirtyBytes(t, probe) == 0 {
		t.Skip("the system does not tell what it has not written")
	}
}

// TestFileSyncIsWritten asks the system what a sync has left unwritten.
func TestFileSyncIsWritten(t *testing.T) {
	t.Parallel()
	path, p := newFilePool(t, 1<<20)
	must(t, p.Close())
	needsDirtyBytes(t, path)
	m := get[*pmemlog.File](t)(pmemlog.OpenFile(path))
	defer m.Close()
	mapTouched(t, path)
	must(t, m.WriteAt(make([]byte, 100<<10), 5000))
	must(t, m.Sync())
	if n := dirtyBytes(t, path); n != 0 {
		t.Errorf("%d bytes are dirty after a sync", n)
	}
}

// TestMsyncIsWritten asks the system what a pool that is made persistent by msync
// has left unwritten.
func TestMsyncIsWritten(t *testing.T) {
	t.Parallel()
	path, p := newPMemPool(t, pmemlog.DurabilityMsync)
	needsDirtyBytes(t, path)
	get[*pmemlog.Replica](t)(p.Create(spec(1, 64<<10)))
	mapTouched(t, path)
	if n := dirtyBytes(t, path); n != 0 {
		t.Errorf("%d bytes are dirty after a replica was created", n)
	}
	must(t, p.Close())
	m := get[*pmemlog.PMem](t)(pmemlog.OpenPMem(path, pmemlog.DurabilityMsync))
	defer m.Close()
	for _, n := range []int{16 << 10, 100, 64} { // whole lines, and parts
		must(t, m.WriteAt(make([]byte, n), 320<<10+int64(n%64)/2))
		if n := dirtyBytes(t, path); n != 0 {
			t.Errorf("%d bytes are dirty after a write", n)
		}
	}
}

// TestRewriteIsWritten asks the system what is left of pages that were written
// through the file.
func TestRewriteIsWritten(t *testing.T) {
	t.Parallel()
	path, p := newPMemPool(t, pmemlog.DurabilityMsync)
	needsDirtyBytes(t, path)
	must(t, p.Close())
	m := get[*pmemlog.PMem](t)(pmemlog.OpenPMem(path, pmemlog.DurabilityMsync))
	defer m.Close()
	mapTouched(t, path)
	must(t, m.Rewrite(make([]byte, 8192), 320<<10))
	if n := dirtyBytes(t, path); n != 0 {
		t.Errorf("%d bytes are dirty after pages were written", n)
	}
}
