package pmemlog_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

// damagedBelow is a medium with a cache, and damage on the disk at one byte that
// does not show until the cache has given that up.
type damagedBelow struct {
	pmemlog.Medium
	at      int64 // -1 for none
	dropped atomic.Bool
}

func (m *damagedBelow) DropCache(off, n int64) {
	if m.at >= off && m.at < off+n {
		m.dropped.Store(true)
	}
}

func (m *damagedBelow) ReadAt(p []byte, off int64) error {
	err := m.Medium.ReadAt(p, off)
	if m.dropped.Load() && m.at >= off && m.at < off+int64(len(p)) {
		p[m.at-off] ^= 1
	}
	return err
}

func (m *damagedBelow) WriteAt(p []byte, off int64) error {
	if m.at >= off && m.at < off+int64(len(p)) {
		m.at = -1 // mended
	}
	return m.Medium.WriteAt(p, off)
}

// What has been written since the start is in the system's cache. A scrub looks
// for damage to the disk, so it has to read that, of all that it checks.
func TestScrubReadsWhatLiesBelowTheCache(t *testing.T) {
	t.Parallel()
	const header = ringStart - format.RingOffset
	for name, at := range map[string]int64{
		"superblock A": 100, "superblock B": 4096 + 100, "directory A": 8192 + 30, "directory B": 8192 + 4096 + 30,
		"header slots": header + 30, "hint page": header + format.HintOffset + 10, "ring": ringStart + 3<<20,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := &damagedBelow{Medium: pmemtest.New(8<<20, pmemtest.Options{}), at: -1}
			p := get[*pmemlog.Pool](t)(pmemlog.Format(m, formatOptions()))
			defer p.Close()
			w := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(1, 5<<20))), 1)
			for range 40 {
				w.appendNow(100_000)
			}
			pool := get[pmemlog.PoolScrubbed](t)(p.Scrub(t.Context(), unpaced))
			res := get[pmemlog.Scrubbed](t)(w.s.Replica().Scrub(t.Context(), unpaced))
			if len(pool.Healed)+len(res.Healed) != 0 || res.Damage != nil {
				t.Fatalf("without damage: %+v, %+v", pool, res)
			}
			// The newest header slot and hint line are where an odd number of writes left them.
			for _, shift := range []int64{0, format.SlotSize, format.HintStride} {
				m.at = at + shift
				m.dropped.Store(false)
				pool = get[pmemlog.PoolScrubbed](t)(p.Scrub(t.Context(), unpaced))
				res = get[pmemlog.Scrubbed](t)(w.s.Replica().Scrub(t.Context(), unpaced))
				if len(pool.Healed)+len(res.Healed) != 0 || res.Damage != nil {
					return
				}
			}
			t.Error("the damage has not been found")
		})
	}
}

// The kernel's own answer to the model above.
func TestScrubReadsTheDiskNotTheCache(t *testing.T) {
	t.Parallel()
	dev := loopDevice(t, 16<<20)
	p := get[*pmemlog.Pool](t)(pmemlog.CreateFilePool(dev, fileOptions(0)))
	defer p.Close()
	w := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(1, 64<<10))), 1)
	for range 20 {
		w.appendNow(1000)
	}
	f := get[*os.File](t)(os.OpenFile(backing(t, dev), os.O_RDWR, 0))
	defer f.Close()
	get[int](t)(f.WriteAt([]byte("damage"), p.Replicas()[0].Offset+format.RingOffset+9000))
	res := get[pmemlog.Scrubbed](t)(w.s.Replica().Scrub(t.Context(), unpaced))
	if res.Damage == nil {
		t.Errorf("a scrub has found %d good records, of which one is damaged on the disk", res.Records)
	}
}

// backing returns the file under a loop device.
func backing(t *testing.T, dev string) string {
	t.Helper()
	b := get[[]byte](t)(os.ReadFile(filepath.Join("/sys/block", filepath.Base(dev), "loop", "backing_file")))
	return strings.TrimSpace(string(b))
}

// A cache that is told to gives up what is on the disk, and loses nothing that is
// not.
func TestDropCache(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	for name, open := range map[string]func(path string) (pmemlog.Medium, error){
		"file":  func(path string) (pmemlog.Medium, error) { return pmemlog.OpenFile(path) },
		"msync": func(path string) (pmemlog.Medium, error) { return pmemlog.OpenPMem(path, pmemlog.DurabilityMsync) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "file")
			must(t, os.WriteFile(path, nil, 0o600))
			must(t, os.Truncate(path, size))
			var st unix.Statfs_t
			must(t, unix.Statfs(path, &st))
			if st.Type == unix.TMPFS_MAGIC {
				t.Skip("a file system in memory has nothing but its cache")
			}
			m := get[pmemlog.Medium](t)(open(path))
			defer m.Close()
			want := bytes.Repeat([]byte("clean"), size/5)
			must(t, m.WriteAt(want, 0))
			must(t, m.Sync())
			before := cached(t, path)
			m.(interface{ DropCache(off, n int64) }).DropCache(0, size)
			if n := cached(t, path); n > before/10 {
				t.Errorf("%d of %d pages are still cached", n, before)
			}
			copy(want[4000:], "not synced yet")
			must(t, m.WriteAt(want[4000:4200], 4000))
			m.(interface{ DropCache(off, n int64) }).DropCache(0, size)
			got := make([]byte, len(want))
			must(t, m.ReadAt(got, 0))
			if !bytes.Equal(got, want) {
				t.Error("bytes have been lost")
			}
			must(t, m.Close())
			if c, ok := m.(*pmemlog.PMem); ok {
				c.DropCache(0, size) // of what is closed, nothing
			}
		})
	}
}
