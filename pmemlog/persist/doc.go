// Package persist makes stores to mapped persistent memory persistent with the
// CPU's own instructions, in Go assembly, without cgo.
//
// # What it promises
//
// After [CPU.Flush] or [CPU.Stream] of some bytes and then [CPU.Fence], all on one
// goroutine, the bytes are in the power-fail domain of the memory that they are
// mapped from, if the mapping is one for which that can be true: see package
// pmemlog. A goroutine that moves to another CPU between the two is no danger:
// on the way it goes through the kernel, or through a locked instruction, and
// both order flushes and drain write-combining buffers as a fence does.
//
// On amd64 lines are written back by CLWB where the CPU has it, else by
// CLFLUSHOPT, else by CLFLUSH; CPUID says which, leaf 7 bits 24 and 23 of EBX. On
// arm64 by DC CVAP, where the kernel reports it (HWCAP dcpop), and DSB. Elsewhere
// [Detect] says that there is no way.
//
// A platform whose caches are in the power-fail domain, too (eADR on Intel's),
// needs no flush, but still the fence, so that the stores have left the CPU's
// store buffer: [Fence].
//
// [CPU.StreamSum] takes the CRC32C of what it streams from the registers that it
// stores, where package crc32c can: ADR 17.
//
// [CPU.Short] says up to how much a copy and a Flush are quicker than a Stream, once
// [Expect] has had the lines fetched: ADR 29.
//
// # What it assumes
//
// Memory is mapped write-back cacheable. Lines are 64 bytes on amd64; on arm64
// the smallest line that CTR_EL0 reports, at least 16.
//
// # Concurrency
//
// All functions may be called from any goroutine. A load or store that touches
// a page which the mapping has lost faults as it would anywhere: the caller
// guards it.
//
// # Sources
//
// Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, 11.4.1,
// and volume 2, CLWB, CLFLUSHOPT, SFENCE, MOVNTDQ; volume 3, 12.3, write
// combining. AMD64 Architecture Programmer's Manual, volume 2, 7.4. Arm
// Architecture Reference Manual, DC CVAP. The choice of instructions is that of
// Intel's libpmem.
package persist
