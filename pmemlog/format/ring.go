package format

import "fmt"

// Ring is a ring in memory, addressed by LSN: LSN L lives at offset L modulo
// its length. The writer's mirror is one, and so is a simulated replica's.
type Ring []byte

// At returns the n bytes from LSN on. They must not cross the end of the ring,
// which no record does.
func (r Ring) At(lsn uint64, n int) []byte {
	off := lsn % uint64(len(r))
	return r[off : off+uint64(n) : off+uint64(n)]
}

// Segments appends to dst the one or two slices that hold [from, to).
func (r Ring) Segments(dst [][]byte, from, to uint64) [][]byte {
	if to-from > uint64(len(r)) {
		panic(fmt.Sprintf("format: [%d, %d) is more than a ring of %d bytes", from, to, len(r)))
	}
	for from < to {
		n := min(to-from, r.ToEnd(from))
		dst = append(dst, r.At(from, int(n)))
		from += n
	}
	return dst
}

// ToEnd returns how many bytes lie between LSN and the end of the ring.
func (r Ring) ToEnd(lsn uint64) uint64 { return ToEnd(lsn, uint64(len(r))) }

// View implements [Source].
func (r Ring) View(off int64, n int) ([]byte, error) { return r[off : off+int64(n)], nil }

// Capacity implements [Source].
func (r Ring) Capacity() uint64 { return uint64(len(r)) }

// ToEnd returns how many bytes lie between LSN and the end of a ring of the
// given capacity.
func ToEnd(lsn, capacity uint64) uint64 { return capacity - lsn%capacity }

// PadBefore returns the bytes of pad that must stand at the tail before a
// record of the given size, so that it does not cross the end of the ring.
func PadBefore(tail, size, capacity uint64) uint64 {
	if end := ToEnd(tail, capacity); end < size {
		return end
	}
	return 0
}

// Record is what Append puts into a ring.
type Record struct {
	Payload []byte
	Meta    [MetaSize]byte
}

// Append encodes a data record behind c into the ring, with the pad that it
// needs, and moves c past it. It returns the record's header. The caller has
// made sure that there is room for PadBefore plus the record's size.
func (r Ring) Append(c *Chain, commit uint64, rec Record) Header {
	size := RecordSize(len(rec.Payload))
	for pad := PadBefore(c.LSN, size, uint64(len(r))); pad > 0; {
		n := min(pad, HeaderSize+MaxPayload)
		clear(r.At(c.LSN, int(n))[HeaderSize:])
		r.encode(c, Header{Kind: KindPad, Length: uint32(n - HeaderSize), Commit: commit})
		pad -= n
	}
	copy(r.At(c.LSN, int(size))[HeaderSize:], rec.Payload)
	return r.encode(c, Header{Kind: KindData, Length: uint32(len(rec.Payload)), Commit: commit, Meta: rec.Meta})
}

func (r Ring) encode(c *Chain, h Header) Header {
	h.LSN, h.Epoch, h.Prev = c.LSN, c.Epoch, c.CRC
	EncodeHeader(r.At(c.LSN, int(h.Size())), &h)
	c.LSN, c.CRC = h.End(), h.CRC
	return h
}
