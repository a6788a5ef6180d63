package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog/core"
)

// seat is a replica as a writer has it: at which daemon, and the session with it.
type seat struct {
	member
	link   *link
	count  uint64 // sessions dialled
	report format.Report
	gone   bool     // it takes no part any more
	held   bool     // requests wait
	queue  []func() // those that do
}

// writer is one process that opens the log and appends, until it dies.
type writer struct {
	w       *world
	term    format.Fence
	granted record // when it asked for its epoch
	core    *core.Core
	mirror  format.Ring
	chain   format.Chain
	seats   []*seat // by the core's indices
	dead    bool
	opened  bool
	asleep  time.Duration // until then it sees and does nothing
	refused uint64        // the highest epoch that a replica had promised instead
	again   *writer       // the same process, with a higher epoch
	told    uint64        // below this LSN its caller knows that all is committed
	acks    int           // records acknowledged
	goal    int           // appends that make it content
	asked   bool          // it has asked for its learner's promotion
	effects []core.Effect
}

// newWriter starts a writer: it asks for an epoch, and then opens the log.
func (w *world) newWriter() *writer { return w.newWriterAbove(0) }

// newWriterAbove is newWriter in an epoch above the one that a replica has
// promised.
func (w *world) newWriterAbove(epoch uint64) *writer {
	if w.pickLive() {
		w.stats.Takeovers++
	}
	x := &writer{w: w, term: w.control.openAbove(epoch), mirror: make(format.Ring, w.cfg.Capacity), goal: 10}
	now := w.control.clone()
	x.granted = now
	cfg := core.Config{
		Term: x.term, AckQuorum: w.cfg.Ack, Capacity: w.cfg.Capacity, SetVersion: now.version,
		Window: 1 + w.rng.IntN(3), MaxBatch: w.batch, Cut: x.cut,
	}
	for _, m := range now.set {
		cfg.Replicas = append(cfg.Replicas, core.Replica{ID: m.id, State: m.state})
		x.seats = append(x.seats, &seat{member: m})
	}
	if l := now.learner; l != nil {
		cfg.Replacing = &core.Replacement{Learner: l.id, Replaces: now.replaces}
		x.seats = append(x.seats, &seat{member: *l})
	}
	c, err := core.New(cfg)
	if err != nil {
		panic(fmt.Sprintf("sim: %v", err))
	}
	x.core = c
	w.writers = append(w.writers, x)
	w.note("writer with epoch %d, set version %d", x.term.Epoch, now.version)
	for i := range x.seats {
		x.dialLater(i)
	}
	w.control.renew(x)
	return x
}

func (w *world) pickLive() bool {
	for _, x := range w.writers {
		if !x.dead && x.core.Phase() == core.Open {
			return true
		}
	}
	return false
}

// content says that the writer has opened and appended enough.
func (x *writer) content() bool { return x.opened && x.acks >= x.goal }

// die ends the writer without a word; its requests may still arrive.
func (x *writer) die() {
	if x.dead {
		return
	}
	x.dead = true
	for _, s := range x.seats {
		if l := s.link; l != nil && l.open {
			l.shut()
		}
	}
}

// mayStillSeal says whether a request of this writer may yet arrive.
func (x *writer) mayStillSeal() bool {
	for _, s := range x.seats {
		if l := s.link; l != nil && l.until > x.w.now {
			return true
		}
	}
	return !x.dead
}

// sleep stops the writer for a while, with all that it has begun under way.
func (x *writer) sleep(d time.Duration) {
	x.w.note("writer of epoch %d sleeps for %v", x.term.Epoch, d)
	x.asleep = max(x.asleep, x.w.now+d)
}

// later puts off what a writer that sleeps is to do, and reports whether it
// did.
func (x *writer) later(do func()) bool {
	if x.dead || x.asleep <= x.w.now {
		return false
	}
	x.w.after(x.asleep-x.w.now, do)
	return true
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
	if x.later(func() { x.dial(index) }) || x.dead || x.core.Phase() == core.Over {
		return
	}
	s := x.seats[index]
	if s.gone || s.link != nil && s.link.open {
		return
	}
	n := x.w.nodes[s.node]
	s.count++
	l := &link{w: x.w, x: x, n: n, m: s.member, peer: core.Peer{Index: index, Session: s.count}, boot: n.boot, open: true}
	s.link = l
	if !n.up() {
		l.end(errBroken)
		return
	}
	mayMake := x.core.MayMake(index)
	l.ask(func() error {
		session, err := n.hello(l.m, x.term, mayMake)
		if err == nil {
			l.session = session
		}
		return err
	}, func() {
		x.event(func(c *core.Core) { c.Connected(l.peer) })
	})
}

// follow takes what the control plane says of the set: a replacement that has
// begun, and the outcome of one whose answer was lost.
func (x *writer) follow(now *record) {
	if x.later(func() { x.follow(now) }) || x.dead || x.core.Phase() == core.Over {
		return
	}
	var learner format.ID
	if now.learner != nil {
		learner = now.learner.id
	}
	x.event(func(c *core.Core) { c.Shown(now.version, idsOf(now.set), learner) })
	if l := now.learner; l != nil && now.version == x.core.SetVersion() {
		x.learn(*l, now.replaces)
	}
}

// learn begins a replacement that the control plane has prepared.
func (x *writer) learn(m member, replaces format.ID) {
	i, err := x.core.Replace(core.Replacement{Learner: m.id, Replaces: replaces})
	if err != nil {
		return // one is under way; asked again
	}
	for len(x.seats) <= i {
		x.seats = append(x.seats, &seat{gone: true})
	}
	if s := x.seats[i]; s.id != m.id {
		x.w.note("epoch %d fills learner %v", x.term.Epoch, m.id)
		x.seats[i] = &seat{member: m, count: s.count}
		x.dialLater(i)
	}
}

// event gives the core an event and starts its effects.
func (x *writer) event(f func(c *core.Core)) {
	if x.later(func() { x.event(f) }) || x.dead || x.w.violation != nil {
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
		effects := x.core.Effects(x.effects[:0])
		x.effects = nil // it is read while effects are carried out
		for _, e := range effects {
			x.carryOut(e)
		}
		x.effects = effects[:0]
		if len(effects) == 0 {
			return
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
		x.stopped(e.Err)
	case core.MakePresent:
		x.w.control.makePresent(x, e.Peer.Index, x.seats[e.Peer.Index].id)
	case core.Promote:
		x.asked = true
		x.w.control.promote(x, x.seats[e.Peer.Index].id, e.SetVersion)
	case core.Retired:
		x.seats[e.Peer.Index].gone = true
	case core.Recovered: // for people
	case core.GaveUp:
		x.w.after(0, func() { x.event((*core.Core).LossRecorded) })
	default:
		if l := x.seats[e.Peer.Index].link; l != nil && l.open && l.peer == e.Peer {
			x.request(l, e)
		}
	}
}

// stopped is the end of a writer that has nothing more to say. One that found a
// set newer than its grant tells the control plane.
func (x *writer) stopped(why error) {
	x.w.note("epoch %d stops: %v", x.term.Epoch, why)
	if errors.Is(why, core.ErrSetBehind) {
		x.refused = x.term.Epoch
		for _, s := range x.seats {
			if seal, ok := s.report.NewestSeal(); ok && seal.SetVersion > x.core.SetVersion() {
				x.w.control.adopt(seal.SetVersion, s.report.Set)
			}
		}
	}
	if again := x.refused > 0 && (!x.opened || !x.w.faults); again && !x.dead {
		x.w.after(x.w.between(0, 20*time.Millisecond), func() { x.again = x.w.newWriterAbove(x.refused) })
	}
	x.die()
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
				l.n.vouched(l.m.id, in.Hint)
				l.n.names(l.m.id, x.term)
				delete(x.w.damaged, l.m.id) // what it had lost has been made good
			}
			return err
		}, func() {
			x.w.note("epoch %d: node %d is sealed at %d", x.term.Epoch, l.n.index, in.Tail)
			x.event(func(c *core.Core) { c.Sealed(l.peer) })
		})
	case core.Reseal:
		l.ask(func() error {
			err := l.session.Reseal(e.SetVersion, e.Seal.Set)
			if err == nil {
				l.n.names(l.m.id, x.term)
			}
			return err
		}, func() { x.event(func(c *core.Core) { c.Resealed(l.peer, e.SetVersion) }) })
	case core.Cut:
		l.shut()
		x.dialLater(l.peer.Index)
	}
}

func (x *writer) fence(l *link) {
	var rep format.Report
	l.ask(func() error {
		r, err := l.session.Fence(x.term)
		if err != nil {
			return err // what an earlier copy of the request was answered stands
		}
		rep = r
		l.n.vouched(l.m.id, rep.Last)
		if x.w.chance(0.1) && !x.w.damaged[l.m.id] {
			l.n.checkReport(l.m.id, rep)
		}
		return nil
	}, func() {
		x.seats[l.peer.Index].report = rep
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
		res, err := format.Scan(x.mirror, format.ScanInput{Trim: e.Trim, Seals: x.seats[l.peer.Index].report.Seals}, nil)
		if err != nil {
			panic(fmt.Sprintf("sim: %v", err))
		}
		x.chain = res.Chain
		x.chain.Epoch = x.term.Epoch
		x.w.note("epoch %d: loaded [%d, %d) from node %d", x.term.Epoch, e.From, e.To, l.n.index)
		x.event(func(c *core.Core) { c.Loaded(l.peer, res) })
		if p := x.core.Phase(); (p == core.Aligning || p == core.Open) && !x.core.Forced() { // else it has not had its answers
			x.w.model.answered(x.term, marksOf(x.mirror, e.From, e.To), e.From, e.To)
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
	l.ask(func() error { return x.write(l, e.From, bytes) }, func() {})
	var durable uint64
	l.ask(func() error {
		d, err := l.session.Flush()
		if err == nil {
			durable = d
			l.n.flushed(l.m.id, x.term.Epoch, durable)
		}
		l.n.hintInTime(l.m.id)
		return err
	}, func() {
		x.event(func(c *core.Core) { c.Flushed(l.peer, durable) })
	})
}

// write puts bytes into a ring, all of them or, when the session broke meanwhile,
// what had arrived by then.
func (x *writer) write(l *link, from uint64, bytes []byte) error {
	if l.until > 0 && x.w.chance(0.5) {
		bytes = bytes[:x.w.rng.IntN(len(bytes)+1)]
	}
	err := l.session.Write(from, bytes)
	if err == nil {
		l.n.checkSpace(l.session.Replica(), from, from+uint64(len(bytes)))
	}
	return err
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
	x.w.model.open[x.term] = true
	x.w.control.truth = x.granted.clone()
	trim := x.core.TrimPoint().LSN
	x.w.note("epoch %d is open: [%d, %d)", x.term.Epoch, trim, t)
	x.told = t
	x.w.model.opened(x.term.Epoch, marksOf(x.mirror, trim, t), trim, t)
	if !x.w.byHand {
		x.appendLater()
	}
}

func (x *writer) onCommitted(to uint64) {
	log := marksOf(x.mirror, x.told, to)
	x.told = to
	x.acks += len(log)
	x.w.stats.Acks += len(log)
	x.w.note("epoch %d acknowledges up to %d", x.term.Epoch, to)
	x.w.model.acknowledged(x.term, log)
}

func (x *writer) appendLater() {
	d := x.w.between(50*time.Microsecond, 2*time.Millisecond)
	if x.w.chance(0.05) {
		d = x.w.between(0, 80*time.Millisecond)
	}
	x.w.after(d, x.appendAndGoOn)
}

func (x *writer) appendAndGoOn() {
	if x.later(x.appendAndGoOn) {
		return
	}
	if !x.dead {
		x.append()
	}
	if !x.dead && x.core.Phase() != core.Over {
		x.appendLater()
	}
}

// append writes one record, or trims when there is no room.
func (x *writer) append() {
	payload := make([]byte, 8+x.w.rng.IntN(x.w.sizes)*60)
	binary.LittleEndian.PutUint64(payload, uint64(x.w.stats.Appends)<<16|x.term.Epoch)
	if err := x.admit(payload); err != nil || x.w.chance(0.03) {
		x.trim()
		return
	}
	x.record(payload)
	if x.w.faults && x.w.chance(x.w.hasty) {
		x.w.note("writer of epoch %d dies", x.term.Epoch)
		x.die()
	}
}

// admit makes room for a record.
func (x *writer) admit(payload []byte) error {
	size := format.RecordSize(len(payload))
	err := x.core.Admit(size + format.PadBefore(x.core.Tail(), size, x.w.cfg.Capacity))
	x.dispatch()
	return err
}

func (x *writer) record(payload []byte) format.Header {
	x.w.stats.Appends++
	h := x.mirror.Append(&x.chain, x.core.Commit(), format.Record{Payload: payload})
	x.event(func(c *core.Core) { c.Appended(h.End()) })
	return h
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
