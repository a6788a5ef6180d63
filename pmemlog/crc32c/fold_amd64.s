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

// PAST stores four lines past the cache, if there is somewhere to: BX.
#define PAST(a, b, c, d, skip) \
	TESTQ    BX, BX      \
	JZ       skip        \
	VMOVNTDQ a, (BX)     \
	VMOVNTDQ b, 64(BX)   \
	VMOVNTDQ c, 128(BX)  \
	VMOVNTDQ d, 192(BX)  \
	ADDQ     $256, BX

// func fold512(dst, src unsafe.Pointer, n uintptr, crc uint32) uint32
TEXT ·fold512(SB), NOSPLIT, $0-36
	MOVQ  dst+0(FP), BX
	MOVQ  src+8(FP), SI
	MOVQ  n+16(FP), DX
	MOVL  crc+24(FP), R8
	NOTL  R8
	MOVQ  DX, CX
	ANDQ  $63, DX
	SHRQ  $6, CX
	JZ    words

	VMOVD           R8, X14
	VBROADCASTI32X4 fold512<>(SB), Z9
	CMPQ            CX, $4
	JB              short

	VMOVDQU64 (SI), Z0
	VMOVDQU64 64(SI), Z1
	VMOVDQU64 128(SI), Z2
	VMOVDQU64 192(SI), Z3
	PAST(Z0, Z1, Z2, Z3, begin)

begin:
	VPXORQ          Z14, Z0, Z0
	VBROADCASTI32X4 fold2048<>(SB), Z8
	ADDQ            $256, SI
	SUBQ            $4, CX
	CMPQ            CX, $4
	JB              together

four:
	VMOVDQU64 (SI), Z4
	VMOVDQU64 64(SI), Z5
	VMOVDQU64 128(SI), Z6
	VMOVDQU64 192(SI), Z7
	PAST(Z4, Z5, Z6, Z7, behind)

behind:
	FOLD(Z0, Z4, Z8, Z10)
	FOLD(Z1, Z5, Z8, Z11)
	FOLD(Z2, Z6, Z8, Z12)
	FOLD(Z3, Z7, Z8, Z13)
	ADDQ $256, SI
	SUBQ $4, CX
	CMPQ CX, $4
	JAE  four

together:
	FOLD(Z0, Z1, Z9, Z10)
	FOLD(Z0, Z2, Z9, Z10)
	FOLD(Z0, Z3, Z9, Z10)
	JMP rest

short:
	VMOVDQU64 (SI), Z0
	TESTQ     BX, BX
	JZ        one
	VMOVNTDQ  Z0, (BX)
	ADDQ      $64, BX

one:
	VPXORQ Z14, Z0, Z0
	ADDQ   $64, SI
	DECQ   CX

rest:
	TESTQ CX, CX
	JZ    reduce

line:
	VMOVDQU64 (SI), Z4
	TESTQ     BX, BX
	JZ        next
	VMOVNTDQ  Z4, (BX)
	ADDQ      $64, BX

next:
	FOLD(Z0, Z4, Z9, Z10)
	ADDQ $64, SI
	DECQ CX
	JNZ  line

reduce:
	// The four parts of the line come together in 128 bits, and these are a
	// message of 16 bytes like any other.
	VMOVDQU64     foldLine<>(SB), Z8
	VPCLMULQDQ    $0x00, Z8, Z0, Z1
	VPCLMULQDQ    $0x11, Z8, Z0, Z2
	VPXORQ        Z2, Z1, Z1
	VEXTRACTI32X4 $3, Z0, X3
	VEXTRACTI64X4 $1, Z1, Y2
	VPXORQ        Y2, Y1, Y1
	VEXTRACTI32X4 $1, Y1, X2
	VPTERNLOGD    $0x96, X3, X2, X1
	VMOVQ         X1, AX
	VPEXTRQ       $1, X1, R9
	XORL          R8, R8
	CRC32Q        AX, R8
	CRC32Q        R9, R8
	VZEROUPPER

words: // what is left is less than a line
	CMPQ   DX, $8
	JB     half
	CRC32Q (SI), R8
	ADDQ   $8, SI
	SUBQ   $8, DX
	JMP    words

half:
	CMPQ   DX, $4
	JB     bytes
	CRC32L (SI), R8
	ADDQ   $4, SI
	SUBQ   $4, DX

bytes:
	TESTQ  DX, DX
	JZ     done
	CRC32B (SI), R8
	INCQ   SI
	DECQ   DX
	JMP    bytes

done:
	NOTL R8
	MOVL R8, ret+32(FP)
	RET
