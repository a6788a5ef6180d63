package format

import (
	"cmp"
	"fmt"
)

// Position orders logs: by epoch first, then by LSN. The log with the highest
// position is the one that an opener goes on with.
type Position struct {
	Epoch uint64
	LSN   uint64
}

// Compare returns -1, 0 or +1 as p is before, at or after q.
func (p Position) Compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Epoch, q.Epoch), cmp.Compare(p.LSN, q.LSN))
}

// After reports whether p is higher than q.
func (p Position) After(q Position) bool { return p.Compare(q) > 0 }

// Max returns the higher of p and q.
func (p Position) Max(q Position) Position {
	if q.After(p) {
		return q
	}
	return p
}

// String renders "epoch/LSN".
func (p Position) String() string { return fmt.Sprintf("%d/%d", p.Epoch, p.LSN) }

// TrimPoint is where a log begins: nothing below LSN is needed any more. Epoch
// and CRC are those of the record that ends there; they stand in for it when
// everything has been trimmed. The zero TrimPoint is the start of a new log.
type TrimPoint struct {
	LSN   uint64
	Epoch uint64
	CRC   uint32
}

// Position returns the trim point as a position.
func (t TrimPoint) Position() Position { return Position{Epoch: t.Epoch, LSN: t.LSN} }

// Fence is the term that a replica has promised to: no write of a lower epoch,
// nor of the same epoch under another nonce, is served any more. The nonce
// tells apart two lives of one epoch (a control plane restored from a backup
// hands epochs out twice). The zero Fence promises nothing.
type Fence struct {
	Epoch uint64
	Nonce uint64
}

// Admits reports whether a writer of term g may be served by a replica that
// promised f.
func (f Fence) Admits(g Fence) bool {
	if g.Epoch == f.Epoch {
		return g.Nonce == f.Nonce // rule: nonce
	}
	return g.Epoch > f.Epoch
}

// ID is a 16-byte UUID: of a cluster, a log, a replica or a pool.
type ID [16]byte

// IsZero reports whether the ID was never set.
func (id ID) IsZero() bool { return id == ID{} }

// String renders the usual form of a UUID.
func (id ID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[0:4], id[4:6], id[6:8], id[8:10], id[10:16])
}
