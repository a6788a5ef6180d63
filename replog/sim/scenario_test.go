package sim

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog/core"
)

// TestScenario plays the stories in testdata/scenarios: the ways in which drafts
// of the rules lost data. The media, the replicas and the control plane's record
// are real; so are writers that are called w and the like, which run the core.
// Those that are called by their epoch, e1, are played by hand; e1' is one that
// was given epoch 1 a second time. Run with -rewrite to see what a change does.
//
// All records are 128 bytes and have a letter for a name.
//
//	stage [replicas=3] [ack=2] [spares=0] [allocated]    replicas r0.. are empty and present
//
// A writer by hand:
//
//	writer e2 [after=B of=e1] [set=1]    its log begins with that of e1 up to B
//	append e1 A B [commit=A]             to its own memory; the records carry the commit LSN
//	fence r0 e1                          over a new session
//	align r0 e1 [at=A] | reset r0 e1 [at=A] | trim r0 e1 at=A | reseal r0 e1 set=2
//	seal r0 e1 [tail=A]                  fences first if it has not
//	put r0 e1 A B [old]                  writes, without a flush; old is through the session before
//	flush r0 e1
//	opens e1                             if enough replicas have answered, it goes on from its log
//	ack e1                               tells its caller what an ack quorum has acknowledged
//
// Daemons:
//
//	down r0 | up r0 [unregistered] | register r0
//	crash r0 keep=none|all|(A,B)|torn-A  the power goes; what of the unsynced survives
//	hint r0 | flip r0 A | vanish r0 | delete r0 | wipe r0 | image r0 | setback r0 | holds r0
//
// The control plane:
//
//	replace r0 with=r3 | abandon | backup | restore [noticed] | record
//	control deaf|mute|up                 it hears no writer; no writer hears it
//
// Writers that run the core:
//
//	start w | open w | open w wait       wait: it must not open
//	run w until=loading|joint            or r2=sealing
//	append w A B [nowait|hangs]          nowait: not yet, hangs: never acknowledged
//	trim w at=A | die w [drop] | sleep w 10s | hold w r2 | release w r2 | waiting w
//	time 10s
func TestScenario(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		t.Parallel()
		s := story{hands: map[string]*hand{}, writers: map[string]*writer{}, records: map[byte][2]uint64{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return s.tell(t, d) })
	})
}

// story is a scenario while it is told.
type story struct {
	*stage
	d       *datadriven.TestData
	hands   map[string]*hand
	writers map[string]*writer
	records map[byte][2]uint64 // by name, where they stand
	over    bool               // a mutation has led it elsewhere
}

// tell carries out one command. A mutated simulation (-quiet) is only asked for
// violations: what it says otherwise may differ, and where it refuses what the
// story needs, there is no more to tell.
func (s *story) tell(t *testing.T, d *datadriven.TestData) (out string) {
	if s.over {
		return d.Expected
	}
	if *quiet {
		defer func() {
			if r := recover(); r != nil {
				out, s.over = d.Expected, true
			}
		}()
	}
	s.d = d
	out, err := s.act()
	if s.stage != nil && s.w.violation != nil {
		if !*quiet {
			t.Log(Result{Trace: s.w.trace})
		}
		d.Fatalf(t, "%v", s.w.violation)
	}
	switch {
	case *quiet:
		s.over = err != nil && !strings.HasPrefix(d.Expected, "refused")
		return d.Expected
	case errors.Is(err, errScript):
		d.Fatalf(t, "%v", err)
	case err != nil:
		out = "refused: " + err.Error()
	}
	if out == "" {
		out = "done"
	}
	return s.named(out) + "\n"
}

var errScript = errors.New("no such thing")

func (s *story) act() (string, error) {
	switch s.d.Cmd {
	case "stage":
		return s.begin()
	case "writer", "ack", "opens":
		return s.onHand()
	case "append", "trim":
		if _, ok := s.hands[s.word(0)]; ok || s.d.Cmd == "trim" && s.word(0)[0] == 'r' {
			return s.onHand()
		}
		return s.onWriter()
	case "fence", "align", "reset", "reseal", "seal", "put", "flush":
		return s.onReplica()
	case "down", "up", "register", "crash", "hint", "flip", "vanish", "delete", "wipe", "image", "setback", "holds":
		return s.onDaemon()
	case "replace", "abandon", "backup", "restore", "record", "control":
		return s.onControl()
	case "start", "open", "run", "die", "sleep", "hold", "release", "waiting":
		return s.onWriter()
	case "time":
		d, err := time.ParseDuration(s.word(0))
		s.run(d, func() bool { return false })
		return "passes", err
	}
	return "", fmt.Errorf("%w as the command %s", errScript, s.d.Cmd)
}

func (s *story) begin() (string, error) {
	replicas, ack, spares, state := 3, 2, 0, core.Present
	for _, a := range s.d.CmdArgs {
		switch a.Key {
		case "replicas":
			replicas = s.number("replicas")
		case "ack":
			ack = s.number("ack")
		case "spares":
			spares = s.number("spares")
		case "allocated":
			state = core.Allocated
		}
	}
	s.stage = newStage(replicas, ack, spares, state)
	return fmt.Sprintf("%d of %d replicas acknowledge", ack, replicas), nil
}

// arg returns the value of key=value, or "".
func (s *story) arg(key string) string {
	for _, a := range s.d.CmdArgs {
		if a.Key == key && len(a.Vals) > 0 {
			return a.Vals[0]
		}
	}
	return ""
}

func (s *story) number(key string) int {
	n, err := strconv.Atoi(s.arg(key))
	if err != nil {
		panic(err)
	}
	return n
}

// word returns the i-th word that is no key=value, or "".
func (s *story) word(i int) string {
	for _, a := range s.d.CmdArgs {
		if len(a.Vals) > 0 {
			continue
		}
		if i == 0 {
			return a.Key
		}
		i--
	}
	return ""
}

func (s *story) says(word string) bool {
	return slices.ContainsFunc(s.d.CmdArgs, func(a datadriven.CmdArg) bool { return a.Key == word && len(a.Vals) == 0 })
}

// names returns the words that are names of records.
func (s *story) names() []byte {
	var out []byte
	for i := 0; s.word(i) != ""; i++ {
		if w := s.word(i); len(w) == 1 && !strings.HasPrefix(w, "r") && i > 0 {
			out = append(out, w[0])
		}
	}
	return out
}

// replica returns the number of the replica that is named first, or under a key.
func (s *story) replica(name string) int {
	i, err := strconv.Atoi(strings.TrimPrefix(name, "r"))
	if err != nil || i >= len(s.w.nodes) {
		panic(fmt.Sprintf("%s: %s is no replica", s.d.Pos, name))
	}
	return i
}

// end returns where the record named by a key ends, 0 without one.
func (s *story) end(key string) uint64 {
	if name := s.arg(key); name != "" {
		return s.records[name[0]][1]
	}
	return 0
}

func (s *story) onHand() (string, error) {
	name := s.word(0)
	if s.d.Cmd == "trim" {
		return s.trimByHand()
	}
	if s.d.Cmd == "writer" {
		e, err := strconv.ParseUint(strings.Trim(name, "e'"), 10, 64)
		if err != nil {
			return "", err
		}
		term := format.Fence{Epoch: e, Nonce: e*1000 + uint64(strings.Count(name, "'"))}
		h := s.newHand(term)
		if of := s.arg("of"); of != "" {
			h.goOn(s.hands[of], s.end("after"))
		}
		version := s.w.control.version
		if s.arg("set") != "" {
			version = uint64(s.number("set"))
		}
		h.begin(version)
		s.hands[name] = h
		return fmt.Sprintf("has %s", contents(h.ring, 0, h.chain.LSN)), nil
	}
	h := s.hands[name]
	if h == nil {
		return "", fmt.Errorf("%w as writer %s", errScript, name)
	}
	if s.d.Cmd == "opens" {
		if n := len(h.sessions); n <= s.w.cfg.Replicas-s.w.cfg.Ack {
			return "", fmt.Errorf("%d of %d replicas have answered", n, s.w.cfg.Replicas)
		}
		s.w.model.answered(h.term, marksOf(h.ring, 0, h.seal.T), 0, h.seal.T)
		return "with " + contents(h.ring, 0, h.seal.T), nil
	}
	if s.d.Cmd == "ack" {
		log := s.acknowledge(h)
		if log == nil {
			return "", errors.New("no ack quorum has more")
		}
		return contents(h.ring, log[0].lsn, log[len(log)-1].end) + " acknowledged", nil
	}
	for _, n := range s.names() {
		rec := h.append(n, s.end("commit"))
		s.records[n] = [2]uint64{rec.LSN, rec.End()}
	}
	return fmt.Sprintf("has %s", contents(h.ring, 0, h.chain.LSN)), nil
}

func (s *story) trimByHand() (string, error) {
	h, to := s.hands[s.word(1)], s.end("at")
	c, err := h.session(s.replica(s.word(0)), false)
	if err != nil {
		return "", err
	}
	s.w.model.trimmed = max(s.w.model.trimmed, to)
	return fmt.Sprintf("begins at %d", to), c.Trim(h.trimPoint(to))
}

func (s *story) onReplica() (string, error) {
	i, h := s.replica(s.word(0)), s.hands[s.word(1)]
	if h == nil {
		return "", fmt.Errorf("%w as writer %s", errScript, s.word(1))
	}
	switch s.d.Cmd {
	case "fence":
		rep, err := s.fence(h, i)
		if err != nil {
			return "", err
		}
		return s.report(i, rep), nil
	case "seal":
		var tail *uint64
		if s.arg("tail") != "" {
			t := s.end("tail")
			tail = &t
		}
		return "sealed", s.sealIn(h, i, tail)
	}
	c, err := h.session(i, s.says("old"))
	if err != nil {
		return "", err
	}
	switch s.d.Cmd {
	case "align":
		return "", c.Align(s.end("at"))
	case "reset":
		s.w.model.trimmed = max(s.w.model.trimmed, s.end("at"))
		return "", c.Reset(h.trimPoint(s.end("at")))
	case "reseal":
		err := c.Reseal(uint64(s.number("set")), idsOf(s.w.control.set))
		if err == nil {
			s.w.nodes[i].names(s.member(i).id, h.term)
		}
		return "names the set", err
	case "flush":
		durable, err := s.flush(h, c, i)
		return fmt.Sprintf("all below %d is persistent", durable), err
	}
	names := s.names()
	from, to := s.records[names[0]][0], s.records[names[len(names)-1]][1]
	return "", s.put(h, c, i, from, to)
}

func (s *story) report(i int, rep format.Report) string {
	out := fmt.Sprintf("holds %s, last %v", contents(s.ringOf(i), rep.Trim.LSN, rep.Tail), rep.Last)
	if rep.Trim.LSN > 0 {
		out += fmt.Sprintf(", trimmed to %d", rep.Trim.LSN)
	}
	if rep.Suspect() {
		out += fmt.Sprintf(", suspect: evidence %v", rep.Evidence)
	}
	return out
}

func (s *story) onDaemon() (string, error) {
	i := s.replica(s.word(0))
	n, m := s.w.nodes[i], s.member(i)
	switch s.d.Cmd {
	case "down":
		s.stop(i)
	case "up":
		s.start(i, !s.says("unregistered"))
	case "register":
		s.w.control.admit(n)
	case "crash":
		return "", s.crash(i)
	case "hint":
		r, err := n.pool.Replica(m.id)
		if err == nil {
			err = r.PersistHint()
		}
		return "", err
	case "flip":
		s.w.damaged[m.id] = true
		n.medium.FlipBit(n.ring(m.id)+int64(s.records[s.word(1)[0]][0])+70, 3)
	case "vanish":
		s.w.vanish(n, []format.ID{m.id})
	case "delete":
		if !n.remove(m) {
			return "", errBroken
		}
	case "wipe":
		n.format()
	case "image":
		s.images[i] = n.medium.Clone()
	case "setback":
		n.medium = s.images[i].CrashKeepingUnsynced()
	case "holds":
		pool := s.w.nodes[i].view()
		r, err := pool.Replica(m.id)
		if err != nil {
			return "", err
		}
		rep, err := n.afterCrash(m.id, r.Info().Slot.Fenced)
		return s.report(i, rep), err
	}
	if n.refused {
		return "", errors.New("its pool was set back")
	}
	return "", nil
}

func (s *story) crash(i int) error {
	var kept [][2]uint64
	all := false
	for _, a := range s.d.CmdArgs {
		if a.Key != "keep" {
			continue
		}
		for _, v := range a.Vals {
			torn, isTorn := strings.CutPrefix(v, "torn-")
			switch {
			case v == "all":
				all = true
			case isTorn:
				at := s.records[torn[0]][0]
				kept = append(kept, [2]uint64{at, at + format.HeaderSize})
			case v != "none":
				kept = append(kept, s.records[v[0]])
			}
		}
	}
	s.cutPower(i, all, kept)
	return nil
}

func (s *story) onControl() (string, error) {
	c := &s.w.control
	switch s.d.Cmd {
	case "replace":
		c.replace(s.member(s.replica(s.word(0))).id, s.w.nodes[s.replica(s.arg("with"))])
	case "abandon":
		c.abandon()
	case "backup":
		c.backUp()
	case "control":
		c.deaf, c.mute = s.says("deaf"), s.says("mute")
		return "", nil
	case "restore":
		if len(c.backups) == 0 {
			return "", errors.New("no backup")
		}
		c.setBack(&c.backups[len(c.backups)-1], s.says("noticed"))
	}
	out := fmt.Sprintf("epoch %d, set version %d:", c.term.Epoch, c.version)
	for _, m := range c.set {
		out += fmt.Sprintf(" r%d %s", m.node, m.state)
	}
	if c.learner != nil {
		out += fmt.Sprintf("; r%d learns to replace %s", c.learner.node, s.named(c.replaces.String()))
	}
	return out, nil
}

// follow returns the writer of a name; a process that was refused for a higher
// epoch asks for a new one.
func (s *story) follow(name string) *writer {
	x := s.writers[name]
	for x != nil && x.again != nil {
		x = x.again
	}
	s.writers[name] = x
	return x
}

func (s *story) onWriter() (string, error) {
	name := s.word(0)
	x := s.follow(name)
	if x == nil {
		if s.d.Cmd != "start" && s.d.Cmd != "open" {
			return "", fmt.Errorf("%w as writer %s", errScript, name)
		}
		x = s.w.newWriter()
		s.writers[name] = x
	}
	switch s.d.Cmd {
	case "start":
		return fmt.Sprintf("asks for epoch %d", x.term.Epoch), nil
	case "open":
		return s.open(name)
	case "run":
		return s.until(name, s.arg("until"))
	case "append":
		return s.appendTo(x)
	case "trim":
		return s.trimTo(x)
	case "die":
		x.die()
		for _, seat := range x.seats {
			if s.says("drop") && seat.link != nil {
				seat.link.until = s.w.now
			}
		}
	case "sleep":
		d, err := time.ParseDuration(s.word(1))
		x.sleep(d)
		return "", err
	case "hold":
		s.seat(x).held = true
	case "release":
		seat := s.seat(x)
		queue := seat.queue
		seat.held, seat.queue = false, nil
		for _, f := range queue {
			f()
		}
	case "waiting":
		return x.core.Waiting(), nil
	}
	return "", nil
}

func (s *story) seat(x *writer) *seat {
	i := s.replica(s.word(1))
	for _, seat := range x.seats {
		if seat.node == i && !seat.gone {
			return seat
		}
	}
	panic(fmt.Sprintf("%s: no session with r%d", s.d.Pos, i))
}

func (s *story) open(name string) (string, error) {
	opened := s.run(patience, func() bool { return s.follow(name).opened })
	x := s.follow(name)
	if s.says("wait") {
		if opened {
			s.w.fail("I1", "epoch %d opened at LSN %d, though what was acknowledged may be missing", x.term.Epoch, x.core.Commit())
		}
		return x.core.Waiting(), nil
	}
	if !opened {
		s.w.fail("liveness", "epoch %d is %s: %s", x.term.Epoch, x.core.Phase(), x.core.Waiting())
	}
	out := fmt.Sprintf("epoch %d opens with %s", x.term.Epoch, contents(x.mirror, x.core.TrimPoint().LSN, x.core.Tail()))
	if v := x.core.SetVersion(); v > 1 {
		out += fmt.Sprintf(", set version %d", v)
	}
	return out, nil
}

func (s *story) until(name, what string) (string, error) {
	replica, stage := "", ""
	for _, a := range s.d.CmdArgs {
		if strings.HasPrefix(a.Key, "r") && len(a.Vals) > 0 {
			replica, stage = a.Key, a.Vals[0]
		}
	}
	ok := s.run(patience, func() bool {
		x := s.follow(name)
		switch {
		case what == "joint":
			return x.asked
		case what != "":
			return x.core.Phase().String() == what
		}
		id := s.member(s.replica(replica)).id
		for _, r := range x.core.Status() {
			if r.ID == id {
				return r.Stage == stage
			}
		}
		return false
	})
	x := s.follow(name)
	if !ok {
		return "", fmt.Errorf("epoch %d is %s: %s", x.term.Epoch, x.core.Phase(), x.core.Waiting())
	}
	return "", nil
}

func (s *story) appendTo(x *writer) (string, error) {
	var last uint64
	for _, n := range s.names() {
		if x.dead {
			return "", core.ErrClosed
		}
		if err := x.admit(payload(n)); err != nil {
			return "", err
		}
		h := x.record(payload(n))
		last = h.End()
		s.records[n] = [2]uint64{h.LSN, last}
	}
	if s.says("nowait") {
		return "not acknowledged yet", nil
	}
	done := s.run(patience, func() bool { return x.core.Commit() >= last || x.core.Phase() == core.Over })
	switch {
	case x.core.Phase() == core.Over:
		return "", x.core.Err()
	case !done && !s.says("hangs"):
		s.w.fail("liveness", "epoch %d has acknowledged up to LSN %d, not to %d: %s", x.term.Epoch, x.core.Commit(), last, x.core.Waiting())
	case !done:
		return "not acknowledged", nil
	}
	return "acknowledged", nil
}

func (s *story) trimTo(x *writer) (string, error) {
	to := s.end("at")
	for _, m := range marksOf(x.mirror, x.core.TrimPoint().LSN, x.core.Tail()) {
		if m.end != to {
			continue
		}
		var err error
		s.w.model.trimmed = max(s.w.model.trimmed, to)
		x.event(func(c *core.Core) { err = c.Trim(format.TrimPoint{LSN: m.end, Epoch: m.epoch, CRC: m.crc}) })
		return fmt.Sprintf("begins at %d", to), err
	}
	return "", fmt.Errorf("%w as the record that ends at LSN %d", errScript, to)
}
