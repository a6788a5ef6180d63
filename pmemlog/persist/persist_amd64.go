package persist

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// Bits of CPUID leaf 7, sub-leaf 0, EBX.
const (
	bitCLFLUSHOPT = 1 << 23
	bitCLWB       = 1 << 24
	bitCLFLUSH    = 1 << 19 // of leaf 1, EDX
)

func supported(m Method) bool {
	highest, _, _, _ := cpuid(0, 0)
	var leaf7 uint32
	if highest >= 7 {
		_, leaf7, _, _ = cpuid(7, 0)
	}
	_, _, _, leaf1 := cpuid(1, 0)
	switch m {
	case CLWB:
		return leaf7&bitCLWB != 0
	case CLFLUSHOPT:
		return leaf7&bitCLFLUSHOPT != 0
	case CLFLUSH:
		return leaf1&bitCLFLUSH != 0
	case Fence:
		return true
	default:
		return false
	}
}

func lineSize() uintptr { return Line }

// wideStores says that a line can be streamed by one store, which never leaves
// half a line in a write-combining buffer.
func wideStores() bool { return cpu.X86.HasAVX512F }

func aligned(b []byte) bool { return uintptr(unsafe.Pointer(unsafe.SliceData(b)))%Line == 0 }

// shortStores is the limit of libpmem on every CPU. On those of AMD a stream was
// quicker at 64 bytes already, so elsewhere than on Intel's it is taken only where
// there is nothing to flush.
func shortStores(m Method) int {
	const limit = 256
	_, b, c, d := cpuid(0, 0)
	intel := b == 'G'|'e'<<8|'n'<<16|'u'<<24 && d == 'i'|'n'<<8|'e'<<16|'I'<<24 && c == 'n'|'t'<<8|'e'<<16|'l'<<24
	if m == Fence || m == CLWB && intel {
		return limit
	}
	return 0
}

func expect(b []byte) {
	prefetchw(unsafe.Pointer(unsafe.SliceData(b)), uintptr(len(b)+Line-1)/Line)
}

func flush(m Method, b []byte, _ uintptr) {
	start := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	lines := (start%Line + uintptr(len(b)) + Line - 1) / Line
	first := unsafe.Pointer(unsafe.SliceData(b))
	switch m {
	case CLWB:
		clwb(first, lines)
	case CLFLUSHOPT:
		clflushopt(first, lines)
	default:
		clflush(first, lines)
	}
}

func (c *CPU) stream(dst, src []byte) {
	d, s, lines := unsafe.Pointer(unsafe.SliceData(dst)), unsafe.Pointer(unsafe.SliceData(src)), uintptr(len(dst)/Line)
	if c.wide {
		stream512(d, s, lines)
		return
	}
	stream128(d, s, lines)
}

func fence() { sfence() }

//go:noescape
func cpuid(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32)

// The functions below take the address of any byte of the first line, and how
// many lines follow from there.

//go:noescape
func clwb(p unsafe.Pointer, lines uintptr)

//go:noescape
func clflushopt(p unsafe.Pointer, lines uintptr)

//go:noescape
func clflush(p unsafe.Pointer, lines uintptr)

//go:noescape
func prefetchw(p unsafe.Pointer, lines uintptr)

//go:noescape
func stream128(dst, src unsafe.Pointer, lines uintptr)

//go:noescape
func stream512(dst, src unsafe.Pointer, lines uintptr)

//go:noescape
func sfence()
