#include "textflag.h"

// func ctr() uint64
TEXT ·ctr(SB), NOSPLIT, $0-8
	MRS  CTR_EL0, R0
	MOVD R0, ret+0(FP)
	RET

// func dccvap(p unsafe.Pointer, lines, line uintptr)
TEXT ·dccvap(SB), NOSPLIT, $0-24
	MOVD p+0(FP), R0
	MOVD lines+8(FP), R1
	MOVD line+16(FP), R2

line:
	DC   CVAP, R0
	ADD  R2, R0
	SUBS $1, R1
	BNE  line
	DSB  $0xF // SY: the next one might come on another CPU, which waits for its own only
	RET

// func dsb()
TEXT ·dsb(SB), NOSPLIT, $0-0
	DSB $0xF // SY
	RET
