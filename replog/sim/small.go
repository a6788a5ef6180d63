package sim

import "fmt"

// queueLength bounds the requests or answers of one session that are on their
// way.
const queueLength = 8

type queue [queueLength]int32

func (q *queue) push(n int32) {
	for i := range q {
		if q[i] == 0 {
			q[i] = n
			return
		}
	}
	panic("sim: more messages on their way than a queue holds")
}

func (q *queue) pop() int32 {
	n := q[0]
	copy(q[:], q[1:])
	q[queueLength-1] = 0
	return n
}

// side is a writer with what is on its way between it and the daemons.
type side struct {
	writer  int32                // its state; 0: it has not begun
	now     [smallReplicas]queue // requests of the session of the moment
	old     [smallReplicas]queue // requests of the session before, to whose answers nobody listens
	asked   [smallReplicas]queue // requests of the session of the moment whose answers are late
	replies [smallReplicas]queue // these answers
}

// budget is what may still happen.
type budget struct {
	records, crashes, flips, breaks, late, hints uint8
}

const smallWriters = 2

// state is the whole small model, its parts by number.
type state struct {
	sides [smallWriters]int32
	nodes [smallReplicas]int32 // the daemons' states
	model int32
	left  budget
}

// choiceKind is a kind of step.
type choiceKind uint8

const (
	chServe   choiceKind = iota // a daemon carries out the first request of a session, and the answer arrives
	chLate                      // the same, but this answer and those behind it are late
	chArrive                    // the first late answer of a session arrives
	chOld                       // a daemon carries out the first request of a session that has ended
	chStart                     // a writer begins
	chAppend                    // a writer appends a record
	chBreak                     // a session breaks; requests may still arrive
	chCut                       // a daemon loses power while it carries out the first request of a session
	chCrash                     // a daemon loses power between requests
	chUp                        // a daemon comes back
	chFlip                      // a bit flips in a record of a daemon that is down
	chPersist                   // a daemon persists its hint
)

// choice is one step of the small model.
type choice struct {
	kind   choiceKind
	writer uint8
	node   uint8
	keep   survivors
	at     uint16 // sync of chCut, LSN of chFlip
}

// String names a choice so that a list of them can be repeated.
func (c choice) String() string {
	switch c.kind {
	case chStart, chAppend:
		return fmt.Sprintf("%s:w%d", c.kind, c.writer+1)
	case chCut:
		return fmt.Sprintf("cut:w%d>n%d:sync%d:%v", c.writer+1, c.node, c.at, c.keep)
	case chCrash:
		return fmt.Sprintf("crash:n%d:%v", c.node, c.keep)
	case chUp, chPersist:
		return fmt.Sprintf("%s:n%d", c.kind, c.node)
	case chFlip:
		return fmt.Sprintf("flip:n%d:%d", c.node, c.at)
	default:
		return fmt.Sprintf("%s:w%d>n%d", c.kind, c.writer+1, c.node)
	}
}

// String names the kind.
func (k choiceKind) String() string {
	return [...]string{"do", "late", "arrive", "old", "start", "append", "break", "cut", "crash", "up", "flip", "hint"}[k]
}

// small is the small model: the parts, and how they go together.
type small struct {
	parts
	sides   table[side, side]
	sideDid map[sideStep]sideNext
}

type sideStep struct {
	side  int32
	kind  sideKind
	node  uint8 // or, of sideStart, the writer
	reply int32
}

type sideNext struct{ side, claims int32 }

// sideKind is a kind of thing that happens to a writer and its sessions.
type sideKind uint8

const (
	sideStart sideKind = iota
	sideAppend
	sideServed // the first request has been carried out, and the answer is here
	sideHeld   // the same, but the answer is late
	sideArrive // the first late answer is here
	sideOld    // the first request of the session before has been carried out
	sideBreak  // the session breaks
	sideLost   // the daemon is gone, and with it what was on its way
)

func newSmall() *small {
	return &small{
		parts: *newParts(), sides: newTable[side, side](), sideDid: map[sideStep]sideNext{},
	}
}

// begin returns the state in which nothing has happened.
func (s *small) begin(left budget) state {
	st := state{model: s.newModel(), left: left}
	for i := range st.nodes {
		st.nodes[i] = s.newDaemon(i)
	}
	return st
}

// sideDo returns what an input leads to.
func (s *small) sideDo(step sideStep) sideNext {
	if n, ok := s.sideDid[step]; ok {
		return n
	}
	sd := s.sides.all[step.side]
	e := smallEvent{node: int(step.node), reply: step.reply}
	switch i := step.node; step.kind {
	case sideStart:
		e.kind, sd.writer = evStart, s.newWriter(int(step.node))
	case sideAppend:
		e.kind = evAppend
	case sideServed:
		e.kind, e.request = evAnswer, sd.now[i].pop()
	case sideHeld:
		sd.asked[i].push(sd.now[i].pop())
		sd.replies[i].push(step.reply)
	case sideArrive:
		e.kind, e.request, e.reply = evAnswer, sd.asked[i].pop(), sd.replies[i].pop()
	case sideOld:
		sd.old[i].pop()
	case sideBreak:
		e.kind = evGone
	case sideLost:
		e.kind = evGone
		sd.now[i], sd.old[i], sd.asked[i], sd.replies[i] = queue{}, queue{}, queue{}, queue{}
	}
	n := s.sideEvent(sd, e)
	s.sideDid[step] = n
	return n
}

func (s *small) sideEvent(sd side, e smallEvent) sideNext {
	var n sideNext
	if e.kind != 0 && sd.writer != 0 {
		next := s.writerDo(sd.writer, e)
		n.claims, sd.writer = next.claims, next.state
		s.dispatch(&sd, next.sent)
		if s.writers.all[sd.writer].over { // it listens no more
			sd.asked, sd.replies = [smallReplicas]queue{}, [smallReplicas]queue{}
		}
	}
	n.side, _ = s.sides.add(sd, sd)
	return n
}

func (s *small) dispatch(sd *side, all int32) {
	for _, d := range s.sent.all[all] {
		if d.request == 0 {
			sd.old[d.node], sd.now[d.node] = sd.now[d.node], queue{}
			sd.asked[d.node], sd.replies[d.node] = queue{}, queue{}
			continue
		}
		sd.now[d.node].push(d.request)
	}
}

// input gives a writer's side an input and has the model check its claims.
func (s *small) input(st *state, writer int, kind sideKind, node uint8, answer int32) *Violation {
	if st.sides[writer] == 0 && kind != sideStart {
		return nil
	}
	n := s.sideDo(sideStep{st.sides[writer], kind, node, answer})
	st.sides[writer] = n.side
	m := s.modelDo(st.model, n.claims)
	st.model = m.model
	return m.broken
}

// happens has a daemon do something, and reports whether it can.
func (s *small) happens(st *state, node uint8, o op) (answer int32, ok bool) {
	next, answer := s.daemonDo(st.nodes[node], o)
	if next == 0 {
		return 0, false
	}
	st.nodes[node] = next
	return answer, true
}

// take takes a choice. It reports false for one that can't be taken after all: a
// request that has ended before its n-th sync.
func (s *small) take(st state, c choice) (state, *Violation, bool) {
	broken, ok := s.step(&st, c)
	return st, broken, ok
}

func (s *small) step(st *state, c choice) (*Violation, bool) {
	x := int(c.writer)
	switch c.kind {
	case chServe, chLate:
		return s.serve(st, c)
	case chArrive:
		return s.input(st, x, sideArrive, c.node, 0), true
	case chOld:
		answer, _ := s.happens(st, c.node, op{request: s.sides.all[st.sides[x]].old[c.node][0]})
		if broken := s.replies.all[answer].broken; broken != nil {
			return broken, true
		}
		return s.input(st, x, sideOld, c.node, 0), true
	case chStart:
		return s.input(st, x, sideStart, c.writer, 0), true
	case chAppend:
		st.left.records--
		return s.input(st, x, sideAppend, 0, 0), true
	case chBreak:
		st.left.breaks--
		return s.input(st, x, sideBreak, c.node, 0), true
	case chCut:
		return s.crash(st, c, op{kind: opCut, keep: c.keep, at: uint64(c.at), request: s.sides.all[st.sides[x]].now[c.node][0]})
	case chCrash:
		return s.crash(st, c, op{kind: opCrash, keep: c.keep})
	case chUp:
		return s.alone(st, c, op{kind: opStart})
	case chFlip:
		st.left.flips--
		return s.alone(st, c, op{kind: opFlip, at: uint64(c.at)})
	case chPersist:
		st.left.hints--
		return s.alone(st, c, op{kind: opPersist})
	}
	panic("sim: a choice of no kind")
}

func (s *small) alone(st *state, c choice, o op) (*Violation, bool) {
	answer, ok := s.happens(st, c.node, o)
	return s.replies.all[answer].broken, ok
}

func (s *small) serve(st *state, c choice) (*Violation, bool) {
	sd := s.sides.all[st.sides[c.writer]]
	answer, _ := s.happens(st, c.node, op{request: sd.now[c.node][0]})
	if broken := s.replies.all[answer].broken; broken != nil {
		return broken, true
	}
	kind := sideServed
	if c.kind == chLate {
		st.left.late--
		kind = sideHeld
	} else if sd.replies[c.node][0] != 0 { // answers stay in their order
		kind = sideHeld
	}
	return s.input(st, int(c.writer), kind, c.node, answer), true
}

// crash ends all sessions with the daemon. The writers notice at once.
func (s *small) crash(st *state, c choice, o op) (*Violation, bool) {
	st.left.crashes--
	if _, ok := s.happens(st, c.node, o); !ok {
		return nil, false
	}
	for x := range st.sides {
		if broken := s.input(st, x, sideLost, c.node, 0); broken != nil {
			return broken, true
		}
	}
	return nil, true
}

// choices lists all that may happen next.
func (s *small) choices(st *state) []choice {
	var dst []choice
	for x := range uint8(smallWriters) {
		dst = s.ofWriter(dst, st, x)
	}
	for i := range uint8(smallReplicas) {
		d := &s.daemons.all[st.nodes[i]]
		if !d.up {
			dst = s.ofDown(dst, st, i, d)
			continue
		}
		if d.lag && st.left.hints > 0 {
			dst = append(dst, choice{kind: chPersist, node: i})
		}
		if st.left.crashes > 0 {
			dst = append(dst, choice{kind: chCrash, node: i, keep: keepNone})
			for k := keepAll; k < survivorKinds && d.unsynced; k++ {
				dst = append(dst, choice{kind: chCrash, node: i, keep: k})
			}
		}
	}
	return dst
}

func (s *small) ofDown(dst []choice, st *state, i uint8, d *daemonState) []choice {
	dst = append(dst, choice{kind: chUp, node: i})
	if st.left.flips > 0 {
		for _, lsn := range d.flips {
			dst = append(dst, choice{kind: chFlip, node: i, at: uint16(lsn)})
		}
	}
	return dst
}

func (s *small) ofWriter(dst []choice, st *state, x uint8) []choice {
	if st.sides[x] == 0 {
		if x == 0 || st.sides[x-1] != 0 {
			dst = append(dst, choice{kind: chStart, writer: x})
		}
		return dst
	}
	sd := &s.sides.all[st.sides[x]]
	w := &s.writers.all[sd.writer]
	if w.open && st.left.records > 0 {
		dst = append(dst, choice{kind: chAppend, writer: x})
	}
	for i := range uint8(smallReplicas) {
		if sd.replies[i][0] != 0 {
			dst = append(dst, choice{kind: chArrive, writer: x, node: i})
		}
		if st.left.breaks > 0 && !w.over && !s.fresh(sd, i) {
			dst = append(dst, choice{kind: chBreak, writer: x, node: i})
		}
		if !s.daemons.all[st.nodes[i]].up {
			continue
		}
		if sd.old[i][0] != 0 {
			dst = append(dst, choice{kind: chOld, writer: x, node: i})
		}
		dst = s.ofSession(dst, st, x, i, sd, w.over)
	}
	return dst
}

// fresh says whether nothing has come of a session yet.
func (s *small) fresh(sd *side, i uint8) bool {
	return sd.replies[i][0] == 0 && sd.now[i][0] != 0 && s.requests.all[sd.now[i][0]].kind == askFence
}

func (s *small) ofSession(dst []choice, st *state, x, i uint8, sd *side, over bool) []choice {
	first := sd.now[i][0]
	if first == 0 {
		return dst
	}
	dst = append(dst, choice{kind: chServe, writer: x, node: i})
	if kind := s.requests.all[first].kind; st.left.late > 0 && !over && kind != askWrite && sd.replies[i][0] == 0 {
		dst = append(dst, choice{kind: chLate, writer: x, node: i})
	}
	if st.left.crashes > 0 && s.requests.all[first].kind != askWrite && s.requests.all[first].kind != askLoad {
		for at := range uint16(maxCuts) {
			for k := range survivorKinds {
				dst = append(dst, choice{kind: chCut, writer: x, node: i, at: at + 1, keep: k})
			}
		}
	}
	return dst
}

// maxCuts is the most syncs that a request takes: a fence's promise, the bytes
// before its scan, and its hint.
const maxCuts = 3
