package format

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/gravenio/graven/pmemlog/crc32c"
)

// Places in a replica's region, in bytes from its start.
const (
	SlotSize   = 4096 // of one header slot
	HintOffset = 2 * SlotSize
	HintStride = 512 // between the two hint lines: they never share a sector
	HintSize   = 64  // of one hint line
	RingOffset = 3 * SlotSize
)

const (
	slotMagic   = 0x544f4c534e565247 // "GRVNSLOT"
	hintMagic   = 0x544e4847         // "GHNT"
	slotSets    = 152
	slotSeals   = 264
	sealSize    = 40
	slotCRC     = SlotSize - 4
	idSize      = 16
	hintVersion = 1 // of hint lines
	hintPayload = 8
)

// Why a header slot or a hint line does not count.
var (
	ErrNoSlot = errors.New("format: no header slot here")
	ErrNoHint = errors.New("format: no hint line here")
)

// Slot is what a replica remembers beside its ring. It is written only by the
// agent, whole, alternating between two places.
type Slot struct {
	Generation uint64 // of the two slots, the valid one with the higher counts
	Cluster    ID
	Log        ID
	Replica    ID
	Capacity   uint64 // of the ring, in bytes
	Fenced     Fence
	Trim       TrimPoint
	Hint       Position // up to here this replica has acknowledged, as far as this slot knows
	Set        []ID     // the replica set of the newest seal
	Seals      []Seal   // in the order of T
}

// Clone returns a copy that shares nothing with s.
func (s Slot) Clone() Slot {
	s.Set = append([]ID(nil), s.Set...)
	s.Seals = append([]Seal(nil), s.Seals...)
	return s
}

// EncodeSlot writes s into b, which must be SlotSize long. More than MaxSeals
// seals or MaxReplicas replicas are a programming error.
func EncodeSlot(b []byte, s *Slot) {
	if len(b) != SlotSize || len(s.Seals) > MaxSeals || len(s.Set) > MaxReplicas {
		panic(fmt.Sprintf("format: a slot of %d seals and %d replicas encoded into %d bytes", len(s.Seals), len(s.Set), len(b)))
	}
	clear(b)
	le := binary.LittleEndian
	le.PutUint64(b, slotMagic)
	le.PutUint32(b[8:], Version)
	le.PutUint32(b[12:], uint32(len(s.Seals)))
	le.PutUint64(b[16:], s.Generation)
	copy(b[24:], s.Cluster[:])
	copy(b[40:], s.Log[:])
	copy(b[56:], s.Replica[:])
	le.PutUint64(b[72:], s.Capacity)
	le.PutUint64(b[80:], s.Fenced.Epoch)
	le.PutUint64(b[88:], s.Fenced.Nonce)
	le.PutUint64(b[96:], s.Trim.LSN)
	le.PutUint64(b[104:], s.Trim.Epoch)
	le.PutUint32(b[112:], s.Trim.CRC)
	le.PutUint64(b[120:], s.Hint.Epoch)
	le.PutUint64(b[128:], s.Hint.LSN)
	le.PutUint32(b[144:], uint32(len(s.Set)))
	for i, id := range s.Set {
		copy(b[slotSets+i*idSize:], id[:])
	}
	for i, seal := range s.Seals {
		EncodeSeal(b[slotSeals+i*sealSize:], seal)
	}
	le.PutUint32(b[slotCRC:], crc32c.Checksum(b[:slotCRC]))
}

// DecodeSlot reads a header slot. ErrVersion means a slot that is whole and of
// another version; every other error, that this slot does not count.
func DecodeSlot(b []byte) (Slot, error) {
	if len(b) < SlotSize {
		return Slot{}, ErrNoSlot
	}
	le := binary.LittleEndian
	if le.Uint64(b) != slotMagic {
		return Slot{}, ErrNoSlot
	}
	if le.Uint32(b[slotCRC:]) != crc32c.Checksum(b[:slotCRC]) {
		return Slot{}, ErrCRC
	}
	if err := checkVersion("header slot", le.Uint32(b[8:]), Version); err != nil {
		return Slot{}, err
	}
	seals, set := le.Uint32(b[12:]), le.Uint32(b[144:])
	if seals > MaxSeals || set > MaxReplicas {
		return Slot{}, ErrLength
	}
	s := Slot{
		Generation: le.Uint64(b[16:]),
		Cluster:    ID(b[24:40]), Log: ID(b[40:56]), Replica: ID(b[56:72]),
		Capacity: le.Uint64(b[72:]),
		Fenced:   Fence{Epoch: le.Uint64(b[80:]), Nonce: le.Uint64(b[88:])},
		Trim:     TrimPoint{LSN: le.Uint64(b[96:]), Epoch: le.Uint64(b[104:]), CRC: le.Uint32(b[112:])},
		Hint:     Position{Epoch: le.Uint64(b[120:]), LSN: le.Uint64(b[128:])},
	}
	for i := range int(set) {
		s.Set = append(s.Set, ID(b[slotSets+i*idSize:slotSets+(i+1)*idSize]))
	}
	for i := range int(seals) {
		s.Seals = append(s.Seals, DecodeSeal(b[slotSeals+i*sealSize:]))
	}
	return s, nil
}

// SealSize is the number of bytes that EncodeSeal writes.
const SealSize = sealSize

// EncodeSeal writes s into the first SealSize bytes of b.
func EncodeSeal(b []byte, s Seal) {
	le := binary.LittleEndian
	le.PutUint64(b, s.Epoch)
	le.PutUint64(b[8:], s.Nonce)
	le.PutUint64(b[16:], s.T)
	le.PutUint32(b[24:], s.Prev)
	le.PutUint32(b[28:], 0)
	le.PutUint64(b[32:], s.SetVersion)
}

// DecodeSeal reads what EncodeSeal wrote; b must be at least SealSize long.
func DecodeSeal(b []byte) Seal {
	le := binary.LittleEndian
	return Seal{
		Epoch: le.Uint64(b), Nonce: le.Uint64(b[8:]), T: le.Uint64(b[16:]),
		Prev: le.Uint32(b[24:]), SetVersion: le.Uint64(b[32:]),
	}
}

// HintLine is a hint that was persisted apart from the header slots.
type HintLine struct {
	Generation uint64 // of the header slot that it refines; void with any other
	Sequence   uint64 // of two lines of one generation the higher one counts
	Hint       Position
}

// EncodeHint writes h into b, which must be HintSize long.
func EncodeHint(b []byte, h HintLine) {
	if len(b) != HintSize {
		panic(fmt.Sprintf("format: a hint line encoded into %d bytes", len(b)))
	}
	le := binary.LittleEndian
	le.PutUint32(b, hintMagic)
	le.PutUint64(b[8:], h.Generation)
	le.PutUint64(b[16:], h.Sequence)
	le.PutUint64(b[24:], h.Hint.Epoch)
	le.PutUint64(b[32:], h.Hint.LSN)
	// By words of eight bytes, as the checksum reads them: else it would wait for
	// these stores to reach the cache, which those of an append before may hold up.
	le.PutUint64(b[40:], hintVersion) // and reserved
	le.PutUint64(b[48:], 0)
	le.PutUint64(b[56:], 0)
	le.PutUint32(b[4:], crc32c.Checksum(b[hintPayload:]))
}

// DecodeHint reads a hint line from the first HintSize bytes of b. ErrVersion
// means a line that is whole and of another version: then only its generation
// is known, by which the caller can tell whether it counts. With every other
// error the line does not count.
func DecodeHint(b []byte) (HintLine, error) {
	if len(b) < HintSize {
		return HintLine{}, ErrNoHint
	}
	le := binary.LittleEndian
	if le.Uint32(b) != hintMagic || le.Uint32(b[4:]) != crc32c.Checksum(b[hintPayload:HintSize]) {
		return HintLine{}, ErrNoHint
	}
	if err := checkVersion("hint line", le.Uint32(b[40:]), hintVersion); err != nil {
		return HintLine{Generation: le.Uint64(b[8:])}, err
	}
	return HintLine{
		Generation: le.Uint64(b[8:]), Sequence: le.Uint64(b[16:]),
		Hint: Position{Epoch: le.Uint64(b[24:]), LSN: le.Uint64(b[32:])},
	}, nil
}
