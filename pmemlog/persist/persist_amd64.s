#include "textflag.h"

// func cpuid(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32)
TEXT ·cpuid(SB), NOSPLIT, $0-24
	MOVL leaf+0(FP), AX
	MOVL subleaf+4(FP), CX
	CPUID
	MOVL AX, eax+8(FP)
	MOVL BX, ebx+12(FP)
	MOVL CX, ecx+16(FP)
	MOVL DX, edx+20(FP)
	RET

// func clwb(p unsafe.Pointer, lines uintptr)
TEXT ·clwb(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), DI
	MOVQ lines+8(FP), CX

clwbLine:
	CLWB (DI)
	ADDQ $64, DI
	DECQ CX
	JNZ  clwbLine
	RET

// func clflushopt(p unsafe.Pointer, lines uintptr)
TEXT ·clflushopt(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), DI
	MOVQ lines+8(FP), CX

clflushoptLine:
	CLFLUSHOPT (DI)
	ADDQ $64, DI
	DECQ CX
	JNZ  clflushoptLine
	RET

// func clflush(p unsafe.Pointer, lines uintptr)
TEXT ·clflush(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), DI
	MOVQ lines+8(FP), CX

clflushLine:
	CLFLUSH (DI)
	ADDQ $64, DI
	DECQ CX
	JNZ  clflushLine
	RET

// func prefetchw(p unsafe.Pointer, lines uintptr)
TEXT ·prefetchw(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), DI
	MOVQ lines+8(FP), CX

prefetchwLine:
	BYTE $0x0f; BYTE $0x0d; BYTE $0x0f // PREFETCHW (DI), which Go's assembler lacks; where the CPU does, it is a NOP
	ADDQ $64, DI
	DECQ CX
	JNZ  prefetchwLine
	RET

// func stream128(dst, src unsafe.Pointer, lines uintptr)
TEXT ·stream128(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ lines+16(FP), CX

stream128Line:
	MOVOU   (SI), X0
	MOVOU   16(SI), X1
	MOVOU   32(SI), X2
	MOVOU   48(SI), X3
	MOVNTO  X0, (DI)
	MOVNTO  X1, 16(DI)
	MOVNTO  X2, 32(DI)
	MOVNTO  X3, 48(DI)
	ADDQ    $64, SI
	ADDQ    $64, DI
	DECQ    CX
	JNZ     stream128Line
	RET

// func stream512(dst, src unsafe.Pointer, lines uintptr)
TEXT ·stream512(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ lines+16(FP), CX
	CMPQ CX, $4
	JB   stream512Rest

stream512Four:
	VMOVDQU64 (SI), Z0
	VMOVDQU64 64(SI), Z1
	VMOVDQU64 128(SI), Z2
	VMOVDQU64 192(SI), Z3
	VMOVNTDQ  Z0, (DI)
	VMOVNTDQ  Z1, 64(DI)
	VMOVNTDQ  Z2, 128(DI)
	VMOVNTDQ  Z3, 192(DI)
	ADDQ      $256, SI
	ADDQ      $256, DI
	SUBQ      $4, CX
	CMPQ      CX, $4
	JAE       stream512Four

stream512Rest:
	TESTQ CX, CX
	JZ    stream512Done

stream512Line:
	VMOVDQU64 (SI), Z0
	VMOVNTDQ  Z0, (DI)
	ADDQ      $64, SI
	ADDQ      $64, DI
	DECQ      CX
	JNZ       stream512Line

stream512Done:
	VZEROUPPER
	RET

// func sfence()
TEXT ·sfence(SB), NOSPLIT, $0-0
	SFENCE
	RET
