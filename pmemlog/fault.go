package pmemlog

import "fmt"

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
