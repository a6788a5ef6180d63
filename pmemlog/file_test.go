package pmemlog_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

func fileOptions(size int64) pmemlog.FormatOptions {
	return pmemlog.FormatOptions{PoolID: id(0xa), ClusterID: id(0xc), Size: size}
}

func newFilePool(t testing.TB, size int64) (string, *pmemlog.Pool) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pool")
	p := get[*pmemlog.Pool](t)(pmemlog.CreateFilePool(path, fileOptions(size)))
	t.Cleanup(func() { _ = p.Close() })
	return path, p
}

func blocks(t *testing.T, path string) int64 {
	t.Helper()
	var st syscall.Stat_t
	must(t, syscall.Stat(path, &st))
	return st.Blocks * 512
}

func TestFilePool(t *testing.T) {
	t.Parallel()
	path, p := newFilePool(t, 1<<30)
	if got := blocks(t, path); got > 1<<20 {
		t.Errorf("an empty pool of 1 GiB takes %d bytes on disk", got)
	}
	r := get[*pmemlog.Replica](t)(p.Create(spec(1, 4<<20)))
	if got := blocks(t, path); got < 4<<20 {
		t.Errorf("a pool with a ring of 4 MiB takes %d bytes on disk: it was not written", got)
	}
	w := openWriter(t, r, 1)
	for range 100 {
		w.append(30000)
	}
	durable := w.flush()
	must(t, p.Close())

	p = get[*pmemlog.Pool](t)(pmemlog.OpenFilePool(path))
	r = get[*pmemlog.Replica](t)(p.Replica(id(1)))
	s := r.Attach(false)
	rep := get[format.Report](t)(s.Fence(term(2)))
	if rep.Tail != durable || rep.Records != 100 {
		t.Errorf("report %+v, want tail %d", rep, durable)
	}
	got := make([]byte, durable)
	must(t, s.Read(0, got))
	if !bytes.Equal(got, w.ring[:durable]) {
		t.Error("the ring differs from what was written")
	}
	flipByte(t, path, rep.Capacity)
	again := get[format.Report](t)(s.Fence(term(2)))
	if again.Tail >= durable || !again.Suspect() {
		t.Errorf("a byte flipped in the file was not noticed: %+v", again)
	}
	must(t, p.Close())
}

// TestOpenForgetsTheCache: after a sync that failed, the system's cache holds as
// clean what the disk never got. A process that opens the file anew must not take
// that for persistent, so it reads from the disk. A msync is a sync like any other.
func TestOpenForgetsTheCache(t *testing.T) {
	t.Parallel()
	pmem := func(d pmemlog.Durability) func(string) (pmemlog.Medium, error) {
		return func(path string) (pmemlog.Medium, error) { return pmemlog.OpenPMem(path, d) }
	}
	for name, open := range map[string]func(path string) (pmemlog.Medium, error){
		"file":  func(path string) (pmemlog.Medium, error) { return pmemlog.OpenFile(path) },
		"msync": pmem(pmemlog.DurabilityMsync),
		"flush": pmem(pmemlog.DurabilityFlush),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "file")
			f := get[*os.File](t)(os.Create(path))
			get[int](t)(f.Write(make([]byte, 1<<20)))
			must(t, f.Sync())
			must(t, f.Close())
			var st unix.Statfs_t
			must(t, unix.Statfs(path, &st))
			if st.Type == unix.TMPFS_MAGIC {
				t.Skip("a file system in memory has nothing but its cache")
			}
			before := cached(t, path)
			if before == 0 {
				t.Skip("the file is not cached as it is")
			}
			m := get[pmemlog.Medium](t)(open(path))
			defer m.Close()
			if n := cached(t, path); n > before/10 { // the system may have a few in use
				t.Errorf("%d of %d pages are still cached", n, before)
			}
		})
	}
}

// cached returns how many pages of a file are in the system's cache.
func cached(t *testing.T, path string) int {
	t.Helper()
	f := get[*os.File](t)(os.Open(path))
	defer f.Close()
	size := int(get[os.FileInfo](t)(f.Stat()).Size())
	b := get[[]byte](t)(unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED))
	defer func() { must(t, unix.Munmap(b)) }()
	resident := make([]byte, (size+os.Getpagesize()-1)/os.Getpagesize())
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&b[0])), uintptr(size), uintptr(unsafe.Pointer(&resident[0])))
	if errno != 0 {
		t.Fatal(errno)
	}
	n := 0
	for _, r := range resident {
		n += int(r & 1)
	}
	return n
}

// flipByte flips a byte in the first quarter of the only ring of a pool file.
func flipByte(t *testing.T, path string, capacity uint64) {
	t.Helper()
	f := get[*os.File](t)(os.OpenFile(path, os.O_RDWR, 0))
	defer f.Close()
	p := int64(8192+2*1024*128) + format.RingOffset + int64(capacity/8)
	b := []byte{0}
	get[int](t)(f.ReadAt(b, p))
	b[0] ^= 0x10
	get[int](t)(f.WriteAt(b, p))
}

func TestFilePoolRefusals(t *testing.T) {
	t.Parallel()
	path, p := newFilePool(t, 1<<20)
	dir := filepath.Dir(path)
	create := func(path string, size int64) error {
		_, err := pmemlog.CreateFilePool(path, fileOptions(size))
		return err
	}
	open := func(path string) error {
		_, err := pmemlog.OpenFilePool(path)
		return err
	}
	foreign := filepath.Join(dir, "foreign")
	must(t, os.WriteFile(foreign, bytes.Repeat([]byte("no pool "), 4096), 0o600))
	for name, tt := range map[string]struct{ err, want error }{
		"create twice":      {create(path, 1<<20), pmemlog.ErrExists},
		"create, no size":   {create(filepath.Join(dir, "x"), 0), pmemlog.ErrRange},
		"create, too small": {create(filepath.Join(dir, "y"), 4096), pmemlog.ErrRange},
		"create, no folder": {create(filepath.Join(dir, "none", "x"), 1<<20), fs.ErrNotExist},
		"open nothing":      {open(filepath.Join(dir, "none")), fs.ErrNotExist},
		"open a folder":     {open(dir), syscall.EISDIR},
		"open foreign file": {open(foreign), pmemlog.ErrNoPool},
		"open twice":        {open(path), pmemlog.ErrLocked},
	} {
		if !errors.Is(tt.err, tt.want) {
			t.Errorf("%s: %v, want %v", name, tt.err, tt.want)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.new")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	must(t, p.Close())
	must(t, os.Truncate(path, 1<<19))
	if err := open(path); !errors.Is(err, pmemlog.ErrCorrupt) {
		t.Errorf("open of a truncated pool: %v", err)
	}
}

func TestFileTruncatedWhileOpen(t *testing.T) {
	t.Parallel()
	path, p := newFilePool(t, 1<<20)
	r := get[*pmemlog.Replica](t)(p.Create(spec(1, 64<<10)))
	w := openWriter(t, r, 1)
	w.append(100)
	w.flush()
	must(t, os.Truncate(path, 8192+2*1024*128+format.RingOffset+64))
	if rep, err := r.Attach(false).Fence(term(2)); err != nil || !rep.Suspect() {
		t.Errorf("fence over a ring that has gone: %+v, %v", rep, err)
	}
}

// TestLockHolder is the other process of the tests of the lock.
func TestLockHolder(t *testing.T) {
	path := os.Getenv("GRAVEN_TEST_LOCK")
	if path == "" {
		t.Skip("runs only as a child of TestLockOfAKilledProcessIsGone")
	}
	p, err := pmemlog.OpenFilePool(path)
	must(t, err)
	defer p.Close()
	_, _ = os.Stdout.WriteString("locked\n")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
}

func TestLockOfAKilledProcessIsGone(t *testing.T) {
	t.Parallel()
	path, p := newFilePool(t, 1<<20)
	must(t, p.Close())
	child := exec.Command(os.Args[0], "-test.run=^TestLockHolder$")
	child.Env = append(os.Environ(), "GRAVEN_TEST_LOCK="+path)
	in, err := child.StdinPipe()
	must(t, err)
	defer in.Close()
	out, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
		t.Fatalf("the child said %q, %v", line, err)
	}
	_, err = pmemlog.OpenFilePool(path)
	var locked *pmemlog.LockedError
	if !errors.As(err, &locked) || (locked.PID != 0 && locked.PID != child.Process.Pid) {
		t.Errorf("open of a locked pool: %v, the holder is %d", err, child.Process.Pid)
	}
	must(t, child.Process.Kill())
	_ = child.Wait()
	p = get[*pmemlog.Pool](t)(pmemlog.OpenFilePool(path))
	must(t, p.Close())
}

func TestVolatile(t *testing.T) {
	t.Parallel()
	if _, err := pmemlog.NewVolatile(0); !errors.Is(err, pmemlog.ErrRange) {
		t.Errorf("no size: %v", err)
	}
	m := get[*pmemlog.Volatile](t)(pmemlog.NewVolatile(1 << 32)) // takes memory only where written
	p := get[*pmemlog.Pool](t)(pmemlog.Format(m, fileOptions(0)))
	r := get[*pmemlog.Replica](t)(p.Create(spec(1, 256<<20)))
	w := openWriter(t, r, 1)
	w.append(100)
	w.flush()
	rep := get[format.Report](t)(r.Attach(false).Fence(term(2)))
	if rep.Records != 1 {
		t.Errorf("report %+v", rep)
	}
	must(t, p.Delete(id(1)))
	r = get[*pmemlog.Replica](t)(p.Create(spec(2, 1024+64)))
	if rep := get[format.Report](t)(r.Attach(false).Fence(term(1))); rep.Tail != 0 {
		t.Errorf("a new replica holds %+v", rep)
	}
	must(t, p.Close())
	if err := m.ReadAt(make([]byte, 1), 0); !errors.Is(err, pmemlog.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
	must(t, m.Close())
}

func TestMediaRefuseWhatLiesBeyond(t *testing.T) {
	t.Parallel()
	path, p := newFilePool(t, 1<<20)
	must(t, p.Close())
	for name, m := range map[string]pmemlog.Medium{
		"file":     get[*pmemlog.File](t)(pmemlog.OpenFile(path)),
		"volatile": get[*pmemlog.Volatile](t)(pmemlog.NewVolatile(1 << 20)),
		"test":     pmemtest.New(1<<20, pmemtest.Options{}),
	} {
		for _, off := range []int64{-1, 1<<20 - 1, 1 << 20, 1<<63 - 1} {
			if m.ReadAt(make([]byte, 2), off) == nil || m.WriteAt(make([]byte, 2), off) == nil {
				t.Errorf("%s: two bytes at %d of %d", name, off, m.Size())
			}
		}
		must(t, m.WriteAt([]byte{7}, 1<<20-1))
		must(t, m.Sync())
		b := []byte{0}
		must(t, m.ReadAt(b, 1<<20-1))
		if b[0] != 7 {
			t.Errorf("%s: read %d", name, b[0])
		}
		must(t, m.Close())
	}
}

// A sync that a signal cuts short has not failed, and is not done either.
func TestSyscallIsMadeAgainAfterASignal(t *testing.T) {
	t.Parallel()
	for _, want := range []error{nil, syscall.EIO} {
		answers := []error{syscall.EINTR, syscall.EINTR, want}
		made := 0
		err := pmemlog.Uninterrupted("msync", func() error { made++; return answers[made-1] })
		if !errors.Is(err, want) || made != len(answers) {
			t.Errorf("made %d times: %v, want %v", made, err, want)
		}
	}
}

// A file is looked at where the system has it. Where it ends too early, that is an
// error of one place, and what a panic of the look's own means is nobody's guess.
func TestFileView(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pool")
	must(t, get[*pmemlog.Pool](t)(pmemlog.CreateFilePool(path, fileOptions(1<<20))).Close())
	m := get[*pmemlog.File](t)(pmemlog.OpenFile(path))
	defer m.Close()
	want := []byte("what is written is what is seen")
	const off = 600<<10 + 8
	must(t, m.WriteAt(want, off))
	must(t, m.View(off, int64(len(want)), func(b []byte) error {
		if !bytes.Equal(b, want) {
			t.Errorf("saw %q", b)
		}
		return nil
	}))
	ours := errors.New("ours")
	if err := m.View(0, 4096, func([]byte) error { return ours }); !errors.Is(err, ours) {
		t.Errorf("the look's error became %v", err)
	}
	if err := m.View(1<<20-4096, 8192, nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a look beyond the end: %v", err)
	}
	must(t, os.Truncate(path, 512<<10))
	var fault *pmemlog.FaultError
	err := m.View(500<<10, 200<<10, func(b []byte) error {
		for i := range b {
			if b[i] != 0 {
				t.Errorf("byte %d is %d", i, b[i])
			}
		}
		return nil
	})
	if !errors.As(err, &fault) || fault.Off != 512<<10 {
		t.Errorf("a look at what the file has lost: %v", err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the look's panic is lost")
			}
		}()
		_ = m.View(0, 4096, func([]byte) error { panic("ours") })
	}()
}
