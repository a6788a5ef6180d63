package sim

import (
	"bytes"
	"fmt"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog/core"
)

// askKind is a kind of request.
type askKind uint8

const (
	askFence askKind = iota + 1 // with the hello before it
	askLoad
	askReset
	askAlign
	askWrite
	askFlush
	askSeal
)

// request is a message from a writer to a daemon.
type request struct {
	kind     askKind
	writer   int
	node     int
	session  uint64
	from, to uint64 // of a load, a write; from of an align
	trim     format.TrimPoint
	data     []byte // of a write
	seal     *pmemlog.SealIn
}

// String names the request.
func (r *request) String() string {
	switch r.kind {
	case askLoad:
		return fmt.Sprintf("load [%d, %d)", r.from, r.to)
	case askAlign:
		return fmt.Sprintf("align at %d", r.from)
	case askWrite:
		return fmt.Sprintf("write [%d, %d)", r.from, r.to)
	case askSeal:
		return fmt.Sprintf("seal at %d", r.seal.Tail)
	default:
		return map[askKind]string{askFence: "fence", askReset: "reset", askFlush: "flush"}[r.kind]
	}
}

// claim is what a writer's step says of the log, for the model to check.
type claim struct {
	kind    claimKind
	term    format.Fence
	log     []mark
	trim, t uint64
	holed   bool // a record does not follow the one before it
}

type claimKind uint8

const (
	claimAnswered claimKind = iota + 1
	claimOpened
	claimAcknowledged
)

// sent is what a writer's step does to the session with one daemon.
type sent struct {
	node  int
	fresh bool     // a new session takes the place of the one before
	req   *request // or a request goes out in the session of the moment
}

// smallWriter is a writer of the small model: the core, the mirror, and a
// session with each daemon that is dialled again at once when it has ended.
type smallWriter struct {
	index   int
	term    format.Fence
	core    *core.Core
	mirror  format.Ring
	chain   format.Chain
	reports [smallReplicas]format.Report
	session [smallReplicas]uint64
	told    uint64
	opened  bool
	appends int
	acks    int

	sent   []sent  // by this step
	claims []claim // likewise
}

func smallTerm(writer int) format.Fence {
	return format.Fence{Epoch: uint64(writer) + 1, Nonce: 1000 * (uint64(writer) + 1)}
}

func newSmallWriter(index int) *smallWriter {
	x := &smallWriter{index: index, term: smallTerm(index), mirror: make(format.Ring, smallCapacity)}
	cfg := core.Config{Term: x.term, AckQuorum: smallAck, Capacity: smallCapacity, SetVersion: 1, MaxBatch: smallCapacity, Cut: x.cut}
	for i := range smallReplicas {
		cfg.Replicas = append(cfg.Replicas, core.Replica{ID: format.ID{0: 'r', 15: byte(i) + 1}, State: core.Present})
	}
	c, err := core.New(cfg)
	if err != nil {
		panic(fmt.Sprintf("sim: %v", err))
	}
	x.core = c
	return x
}

func (x *smallWriter) cut(from, to, most uint64) uint64 {
	return (&writer{mirror: x.mirror}).cut(from, to, most)
}

func (x *smallWriter) over() bool { return x.core.Phase() == core.Over }

// sum digests the writer. One that is over does nothing any more, whatever it
// was.
func (x *smallWriter) sum(c counted) sum {
	if x.over() {
		return c.sumOf(x.index, "over")
	}
	return c.sumOf(*x)
}

// eventKind is a kind of thing that happens to a writer.
type eventKind uint8

const (
	evStart  eventKind = iota + 1
	evAnswer           // a request of the session of the moment has been answered
	evGone             // the session has ended
	evAppend
)

// smallEvent is one thing that happens to a writer.
type smallEvent struct {
	kind    eventKind
	node    int
	request int32
	reply   int32
}

func (x *smallWriter) do(kind eventKind, node int, req *request, rep *reply) {
	if x.over() {
		return
	}
	switch kind {
	case evStart:
		for i := range smallReplicas {
			x.dial(i)
		}
	case evGone:
		x.lost(node, errBroken)
	case evAppend:
		x.append()
	case evAnswer:
		x.answer(node, req, rep)
	}
}

func (x *smallWriter) peer(node int) core.Peer {
	return core.Peer{Index: node, Session: x.session[node]}
}

// dial begins a session; its hello is on its way from now on.
func (x *smallWriter) dial(node int) {
	x.session[node]++
	x.sent = append(x.sent, sent{node: node, fresh: true})
	x.event(func(c *core.Core) { c.Connected(x.peer(node)) })
}

func (x *smallWriter) lost(node int, why error) {
	x.event(func(c *core.Core) { c.Disconnected(x.peer(node), why) })
	if !x.over() {
		x.dial(node)
	}
}

func (x *smallWriter) answer(node int, req *request, rep *reply) {
	if by, refused := rep.refusal(); refused {
		x.event(func(c *core.Core) { c.Fenced(x.peer(node), by) })
		return
	}
	if rep.err != nil {
		x.lost(node, rep.err)
		return
	}
	switch req.kind {
	case askFence:
		x.reports[node] = rep.report
		x.event(func(c *core.Core) { c.Reported(x.peer(node), rep.report) })
	case askLoad:
		x.loaded(node, req, rep)
	case askReset, askAlign:
		x.event(func(c *core.Core) { c.Prepared(x.peer(node)) })
	case askFlush:
		x.event(func(c *core.Core) { c.Flushed(x.peer(node), rep.durable) })
	case askSeal:
		x.event(func(c *core.Core) { c.Sealed(x.peer(node)) })
	}
}

func (x *smallWriter) loaded(node int, req *request, rep *reply) {
	for lsn := req.from; lsn < req.to; {
		n := min(req.to-lsn, x.mirror.ToEnd(lsn))
		copy(x.mirror.At(lsn, int(n)), rep.data[lsn-req.from:])
		lsn += n
	}
	res, err := format.Scan(x.mirror, format.ScanInput{Trim: req.trim, Seals: x.reports[node].Seals}, nil)
	if err != nil {
		panic(fmt.Sprintf("sim: %v", err))
	}
	x.chain = res.Chain
	x.chain.Epoch = x.term.Epoch
	x.event(func(c *core.Core) { c.Loaded(x.peer(node), res) })
	if p := x.core.Phase(); p == core.Aligning || p == core.Open {
		x.claims = append(x.claims, claim{kind: claimAnswered, term: x.term, log: marksOf(x.mirror, req.from, req.to), trim: req.from, t: req.to})
	}
}

// append writes the writer's next record. Its bytes say whose it is and which.
func (x *smallWriter) append() {
	if err := x.core.Admit(format.RecordSize(smallPayload)); err != nil {
		return
	}
	payload := bytes.Repeat([]byte{byte(x.index)<<4 | byte(x.appends)}, smallPayload)
	x.appends++
	h := x.mirror.Append(&x.chain, x.core.Commit(), format.Record{Payload: payload})
	x.event(func(c *core.Core) { c.Appended(h.End()) })
}

// event gives the core an event and carries its effects out.
func (x *smallWriter) event(f func(c *core.Core)) {
	f(x.core)
	for {
		effects := x.core.Effects(nil)
		if len(effects) == 0 {
			return
		}
		for _, e := range effects {
			x.carryOut(e)
		}
	}
}

func (x *smallWriter) carryOut(e core.Effect) {
	switch e.Kind {
	case core.Opened:
		x.onOpened(e.To)
	case core.Committed:
		log := marksOf(x.mirror, x.told, e.To)
		x.told = e.To
		x.acks += len(log)
		x.claims = append(x.claims, claim{kind: claimAcknowledged, term: x.term, log: log})
	case core.Stopped:
	default:
		if e.Peer == x.peer(e.Peer.Index) {
			x.request(e)
		}
	}
}

func (x *smallWriter) onOpened(t uint64) {
	x.opened, x.told = true, t
	trim := x.core.TrimPoint().LSN
	x.claims = append(x.claims, claim{
		kind: claimOpened, term: x.term, log: marksOf(x.mirror, trim, t), trim: trim, t: t, holed: holed(x.mirror, trim, t),
	})
}

// holed says whether a record in [from, to) does not follow the one before it.
func holed(r format.Ring, from, to uint64) bool {
	var crc uint32
	for lsn := from; lsn < to; {
		h, err := format.DecodeHeader(r.At(lsn, format.HeaderSize))
		if err != nil || lsn > from && h.Prev != crc {
			return true
		}
		lsn, crc = h.End(), h.CRC
	}
	return false
}

// request turns an effect for a session into messages.
func (x *smallWriter) request(e core.Effect) {
	req := request{from: e.From, to: e.To, trim: e.Trim}
	switch e.Kind {
	case core.Fence:
		req = request{kind: askFence}
	case core.Load:
		req.kind = askLoad
	case core.Reset:
		req.kind = askReset
	case core.Align:
		req.kind = askAlign
	case core.Send:
		x.send(e)
		return
	case core.Seal:
		req = request{kind: askSeal, seal: &pmemlog.SealIn{Seals: e.Seal.Seals, Set: e.Seal.Set, Hint: e.Seal.Hint, Tail: e.Seal.Tail}}
	case core.Cut:
		x.dial(e.Peer.Index)
		return
	default:
		panic(fmt.Sprintf("sim: the small model knows no effect %d", e.Kind))
	}
	x.ask(e.Peer.Index, req)
}

// send delivers a range of the mirror, and the flush behind it as a message of
// its own: whatever may come between does.
func (x *smallWriter) send(e core.Effect) {
	req := request{kind: askWrite, from: e.From, to: e.To}
	for _, s := range x.mirror.Segments(nil, e.From, e.To) {
		req.data = append(req.data, s...)
	}
	x.ask(e.Peer.Index, req)
	x.ask(e.Peer.Index, request{kind: askFlush})
}

func (x *smallWriter) ask(node int, req request) {
	req.writer, req.node, req.session = x.index, node, x.session[node]
	x.sent = append(x.sent, sent{node: node, req: &req})
}
