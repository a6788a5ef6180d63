#include "textflag.h"

// What a 128-bit part of a message becomes when so many bits follow it: pairs of
// x^(n+31) and x^(n-33) modulo the Castagnoli polynomial, bit-reflected, one for
// each half, for n = 2048 and 512, and for the parts of a line: 384, 256, 128 and,
// for the last, none. TestFoldConstants derives them.
DATA fold2048<>+0(SB)/8, $0x00000000dcb17aa4
DATA fold2048<>+8(SB)/8, $0x00000000b9e02b86
GLOBL fold2048<>(SB), RODATA|NOPTR, $16

DATA fold512<>+0(SB)/8, $0x00000000740eef02
DATA fold512<>+8(SB)/8, $0x000000009e4addf8
GLOBL fold512<>(SB), RODATA|NOPTR, $16

DATA foldLine<>+0(SB)/8, $0x000000001c291d04
DATA foldLine<>+8(SB)/8, $0x00000000ddc0152b
DATA foldLine<>+16(SB)/8, $0x000000003da6d0cb
DATA foldLine<>+24(SB)/8, $0x00000000ba4fc28e
DATA foldLine<>+32(SB)/8, $0x00000000f20c0dfe
DATA foldLine<>+40(SB)/8, $0x00000000493c7d27
DATA foldLine<>+48(SB)/8, $0
DATA foldLine<>+56(SB)/8, $0
GLOBL foldLine<>(SB), RODATA|NOPTR, $64

// FOLD moves acc behind what next holds: k has the constants of the distance.
#define FOLD(acc, next, k, t) \
	VPCLMULQDQ $0x00, k, acc, t   \
	VPCLMULQDQ $0x11, k, acc, acc \
	VPTERNLOGD $0x96, t, next, acc

// func streamSum512(dst, src unsafe.Pointer, lines uintptr, crc uint32) uint32
TEXT ·streamSum512(SB), NOSPLIT, $0-36
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ lines+16(FP), CX
	MOVL crc+24(FP), AX
	NOTL AX
	VMOVD AX, X16
	VBROADCASTI32X4 fold512<>(SB), Z9
	CMPQ CX, $8
	JB   short

	VMOVDQU64       (SI), Z0
	VMOVDQU64       64(SI), Z1
	VMOVDQU64       128(SI), Z2
	VMOVDQU64       192(SI), Z3
	VMOVNTDQ        Z0, (DI)
	VMOVNTDQ        Z1, 64(DI)
	VMOVNTDQ        Z2, 128(DI)
	VMOVNTDQ        Z3, 192(DI)
	VPXORQ          Z16, Z0, Z0
	VBROADCASTI32X4 fold2048<>(SB), Z8
	ADDQ            $256, SI
	ADDQ            $256, DI
	SUBQ            $4, CX

four:
	VMOVDQU64 (SI), Z4
	VMOVDQU64 64(SI), Z5
	VMOVDQU64 128(SI), Z6
	VMOVDQU64 192(SI), Z7
	VMOVNTDQ  Z4, (DI)
	VMOVNTDQ  Z5, 64(DI)
	VMOVNTDQ  Z6, 128(DI)
	VMOVNTDQ  Z7, 192(DI)
	FOLD(Z0, Z4, Z8, Z10)
	FOLD(Z1, Z5, Z8, Z11)
	FOLD(Z2, Z6, Z8, Z12)
	FOLD(Z3, Z7, Z8, Z13)
	ADDQ      $256, SI
	ADDQ      $256, DI
	SUBQ      $4, CX
	CMPQ      CX, $4
	JAE       four

	FOLD(Z0, Z1, Z9, Z10)
	FOLD(Z0, Z2, Z9, Z10)
	FOLD(Z0, Z3, Z9, Z10)
	JMP rest

short:
	VMOVDQU64 (SI), Z0
	VMOVNTDQ  Z0, (DI)
	VPXORQ    Z16, Z0, Z0
	ADDQ      $64, SI
	ADDQ      $64, DI
	DECQ      CX

rest:
	TESTQ CX, CX
	JZ    reduce

line:
	VMOVDQU64 (SI), Z4
	VMOVNTDQ  Z4, (DI)
	FOLD(Z0, Z4, Z9, Z10)
	ADDQ      $64, SI
	ADDQ      $64, DI
	DECQ      CX
	JNZ       line

reduce:
	// The four parts of the line come together in 128 bits, and these are a
	// message of 16 bytes like any other.
	VMOVDQU64      foldLine<>(SB), Z8
	VPCLMULQDQ     $0x00, Z8, Z0, Z1
	VPCLMULQDQ     $0x11, Z8, Z0, Z2
	VPXORQ         Z2, Z1, Z1
	VEXTRACTI32X4  $3, Z0, X3
	VEXTRACTI64X4  $1, Z1, Y2
	VPXORQ         Y2, Y1, Y1
	VEXTRACTI32X4  $1, Y1, X2
	VPTERNLOGD     $0x96, X3, X2, X1
	VMOVQ          X1, AX
	VPEXTRQ        $1, X1, BX
	XORL           R8, R8
	CRC32Q         AX, R8
	CRC32Q         BX, R8
	NOTL           R8
	VZEROUPPER
	MOVL           R8, ret+32(FP)
	RET
