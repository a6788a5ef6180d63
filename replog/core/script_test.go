package core

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/gravenio/graven/pmemlog/format"
)

// TestScripts runs the stories in testdata/scripts. Each command is an event, what is
// printed are its effects; run with -rewrite to see what a change does to them.
//
//	new [states=PPA] [quorum=2] [capacity=1024] [epoch=2] [nonce=epoch] [set=1] [window=2] [batch=256]
//	connect r0 | disconnect r0 <why> | present r0 | prepared r0 | sealed r0 | loadfailed r0
//	reported r0 [tail=0] [trim=lsn/epoch] [pairs=(1.1@0,..)] [seals=(1.1@0,..)] [evidence=1/64] [set=1]
//	loaded r0 [tail=..]     what its report said, unless told otherwise
//	flushed r0 64 | trimmed r0 64 | fenced r0 3.3 | superseded 3.3
//	append 64 ..            one record each; admitted first, as a driver does
//	trim 64 | close | status | waiting | recovery
//
// Events are of the newest session, r0.1 names an older one. A pair is
// epoch.nonce@first, a seal epoch.nonce@T, a trailing ? an unknown nonce.
// Records that were not appended by the script begin at each multiple of 64, and
// the CRC of the record that ends at an LSN is the LSN.
func TestScripts(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		var s script
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.t, s.d = t, d
			return s.run()
		})
	})
}

type script struct {
	t        *testing.T
	d        *datadriven.TestData
	c        *Core
	sessions []uint64
	reports  map[int]format.Report
	bounds   []uint64 // ends of appended records
	appended uint64   // where they begin
}

func (s *script) run() string {
	if s.d.Cmd == "new" {
		return s.begin()
	}
	phase, tail, commit := s.c.Phase(), s.c.Tail(), s.c.Commit()
	out := s.event()
	for _, e := range s.c.Effects(nil) {
		out += s.effect(e)
	}
	if p := s.c.Phase(); p != phase {
		out += fmt.Sprintf("-- %s, tail %d, commit %d\n", p, s.c.Tail(), s.c.Commit())
	}
	if s.c.Commit() < commit || phase == Open && s.c.Tail() < tail {
		s.d.Fatalf(s.t, "commit fell from %d to %d or tail from %d to %d", commit, s.c.Commit(), tail, s.c.Tail())
	}
	if out == "" {
		return "nothing\n"
	}
	return out
}

func (s *script) begin() string {
	states, quorum, capacity, epoch, set, window, batch := "PPP", 2, uint64(1024), uint64(2), uint64(1), 0, uint64(256)
	s.d.MaybeScanArgs(s.t, "states", &states)
	s.d.MaybeScanArgs(s.t, "quorum", &quorum)
	s.d.MaybeScanArgs(s.t, "capacity", &capacity)
	s.d.MaybeScanArgs(s.t, "epoch", &epoch)
	s.d.MaybeScanArgs(s.t, "set", &set)
	s.d.MaybeScanArgs(s.t, "window", &window)
	s.d.MaybeScanArgs(s.t, "batch", &batch)
	nonce := epoch
	s.d.MaybeScanArgs(s.t, "nonce", &nonce)
	cfg := Config{
		Term: format.Fence{Epoch: epoch, Nonce: nonce}, AckQuorum: quorum, Capacity: capacity,
		SetVersion: set, Window: window, MaxBatch: batch, Cut: s.cut,
	}
	for i, st := range states {
		r := Replica{ID: format.ID{byte(i + 1)}, State: Present}
		if st == 'A' {
			r.State = Allocated
		}
		cfg.Replicas = append(cfg.Replicas, r)
	}
	replacing := ""
	if s.d.MaybeScanArgs(s.t, "replacing", &replacing); replacing != "" {
		cfg.Replacing = &Replacement{Learner: format.ID{9}, Replaces: cfg.Replicas[s.number(replacing[1:])].ID}
		states += "L"
	}
	*s = script{t: s.t, d: s.d, sessions: make([]uint64, len(states)), reports: map[int]format.Report{}}
	var err error
	if s.c, err = New(cfg); err != nil {
		return err.Error() + "\n"
	}
	return fmt.Sprintf("-- %s\n", s.c.Phase())
}

// cut is the driver's Cut over the script's boundaries.
func (s *script) cut(from, to, most uint64) uint64 {
	at := from
	for at < to {
		next := at + format.Align
		if at >= s.appended {
			if i := slices.IndexFunc(s.bounds, func(b uint64) bool { return b > at }); i >= 0 {
				next = s.bounds[i]
			}
		}
		if next > to || next-from > most && at > from {
			break
		}
		at = next
	}
	return at
}

// peer reads r0 or r0.1 from the first argument.
func (s *script) peer() Peer {
	name, session, old := strings.Cut(s.word(0), ".")
	i, err := strconv.Atoi(strings.TrimPrefix(name, "r"))
	if err != nil || i >= len(s.sessions) {
		s.d.Fatalf(s.t, "%s is no replica", name)
	}
	p := Peer{Index: i, Session: s.sessions[i]}
	if old {
		p.Session = s.number(session)
	}
	return p
}

func (s *script) word(i int) string {
	if i >= len(s.d.CmdArgs) {
		s.d.Fatalf(s.t, "%s needs more arguments", s.d.Cmd)
	}
	return s.d.CmdArgs[i].Key
}

func (s *script) words() []string {
	var out []string
	for _, a := range s.d.CmdArgs {
		out = append(out, a.Key)
	}
	return out
}

func (s *script) number(w string) uint64 {
	n, err := strconv.ParseUint(w, 10, 64)
	if err != nil {
		s.d.Fatalf(s.t, "%v", err)
	}
	return n
}

func (s *script) event() string {
	c := s.c
	switch s.d.Cmd {
	case "connect":
		p := s.peer()
		if !strings.Contains(s.word(0), ".") {
			s.sessions[p.Index]++
			p.Session++
		}
		c.Connected(p)
	case "disconnect":
		c.Disconnected(s.peer(), errors.New(s.word(1)))
	case "reported":
		p := s.peer()
		s.reports[p.Index] = s.report()
		c.Reported(p, s.reports[p.Index])
	case "loaded":
		p := s.peer()
		rep := s.reports[p.Index]
		s.d.MaybeScanArgs(s.t, "tail", &rep.Tail)
		c.Loaded(p, format.ScanResult{
			Chain: format.Chain{LSN: rep.Tail, CRC: uint32(rep.Tail), Epoch: rep.Last.Epoch}, Last: rep.Last, Pairs: rep.Pairs,
		})
		s.appended = c.Tail()
	case "loadfailed":
		c.LoadFailed(s.peer(), errors.New("its bytes are others"))
	case "prepared":
		c.Prepared(s.peer())
	case "sealed":
		c.Sealed(s.peer())
	case "present":
		c.MadePresent(s.peer().Index)
	case "flushed":
		c.Flushed(s.peer(), s.number(s.word(1)))
	case "trimmed":
		c.Trimmed(s.peer(), s.number(s.word(1)))
	case "fenced":
		c.Fenced(s.peer(), s.fence(s.word(1)))
	case "superseded":
		c.Superseded(s.fence(s.word(0)))
	case "append":
		return s.append()
	case "trim":
		n := s.number(s.word(0))
		if err := c.Trim(format.TrimPoint{LSN: n, Epoch: c.cfg.Term.Epoch, CRC: uint32(n)}); err != nil {
			return fmt.Sprintf("error: %v\n", err)
		}
	case "replace": // replace r1 9: a learner of ID 9 is to take its place
		return s.replace()
	case "promoted": // promoted 9 set=2
		set := uint64(0)
		s.d.ScanArgs(s.t, "set", &set)
		c.Promoted(format.ID{byte(s.number(s.word(0)))}, set)
	case "shown": // shown set=2 learner=9 members=(1,3,9)
		set, learner := c.SetVersion(), 0
		s.d.MaybeScanArgs(s.t, "set", &set)
		s.d.MaybeScanArgs(s.t, "learner", &learner)
		var ids []format.ID
		for _, a := range s.d.CmdArgs {
			for _, v := range a.Vals {
				if a.Key == "members" {
					ids = append(ids, format.ID{byte(s.number(v))})
				}
			}
		}
		c.Shown(set, ids, format.ID{byte(learner)})
	case "abandoned":
		c.Abandoned(format.ID{byte(s.number(s.word(0)))})
	case "resealed":
		set := s.c.SetVersion()
		s.d.MaybeScanArgs(s.t, "set", &set)
		c.Resealed(s.peer(), set)
	case "maymake":
		return fmt.Sprintf("%v\n", c.MayMake(s.peer().Index))
	case "loss":
		return s.loss()
	case "acceptloss": // what is offered, or a position such as 1/128
		l, _ := c.Loss()
		if e, lsn, ok := strings.Cut(strings.Join(s.words(), ""), "/"); ok {
			l.Last = format.Position{Epoch: s.number(e), LSN: s.number(lsn)}
		}
		c.AcceptLoss(l)
	case "recovery":
		if r := c.Recovery(); r != nil {
			return recoveryText(r)
		}
		return "none\n"
	case "recorded":
		c.LossRecorded()
	case "close":
		c.Close()
	case "status":
		return s.status()
	case "waiting":
		return c.Waiting() + "\n"
	default:
		s.d.Fatalf(s.t, "unknown command %s", s.d.Cmd)
	}
	return ""
}

func (s *script) append() string {
	out := ""
	for i := range s.d.CmdArgs {
		n := s.number(s.word(i))
		if err := s.c.Admit(n); err != nil {
			return out + fmt.Sprintf("error: %v\n", err)
		}
		end := s.c.Tail() + n
		s.bounds = append(s.bounds, end)
		for _, e := range s.c.Effects(nil) {
			out += s.effect(e)
		}
		s.c.Appended(end)
	}
	return out
}

func (s *script) replace() string {
	i, err := s.c.Replace(Replacement{Learner: format.ID{byte(s.number(s.word(1)))}, Replaces: s.c.replicas[s.peer().Index].ID})
	if err != nil {
		return fmt.Sprintf("error: %v\n", err)
	}
	for len(s.sessions) <= i {
		s.sessions = append(s.sessions, 0)
	}
	return fmt.Sprintf("r%d learns\n", i)
}

func (s *script) loss() string {
	l, ok := s.c.Loss()
	if !ok {
		return "none\n"
	}
	return s.lossText(&l)
}

func (s *script) lossText(l *Loss) string {
	out := fmt.Sprintf("from replica %d at %v, trim %d\n", l.Chosen[0], l.Last, l.Trim)
	for _, u := range l.Unknown {
		out += fmt.Sprintf("  replica %d: evidence %v, %v\n", u.ID[0], u.Evidence, u.Reason)
	}
	return out
}

func recoveryText(r *Recovery) string {
	out := fmt.Sprintf("up to %d", r.T)
	for _, id := range r.Away {
		out += fmt.Sprintf(", without replica %d", id[0])
	}
	out += "\n"
	for _, x := range r.Repaired {
		out += fmt.Sprintf("  replica %d: from %d, held %d", x.ID[0], x.From, x.Held)
		if x.Diverged {
			out += ", diverged"
		}
		if x.Damaged {
			out += ", damaged"
		}
		out += "\n"
	}
	return out
}

func (s *script) fence(w string) format.Fence {
	e, n, _ := strings.Cut(w, ".")
	return format.Fence{Epoch: s.number(e), Nonce: s.number(n)}
}

func (s *script) report() format.Report {
	rep := format.Report{Fenced: s.c.cfg.Term, Capacity: s.c.cfg.Capacity}
	pairs, seals, trim, evidence := []string{}, []string{}, "0/0", ""
	set := s.c.cfg.SetVersion
	s.d.MaybeScanArgs(s.t, "tail", &rep.Tail)
	s.d.MaybeScanArgs(s.t, "trim", &trim)
	s.d.MaybeScanArgs(s.t, "evidence", &evidence)
	s.d.MaybeScanArgs(s.t, "set", &set)
	for _, a := range s.d.CmdArgs {
		switch a.Key {
		case "pairs":
			pairs = a.Vals
		case "seals":
			seals = a.Vals
		}
	}
	lsn, epoch, _ := strings.Cut(trim, "/")
	rep.Trim = format.TrimPoint{LSN: s.number(lsn), Epoch: s.number(epoch), CRC: uint32(s.number(lsn))}
	if len(pairs) == 0 {
		rep.Pairs = []format.Pair{{First: rep.Trim.LSN, Known: true}} // the empty log
	}
	for _, p := range pairs {
		term, first, known := s.stretch(p)
		rep.Pairs = append(rep.Pairs, format.Pair{Fence: term, First: first, Known: known})
	}
	for _, w := range seals {
		term, at, _ := s.stretch(w)
		rep.Seals = append(rep.Seals, format.Seal{Epoch: term.Epoch, Nonce: term.Nonce, T: at, Prev: uint32(at), SetVersion: set})
	}
	last := rep.Trim.Epoch
	for _, p := range rep.Pairs {
		last = max(last, p.Epoch)
	}
	rep.Durable, rep.Last = rep.Tail, format.Position{Epoch: last, LSN: rep.Tail}
	if e, l, ok := strings.Cut(evidence, "/"); ok {
		rep.Evidence = format.Position{Epoch: s.number(e), LSN: s.number(l)}
	}
	return rep
}

func (s *script) stretch(w string) (format.Fence, uint64, bool) {
	w, unknown := strings.CutSuffix(w, "?")
	term, at, _ := strings.Cut(w, "@")
	return s.fence(term), s.number(at), !unknown
}

func (s *script) status() string {
	out := ""
	for _, r := range s.c.Status() {
		out += fmt.Sprintf("r%d %s %s counts=%v durable=%d trimmed=%d lag=%d settled=%v", r.Index, r.State, r.Stage, r.Counts, r.Durable, r.Trimmed, r.Lag, r.Settled)
		if r.Reason != nil {
			out += fmt.Sprintf(" (%v)", r.Reason)
		}
		out += "\n"
	}
	return out + fmt.Sprintf("-- %s, trim %d, commit %d, tail %d, free %d\n", s.c.Phase(), s.c.TrimPoint().LSN, s.c.Commit(), s.c.Tail(), s.c.Free())
}

func (s *script) effect(e Effect) string {
	to := fmt.Sprintf("r%d.%d", e.Peer.Index, e.Peer.Session)
	switch e.Kind {
	case Fence:
		return "Fence " + to + "\n"
	case Load:
		return fmt.Sprintf("Load %s [%d,%d)\n", to, e.From, e.To)
	case Reset:
		return fmt.Sprintf("Reset %s to %d/%d\n", to, e.Trim.LSN, e.Trim.Epoch)
	case Trim:
		return fmt.Sprintf("Trim %s to %d/%d\n", to, e.Trim.LSN, e.Trim.Epoch)
	case Align:
		return fmt.Sprintf("Align %s at %d\n", to, e.From)
	case Send:
		return fmt.Sprintf("Send %s [%d,%d)\n", to, e.From, e.To)
	case Seal:
		var seals []string
		for _, x := range e.Seal.Seals {
			seals = append(seals, fmt.Sprintf("%d.%d@%d", x.Epoch, x.Nonce, x.T))
		}
		return fmt.Sprintf("Seal %s seals=(%s) hint=%v tail=%d set=%d\n", to, strings.Join(seals, ","), e.Seal.Hint, e.Seal.Tail, len(e.Seal.Set))
	case MakePresent:
		return "MakePresent " + to + "\n"
	case Reseal:
		return fmt.Sprintf("Reseal %s version=%d set=%d\n", to, e.SetVersion, len(e.Seal.Set))
	case Promote:
		return fmt.Sprintf("Promote %s version=%d\n", to, e.SetVersion)
	case Retired:
		return fmt.Sprintf("Retired r%d\n", e.Peer.Index)
	case GaveUp:
		return "GaveUp " + s.lossText(e.Loss)
	case Cut:
		return fmt.Sprintf("Cut %s: %v\n", to, e.Err)
	case Opened:
		return fmt.Sprintf("Opened, committed %d\n", e.To)
	case Committed:
		return fmt.Sprintf("Committed %d\n", e.To)
	case Recovered:
		return "Recovered " + recoveryText(e.Recovery)
	case Stopped:
		return fmt.Sprintf("Stopped: %v\n", e.Err)
	}
	return fmt.Sprintf("effect %d\n", e.Kind)
}
