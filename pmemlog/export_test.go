package pmemlog

import (
	"encoding/binary"
	"hash/crc32"
	"runtime"

	"github.com/gravenio/graven/pmemlog/format"
)

// castagnoli is the library's checksum, beside the one that is used.
func castagnoli(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// WaitForSyncers returns when n callers wait for a sync that has not begun.
func WaitForSyncers(p *Pool, n int) {
	for {
		p.dev.mu.Lock()
		waiting := p.dev.waiting
		p.dev.mu.Unlock()
		if waiting >= n {
			return
		}
		runtime.Gosched()
	}
}

// Blocks says whether a pool's medium may wait for a disk where it persists.
func Blocks(p *Pool) bool { return p.dev.blocks }

// HintAfter returns the lowest hint that may be persistent once a flush has returned
// whose writes came after acked was acknowledged.
func HintAfter(capacity uint64, acked format.Position) format.Position {
	acked.LSN -= min(acked.LSN, hintEvery(capacity)-format.Align)
	return acked
}

// MendChecksums makes the checksums of a pool's structures right, whatever the
// structures say: superblocks, a directory of so many entries, and the header of
// a region right behind it.
func MendChecksums(b []byte, entries int) []byte {
	le := binary.LittleEndian
	for i := range superblocks {
		at := b[i*superblockSize:]
		le.PutUint32(at[superblockCRC:], castagnoli(at[:superblockCRC]))
	}
	for c := range entryCopies {
		for i := range entries {
			at := b[entryOffset(i, c, uint32(entries)):][:entrySize]
			le.PutUint32(at[4:], castagnoli(at[entryPayload:]))
		}
	}
	region := b[regionsStart(uint32(entries)):]
	for i := range 2 {
		at := region[i*format.SlotSize:]
		le.PutUint32(at[format.SlotSize-4:], castagnoli(at[:format.SlotSize-4]))
		line := region[format.HintOffset+i*format.HintStride:]
		le.PutUint32(line[4:], castagnoli(line[8:format.HintSize]))
	}
	return b
}

// Syncs returns how often the medium has been synced.
func Syncs(p *Pool) uint64 {
	p.dev.mu.Lock()
	defer p.dev.mu.Unlock()
	return p.dev.begun
}

// Claim makes a pool on a medium as CreateFilePool does on a block device.
func Claim(m Medium, opts FormatOptions) (*Pool, error) { return claim(m, opts) }

// Uninterrupted makes a system call again after a signal.
func Uninterrupted(name string, call func() error) error { return uninterrupted(name, call) }

// WaitForFlushes returns when n flushes wait for their turn.
func WaitForFlushes(r *Replica, n int) {
	for r.awaiting.Load() < int32(n) {
		runtime.Gosched()
	}
}
