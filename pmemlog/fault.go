package pmemlog

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// FaultError is a load or store that the memory behind a mapping did not take:
// it is poisoned, or the file has been truncated.
type FaultError struct {
	Off int64 // in the medium, in bytes
}

// Error says where.
func (e *FaultError) Error() string {
	return fmt.Sprintf("pmemlog: memory at byte %d of the pool can't be accessed: it is damaged, or the file has been truncated", e.Off)
}

// faulting is a [Memory] that faults where it can't be touched.
type faulting interface {
	// Place returns where in the memory an address lies, if it does.
	Place(addr uintptr) (off int64, ok bool)
}

// fault makes an error of what touching the memory panicked with, and panics on
// with anything else.
func (m *PMem) fault(panicked any) error {
	at, isFault := panicked.(interface{ Addr() uintptr })
	mem, faults := m.mem.(faulting)
	if !isFault || !faults {
		panic(panicked)
	}
	off, ours := mem.Place(at.Addr())
	if !ours {
		panic(panicked)
	}
	return &FaultError{Off: off}
}

// OnePlace says that a write has failed because of the place that it was for, and
// that nothing else is the worse for it: memory that can't be touched, or a sector
// that the system had to read first. A sync that failed is another matter, also
// when its error is EIO: what it left behind can be anywhere.
func OnePlace(err error) bool {
	var fault *FaultError
	if errors.As(err, &fault) {
		return true
	}
	var call *os.SyscallError // of a sync: a write's error is a PathError, or the bare number
	return errors.Is(err, unix.EIO) && !errors.As(err, &call)
}

// unwritable says where a write of [off, off+n) could not be carried out, as far
// as that is known.
func unwritable(err error, off, n int64) error {
	var fault *FaultError
	if errors.As(err, &fault) {
		off, n = fault.Off&^(damagePage-1), damagePage
	}
	return &UnwritableError{Off: off, Len: n, Err: err}
}
