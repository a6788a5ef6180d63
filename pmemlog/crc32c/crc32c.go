package crc32c

import (
	"fmt"
	"hash/crc32"
)

// callBytes is the most that one call into assembly sums: it can't be preempted, so a
// collection of garbage would stop all others for as long. A multiple of line.
const callBytes = 64 << 10

// line is the unit that is folded, and streamed, in bytes.
const line = 64

// table is read-only.
var table = crc32.MakeTable(crc32.Castagnoli)

// Checksum returns the CRC32C of p.
func Checksum(p []byte) uint32 { return Update(0, p) }

// Update returns the CRC32C of what crc is that of, followed by p.
func Update(crc uint32, p []byte) uint32 {
	if !wide {
		return crc32.Update(crc, table, p)
	}
	for len(p) > callBytes {
		crc = fold(crc, p[:callBytes])
		p = p[callBytes:]
	}
	return fold(crc, p)
}

// Streams says whether this CPU has what [Stream] needs. It never changes.
func Streams() bool { return wide }

// Stream is Update with src, and copies it to dst past the cache on the way. Both must
// be of the same length, a multiple of 64, and dst aligned to as much: anything else is
// a programming error, as is a call where [Streams] says no.
func Stream(crc uint32, dst, src []byte) uint32 {
	if !wide || len(dst) != len(src) || len(dst)%line != 0 || !aligned(dst) {
		panic(fmt.Sprintf("crc32c: stream of %d bytes to %d, on a CPU that can: %t; both must be the same multiple of %d, and the target aligned to it", len(src), len(dst), wide, line))
	}
	for len(dst) > 0 {
		n := min(len(dst), callBytes)
		crc = foldAndStore(crc, dst[:n], src[:n])
		dst, src = dst[n:], src[n:]
	}
	return crc
}
