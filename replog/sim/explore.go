package sim

import (
	"fmt"
	"slices"
)

// found is how a state was reached first.
type found struct {
	from int32
	how  choice
}

// Exploration is what a search came across.
type Exploration struct {
	Depth       int // choices
	States      int // that differ
	Transitions int
	Pruned      int  // transitions to a state that had been found before
	Audits      int  // of what an opener would find
	Steps       int  // taken with the product's code; all others were looked up
	Complete    bool // nothing can happen beyond this depth
	Violation   *Violation
	Choices     []string // that lead to the violation
}

// audited is what an audit depends on.
type audited struct {
	nodes [smallReplicas]int32
	model int32
	by    uint8
}

// explorer goes through all that can happen to the small model up to a depth,
// breadth first, so that the first counterexample is the shortest.
//
// What is cut away, and why nothing is lost by it:
//
//   - A state is gone on from once. Two states are the same when all their parts
//     are: every field of every core, pool and session, found by reflection, all
//     bytes of the media, synced or not, what is on its way, the model, and what
//     is left of the budget. What goes on from there depends on nothing else. The
//     parts are told apart by SHA-256.
//   - A step of a daemon or writer is taken once in each of that part's states. No
//     part sees another one but through messages.
//   - A writer that is over has one state, and the answers to it are dropped: its
//     core ignores all events. Its requests may still arrive.
//   - The answer to a write that was taken is never late: the core is not told of it.
//   - Power goes inside a request only where the request syncs. A write and a load
//     don't; for those there is the crash before and after.
//   - What a crash leaves is chosen among four, and only where something is unsynced.
//   - An audit is made once for the same daemons and model: that is all it sees.
//
// What is a bound, and not lossless, beside depth and budget:
//
//   - An answer arrives in the step that made it, unless the budget has it late; then
//     it and those behind it in its session arrive whenever they do.
//   - A hello arrives with its fence, and the next session is dialled as soon as one
//     has ended: the hello may be on its way for as long as it likes.
//   - That a daemon has crashed is noticed at once by those who had sessions with it.
//   - A session that has ended may still deliver requests until the one after it has
//     ended, too.
//   - The replicas are present, nothing is trimmed, no epoch is handed out twice, and
//     no writer learns from the control plane that it has been superseded.
type explorer struct {
	*small
	index   map[state]int32
	states  []state
	founds  []found
	audited map[audited]bool
	res     Exploration
}

func newExplorer() *explorer {
	return &explorer{small: newSmall(), index: map[state]int32{}, audited: map[audited]bool{}}
}

// explore searches from a state on.
func (e *explorer) explore(from state, depth int) {
	e.visit(from, found{from: -1})
	for level, done := 0, 0; level < depth && e.res.Violation == nil; level++ {
		e.res.Depth = level + 1
		for end := len(e.states); done < end && e.res.Violation == nil; done++ {
			e.expand(int32(done))
		}
		if done == len(e.states) {
			e.res.Complete = e.res.Violation == nil
			break
		}
	}
	e.res.States, e.res.Steps = len(e.states), e.steps
}

func (e *explorer) expand(n int32) {
	st := e.states[n]
	for _, c := range e.choices(&st) {
		next, broken, ok := e.take(st, c)
		if !ok {
			continue
		}
		e.res.Transitions++
		if broken != nil {
			e.fail(broken, found{n, c})
			return
		}
		if _, known := e.index[next]; known {
			e.res.Pruned++
			continue
		}
		e.visit(next, found{n, c})
		if e.res.Violation != nil {
			return
		}
	}
}

func (e *explorer) visit(st state, f found) {
	e.index[st] = int32(len(e.states))
	e.states = append(e.states, st)
	e.founds = append(e.founds, f)
	if broken := e.audit(&st, smallWriters); broken != nil {
		e.fail(broken, f)
	}
}

func (e *explorer) fail(broken *Violation, f found) {
	e.res.Violation = broken
	for ; f.from >= 0; f = e.founds[f.from] {
		e.res.Choices = append(e.res.Choices, f.how.String())
	}
	slices.Reverse(e.res.Choices)
}

// audit asks what the next opener would find if all writers died here.
func (e *explorer) audit(st *state, writer uint8) *Violation {
	key := audited{st.nodes, st.model, writer}
	if e.audited[key] {
		return nil
	}
	e.audited[key] = true
	e.res.Audits++
	for _, order := range orders() {
		if broken := e.reopen(*st, writer, order); broken != nil {
			return &Violation{Invariant: broken.Invariant, Detail: fmt.Sprintf("writer %d then reaches daemons %v, each in turn: %s", writer+1, order, broken.Detail)}
		}
	}
	return nil
}

// orders are all in which two daemons can be reached, and some for three.
func orders() [][]uint8 {
	return [][]uint8{{0, 1}, {0, 2}, {1, 0}, {1, 2}, {2, 0}, {2, 1}, {0, 1, 2}, {1, 2, 0}, {2, 0, 1}}
}

// reopen lets another writer open the log and append. Of the daemons that it
// reaches each carries out all it can before the next one does anything. With
// all of them it must open and its append must be acknowledged; with two it may
// have to wait. What it has opened, yet another one must find.
func (e *explorer) reopen(st state, writer uint8, order []uint8) *Violation {
	if broken := e.allUp(&st); broken != nil {
		return broken
	}
	st.sides[auditor] = e.sideDo(sideStep{kind: sideStart, node: writer}).side
	appended := false
	for range maxAudit {
		broken, more := e.serveNext(&st, order)
		if broken != nil {
			return broken
		}
		w := e.auditor(&st)
		switch {
		case w.open && !appended:
			appended = true
			if broken := e.opened(st, writer); broken != nil {
				return broken
			}
			if broken := e.input(&st, auditor, sideAppend, 0, 0); broken != nil {
				return broken
			}
		case more:
		case len(order) == smallReplicas && !w.content:
			return &Violation{Invariant: "liveness", Detail: "it does not open, or its append is not acknowledged: " + w.waiting}
		default:
			return nil
		}
	}
	return &Violation{Invariant: "liveness", Detail: "it asks again and again"}
}

// An auditor takes the place of the last writer.
const (
	auditor  = smallWriters - 1
	auditors = 2
	maxAudit = 200 // requests of one
)

func (e *explorer) auditor(st *state) *writerState {
	return &e.writers.all[e.sides.all[st.sides[auditor]].writer]
}

func (e *explorer) opened(st state, writer uint8) *Violation {
	if writer+1 == smallWriters+auditors {
		return nil
	}
	return e.audit(&st, writer+1)
}

func (e *explorer) allUp(st *state) *Violation {
	for i, n := range st.nodes {
		if e.daemons.all[n].up {
			continue
		}
		answer, _ := e.happens(st, uint8(i), op{kind: opStart})
		if broken := e.replies.all[answer].broken; broken != nil {
			return broken
		}
	}
	return nil
}

// serveNext has the first daemon carry out a request that has one, and reports
// whether there was any.
func (e *explorer) serveNext(st *state, order []uint8) (*Violation, bool) {
	sd := &e.sides.all[st.sides[auditor]]
	for _, i := range order {
		if sd.now[i][0] != 0 {
			broken, _ := e.step(st, choice{kind: chServe, writer: auditor, node: i})
			return broken, true
		}
	}
	return nil, false
}

// run follows a list of choices and tells what happens.
func (e *explorer) run(from state, list []string) (state, *Violation, []string) {
	var story []string
	st := from
	for _, text := range list {
		c, ok := e.find(&st, text)
		if !ok {
			return st, &Violation{Invariant: "the story", Detail: fmt.Sprintf("%s is not among %v", text, e.choices(&st))}, story
		}
		story = append(story, fmt.Sprintf("%-22s", text)+e.tell(&st, c))
		next, broken, _ := e.take(st, c)
		if st = next; broken != nil {
			return st, broken, story
		}
	}
	return st, nil, story
}

func (e *explorer) find(st *state, text string) (choice, bool) {
	for _, c := range e.choices(st) {
		if c.String() == text {
			return c, true
		}
	}
	return choice{}, false
}

// tell says what a choice stands for.
func (e *explorer) tell(st *state, c choice) string {
	if c.kind == chStart {
		return ""
	}
	sd := &e.sides.all[st.sides[c.writer]]
	first := sd.now[c.node][0]
	switch c.kind {
	case chOld:
		first = sd.old[c.node][0]
	case chServe, chLate, chCut:
	case chArrive:
		first = sd.asked[c.node][0]
	default:
		return ""
	}
	text := "  " + e.requests.all[first].String()
	if c.kind == chServe || c.kind == chLate || c.kind == chOld {
		probe := *st
		answer, _ := e.happens(&probe, c.node, op{request: first})
		if err := e.replies.all[answer].err; err != nil {
			text += ": " + err.Error()
		} else if rep := e.replies.all[answer].report; rep.Fenced.Epoch > 0 {
			text += fmt.Sprintf(": holds up to %v, evidence %v", rep.Last, rep.Evidence)
		}
	}
	return text
}

func (r *Exploration) String() string {
	text := fmt.Sprintf("depth %d: %d states, %d transitions, %d of them pruned since they led to a state seen before, %d audits, %d steps of the product's code",
		r.Depth, r.States, r.Transitions, r.Pruned, r.Audits, r.Steps)
	if r.Complete {
		text += "; nothing can happen beyond that"
	}
	return text
}
