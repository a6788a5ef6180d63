package format

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/gravenio/graven/pmemlog/crc32c"
)

// Sizes of the format, in bytes.
const (
	Align      = 64      // records start and end at multiples of it
	HeaderSize = 64      // of a record
	MaxPayload = 1 << 20 // of one record
	MetaSize   = 16      // caller's metadata in a record header

	Version     = 1 // of records and header slots
	recordMagic = 0x6772
)

// Kind says what a record is.
type Kind uint8

// The kinds of records.
const (
	KindData Kind = 1 // one append of the caller's
	KindPad  Kind = 2 // fills the ring up to its end; readers skip it
)

// Why bytes are no record. Scan stops at the first; the reason is for people.
var (
	ErrNoRecord = errors.New("format: no record here")                    // the magic is missing: nothing was written, or something else
	ErrVersion  = errors.New("format: of another version")                // whole, but only another program knows what it means
	ErrLength   = errors.New("format: length out of range")               // longer than allowed, or past the end of the ring
	ErrLSN      = errors.New("format: LSN of another place or lap")       // left by an earlier lap
	ErrCRC      = errors.New("format: checksum does not match")           // torn or damaged
	ErrChain    = errors.New("format: does not follow the record before") // its predecessor was another record
	ErrEpoch    = errors.New("format: epoch is lower than the log's")     // left by an older writer
)

// Header is a record's header, decoded.
type Header struct {
	CRC    uint32 // of this record
	Prev   uint32 // CRC of the record before it
	Kind   Kind
	Length uint32 // payload bytes, 0 to MaxPayload
	LSN    uint64
	Epoch  uint64
	Commit uint64 // commit LSN known to the writer when it wrote
	Meta   [MetaSize]byte
}

// Size returns the bytes that the record takes in the ring.
func (h *Header) Size() uint64 { return RecordSize(int(h.Length)) }

// End returns the LSN behind the record.
func (h *Header) End() uint64 { return h.LSN + h.Size() }

// RecordSize returns the ring bytes of a record with a payload of n bytes.
func RecordSize(n int) uint64 {
	return (HeaderSize + uint64(n) + Align - 1) &^ (Align - 1)
}

// MaxRecordPayload returns the largest payload, in bytes, that a ring of the
// given capacity takes: a quarter of the ring at most, so that a pad and a
// record always fit beside what is in flight.
func MaxRecordPayload(capacity uint64) int {
	return min(MaxPayload, int(capacity/4)-HeaderSize)
}

// EncodeHeader writes h in front of a payload that already stands in
// rec[HeaderSize:HeaderSize+h.Length], computes the CRC, zeroes the padding and
// returns the CRC. rec must be exactly the record's size.
func EncodeHeader(rec []byte, h *Header) uint32 {
	if uint64(len(rec)) != h.Size() {
		panic(fmt.Sprintf("format: a record of %d bytes encoded into %d", h.Size(), len(rec)))
	}
	le := binary.LittleEndian
	le.PutUint32(rec[4:], h.Prev)
	le.PutUint16(rec[8:], recordMagic)
	rec[10], rec[11] = Version, byte(h.Kind)
	le.PutUint32(rec[12:], 0)
	le.PutUint32(rec[16:], h.Length)
	le.PutUint32(rec[20:], 0)
	le.PutUint64(rec[24:], h.LSN)
	le.PutUint64(rec[32:], h.Epoch)
	le.PutUint64(rec[40:], h.Commit)
	copy(rec[48:64], h.Meta[:])
	end := HeaderSize + int(h.Length)
	clear(rec[end:])
	h.CRC = checksum(rec, end)
	le.PutUint32(rec, h.CRC)
	return h.CRC
}

// DecodeHeader reads a header from the first HeaderSize bytes of b and checks
// what can be checked without the payload: magic, length, and that this program
// knows all that it says. ErrVersion is no proof of another program, since the
// bytes may be torn; [Chain.Follow] tells that apart.
func DecodeHeader(b []byte) (Header, error) {
	h, err := readHeader(b)
	if err == nil {
		err = understood(b)
	}
	if err != nil {
		return Header{}, err
	}
	return h, nil
}

// readHeader reads what stands at the same place in every version.
func readHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, ErrLength
	}
	le := binary.LittleEndian
	if le.Uint16(b[8:]) != recordMagic {
		return Header{}, ErrNoRecord
	}
	h := Header{
		CRC: le.Uint32(b), Prev: le.Uint32(b[4:]), Kind: Kind(b[11]), Length: le.Uint32(b[16:]),
		LSN: le.Uint64(b[24:]), Epoch: le.Uint64(b[32:]), Commit: le.Uint64(b[40:]),
	}
	copy(h.Meta[:], b[48:64])
	if h.Length > MaxPayload {
		return Header{}, ErrLength
	}
	return h, nil
}

// understood returns ErrVersion for a header that says what version 1 can't say.
func understood(b []byte) error {
	le := binary.LittleEndian
	if err := checkVersion("record", uint32(b[10]), Version); err != nil {
		return err
	}
	if k := Kind(b[11]); k != KindData && k != KindPad {
		return fmt.Errorf("%w: kind of a record is %d, must be %d or %d; %s", ErrVersion, k, KindData, KindPad, useNewer)
	}
	if flags := le.Uint32(b[12:]); flags != 0 {
		return fmt.Errorf("%w: flags of a record are %#x, must be 0; %s", ErrVersion, flags, useNewer)
	}
	if reserved := le.Uint32(b[20:]); reserved != 0 {
		return fmt.Errorf("%w: reserved field of a record is %#x, must be 0; %s", ErrVersion, reserved, useNewer)
	}
	return nil
}

// What to do about a version.
const (
	useNewer = "start the program that wrote it, or a newer one"
	useOlder = "an older program wrote it, and this one no longer reads that: start the older one"
)

// checkVersion returns ErrVersion unless a structure has the version that this
// program knows.
func checkVersion(what string, is, must uint32) error {
	if is == must {
		return nil
	}
	advice := useNewer
	if is < must {
		advice = useOlder
	}
	return fmt.Errorf("%w: version of a %s is %d, must be %d; %s", ErrVersion, what, is, must, advice)
}

// beforeCRC is the state from which four zero bytes lead to that in which a CRC
// begins. What is xored into it leads there from other bytes than zeroes.
const beforeCRC = 0x641f6454

// before is what a record's sum must begin with, for [crc32c.Update], so that its first
// four bytes, where the sum itself stands, make no difference.
func before(rec []byte) uint32 { return ^(beforeCRC ^ binary.LittleEndian.Uint32(rec)) }

// checksum is the CRC32C of rec[4:end], taken from the first byte on: whole lines are
// summed sooner than what begins in the middle of one.
func checksum(rec []byte, end int) uint32 { return crc32c.Update(before(rec), rec[:end]) }

// CheckCRC reports whether rec, at least HeaderSize+h.Length bytes, has the CRC
// that its header names.
func (h *Header) CheckCRC(rec []byte) bool {
	end := HeaderSize + int(h.Length)
	return len(rec) >= end && checksum(rec, end) == h.CRC
}

// Chain is the state that the next record must follow: where it must stand,
// the CRC that it must carry, and the lowest epoch that it may have.
type Chain struct {
	LSN   uint64
	CRC   uint32
	Epoch uint64
}

// Follow checks that rec begins with a record that is valid behind c and moves
// c past it. rec may hold more than the record. Seals are the scan's business:
// it raises c.Epoch where one matches.
//
// ErrVersion is returned only for a record that is valid but for what this
// program does not know: no torn or stale bytes look like that.
func (c *Chain) Follow(rec []byte) (Header, error) {
	h, err := readHeader(rec)
	if err != nil {
		return Header{}, err
	}
	if h.LSN != c.LSN { // rule: lsn
		return h, ErrLSN
	}
	if uint64(len(rec)) < h.Size() {
		return h, ErrLength
	}
	if !h.CheckCRC(rec) {
		return h, ErrCRC
	}
	if h.Prev != c.CRC { // rule: chain
		return h, ErrChain
	}
	if h.Epoch < c.Epoch { // rule: epoch
		return h, ErrEpoch
	}
	if err := understood(rec); err != nil { // rule: version last
		return h, err
	}
	c.LSN, c.CRC, c.Epoch = h.End(), h.CRC, h.Epoch
	return h, nil
}

// Outline is what placing a record needs of its header.
type Outline struct {
	CRC    uint32
	Length uint32 // payload bytes
	LSN    uint64
	Epoch  uint64
}

// Size returns the bytes that the record takes in the ring.
func (o Outline) Size() uint64 { return RecordSize(int(o.Length)) }

// CheckCRC reports whether rec, the whole record, has the CRC that its header
// names.
func (o Outline) CheckCRC(rec []byte) bool {
	end := HeaderSize + int(o.Length)
	return len(rec) >= end && checksum(rec, end) == o.CRC
}

// Sum is the CRC of a record that somebody takes while he copies it, from its
// first byte on and in whole lines: see [Outline.Sum].
type Sum struct {
	Len   int    // how many bytes are to be summed, from the first on; whole lines of 64 bytes
	CRC   uint32 // before them; once they are summed, behind them, as [crc32c.Update] has it
	Taken bool   // they are
}

// Sum returns how to sum rec, the whole record, without leaving out the CRC at
// its head: it begins in a state in which these bytes make no difference.
func (o Outline) Sum(rec []byte) Sum {
	const line = 64
	return Sum{
		Len: (HeaderSize + int(o.Length)) &^ (line - 1),
		CRC: before(rec),
	}
}

// CheckSum is CheckCRC of a record of which s may have been taken.
func (o Outline) CheckSum(rec []byte, s *Sum) bool {
	if !s.Taken {
		return o.CheckCRC(rec)
	}
	end := HeaderSize + int(o.Length)
	if s.Len == end {
		return s.CRC == o.CRC
	}
	return len(rec) >= end && crc32c.Update(s.CRC, rec[s.Len:end]) == o.CRC
}

// FollowUnchecked is Follow without the CRC, and so it costs next to nothing: the
// record's place, length, chain, epoch and version are right behind c, and c moves
// past it. Whoever believes it must call [Outline.CheckCRC] before anything
// depends on that. A record that is refused gets the error that Follow has for it.
func (c *Chain) FollowUnchecked(rec []byte) (Outline, error) {
	o, ok := c.plausible(rec)
	if !ok { // rule: record follows unchecked
		h, err := c.Follow(rec)
		return Outline{CRC: h.CRC, Length: h.Length, LSN: h.LSN, Epoch: h.Epoch}, err
	}
	c.LSN, c.CRC, c.Epoch = o.LSN+o.Size(), o.CRC, o.Epoch
	return o, nil
}

// plausible says whether a header's fields are right behind c, as far as this
// version knows them all. Each that the outline has is read once: a network card may
// write to it meanwhile.
func (c *Chain) plausible(rec []byte) (Outline, bool) {
	le := binary.LittleEndian
	if len(rec) < HeaderSize {
		return Outline{}, false
	}
	const reserved = 0 // flags, and the word behind the length
	o := Outline{CRC: le.Uint32(rec), Length: le.Uint32(rec[16:]), LSN: c.LSN, Epoch: le.Uint64(rec[32:])}
	return o, le.Uint16(rec[8:]) == recordMagic && rec[10] == Version &&
		(Kind(rec[11]) == KindData || Kind(rec[11]) == KindPad) &&
		le.Uint32(rec[12:]) == reserved && le.Uint32(rec[20:]) == reserved &&
		o.Length <= MaxPayload && o.Size() <= uint64(len(rec)) &&
		le.Uint64(rec[24:]) == c.LSN && le.Uint32(rec[4:]) == c.CRC && o.Epoch >= c.Epoch
}
