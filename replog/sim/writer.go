package sim

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog/core"
)

// writer is one process that opens the log and appends, until it dies.
type writer struct {
	w       *world
	term    format.Fence
	core    *core.Core
	mirror  format.Ring
	chain   format.Chain
	links   []*link
	count   []uint64 // sessions dialled, per replica
	reports []format.Report
	dead    bool
	opened  bool
	told    uint64 // below this LSN its caller knows that all is committed
	acks    int    // records acknowledged
	goal    int    // appends that make it content
	effects []core.Effect
}

// newWriter starts a writer: it asks for an epoch, and then opens the log.
func (w *world) newWriter() *writer {
	x := &writer{
		w: w, term: w.control.open(), mirror: make(format.Ring, w.cfg.Capacity), goal: 10,
		links: make([]*link, w.cfg.Replicas), count: make([]uint64, w.cfg.Replicas), reports: make([]format.Report, w.cfg.Replicas),
	}
	cfg := core.Config{
		Term: x.term, AckQuorum: w.cfg.Ack, Capacity: w.cfg.Capacity, SetVersion: 1,
		Window: 1 + w.rng.IntN(3), MaxBatch: w.batch, Cut: x.cut,
	}
	for i, n := range w.nodes {
		cfg.Replicas = append(cfg.Replicas, core.Replica{ID: n.id, State: w.control.states[i]})
	}
	c, err := core.New(cfg)
	if err != nil {
		panic(fmt.Sprintf("sim: %v", err))
	}
	x.core = c
	w.writers = append(w.writers, x)
	w.note("writer with epoch %d", x.term.Epoch)
	for i := range w.nodes {
		x.dialLater(i)
	}
	return x
}

// content says that the writer has opened and appended enough.
func (x *writer) content() bool { return x.opened && x.acks >= x.goal }

// die ends the writer without a word; its requests may still arrive.
func (x *writer) die() {
	if x.dead {
		return
	}
	x.dead = true
	for _, l := range x.links {
		if l != nil && l.open {
			l.shut()
		}
	}
}

func (x *writer) dialLater(index int) {
	d := x.w.between(time.Millisecond, 30*time.Millisecond)
	if x.w.faults && x.w.chance(x.w.far) {
		d = x.w.between(0, 900*time.Millisecond) // out of reach for a while
	}
	x.w.after(d, func() { x.dial(index) })
}

// dial opens a session: hello, and then what the core wants.
func (x *writer) dial(index int) {
	if x.dead || x.core.Phase() == core.Over {
		return
	}
	n := x.w.nodes[index]
	x.count[index]++
	l := &link{w: x.w, x: x, n: n, peer: core.Peer{Index: index, Session: x.count[index]}, boot: n.boot, open: true}
	x.links[index] = l
	if !n.up() {
		l.end(errBroken)
		return
	}
	create := x.core.Status()[index].State == core.Allocated
	l.ask(func() error {
		var err error
		l.session, err = n.hello(create)
		return err
	}, func() {
		x.event(func(c *core.Core) { c.Connected(l.peer) })
	})
}

// event gives the core an event and starts its effects.
func (x *writer) event(f func(c *core.Core)) {
	if x.dead || x.w.violation != nil {
		return
	}
	before := x.core.Phase()
	f(x.core)
	x.dispatch()
	if x.core.Phase() != before && x.w.faults && x.w.chance(0.1) { // the worst moments
		x.w.note("writer of epoch %d dies", x.term.Epoch)
		x.die()
	}
}

func (x *writer) dispatch() {
	for {
		x.effects = x.core.Effects(x.effects[:0])
		if len(x.effects) == 0 {
			return
		}
		for _, e := range append([]core.Effect(nil), x.effects...) {
			x.carryOut(e)
		}
	}
}

func (x *writer) carryOut(e core.Effect) {
	switch e.Kind {
	case core.Opened:
		x.onOpened(e.To)
	case core.Committed:
		x.onCommitted(e.To)
	case core.Stopped:
		x.w.note("epoch %d stops: %v", x.term.Epoch, e.Err)
		x.die()
	case core.MakePresent:
		x.w.control.makePresent(x, e.Peer.Index)
	default:
		if l := x.links[e.Peer.Index]; l != nil && l.open && l.peer == e.Peer {
			x.request(l, e)
		}
	}
}

// request turns an effect for a session into a message.
func (x *writer) request(l *link, e core.Effect) {
	switch e.Kind {
	case core.Fence:
		x.fence(l)
	case core.Load:
		x.load(l, e)
	case core.Send:
		x.send(l, e)
	case core.Reset:
		l.ask(func() error { return l.session.Reset(e.Trim) }, func() { x.event(func(c *core.Core) { c.Prepared(l.peer) }) })
	case core.Align:
		l.ask(func() error { return l.session.Align(e.From) }, func() { x.event(func(c *core.Core) { c.Prepared(l.peer) }) })
	case core.Trim:
		l.ask(func() error { return l.session.Trim(e.Trim) }, func() { x.event(func(c *core.Core) { c.Trimmed(l.peer, e.Trim.LSN) }) })
	case core.Seal:
		in := pmemlog.SealIn{Seals: e.Seal.Seals, Set: e.Seal.Set, Hint: e.Seal.Hint, Tail: e.Seal.Tail}
		l.ask(func() error {
			err := l.session.Seal(in)
			if err == nil {
				l.n.acked = l.n.acked.Max(in.Hint)
			}
			return err
		}, func() {
			x.w.note("epoch %d: node %d is sealed at %d", x.term.Epoch, l.n.index, in.Tail)
			x.event(func(c *core.Core) { c.Sealed(l.peer) })
		})
	case core.Cut:
		l.shut()
		x.dialLater(l.peer.Index)
	}
}

func (x *writer) fence(l *link) {
	var rep format.Report
	l.ask(func() (err error) {
		rep, err = l.session.Fence(x.term)
		l.n.acked = l.n.acked.Max(rep.Last)
		if err == nil && x.w.chance(0.1) {
			l.n.checkReport(rep)
		}
		return err
	}, func() {
		x.reports[l.peer.Index] = rep
		x.w.note("epoch %d: node %d holds [%d, %d), last %v, evidence %v, pairs %v", x.term.Epoch, l.n.index, rep.Trim.LSN, rep.Tail, rep.Last, rep.Evidence, rep.Pairs)
		x.event(func(c *core.Core) { c.Reported(l.peer, rep) })
	})
}

// load reads the chosen log, as far as it does not move meanwhile, in one
// message: the session is ordered.
func (x *writer) load(l *link, e core.Effect) {
	buf := make(format.Ring, len(x.mirror))
	l.ask(func() error {
		for lsn := e.From; lsn < e.To; {
			n := min(e.To-lsn, buf.ToEnd(lsn))
			if err := l.session.Read(lsn, buf.At(lsn, int(n))); err != nil {
				return err
			}
			lsn += n
		}
		return nil
	}, func() {
		copy(x.mirror, buf)
		res, err := format.Scan(x.mirror, format.ScanInput{Trim: e.Trim, Seals: x.reports[l.peer.Index].Seals}, nil)
		if err != nil {
			panic(fmt.Sprintf("sim: %v", err))
		}
		x.chain = res.Chain
		x.chain.Epoch = x.term.Epoch
		x.w.note("epoch %d: loaded [%d, %d) from node %d", x.term.Epoch, e.From, e.To, l.n.index)
		x.event(func(c *core.Core) { c.Loaded(l.peer, res) })
		if p := x.core.Phase(); p == core.Aligning || p == core.Open {
			x.w.model.answered(x.term.Epoch, marksOf(x.mirror, e.From, e.To), e.From, e.To)
		}
	})
}

// send delivers a range of the mirror, and the flush behind it as a message of
// its own: a crash may come between.
func (x *writer) send(l *link, e core.Effect) {
	var bytes []byte
	for _, s := range x.mirror.Segments(nil, e.From, e.To) {
		bytes = append(bytes, s...)
	}
	l.ask(func() error { return l.session.Write(e.From, bytes) }, func() {})
	var durable uint64
	l.ask(func() (err error) {
		durable, err = l.session.Flush()
		if err == nil {
			l.n.flushed(x.term.Epoch, durable)
		}
		l.n.quiet()
		return err
	}, func() {
		x.event(func(c *core.Core) { c.Flushed(l.peer, durable) })
	})
}

func (x *writer) cut(from, to, most uint64) uint64 {
	at := from
	for at < to {
		h, err := format.DecodeHeader(x.mirror.At(at, format.HeaderSize))
		if err != nil || h.LSN != at || h.End() > to || (h.End()-from > most && at > from) {
			break
		}
		at = h.End()
	}
	return at
}

func (x *writer) onOpened(t uint64) {
	x.opened = true
	x.w.stats.Opens++
	trim := x.core.TrimPoint().LSN
	x.w.note("epoch %d is open: [%d, %d)", x.term.Epoch, trim, t)
	x.told = t
	x.w.model.opened(x.term.Epoch, marksOf(x.mirror, trim, t), trim, t)
	x.appendLater()
}

func (x *writer) onCommitted(to uint64) {
	log := marksOf(x.mirror, x.told, to)
	x.told = to
	x.acks += len(log)
	x.w.stats.Acks += len(log)
	x.w.note("epoch %d acknowledges up to %d", x.term.Epoch, to)
	x.w.model.acknowledged(x.term.Epoch, log)
}

func (x *writer) appendLater() {
	d := x.w.between(50*time.Microsecond, 2*time.Millisecond)
	if x.w.chance(0.05) {
		d = x.w.between(0, 80*time.Millisecond)
	}
	x.w.after(d, func() {
		if !x.dead {
			x.append()
		}
		if !x.dead && x.core.Phase() != core.Over {
			x.appendLater()
		}
	})
}

// append writes one record, or trims when there is no room.
func (x *writer) append() {
	payload := make([]byte, 8+x.w.rng.IntN(x.w.sizes)*60)
	binary.LittleEndian.PutUint64(payload, uint64(x.w.stats.Appends)<<16|x.term.Epoch)
	size := format.RecordSize(len(payload))
	need := size + format.PadBefore(x.core.Tail(), size, x.w.cfg.Capacity)
	err := x.core.Admit(need)
	x.dispatch()
	if err != nil || x.w.chance(0.03) {
		x.trim()
		return
	}
	x.w.stats.Appends++
	h := x.mirror.Append(&x.chain, x.core.Commit(), format.Record{Payload: payload})
	x.event(func(c *core.Core) { c.Appended(h.End()) })
	if x.w.faults && x.w.chance(x.w.hasty) {
		x.w.note("writer of epoch %d dies", x.term.Epoch)
		x.die()
	}
}

// trim gives up a random part of what is committed. Now and then it asks for
// more than that, which must be refused.
func (x *writer) trim() {
	limit := x.core.Commit()
	if x.w.chance(0.05) {
		limit = x.core.Tail()
	}
	at := x.core.TrimPoint()
	for at.LSN < limit {
		h, err := format.DecodeHeader(x.mirror.At(at.LSN, format.HeaderSize))
		if err != nil {
			panic(fmt.Sprintf("sim: the mirror at LSN %d: %v", at.LSN, err))
		}
		at = format.TrimPoint{LSN: h.End(), Epoch: h.Epoch, CRC: h.CRC}
		if x.w.chance(0.3) && limit == x.core.Commit() {
			break
		}
	}
	if at.LSN == x.core.TrimPoint().LSN {
		return
	}
	allowed := at.LSN <= x.core.Commit()
	if allowed {
		x.w.stats.Trims++
		x.w.model.trimmed = max(x.w.model.trimmed, at.LSN)
	}
	x.event(func(c *core.Core) {
		if err := c.Trim(at); (err == nil) != allowed && c.Phase() == core.Open {
			x.w.fail("I1", "trim to LSN %d, committed up to %d: %v", at.LSN, c.Commit(), err)
		}
	})
}
