package replog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
	"github.com/gravenio/graven/replog/core"
)

// Log is what readers need to know of a log to find its replicas.
type Log struct {
	Cluster   format.ID
	ID        format.ID
	Name      string
	Capacity  uint64 // of the ring, in bytes
	AckQuorum int
	Replicas  []Replica
	Grant     string // to read; daemons that serve with TLS want one
}

// view is one replica as a reader found it: what it says of itself, and what its
// bytes say.
type view struct {
	Replica
	err     error // why there is nothing below
	conn    rdmaio.Session
	welcome rdmaio.Welcome
	info    rdmaio.Info
	scan    format.ScanResult
	marks   []mark // the valid records, in order
	diffs   []BadRange
}

// mark identifies a record by its place and its checksum, which covers its
// content and, through the chain, all before it.
type mark struct {
	lsn uint64
	end uint64
	crc uint32
}

// look opens a read-only session with every replica. Nothing is fenced, so what
// a live writer appends meanwhile may or may not be seen. The caller closes the
// sessions with close.
func look(ctx context.Context, l Log, o Options) []*view {
	views := make([]*view, len(l.Replicas))
	var wait sync.WaitGroup
	for i, r := range l.Replicas {
		v := &view{Replica: r}
		views[i] = v
		wait.Go(func() { v.err = v.connect(ctx, l, o) })
	}
	wait.Wait()
	return views
}

func closeAll(views []*view) {
	for _, v := range views {
		if v.conn != nil {
			_ = v.conn.Close() // read-only: nothing can be lost by it
		}
	}
}

func (v *view) connect(ctx context.Context, l Log, o Options) error {
	if v.Address == "" {
		return errUnreachable
	}
	ctx, cancel := context.WithTimeout(ctx, o.DialTimeout)
	defer cancel()
	h := rdmaio.Hello{Cluster: l.Cluster, Log: l.ID, Replica: v.ID, Capacity: l.Capacity, ReadOnly: true, Grant: l.Grant, Daemon: v.Daemon}
	var err error
	v.conn, v.welcome, err = o.Dial(ctx, v.Address, h, rdmaio.Events{Flushed: func(uint64) {}, Ended: func(error) {}})
	if err != nil {
		v.conn = nil
		return err
	}
	v.info, err = v.conn.Info(ctx)
	if err == nil && v.info.Slot.Capacity != l.Capacity {
		err = fmt.Errorf("replica has a ring of %d bytes, the log one of %d", v.info.Slot.Capacity, l.Capacity)
	}
	return err
}

// scanAll scans every replica's bytes.
func scanAll(ctx context.Context, views []*view) {
	var wait sync.WaitGroup
	for _, v := range views {
		if v.err == nil {
			wait.Go(func() { v.err = v.scanBytes(ctx) })
		}
	}
	wait.Wait()
}

func (v *view) input() format.ScanInput {
	s := &v.info.Slot
	return format.ScanInput{Trim: s.Trim, Seals: s.Seals, Hint: s.Hint}
}

func (v *view) source(ctx context.Context) *remote {
	return &remote{ctx: ctx, conn: v.conn, trim: v.info.Slot.Trim.LSN, capacity: v.info.Slot.Capacity}
}

func (v *view) scanBytes(ctx context.Context) error {
	src := v.source(ctx)
	var err error
	v.scan, err = format.Scan(src, v.input(), func(h format.Header, _ []byte) error {
		v.marks = append(v.marks, mark{lsn: h.LSN, end: h.End(), crc: h.CRC})
		return nil
	})
	return errors.Join(err, src.err)
}

// provenCommit returns an LSN below which, by what the replicas say, all is
// committed: an ack quorum of present replicas, sealed into the newest term, has
// it persistent. The true commit LSN may be higher. Too few replicas prove
// nothing, not even that the log is empty.
func provenCommit(l Log, views []*view) (commit uint64, proven bool) {
	term := newestTerm(views)
	var durable []uint64
	for _, v := range views {
		if v.err == nil && v.State == core.Present && v.sealedInto(term) {
			durable = append(durable, v.info.Durable)
		}
	}
	if len(durable) < l.AckQuorum {
		return 0, false
	}
	slices.Sort(durable)
	return durable[len(durable)-l.AckQuorum], true
}

func newestTerm(views []*view) format.Fence {
	var term format.Fence
	for _, v := range views {
		if v.err == nil && v.info.Slot.Fenced.Epoch >= term.Epoch {
			term = v.info.Slot.Fenced
		}
	}
	return term
}

func (v *view) sealedInto(term format.Fence) bool {
	return v.info.Scanned && v.info.Slot.Fenced == term &&
		slices.ContainsFunc(v.info.Slot.Seals, func(s format.Seal) bool { return s.Fence() == term })
}

// remoteChunk is how much of a ring is asked for at a time, in bytes.
const remoteChunk = 1 << 20

// remote is a replica's ring, read through a session. A failed read is kept in
// err: it is the session's, not the medium's.
type remote struct {
	ctx      context.Context //nolint:containedctx // format.Source has no context; this lives for one scan
	conn     rdmaio.Session
	trim     uint64
	capacity uint64
	chunk    []byte
	from     int64 // ring offset of the chunk
	err      error
}

// Capacity implements format.Source.
func (r *remote) Capacity() uint64 { return r.capacity }

// View implements format.Source.
func (r *remote) View(off int64, n int) ([]byte, error) {
	if off < r.from || off+int64(n) > r.from+int64(len(r.chunk)) {
		if err := r.fetch(off, n); err != nil {
			r.err = err
			return nil, err
		}
	}
	return r.chunk[off-r.from:][:n], nil
}

// fetch reads ahead, but neither past the ring's end nor past the window's: the
// offset of the trim LSN is where the lap turns.
func (r *remote) fetch(off int64, n int) error {
	start := int64(r.trim % r.capacity)
	end := int64(r.capacity)
	if off < start {
		end = start
	}
	size := int(min(max(int64(n), remoteChunk), end-off))
	size = max(size, n)
	if cap(r.chunk) < size {
		r.chunk = make([]byte, max(size, remoteChunk))
	}
	r.chunk, r.from = r.chunk[:size], off
	if err := r.conn.Read(r.ctx, r.lsn(off), r.chunk); err != nil {
		r.chunk = r.chunk[:0]
		return err
	}
	return nil
}

// lsn returns the LSN in the window [trim, trim+capacity) that lives at off.
func (r *remote) lsn(off int64) uint64 {
	lsn := r.trim - r.trim%r.capacity + uint64(off)
	if lsn < r.trim {
		lsn += r.capacity
	}
	return lsn
}
