package sim

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/gravenio/graven/pmemlog/format"
)

// onHand carries out what a writer by hand does by itself.
func (s *story) onHand() (string, error) {
	if s.d.Cmd == "writer" {
		return s.newWriterByHand(s.word(0))
	}
	h := s.hand(s.word(0))
	switch s.d.Cmd {
	case "opens":
		if n := len(h.sessions); n <= s.w.cfg.Replicas-s.w.cfg.Ack {
			return "", fmt.Errorf("%d of %d replicas have answered", n, s.w.cfg.Replicas)
		}
		s.w.model.answered(h.term, marksOf(h.ring, 0, h.seal.T), 0, h.seal.T)
		return "with " + contents(h.ring, 0, h.seal.T), nil
	case "ack":
		log := s.acknowledge(h)
		if log == nil {
			return "", errors.New("no ack quorum has more")
		}
		return contents(h.ring, log[0].lsn, log[len(log)-1].end) + " acknowledged", nil
	}
	for _, n := range s.names() { // append
		rec := h.append(n, s.end("commit"))
		s.records[n] = span{rec.LSN, rec.End()}
	}
	return "", nil
}

// newWriterByHand begins the log of e2, or of e2', which is another writer of
// epoch 2.
func (s *story) newWriterByHand(name string) (string, error) {
	epoch, err := strconv.ParseUint(strings.Trim(name, "e'"), 10, 64)
	if err != nil {
		return "", err
	}
	h := s.newHand(format.Fence{Epoch: epoch, Nonce: epoch*1000 + uint64(strings.Count(name, "'"))})
	if of := s.arg("of"); of != "" {
		h.goOn(s.hand(of), s.end("after"))
	}
	h.begin(s.w.control.version)
	s.hands[name] = h
	return "has " + contents(h.ring, 0, h.chain.LSN), nil
}

func (s *story) hand(name string) *hand {
	h := s.hands[name]
	if h == nil {
		panic(fmt.Sprintf("%s: %s is no writer", s.d.Pos, name))
	}
	return h
}

// onReplica carries out what a writer by hand asks of a replica.
func (s *story) onReplica() (string, error) {
	i, h := s.replica(s.word(0)), s.hand(s.word(1))
	switch s.d.Cmd {
	case "fence":
		rep, err := s.fence(h, i)
		if err != nil {
			return "", err
		}
		return s.report(i, rep), nil
	case "seal":
		return "sealed", s.sealIn(h, i, s.arg("tail") != "", s.end("tail"))
	}
	c, err := h.session(i, s.says("old"))
	if err != nil {
		return "", err
	}
	at := s.end("at")
	switch s.d.Cmd {
	case "align":
		return "", c.Align(at)
	case "reset":
		s.w.model.trimmed = max(s.w.model.trimmed, at)
		return "", c.Reset(h.trimPoint(at))
	case "trim":
		s.w.model.trimmed = max(s.w.model.trimmed, at)
		return fmt.Sprintf("begins at %d", at), c.Trim(h.trimPoint(at))
	case "flush":
		durable, err := s.flush(h, c, i)
		return fmt.Sprintf("all below %d is persistent", durable), err
	}
	names := s.names()
	return "", s.put(h, c, i, s.record(names[0]).from, s.record(names[len(names)-1]).to)
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
