package pmemlog

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/gravenio/graven/pmemlog/format"
)

// ErrDoubtful is what an export fails with that would leave out, as far as can be
// known, what was acknowledged.
var ErrDoubtful = errors.New("pmemlog: replica does not hold all that it should")

// ExportOptions say what is exported.
type ExportOptions struct {
	From     uint64 // LSN where a record begins; 0 for the trim LSN
	Doubtful bool   // export what there is of a replica that is suspect or damaged, too
}

// Exported says what was exported.
type Exported struct {
	From    uint64 // LSN
	To      uint64 // LSN; the tail
	Records uint64 // data records
	Bytes   int64  // of their payloads
	View    ReplicaView
}

// Export writes the payloads of a replica's data records, in order and one behind
// the other, to w. The ring is read twice: first to see whether the replica is
// whole, then to write. ErrDoubtful if it is not, ErrRange for a From that is no
// record's place. One replica alone can't tell what a quorum has acknowledged: its
// last records may not have been, and others may hold more.
func (i *Inspection) Export(ctx context.Context, r Region, w io.Writer, o ExportOptions) (Exported, error) {
	boundary := o.From == 0
	v, err := i.Replica(ctx, r, Visit{Record: func(h format.Header, _ []byte) error {
		boundary = boundary || h.LSN == o.From
		return nil
	}})
	out := Exported{View: v, From: max(o.From, v.Slot.Trim.LSN), To: v.Scan.Chain.LSN}
	if err != nil {
		return out, err
	}
	if err := v.exportable(o.Doubtful); err != nil {
		return out, err
	}
	if !boundary && o.From != out.To {
		return out, fmt.Errorf("%w: no record begins at LSN %d of replica %s, which goes from LSN %d to %d", ErrRange, o.From, r.Replica, v.Slot.Trim.LSN, out.To)
	}
	_, err = i.Replica(ctx, r, Visit{Record: func(h format.Header, payload []byte) error {
		if h.Kind != format.KindData || h.LSN < o.From {
			return nil
		}
		n, err := w.Write(payload)
		out.Bytes += int64(n)
		if err == nil {
			out.Records++
		}
		return err
	}})
	return out, err
}

// exportable refuses what is not whole, unless doubts are allowed; then it
// refuses only what can't be read at all.
func (v *ReplicaView) exportable(doubts bool) error {
	switch {
	case !v.Readable:
		return fmt.Errorf("replica %s has no header by which its ring can be read: %w", v.Replica, v.Err)
	case doubts || !v.Damaged():
		return nil
	}
	for _, f := range v.Findings {
		if f.Severity == SeverityDamage {
			return fmt.Errorf("%w: replica %s: %s: %s", ErrDoubtful, v.Replica, f.Part, f.What)
		}
	}
	return nil
}
