package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog/core"
)

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
	case "acceptloss":
		if l, ok := x.core.Loss(); ok {
			x.event(func(c *core.Core) { c.AcceptLoss(l) })
		}
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
		case what == "promoted":
			return x.core.SetVersion() > x.granted.version
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
		s.records[n] = span{h.LSN, last}
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
		if to <= x.core.Commit() {
			s.w.model.trimmed = max(s.w.model.trimmed, to)
		}
		x.event(func(c *core.Core) { err = c.Trim(format.TrimPoint{LSN: m.end, Epoch: m.epoch, CRC: m.crc}) })
		if err == nil && to > x.core.Commit() {
			s.w.fail("I1", "trimmed to LSN %d, committed up to %d", to, x.core.Commit())
		}
		return fmt.Sprintf("begins at %d", to), err
	}
	return "", fmt.Errorf("%w as the record that ends at LSN %d", errScript, to)
}
