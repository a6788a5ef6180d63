// Package crc32c takes CRC32C, the checksum by the Castagnoli polynomial, at the speed
// at which memory is read: every record is summed by its writer, by each replica that
// takes it, and by all who read it.
//
// # How
//
// On amd64 with AVX-512 and wide carry-less multiplication (VPCLMULQDQ), lines of 64
// bytes are folded into one another, four in flight at a time: a line that n bits
// follow is worth its remainder times x^n, which is a multiplication by a constant.
// What remains are 16 bytes, whose CRC the CPU's own instruction takes. ADR 30 has
// what that gains: half as fast again for a line, twice as fast from 256 bytes on, and
// nearly four times from 4 KiB.
//
// Elsewhere it is [hash/crc32], which has the same interface and results.
//
// [Stream] takes the sum of the registers that it stores past the cache, for package
// pmemlog/persist: the checksum of what has been stored costs next to nothing then,
// and is that of what has been stored, whatever becomes of the source.
//
// # Concurrency
//
// All functions may be called from any goroutine. A load or store that touches a page
// which a mapping has lost faults as it would anywhere: the caller guards it.
//
// # Sources
//
// Gopal, Ozturk, Guilford and others, "Fast CRC Computation for Generic Polynomials
// Using PCLMULQDQ Instruction", Intel, 2009. The constants are derived by a test, and
// results compared with those of [hash/crc32]. Decided in ADR 30.
package crc32c
