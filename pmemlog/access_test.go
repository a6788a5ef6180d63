package pmemlog_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

// TestPathsThatCannotBeUsed names what is no file, or no place for one.
func TestPathsThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, pipe, dangling := filepath.Join(dir, "file"), filepath.Join(dir, "pipe"), filepath.Join(dir, "dangling")
	must(t, os.WriteFile(file, []byte("x"), 0o600))
	must(t, unix.Mkfifo(pipe, 0o600))
	must(t, os.Symlink(filepath.Join(dir, "nothing"), dangling))
	for name, tt := range map[string]struct {
		path         string
		open, create error
		opens, makes string // what they say
	}{
		"a missing file":   {filepath.Join(dir, "nothing"), fs.ErrNotExist, nil, "name a pool that is there", ""},
		"a missing folder": {filepath.Join(dir, "none", "pool"), fs.ErrNotExist, fs.ErrNotExist, "name a pool that is there", "make its folder first"},
		"a folder":         {dir, unix.EISDIR, pmemlog.ErrExists, "it is a folder: name the pool's file in it", "is a folder; name the pool's file in it"},
		"below a file":     {filepath.Join(file, "pool"), unix.ENOTDIR, unix.ENOTDIR, "a part of its path is no folder", "a part of its path is no folder"},
		"a link to nothing": {
			dangling, fs.ErrNotExist, pmemlog.ErrExists, "name a pool that is there", "open it, or remove it",
		},
		"a pipe":             {pipe, pmemlog.ErrNoPool, pmemlog.ErrExists, "neither a file nor a block device", "a device, a pipe or a socket"},
		"a character device": {"/dev/zero", pmemlog.ErrNoPool, pmemlog.ErrExists, "neither a file nor a block device", "a device, a pipe or a socket"},
	} {
		checkSays(t, "open "+name, openFile(tt.path), tt.open, tt.opens, tt.path)
		err := createFile(tt.path, fileOptions(1<<20))
		if tt.create == nil {
			must(t, err)
			must(t, os.Remove(tt.path))
			continue
		}
		checkSays(t, "create "+name, err, tt.create, tt.makes, tt.path)
	}
	err := createFile(filepath.Join(dir, "huge"), fileOptions(1<<62))
	checkSays(t, "a file of 4 EiB", err, unix.EFBIG, "choose a smaller one")
	if left, _ := filepath.Glob(filepath.Join(dir, "*.new")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestForeignFiles are not pools, and none of their bytes is changed.
func TestForeignFiles(t *testing.T) {
	t.Parallel()
	ext4 := make([]byte, 1<<20)
	copy(ext4[1080:], "\x53\xef")
	for name, content := range map[string][]byte{
		"empty":                  {},
		"a byte":                 {0},
		"a text":                 []byte("hello\n"),
		"a long text":            bytes.Repeat([]byte("no pool "), 8192),
		"a file system":          ext4,
		"zeroes":                 make([]byte, 1<<20),
		"one short of a pool":    make([]byte, 8191),
		"just two superblocks":   make([]byte, 8192),
		"a magic number, almost": append([]byte("GRVNPOOK"), make([]byte, 1<<16)...),
	} {
		path := filepath.Join(t.TempDir(), "pool")
		must(t, os.WriteFile(path, content, 0o600))
		checkSays(t, name, openFile(path), pmemlog.ErrNoPool, "make a pool under a name of its own", path)
		checkSays(t, "create over "+name, createFile(path, fileOptions(1<<20)), pmemlog.ErrExists, "remove it if nothing in it is needed", path)
		if b := get[[]byte](t)(os.ReadFile(path)); !bytes.Equal(b, content) {
			t.Errorf("%s has been changed", name)
		}
	}
	_, err := pmemlog.Open(pmemtest.Of(goodPool(t), pmemtest.Options{Kind: pmemlog.KindVolatile}))
	checkSays(t, "wrong medium", err, pmemlog.ErrWrongMedium, `made on medium "file", this is "volatile"`, "open it as what it is")
}

// TestTruncatedPools have lost what lay behind, at whatever length.
func TestTruncatedPools(t *testing.T) {
	t.Parallel()
	path, p := newFilePool(t, 1<<20)
	must(t, p.Close())
	for _, size := range []int64{1<<20 - 1, 1 << 19, fileDirectory + 100, 8192, 8191, 4096, 4095, 100, 8} {
		must(t, os.Truncate(path, size))
		checkSays(t, "truncated", openFile(path), pmemlog.ErrCorrupt, "it has been truncated", "remove the pool", path)
	}
}

func TestReadOnlyFileSystem(t *testing.T) {
	t.Parallel()
	folder := smallDisk(t, "size=4m")
	path := filepath.Join(folder, "pool")
	must(t, createFile(path, fileOptions(1<<20)))
	if err := unix.Mount("", folder, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Skipf("a file system can't be made read-only here: %v", err)
	}
	checkSays(t, "open", openFile(path), unix.EROFS, "mount its file system for writing", path)
	checkSays(t, "create", createFile(filepath.Join(folder, "other"), fileOptions(1<<20)), unix.EROFS, "mount its file system for writing")
}

// TestWithoutPermission runs as somebody whom permissions hold back.
func TestWithoutPermission(t *testing.T) {
	t.Parallel()
	path, p := newFilePool(t, 1<<20)
	must(t, p.Close())
	must(t, os.Chmod(path, 0o400))
	folder := filepath.Dir(path)
	must(t, os.Chmod(folder, 0o500))
	defer func() { must(t, os.Chmod(folder, 0o700)) }()
	asOrdinaryUser(t, func() {
		checkSays(t, "open", openFile(path), fs.ErrPermission, "let this user read and write it", path)
		checkSays(t, "create", createFile(filepath.Join(folder, "other"), fileOptions(1<<20)), fs.ErrPermission, "enter the folders of its path")
	})
}

// asOrdinaryUser calls f with nobody's rights on files, if the caller has root's:
// in a thread of its own, which ends with it.
func asOrdinaryUser(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		f()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if _, err := unix.SetfsuidRetUid(65534); err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	<-done
}

// TestPoolThatIsBeingMade: who comes second is told who makes it, and harms
// nothing. What a crash has left of a creation is in nobody's way.
func TestPoolThatIsBeingMade(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pool")
	half := path + ".new"
	must(t, os.WriteFile(half, bytes.Repeat([]byte("half a pool "), 1000), 0o600))
	f := get[*os.File](t)(os.OpenFile(half, os.O_RDWR, 0))
	must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	err := createFile(path, fileOptions(1<<20))
	var locked *pmemlog.LockedError
	if !errors.As(err, &locked) || locked.Path != half {
		t.Errorf("create while another makes it: %v, want %s locked", err, half)
	}
	must(t, f.Close())
	must(t, createFile(path, fileOptions(1<<20)))
	must(t, openFile(path))
}
