package tcp

import (
	"fmt"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
)

// Post implements [rdmaio.Session].
func (c *Conn) Post(lsn uint64, segments [][]byte) error {
	if c.readOnly {
		return fmt.Errorf("%v: %w", kindWrite, rdmaio.ErrReadOnly)
	}
	n := 0
	for _, s := range segments {
		n += len(s)
	}
	var err error
	if n <= maxBatch {
		err = c.out.write(lsn, segments, n)
	} else {
		err = c.postBatches(lsn, segments)
	}
	if err != nil {
		return fmt.Errorf("%v: %w", kindWrite, err)
	}
	c.alive.watch()
	return nil
}

// postBatches cuts what is too long for one frame between records. None of them
// crosses the end of a ring, so none lies in two segments.
func (c *Conn) postBatches(lsn uint64, segments [][]byte) error {
	for _, seg := range segments {
		for len(seg) > 0 {
			n, err := batch(seg)
			if err != nil {
				return fmt.Errorf("bytes behind LSN %d: %w", lsn, err)
			}
			if err := c.out.write(lsn, [][]byte{seg[:n]}, n); err != nil {
				return err
			}
			lsn, seg = lsn+uint64(n), seg[n:]
		}
	}
	return nil
}

// batch returns how many of the bytes to send in one frame: as many records as
// fit into maxBatch, one at least.
func batch(seg []byte) (int, error) {
	n := 0
	for n < len(seg) {
		h, err := format.DecodeHeader(seg[n:])
		if err != nil {
			return 0, err
		}
		size := int(h.Size())
		if n+size > len(seg) {
			return 0, refuse(rdmaio.ErrRange, "a record of %d bytes does not end in its segment", size)
		}
		if n > 0 && n+size > maxBatch {
			break
		}
		n += size
	}
	return n, nil
}
