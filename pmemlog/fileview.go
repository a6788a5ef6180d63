package pmemlog

import (
	"os"
	"runtime/debug"
	"unsafe"

	"golang.org/x/sys/unix"
)

// View implements viewer: it maps what is looked at, for reading and as long as the
// look lasts, which saves a scan the copy. A page that can't be read, or that the
// file has no longer, faults.
func (m *File) View(off, n int64, look func(b []byte) error) (err error) {
	if err := checkRange(m.size, off, n); err != nil {
		return err
	}
	from := off &^ (int64(os.Getpagesize()) - 1)
	if n == 0 || int64(int(off-from+n)) != off-from+n {
		return errNoView
	}
	data, err := unix.Mmap(int(m.f.Fd()), from, int(off-from+n), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil { // not every file system maps
		return errNoView
	}
	defer func() { _ = unix.Munmap(data) }()     // fails for no mapping only
	_ = unix.Madvise(data, unix.MADV_SEQUENTIAL) // advice
	defer func(panicked bool) {
		fault := recover()
		debug.SetPanicOnFault(panicked)
		if fault != nil {
			err = faultIn(data, from, fault)
		}
	}(debug.SetPanicOnFault(true))
	return look(data[off-from:][:n:n])
}

// faultIn makes an error of a panic by touching data, which is mapped from there on,
// and panics on with anything else.
func faultIn(data []byte, from int64, panicked any) error {
	if at, ok := panicked.(interface{ Addr() uintptr }); ok {
		if off, inside := placeIn(data, at.Addr()); inside {
			return &FaultError{Off: from + off}
		}
	}
	panic(panicked)
}

// placeIn returns where in data an address lies, if it does.
func placeIn(data []byte, addr uintptr) (int64, bool) {
	off := addr - uintptr(unsafe.Pointer(unsafe.SliceData(data)))
	return int64(off), off < uintptr(len(data))
}
