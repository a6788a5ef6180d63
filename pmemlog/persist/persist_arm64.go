package persist

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

func supported(m Method) bool { return m == Fence || m == DCCVAP && cpu.ARM64.HasDCPOP }

// lineSize returns the smallest line of all data caches: CTR_EL0.DminLine is the
// logarithm of its number of 4-byte words.
func lineSize() uintptr { return 4 << (ctr() >> 16 & 0xf) }

func wideStores() bool { return false }

// shortStores is 0: a stream is a copy and a flush anyway.
func shortStores(Method) int { return 0 }

func expect([]byte) {}

func aligned(b []byte) bool { return uintptr(unsafe.Pointer(unsafe.SliceData(b)))%Line == 0 }

func flush(_ Method, b []byte, line uintptr) {
	start := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	lines := (start%line + uintptr(len(b)) + line - 1) / line
	dccvap(unsafe.Pointer(unsafe.SliceData(b)), lines, line)
}

// stream goes through the cache: what STNP promises about persistence is nothing.
func (c *CPU) stream(dst, src []byte) {
	copy(dst, src)
	c.Flush(dst)
}

func fence() { dsb() }

//go:noescape
func ctr() uint64

//go:noescape
func dccvap(p unsafe.Pointer, lines, line uintptr)

//go:noescape
func dsb()
