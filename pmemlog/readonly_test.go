package pmemlog_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
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
