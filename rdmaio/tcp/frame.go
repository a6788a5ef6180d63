package tcp

import (
	"encoding/binary"
	"fmt"

	"github.com/gravenio/graven/pmemlog/crc32c"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
)

// Bounds of the protocol, in bytes unless said otherwise. Nobody allocates more
// for a frame than its type's bound, whatever its header claims.
const (
	headerSize = 32

	maxHello = 16 << 10
	maxSmall = 16 << 10                   // of a message other than Write and Bytes
	maxWrite = format.MaxPayload + 64<<10 // the largest record, and room
	maxBytes = 256 << 10                  // of one answer to Read
	maxBatch = 256 << 10                  // into which Post gathers records; a longer record goes alone
	maxGrant = maxHello - helloFixed      // of the grant in a Hello
	maxText  = 1 << 10                    // of a string in a message; longer ones are cut
	maxPairs = 128                        // in a Report, counted; the newest ones are sent
	version  = 1                          // of the protocol, the only one so far
	magic    = uint32('G' | 'r'<<8 | 'v'<<16 | 'T'<<24)

	flagFlush = 1 << 0 // of Write: as if a Flush followed
)

// kind says what a frame is.
type kind uint8

const (
	kindHello   kind = 1
	kindWelcome kind = 2
	kindFence   kind = 3
	kindReport  kind = 4
	kindWrite   kind = 5
	kindFlush   kind = 6
	kindFlushed kind = 7
	kindRead    kind = 8
	kindBytes   kind = 9
	kindAlign   kind = 10
	kindReset   kind = 11
	kindSeal    kind = 12
	kindTrim    kind = 13
	kindDone    kind = 14
	kindInfo    kind = 15
	kindState   kind = 16
	kindError   kind = 17
	kindBusy    kind = 18
	kindReseal  kind = 19
)

// side is an end of a session.
type side uint8

const (
	client side = 1
	server side = 2
)

// kinds says who sends which frame and how long its body may be; read-only.
var kinds = [...]struct {
	name string
	from side
	max  uint32
}{
	kindHello:   {"Hello", client, maxHello},
	kindWelcome: {"Welcome", server, maxSmall},
	kindFence:   {"Fence", client, 0},
	kindReport:  {"Report", server, maxSmall},
	kindWrite:   {"Write", client, maxWrite},
	kindFlush:   {"Flush", client, 0},
	kindFlushed: {"Flushed", server, 0},
	kindRead:    {"Read", client, readBody},
	kindBytes:   {"Bytes", server, maxBytes},
	kindAlign:   {"Align", client, 0},
	kindReset:   {"Reset", client, trimBody},
	kindSeal:    {"Seal", client, maxSmall},
	kindTrim:    {"Trim", client, trimBody},
	kindDone:    {"Done", server, 0},
	kindInfo:    {"Info", client, 0},
	kindState:   {"State", server, maxSmall},
	kindError:   {"Error", server, maxSmall},
	kindBusy:    {"Busy", server, 0},
	kindReseal:  {"Reseal", client, resealBody},
}

// String returns the frame's name as in the package documentation.
func (k kind) String() string {
	if int(k) < len(kinds) && kinds[k].name != "" {
		return kinds[k].name
	}
	return fmt.Sprintf("type %d", uint8(k))
}

// header is a frame's head, decoded.
type header struct {
	version uint8 // of the protocol, as agreed
	kind    kind
	flags   uint16
	id      uint32 // of a request and its answer
	length  uint32 // of the body, in bytes
	arg     uint64 // an LSN, as the kind has it
	crc     uint32 // of the body; zero for Write
}

// put encodes h into b, which must be headerSize long.
func (h *header) put(b []byte) {
	_ = b[headerSize-1]
	le := binary.LittleEndian
	le.PutUint32(b, magic)
	b[4], b[5] = h.version, byte(h.kind)
	le.PutUint16(b[6:], h.flags)
	le.PutUint32(b[8:], h.id)
	le.PutUint32(b[12:], h.length)
	le.PutUint64(b[16:], h.arg)
	le.PutUint32(b[24:], h.crc)
	le.PutUint32(b[28:], crc32c.Checksum(b[:28]))
}

// parseHeader decodes a header that came from the given side and checks all
// that can be checked without the body. It must be of the version that was agreed,
// or of any while that is 0.
func parseHeader(b []byte, from side, agreed uint8) (header, error) {
	_ = b[headerSize-1]
	le := binary.LittleEndian
	if b[0] == tlsHandshake && b[1] == 3 {
		return header{}, refuse(rdmaio.ErrTLS, "the peer speaks TLS, this end is plain: connect without TLS, or start the daemon with it")
	}
	if m := le.Uint32(b); m != magic {
		return header{}, refuse(rdmaio.ErrFrame, "the frame begins with %#08x, not with this protocol's magic", m)
	}
	if crc32c.Checksum(b[:28]) != le.Uint32(b[28:]) {
		return header{}, refuse(rdmaio.ErrFrame, "checksum of a frame's header does not match")
	}
	if agreed != 0 && b[4] != agreed {
		return header{}, refuse(rdmaio.ErrVersion, "version of a frame is %d, must be %d as agreed", b[4], agreed)
	}
	h := header{
		version: b[4],
		kind:    kind(b[5]), flags: le.Uint16(b[6:]), id: le.Uint32(b[8:]),
		length: le.Uint32(b[12:]), arg: le.Uint64(b[16:]), crc: le.Uint32(b[24:]),
	}
	return h, h.check(from)
}

func (h *header) check(from side) error {
	if int(h.kind) >= len(kinds) || kinds[h.kind].from != from {
		return refuse(rdmaio.ErrFrame, "unexpected frame: %v", h.kind)
	}
	if limit := kinds[h.kind].max; h.length > limit {
		return refuse(rdmaio.ErrTooLarge, "%v of %d bytes, at most %d are allowed", h.kind, h.length, limit)
	}
	if h.flags&^flagFlush != 0 || h.flags != 0 && h.kind != kindWrite {
		return refuse(rdmaio.ErrFrame, "%v with unknown flags %#x", h.kind, h.flags)
	}
	return nil
}

// checkBody compares the body with the checksum in the header. Write has none:
// each record in it carries its own, which the target checks.
func (h *header) checkBody(body []byte) error {
	if h.kind != kindWrite && crc32c.Checksum(body) != h.crc {
		return refuse(rdmaio.ErrFrame, "checksum of the body of %v does not match", h.kind)
	}
	return nil
}

// appendFrame appends a whole frame with a checked body.
func appendFrame(b []byte, h header, body []byte) []byte {
	return append(h.seal(b, body), body...)
}

// seal appends the header of a frame with a checked body.
func (h *header) seal(b, body []byte) []byte {
	h.length, h.crc = uint32(len(body)), crc32c.Checksum(body)
	b = append(b, make([]byte, headerSize)...)
	h.put(b[len(b)-headerSize:])
	return b
}

// refuse makes an error of one of rdmaio's kinds.
func refuse(kind error, text string, args ...any) error {
	return &rdmaio.Error{Kind: kind, Detail: fmt.Sprintf(text, args...)}
}
