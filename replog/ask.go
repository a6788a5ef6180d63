package replog

import (
	"context"
	"fmt"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
	"github.com/gravenio/graven/replog/core"
)

// carryOut does what the core asks of a session and tells it the answer. An
// error ends the session.
func (p *peer) carryOut(ctx context.Context, conn rdmaio.Session, e core.Effect) error {
	switch e.Kind {
	case core.Fence:
		rep, err := conn.Fence(ctx)
		if err != nil {
			return err
		}
		if rep.Capacity != p.w.grant.Capacity {
			return fmt.Errorf("%w: replica has a ring of %d bytes, the log one of %d", rdmaio.ErrRange, rep.Capacity, p.w.grant.Capacity)
		}
		p.report = rep
		p.w.event(func(c *core.Core) { c.Reported(e.Peer, rep) })
		return nil
	case core.Load:
		return p.load(ctx, conn, e)
	case core.Reset:
		return p.then(conn.Reset(ctx, e.Trim), func(c *core.Core) { c.Prepared(e.Peer) })
	case core.Align:
		return p.then(conn.Align(ctx, e.From), func(c *core.Core) { c.Prepared(e.Peer) })
	case core.Trim:
		return p.then(conn.Trim(ctx, e.Trim), func(c *core.Core) { c.Trimmed(e.Peer, e.Trim.LSN) })
	case core.Seal:
		s := rdmaio.SealIn{Seals: e.Seal.Seals, Set: e.Seal.Set, Hint: e.Seal.Hint, Tail: e.Seal.Tail}
		return p.then(conn.Seal(ctx, s), func(c *core.Core) { c.Sealed(e.Peer) })
	case core.Reseal:
		return p.then(conn.Reseal(ctx, e.SetVersion, e.Seal.Set), func(c *core.Core) { c.Resealed(e.Peer, e.SetVersion) })
	default:
		return fmt.Errorf("replog: effect %d is not for a session", e.Kind)
	}
}

func (p *peer) then(err error, f func(c *core.Core)) error {
	if err == nil {
		p.w.event(f)
	}
	return err
}

// loadChunk is how much of the chosen log is read at a time, in bytes.
const loadChunk = 1 << 20

// load brings the chosen log into the mirror and scans it there. Until the core
// is told, nothing else touches the mirror.
func (p *peer) load(ctx context.Context, conn rdmaio.Session, e core.Effect) error {
	m := p.w.mirror
	for from := e.From; from < e.To; {
		n := min(e.To-from, m.ToEnd(from), loadChunk)
		if err := conn.Read(ctx, from, m.At(from, int(n))); err != nil {
			return fmt.Errorf("load LSN %d to %d: %w", from, from+n, err)
		}
		from += n
	}
	if e.To-e.From < uint64(len(m)) {
		clear(m.At(e.To, format.Align)) // what an earlier load left there is no record of this log
	}
	res, err := format.Scan(m, format.ScanInput{Trim: e.Trim, Seals: p.report.Seals}, nil)
	if err != nil {
		return err
	}
	p.w.event(func(c *core.Core) {
		p.w.chain = res.Chain
		p.w.chain.Epoch = p.w.grant.Term.Epoch
		c.Loaded(e.Peer, res)
	})
	return nil
}

// cutAt finds a record boundary in the mirror, for the core; the writer's lock
// is held.
func (w *Writer) cutAt(from, to, most uint64) uint64 {
	at := from
	for at < to {
		h, err := format.DecodeHeader(w.mirror.At(at, format.HeaderSize))
		if err != nil || h.LSN != at || h.End() > to {
			break
		}
		if h.End()-from > most && at > from {
			break
		}
		at = h.End()
	}
	return at
}
