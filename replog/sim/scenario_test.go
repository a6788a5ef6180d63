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
//	writer e2 [after=B of=e1]            its log begins with that of e1 up to B
//	append e1 A B [commit=A]             to its own memory; the records carry the commit LSN
//	fence r0 e1                          over a new session
//	align r0 e1 [at=A] | reset r0 e1 [at=A] | trim r0 e1 at=A
//	seal r0 e1 [tail=A]                  fences first if it has not; tail is what it claims to have sent
//	put r0 e1 A B [old]                  writes, without a flush; old is through the session before
//	flush r0 e1
//	opens e1                             if enough replicas have answered, it goes on from its log
//	ack e1                               tells its caller what an ack quorum has acknowledged
//
// Daemons:
//
//	down r0 | up r0 [unregistered] | register r0
//	crash r0 keep=none|(A,B)|torn-A      the power goes; what of the unsynced survives
//	hint r0 | flip r0 A | vanish r0 | wipe r0 | image r0 | setback r0 | holds r0
//	delete r0 | reuse r0                 reuse: nothing tells any more that it was removed
//
// The control plane:
//
//	replace r0 with=r3 | abandon | backup | restore [noticed] | record
//	control deaf|mute|up                 it hears no writer; no writer hears it
//
// Writers that run the core:
//
//	start w | open w | open w wait       wait: it must not open
//	run w until=loading|joint|promoted   or a phase, or r2=sealing
//	append w A B [nowait|hangs]          nowait: not yet, hangs: never acknowledged
//	trim w at=A | die w [drop] | sleep w 10s | hold w r2 | release w r2
//	waiting w | acceptloss w
//	time 10s
func TestScenario(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		t.Parallel()
		s := story{hands: map[string]*hand{}, writers: map[string]*writer{}, records: map[byte]span{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return s.tell(t, d) })
	})
}

// story is a scenario while it is told.
type story struct {
	*stage
	d       *datadriven.TestData
	hands   map[string]*hand
	writers map[string]*writer
	records map[byte]span // by name, where they stand
	over    bool          // a mutation has led it elsewhere
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
	case "append":
		if s.hands[s.word(0)] != nil {
			return s.onHand()
		}
		return s.onWriter()
	case "trim":
		if s.word(1) == "" {
			return s.onWriter()
		}
		return s.onReplica()
	case "fence", "align", "reset", "seal", "put", "flush":
		return s.onReplica()
	case "down", "up", "register", "crash", "hint", "flip", "vanish", "delete", "reuse", "wipe", "image", "setback", "holds":
		return s.onDaemon()
	case "replace", "abandon", "backup", "restore", "record", "control":
		return s.onControl()
	case "start", "open", "run", "die", "sleep", "hold", "release", "waiting", "acceptloss":
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
		return s.record(name[0]).to
	}
	return 0
}

func (s *story) record(name byte) span {
	at, ok := s.records[name]
	if !ok {
		panic(fmt.Sprintf("%s: no record %c", s.d.Pos, name))
	}
	return at
}
