package crc32c

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// wide says that lines can be folded and streamed, 64 bytes a register. It is
// read-only.
var wide = cpu.X86.HasAVX512F && cpu.X86.HasAVX512VL && cpu.X86.HasAVX512VPCLMULQDQ && cpu.X86.HasSSE42

func fold(crc uint32, p []byte) uint32 {
	return fold512(nil, unsafe.Pointer(unsafe.SliceData(p)), uintptr(len(p)), crc)
}

func foldAndStore(crc uint32, dst, src []byte) uint32 {
	return fold512(unsafe.Pointer(unsafe.SliceData(dst)), unsafe.Pointer(unsafe.SliceData(src)), uintptr(len(dst)), crc)
}

func aligned(b []byte) bool { return uintptr(unsafe.Pointer(unsafe.SliceData(b)))%line == 0 }

// fold512 is [Update] with n bytes of src. Unless dst is nil, it stores them there past
// the cache, which is for whole lines alone.
//
//go:noescape
func fold512(dst, src unsafe.Pointer, n uintptr, crc uint32) uint32
