package pmemlog_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
)

// loopDevice makes a block device of a file, or skips the test where that can't
// be done. The kernel takes it back when the test has ended, however it ends.
func loopDevice(t *testing.T, size int64) string {
	t.Helper()
	back := get[*os.File](t)(os.Create(filepath.Join(t.TempDir(), "disk")))
	defer back.Close()
	must(t, back.Truncate(size))
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no loop devices here: %v", err)
	}
	defer ctl.Close()
	for range 20 { // others may take the one that is free
		n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Skipf("no loop device is to be had: %v", err)
		}
		path := fmt.Sprintf("/dev/loop%d", n)
		dev, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Skipf("no loop device is to be had: %v", err)
		}
		config := unix.LoopConfig{Fd: uint32(back.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		if err = unix.IoctlLoopConfigure(int(dev.Fd()), &config); err == nil {
			t.Cleanup(func() { must(t, dev.Close()) })
			return path
		}
		must(t, dev.Close())
		if !errors.Is(err, unix.EBUSY) {
			t.Skipf("no loop device can be made: %v", err)
		}
	}
	t.Skip("all loop devices are being taken by others")
	return ""
}

func TestPoolOnABlockDevice(t *testing.T) {
	t.Parallel()
	const size = 16 << 20
	dev := loopDevice(t, size)
	path := filepath.Join(t.TempDir(), "pool") // as /dev/disk/by-id has them
	must(t, os.Symlink(dev, path))
	p := get[*pmemlog.Pool](t)(pmemlog.CreateFilePool(path, fileOptions(0)))
	if i := p.Identity(); i.Size != size || i.Kind != pmemlog.KindFile {
		t.Errorf("identity %+v, want all %d bytes of the device", i, size)
	}
	w := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(1, 4<<20))), 1)
	for range 50 {
		w.append(30000)
	}
	durable := w.flush()
	for name, err := range map[string]error{"open": openFile(dev), "create": createFile(dev, fileOptions(0))} {
		var locked *pmemlog.LockedError
		if !errors.As(err, &locked) || locked.PID != os.Getpid() {
			t.Errorf("%s while it is open: %v, want it locked by process %d", name, err, os.Getpid())
		}
	}
	must(t, p.Close())

	for _, overwrite := range []bool{false, true} {
		opts := fileOptions(0)
		opts.Overwrite = overwrite
		if err := createFile(dev, opts); !errors.Is(err, pmemlog.ErrExists) {
			t.Errorf("create over a pool, overwrite %v: %v, want %v", overwrite, err, pmemlog.ErrExists)
		}
	}
	p = get[*pmemlog.Pool](t)(pmemlog.OpenFilePool(dev))
	s := get[*pmemlog.Replica](t)(p.Replica(id(1))).Attach(false)
	rep := get[format.Report](t)(s.Fence(term(2)))
	if rep.Tail != durable || rep.Records != 50 || rep.Suspect() {
		t.Errorf("report %+v, want 50 records, tail %d", rep, durable)
	}
	got := make([]byte, durable)
	must(t, s.Read(0, got))
	if !bytes.Equal(got, w.ring[:durable]) {
		t.Error("the ring differs from what was written")
	}
	must(t, p.Close())
}

func TestAPartOfABlockDevice(t *testing.T) {
	t.Parallel()
	dev := loopDevice(t, 4<<20)
	if err := createFile(dev, fileOptions(8<<20)); !errors.Is(err, pmemlog.ErrRange) {
		t.Errorf("a pool larger than the device: %v, want %v", err, pmemlog.ErrRange)
	}
	p := get[*pmemlog.Pool](t)(pmemlog.CreateFilePool(dev, fileOptions(2<<20)))
	must(t, p.Close())
	p = get[*pmemlog.Pool](t)(pmemlog.OpenFilePool(dev))
	if i := p.Identity(); i.Size != 2<<20 {
		t.Errorf("identity %+v, want 2 MiB", i)
	}
	must(t, p.Close())
}

// A device that is in use is refused whatever is on it, and one with a file
// system on it unless that may be lost.
func TestABlockDeviceOfSomethingElse(t *testing.T) {
	t.Parallel()
	dev := loopDevice(t, 16<<20)
	mkfs, err := exec.LookPath("mkfs.ext4")
	if err != nil {
		t.Skip("no mkfs.ext4 here: e2fsprogs is not installed, or not on the PATH")
	}
	if out, err := exec.Command(mkfs, "-q", "-F", dev).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v: %s", err, out)
	}
	folder := t.TempDir()
	if err := unix.Mount(dev, folder, "ext4", 0, ""); err != nil {
		t.Skipf("nothing can be mounted here: %v", err)
	}
	overwrite := fileOptions(0)
	overwrite.Overwrite = true
	open, create := openFile(dev), createFile(dev, overwrite)
	must(t, unix.Unmount(folder, 0))
	for name, err := range map[string]error{"open": open, "create": create} {
		if !errors.Is(err, pmemlog.ErrLocked) || !strings.Contains(err.Error(), "mounted") {
			t.Errorf("%s of a mounted device: %v, want %v", name, err, pmemlog.ErrLocked)
		}
	}
	if err := openFile(dev); !errors.Is(err, pmemlog.ErrNoPool) {
		t.Errorf("open of a file system: %v, want %v", err, pmemlog.ErrNoPool)
	}
	if err := createFile(dev, fileOptions(0)); !errors.Is(err, pmemlog.ErrForeign) || !strings.Contains(err.Error(), "ext4 file system") {
		t.Errorf("create over a file system: %v, want %v", err, pmemlog.ErrForeign)
	}
	must(t, unix.Mount(dev, folder, "ext4", 0, "")) // it has not been touched
	must(t, unix.Unmount(folder, 0))
	must(t, createFile(dev, overwrite))
	must(t, openFile(dev))
	if err := unix.Mount(dev, folder, "ext4", 0, ""); err == nil {
		must(t, unix.Unmount(folder, 0))
		t.Error("a pool can be mounted as the file system that was there before")
	}
}

func openFile(path string) error {
	p, err := pmemlog.OpenFilePool(path)
	if err == nil {
		err = p.Close()
	}
	return err
}

func createFile(path string, opts pmemlog.FormatOptions) error {
	p, err := pmemlog.CreateFilePool(path, opts)
	if err == nil {
		err = p.Close()
	}
	return err
}
