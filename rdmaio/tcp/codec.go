package tcp

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
)

// le is little endian with appending; all numbers on the wire are.
//
//nolint:gochecknoglobals // read-only
var le = binary.LittleEndian // read-only

func appendFence(b []byte, f format.Fence) []byte {
	return le.AppendUint64(le.AppendUint64(b, f.Epoch), f.Nonce)
}

func appendPosition(b []byte, p format.Position) []byte {
	return le.AppendUint64(le.AppendUint64(b, p.Epoch), p.LSN)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// appendText appends a string of at most maxText bytes, valid UTF-8.
func appendText(b []byte, s string) []byte {
	if len(s) > maxText {
		s = s[:maxText]
	}
	s = strings.ToValidUTF8(s, "") // shorter, never longer
	return append(le.AppendUint16(b, uint16(len(s))), s...)
}

func appendSeals(b []byte, seals []format.Seal) []byte {
	b = append(b, byte(len(seals)))
	for _, s := range seals {
		b = append(b, make([]byte, format.SealSize)...)
		format.EncodeSeal(b[len(b)-format.SealSize:], s)
	}
	return b
}

func appendIDs(b []byte, ids []format.ID) []byte {
	b = append(b, byte(len(ids)))
	for _, id := range ids {
		b = append(b, id[:]...)
	}
	return b
}

// checkSet refuses what no header slot could hold.
func checkSet(seals []format.Seal, set []format.ID) error {
	if len(seals) > format.MaxSeals || len(set) > format.MaxReplicas {
		return refuse(rdmaio.ErrRange, "%d seals and %d replicas, at most %d and %d fit",
			len(seals), len(set), format.MaxSeals, format.MaxReplicas)
	}
	return nil
}

// decoder takes a message apart. After the first mistake it yields zeroes, and
// end says what was wrong.
type decoder struct {
	b    []byte
	name string // of the message
	err  error
}

func (d *decoder) take(n int, field string) []byte {
	if d.err == nil && len(d.b) < n {
		d.fail(field, "is cut off")
	}
	if d.err != nil {
		return nil
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) fail(field, what string) {
	if d.err == nil {
		d.err = refuse(rdmaio.ErrFrame, "%s: %s %s", d.name, field, what)
	}
}

// end returns the first mistake; bytes left over are one.
func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		d.err = refuse(rdmaio.ErrFrame, "%s: %d bytes too many", d.name, len(d.b))
	}
	return d.err
}

func (d *decoder) u8(field string) uint8 {
	if b := d.take(1, field); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) u16(field string) uint16 {
	if b := d.take(2, field); b != nil {
		return le.Uint16(b)
	}
	return 0
}

func (d *decoder) u32(field string) uint32 {
	if b := d.take(4, field); b != nil {
		return le.Uint32(b)
	}
	return 0
}

func (d *decoder) u64(field string) uint64 {
	if b := d.take(8, field); b != nil {
		return le.Uint64(b)
	}
	return 0
}

func (d *decoder) bool(field string) bool {
	v := d.u8(field)
	if v > 1 {
		d.fail(field, "is neither 0 nor 1")
	}
	return v == 1
}

func (d *decoder) id(field string) (id format.ID) {
	copy(id[:], d.take(len(id), field))
	return id
}

func (d *decoder) fence(field string) format.Fence {
	return format.Fence{Epoch: d.u64(field), Nonce: d.u64(field)}
}

func (d *decoder) position(field string) format.Position {
	return format.Position{Epoch: d.u64(field), LSN: d.u64(field)}
}

func (d *decoder) text(field string, limit int) string {
	n := int(d.u16(field))
	if n > limit {
		d.fail(field, "is too long")
		return ""
	}
	s := string(d.take(n, field))
	if !utf8.ValidString(s) {
		d.fail(field, "is not UTF-8")
	}
	return s
}

// count reads how many elements follow.
func (d *decoder) count(field string, limit int) int {
	n := int(d.u8(field))
	if n > limit {
		d.fail(field, "are too many")
		return 0
	}
	return n
}

func (d *decoder) seals(field string) []format.Seal {
	var seals []format.Seal
	for range d.count(field, format.MaxSeals) {
		b := d.take(format.SealSize, field)
		if b == nil {
			break
		}
		if le.Uint32(b[28:]) != 0 { // the field that a seal leaves unused
			d.fail(field, "have something where zeroes must be")
		}
		seals = append(seals, format.DecodeSeal(b))
	}
	return seals
}

func (d *decoder) ids(field string) []format.ID {
	var ids []format.ID
	for range d.count(field, format.MaxReplicas) {
		ids = append(ids, d.id(field))
	}
	return ids
}
