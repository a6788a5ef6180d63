package persist

import (
	"errors"
	"fmt"

	"github.com/gravenio/graven/pmemlog/crc32c"
)

// Line is the unit in which caches write back, in bytes, on amd64. Streams are
// of whole lines of this size on every architecture.
const Line = 64

// callBytes is the most that one call into assembly flushes or streams: it can't
// be preempted, so a collection of garbage would stop all others for as long. A
// multiple of Line.
const callBytes = 64 << 10

// Method is a way to have the CPU write lines back to memory.
type Method int

// The ways, best first.
const (
	CLWB       Method = iota + 1 // amd64: writes back, may keep the line
	CLFLUSHOPT                   // amd64: writes back and drops the line
	CLFLUSH                      // amd64: the same, one after the other
	DCCVAP                       // arm64: cleans to the point of persistence
	Fence                        // nothing: caches survive a power cut
)

// String names the instruction.
func (m Method) String() string {
	switch m {
	case CLWB:
		return "clwb"
	case CLFLUSHOPT:
		return "clflushopt"
	case CLFLUSH:
		return "clflush"
	case DCCVAP:
		return "dc cvap"
	case Fence:
		return "fence only"
	default:
		return fmt.Sprintf("method %d", int(m))
	}
}

// ErrUnsupported is returned where the CPU has no instruction for what is asked.
var ErrUnsupported = errors.New("persist: this CPU can't do that")

// Detect returns the best way to write lines back that this CPU has:
// ErrUnsupported if it has none.
func Detect() (Method, error) {
	for m := CLWB; m < Fence; m++ {
		if supported(m) {
			return m, nil
		}
	}
	return 0, fmt.Errorf("%w: no instruction that writes a cache line back to persistent memory is known for it", ErrUnsupported)
}

// CPU makes stores persistent by one method. The zero value is not to be used.
type CPU struct {
	method Method
	line   uintptr // what one instruction writes back, in bytes
	wide   bool    // streams by 64-byte stores
	short  int     // in bytes: see Short
}

// New returns a CPU that uses the method: ErrUnsupported if this one can't.
func New(m Method) (CPU, error) {
	if !supported(m) {
		return CPU{}, fmt.Errorf("%w: %s", ErrUnsupported, m)
	}
	return CPU{method: m, line: lineSize(), wide: wideStores(), short: shortStores(m)}, nil
}

// Method returns the method.
func (c *CPU) Method() Method { return c.method }

// Flush begins to write back the lines that hold b. They are persistent after
// the next Fence.
func (c *CPU) Flush(b []byte) {
	if c.method == Fence {
		return
	}
	for len(b) > 0 {
		n := min(len(b), callBytes)
		flush(c.method, b[:n], c.line)
		b = b[n:]
	}
}

// StreamSum is Stream, and [crc32c.Update] of crc with the bytes of src. Where the CPU
// can, the sum is taken of the very registers that are stored, and costs next to
// nothing: [crc32c.Stream].
func (c *CPU) StreamSum(dst, src []byte, crc uint32) uint32 {
	if !crc32c.Streams() {
		c.Stream(dst, src)
		return crc32c.Update(crc, src)
	}
	return crc32c.Stream(crc, dst, src)
}

// mustStream panics unless dst and src can be streamed.
func mustStream(dst, src []byte) {
	if len(dst) != len(src) || len(dst)%Line != 0 || !aligned(dst) {
		panic(fmt.Sprintf("persist: stream of %d bytes to %d: both must be the same multiple of %d, and the target aligned to it", len(src), len(dst), Line))
	}
}

// Stream copies src to dst past the cache, where the CPU can; else through it,
// with a flush. dst must be aligned to Line bytes and both must be of the same
// length, a multiple of Line: anything else is a programming error. The bytes
// are persistent after the next Fence.
func (c *CPU) Stream(dst, src []byte) {
	mustStream(dst, src)
	for len(dst) > 0 {
		n := min(len(dst), callBytes)
		c.stream(dst[:n], src[:n])
		dst, src = dst[n:], src[n:]
	}
}

// Short returns up to how many bytes at a time, in lines that [Expect] was told of,
// arrive sooner by a copy and a Flush than by Stream; 0 for none.
func (c *CPU) Short() int { return c.short }

// Expect has the CPU fetch the lines of b, which begins with one, if it can: they
// will be stored to. It touches nothing, and can't fault.
func Expect(b []byte) {
	if len(b) > 0 {
		expect(b)
	}
}

// Fence returns when all that this goroutine has flushed or streamed is
// persistent.
func (c *CPU) Fence() { fence() }
