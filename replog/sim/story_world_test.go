package sim

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gravenio/graven/pmemlog/format"
)

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
		s.crash(i)
	case "hint":
		r, err := n.pool.Replica(m.id)
		if err == nil {
			err = r.PersistHint()
		}
		return "", err
	case "flip":
		s.w.damaged[m.id] = true
		n.medium.FlipBit(n.ring(m.id)+int64(s.record(s.word(1)[0]).from)+format.HeaderSize, 3)
	case "vanish":
		s.w.vanish(n, []format.ID{m.id})
	case "delete":
		return "", s.delete(n, m)
	case "reuse":
		s.w.reuse(n.pool)
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

// delete has a condemned replica's daemon remove its region.
func (s *story) delete(n *node, m member) error {
	c := &s.w.control
	i := indexOf(c.condemned, m.id)
	if i < 0 {
		return errors.New("is not condemned")
	}
	if !n.remove(c.condemned[i]) {
		return errors.New("its daemon keeps it")
	}
	c.condemned = slices.Delete(c.condemned, i, i+1)
	return nil
}

// crash takes the power: keep=B keeps that record of what was not persistent,
// keep=torn-B only its header.
func (s *story) crash(i int) {
	var kept []span
	for _, a := range s.d.CmdArgs {
		if a.Key != "keep" || a.Vals[0] == "none" {
			continue
		}
		for _, v := range a.Vals {
			name, torn := strings.CutPrefix(v, "torn-")
			at := s.record(name[0])
			if torn {
				at.to = at.from + format.HeaderSize
			}
			kept = append(kept, at)
		}
	}
	s.cutPower(i, kept)
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
