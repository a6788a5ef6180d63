package pmemlog_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gravenio/graven/pmemlog"
)

func TestReadOnly(t *testing.T) {
	t.Parallel()
	path, p := newFilePool(t, 1<<20)
	want := p.Identity()
	var locked *pmemlog.LockedError
	if _, err := pmemlog.OpenReadOnly(path); !errors.As(err, &locked) || (locked.PID != 0 && locked.PID != os.Getpid()) {
		t.Errorf("look at a pool in use: %v", err)
	}
	must(t, p.Close())
	must(t, os.Chmod(path, 0o400)) // reading needs no permission to write

	m := get[*pmemlog.ReadOnly](t)(pmemlog.OpenReadOnly(path))
	defer m.Close()
	i := get[*pmemlog.Inspection](t)(pmemlog.Inspect(t.Context(), m))
	if m.Size() != 1<<20 || m.Node() != "file" || i.Identity != want || i.Refused != nil || len(i.Findings) != 0 {
		t.Errorf("%d bytes in a %s: %+v", m.Size(), m.Node(), i)
	}
	must(t, get[*pmemlog.ReadOnly](t)(pmemlog.OpenReadOnly(path)).Close()) // who looks keeps nobody from looking
	must(t, os.Chmod(path, 0o600))
	if _, err := pmemlog.OpenFilePool(path); !errors.As(err, &locked) || (locked.PID != 0 && locked.PID != os.Getpid()) {
		t.Errorf("use of a pool that is looked at: %v", err)
	}
	must(t, m.Close())
	must(t, m.Close())
	must(t, get[*pmemlog.Pool](t)(pmemlog.OpenFilePool(path)).Close())
}

// TestReadOnlyKnowsHoles: free space that was never written is not read.
func TestReadOnlyKnowsHoles(t *testing.T) {
	t.Parallel()
	path, p := newFilePool(t, 64<<20)
	must(t, p.Close())
	m := get[*pmemlog.ReadOnly](t)(pmemlog.OpenReadOnly(path))
	defer m.Close()
	if at := m.NextData(0); at != 0 {
		t.Errorf("the superblock is no data: the first is at %d", at)
	}
	if at := m.NextData(32 << 20); at == 32<<20 {
		t.Skip("this file system tells nothing of holes")
	} else if at != m.Size() {
		t.Errorf("behind the directory the first data is at %d, want %d", at, m.Size())
	}
}

func TestReadOnlyRefusals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	must(t, unix.Mkfifo(pipe, 0o600))
	for path, tt := range map[string]struct {
		want error
		says string
	}{
		filepath.Join(dir, "none"): {fs.ErrNotExist, "no such file"},
		dir:                        {pmemlog.ErrNoPool, "folder"},
		pipe:                       {pmemlog.ErrNoPool, "neither a file nor a block device"},
		os.DevNull:                 {pmemlog.ErrNoPool, "character device"},
	} {
		if _, err := pmemlog.OpenReadOnly(path); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %v: %s", path, err, tt.want, tt.says)
		}
	}
}

func TestReadOnlyOfAFileThatShrinks(t *testing.T) {
	t.Parallel()
	path, p := newFilePool(t, 1<<20)
	must(t, p.Close())
	m := get[*pmemlog.ReadOnly](t)(pmemlog.OpenReadOnly(path))
	defer m.Close()
	if err := m.ReadAt(make([]byte, 1), m.Size()); err == nil {
		t.Error("read behind the end")
	}
	must(t, os.Truncate(path, 4096))
	if err := m.ReadAt(make([]byte, 1), 8192); err == nil || !strings.Contains(err.Error(), "truncated") {
		t.Errorf("read where the file was: %v", err)
	}
}

// TestReadOnlyBlockDevice looks at a block device of this machine, if there is
// one that it may read: its size must be the system's.
func TestReadOnlyBlockDevice(t *testing.T) {
	t.Parallel()
	sizes, _ := filepath.Glob("/sys/class/block/*/size")
	for _, name := range sizes {
		text := strings.TrimSpace(string(get[[]byte](t)(os.ReadFile(name))))
		sectors := get[int64](t)(strconv.ParseInt(text, 10, 64))
		m, err := pmemlog.OpenReadOnly(filepath.Join("/dev", filepath.Base(filepath.Dir(name))))
		if err != nil || sectors == 0 {
			continue // not there in this container, not ours to read, or in use
		}
		defer m.Close()
		if m.Node() != "block device" || m.Size() != sectors*512 || m.NextData(4096) != 4096 {
			t.Errorf("%s: a %s of %d bytes, data from %d on; want %d bytes", name, m.Node(), m.Size(), m.NextData(4096), sectors*512)
		}
		must(t, m.ReadAt(make([]byte, 512), m.Size()-512))
		return
	}
	t.Skip("this machine has no block device that this user may read")
}
