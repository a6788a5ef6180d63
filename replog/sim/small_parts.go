package sim

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gravenio/graven/pmemlog/format"
)

// table numbers what is found, from 1 on.
type table[K comparable, V any] struct {
	of  map[K]int32
	all []V
}

func newTable[K comparable, V any]() table[K, V] {
	return table[K, V]{of: map[K]int32{}, all: make([]V, 1)}
}

// add returns the number of k, which is v, and whether it is new.
func (t *table[K, V]) add(k K, v V) (int32, bool) {
	if n, ok := t.of[k]; ok {
		return n, false
	}
	n := int32(len(t.all))
	t.of[k] = n
	t.all = append(t.all, v)
	return n, true
}

// parts are the states that each daemon and each writer was found in, and what
// it does there. A part goes on from nothing but its own state and what happens
// to it, so each such step is taken once, with the product's code, and looked
// up from then on: that is what makes millions of states of the whole cheap.
// A part can't be copied; it is brought to a state by repeating its own steps.
type parts struct {
	requests table[string, request]
	replies  table[string, reply]
	claims   table[string, []claim]
	sent     table[string, []dispatch]

	daemons   table[sum, daemonState]
	daemonDid map[daemonStep]daemonNext
	daemonNow [smallReplicas]struct { // the last one that was brought to a state, to go on from
		state  int32
		daemon *daemon
	}

	writers   table[sum, writerState]
	writerDid map[writerStep]writerNext

	models   table[string, model]
	modelDid map[[2]int32]modelNext

	counted counted
	watch   func(from, to int32, o op, answer int32) // sees each step of a daemon; for tests
	steps   int                                      // taken with the product's code
}

// dispatch is sent, with the request by number.
type dispatch struct {
	node    int
	request int32 // 0: a new session begins
}

type daemonState struct {
	index    int
	prev     int32
	op       op     // that led here from prev
	image    []byte // of one that is down: where repeating it may begin
	acked    format.Position
	damaged  bool
	up       bool
	lag      bool     // its hint lags behind
	unsynced bool     // power would take something
	flips    []uint64 // records in which a bit may flip
}

type daemonStep struct {
	state int32
	op    op
}

type daemonNext struct {
	state int32 // 0: impossible
	reply int32
}

type writerState struct {
	index   int
	prev    int32
	event   smallEvent
	over    bool
	open    bool
	content bool // it is open, and what it has appended is acknowledged
	waiting string
}

type writerStep struct {
	state int32
	event smallEvent
}

type writerNext struct {
	state  int32
	sent   int32
	claims int32
}

type modelNext struct {
	model  int32
	broken *Violation
}

func newParts() *parts {
	p := &parts{
		counted:  counted{},
		requests: newTable[string, request](), replies: newTable[string, reply](),
		claims: newTable[string, []claim](), sent: newTable[string, []dispatch](),
		daemons: newTable[sum, daemonState](), daemonDid: map[daemonStep]daemonNext{},
		writers: newTable[sum, writerState](), writerDid: map[writerStep]writerNext{},
		models: newTable[string, model](), modelDid: map[[2]int32]modelNext{},
	}
	return p
}

func keyOf(r *reply) string {
	return fmt.Sprintf("%v %+v %d %x %v", r.err, r.report, r.durable, r.data, r.broken)
}

// newDaemon returns the state of a daemon with an empty replica.
func (p *parts) newDaemon(index int) int32 {
	d := newDaemon(index)
	n, _ := p.daemons.add(d.sum(p.counted), daemonState{index: index, image: d.disk.safe, up: true})
	return n
}

// daemonAt brings a daemon to a state.
func (p *parts) daemonAt(state int32) *daemon {
	s := p.daemons.all[state]
	if now := &p.daemonNow[s.index]; now.state == state {
		now.state = 0
		return now.daemon
	}
	var ops []op
	for ; s.image == nil; s = p.daemons.all[s.prev] {
		ops = append(ops, s.op)
	}
	d := daemonOf(s.index, slices.Clone(s.image))
	d.acked, d.damaged, d.again = s.acked, s.damaged, true
	if s.up {
		d.start()
	}
	for i := len(ops) - 1; i >= 0; i-- {
		d.do(ops[i], &p.requests.all[ops[i].request])
	}
	d.again = false
	return d
}

// daemonDo returns what an op leads to.
func (p *parts) daemonDo(state int32, o op) (next, answer int32) {
	if p.watch != nil {
		defer func() { p.watch(state, next, o, answer) }()
	}
	step := daemonStep{state, o}
	if n, ok := p.daemonDid[step]; ok {
		return n.state, n.reply
	}
	p.steps++
	d := p.daemonAt(state)
	rep := d.do(o, &p.requests.all[o.request])
	var n daemonNext
	if !rep.impossible {
		n.reply, _ = p.replies.add(keyOf(&rep), rep)
		n.state = p.daemonIs(d, state, o)
	}
	p.daemonDid[step] = n
	return n.state, n.reply
}

func (p *parts) daemonIs(d *daemon, prev int32, o op) int32 {
	s := daemonState{index: d.index, prev: prev, op: o, up: d.pool != nil, unsynced: len(d.disk.unsynced) > 0}
	n, isNew := p.daemons.add(d.sum(p.counted), s)
	if isNew {
		if !s.up {
			p.daemons.all[n].image, p.daemons.all[n].acked, p.daemons.all[n].damaged = slices.Clone(d.disk.safe), d.acked, d.damaged
		}
		p.daemons.all[n].lag = s.up && d.replica().HintLag()
		p.daemons.all[n].flips = d.flippable()
	}
	p.daemonNow[d.index].state, p.daemonNow[d.index].daemon = n, d
	return n
}

// newWriter returns the state of a writer that has not begun.
func (p *parts) newWriter(index int) int32 {
	x := newSmallWriter(index)
	n, _ := p.writers.add(x.sum(p.counted), writerState{index: index})
	return n
}

// writerAt brings a writer to a state.
func (p *parts) writerAt(state int32) *smallWriter {
	s := p.writers.all[state]
	var events []smallEvent
	for ; s.prev != 0; s = p.writers.all[s.prev] {
		events = append(events, s.event)
	}
	x := newSmallWriter(s.index)
	for i := len(events) - 1; i >= 0; i-- {
		p.happen(x, events[i])
	}
	x.sent, x.claims = nil, nil
	return x
}

func (p *parts) happen(x *smallWriter, e smallEvent) {
	x.do(e.kind, e.node, &p.requests.all[e.request], &p.replies.all[e.reply])
}

// writerDo returns what an event leads to.
func (p *parts) writerDo(state int32, e smallEvent) writerNext {
	if p.writers.all[state].over {
		return writerNext{state: state}
	}
	step := writerStep{state, e}
	if n, ok := p.writerDid[step]; ok {
		return n
	}
	p.steps++
	x := p.writerAt(state)
	p.happen(x, e)
	n := writerNext{sent: p.dispatches(x.sent)}
	if len(x.claims) > 0 {
		n.claims, _ = p.claims.add(fmt.Sprintf("%+v", x.claims), x.claims)
	}
	x.sent, x.claims = nil, nil
	n.state, _ = p.writers.add(x.sum(p.counted), writerState{
		index: x.index, prev: state, event: e, over: x.over(), open: x.opened && !x.over(),
		content: x.opened && x.appends > 0 && x.acks >= x.appends, waiting: fmt.Sprintf("%s: %s", x.core.Phase(), x.core.Waiting()),
	})
	p.writerDid[step] = n
	return n
}

func (p *parts) dispatches(all []sent) int32 {
	if len(all) == 0 {
		return 0
	}
	var key strings.Builder
	var out []dispatch
	for _, s := range all {
		d := dispatch{node: s.node}
		if !s.fresh {
			d.request, _ = p.requests.add(requestKey(s.req), *s.req)
		}
		out = append(out, d)
		fmt.Fprint(&key, d)
	}
	n, _ := p.sent.add(key.String(), out)
	return n
}

func requestKey(r *request) string {
	return fmt.Sprintf("%d %d %d %d %d %d %v %x %+v", r.kind, r.writer, r.node, r.session, r.from, r.to, r.trim, r.data, r.seal)
}

func (p *parts) newModel() int32 {
	n, _ := p.models.add("", model{w: &world{}, open: map[format.Fence]bool{}})
	return n
}

// modelDo has the model check what a writer claims.
func (p *parts) modelDo(state, claims int32) modelNext {
	if claims == 0 {
		return modelNext{model: state}
	}
	step := [2]int32{state, claims}
	if n, ok := p.modelDid[step]; ok {
		return n
	}
	was := p.models.all[state]
	m := model{
		w: &world{}, trimmed: was.trimmed, open: was.open,
		committed: append([]mark(nil), was.committed...), openers: append([]opener(nil), was.openers...),
	}
	for _, c := range p.claims.all[claims] {
		m.check(&c)
	}
	n := modelNext{broken: m.w.violation}
	n.model, _ = p.models.add(fmt.Sprintf("%+v %+v", m.committed, m.openers), m)
	p.modelDid[step] = n
	return n
}

func (m *model) check(c *claim) {
	switch c.kind {
	case claimAnswered:
		m.answered(c.term, c.log, c.trim, c.t)
	case claimOpened:
		if c.holed {
			m.w.fail("I3", "epoch %d opened a log in which a record does not follow the one before it: %+v", c.term.Epoch, c.log)
		}
		m.opened(c.term.Epoch, c.log, c.trim, c.t)
	case claimAcknowledged:
		m.acknowledged(c.term, c.log)
	}
}
