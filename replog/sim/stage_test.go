package sim

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/pmemlog/pmemtest"
	"github.com/gravenio/graven/replog/core"
)

// stage is a world without chance, set up by hand. What is said of a replica is
// said of the newest one on the daemon of that number.
type stage struct {
	w       *world
	fencers map[int]*pmemlog.Session // whose fence each replica has answered last
	images  map[int]*pmemtest.Medium // of pools, for later
}

func newStage(replicas, ack, spares int, state core.State) *stage {
	cfg := Config{Seed: 1, Replicas: replicas, Ack: ack, Trace: true}.withDefaults()
	cfg.Spares = spares
	w := newWorld(cfg)
	w.faults, w.byHand, w.sizes, w.batch = false, true, 1, 1024
	for i := range w.control.set {
		w.control.set[i].state = state
	}
	w.control.truth = w.control.clone()
	for _, n := range w.nodes {
		w.control.admit(n)
	}
	s := &stage{w: w, fencers: map[int]*pmemlog.Session{}, images: map[int]*pmemtest.Medium{}}
	for i := range replicas {
		if state != core.Present {
			break
		}
		if _, err := w.nodes[i].hello(s.member(i), format.Fence{}, true); err != nil {
			panic(err)
		}
	}
	return s
}

// member returns the newest replica on a daemon.
func (s *stage) member(i int) member {
	made := s.w.control.made
	for k := len(made) - 1; k >= 0; k-- {
		if made[k].node == i {
			return made[k]
		}
	}
	return member{node: i}
}

// named replaces the IDs of replicas by their names.
func (s *stage) named(text string) string {
	for _, m := range s.w.control.made {
		text = strings.ReplaceAll(text, m.id.String(), fmt.Sprintf("r%d", m.node))
	}
	return text
}

// span is where a record stands.
type span struct{ from, to uint64 }

// hand is a writer whose steps the script takes: its log, and its sessions.
type hand struct {
	term     format.Fence
	ring     format.Ring
	chain    format.Chain
	seal     format.Seal // its own
	seals    []format.Seal
	set      []format.ID
	sessions map[int][]*pmemlog.Session
	sealed   map[int]bool
	durable  map[int]uint64 // as each replica has acknowledged
	told     uint64         // below it its caller knows that all is committed
}

func (s *stage) newHand(term format.Fence) *hand {
	return &hand{
		term: term, ring: make(format.Ring, s.w.cfg.Capacity), chain: format.Chain{Epoch: term.Epoch},
		set:      idsOf(s.w.control.set),
		sessions: map[int][]*pmemlog.Session{}, sealed: map[int]bool{}, durable: map[int]uint64{},
	}
}

// goOn begins h's log with another's up to LSN t.
func (h *hand) goOn(from *hand, t uint64) {
	copy(h.ring, from.ring)
	point := from.trimPoint(t)
	h.chain.LSN, h.chain.CRC = point.LSN, point.CRC
	for _, seal := range append([]format.Seal{from.seal}, from.seals...) {
		if seal.Epoch > 0 && seal.T <= t {
			h.seals = format.AddSeal(h.seals, seal)
		}
	}
	h.told = t
}

// begin fixes where h's epoch begins.
func (h *hand) begin(version uint64) {
	h.seal = format.Seal{Epoch: h.term.Epoch, Nonce: h.term.Nonce, T: h.chain.LSN, Prev: h.chain.CRC, SetVersion: version}
}

// trimPoint returns the end of the record that ends at lsn.
func (h *hand) trimPoint(lsn uint64) format.TrimPoint {
	for _, m := range marksOf(h.ring, 0, h.chain.LSN) {
		if m.end == lsn {
			return format.TrimPoint{LSN: lsn, Epoch: m.epoch, CRC: m.crc}
		}
	}
	return format.TrimPoint{LSN: lsn}
}

func (h *hand) append(name byte, commit uint64) format.Header {
	return h.ring.Append(&h.chain, commit, format.Record{Payload: payload(name)})
}

// payload makes a record of 128 bytes that shows its name.
func payload(name byte) []byte { return bytes.Repeat([]byte{name}, 64) }

// session returns the newest session that h has with a replica, the one before
// it if old, or an error.
func (h *hand) session(i int, old bool) (*pmemlog.Session, error) {
	all := h.sessions[i]
	k := len(all) - 1
	if old {
		k--
	}
	if k < 0 {
		return nil, fmt.Errorf("epoch %d has no such session with r%d", h.term.Epoch, i)
	}
	return all[k], nil
}

// fence opens a session and fences the replica.
func (s *stage) fence(h *hand, i int) (format.Report, error) {
	m, n := s.member(i), s.w.nodes[i]
	if !n.up() {
		return format.Report{}, errBroken
	}
	c, err := n.hello(m, h.term, false)
	if err != nil {
		return format.Report{}, err
	}
	rep, err := c.Fence(h.term)
	if err != nil {
		return rep, err
	}
	h.sessions[i] = append(h.sessions[i], c)
	s.fencers[i] = c
	s.w.control.term.Epoch = max(s.w.control.term.Epoch, h.term.Epoch)
	s.w.control.highest = max(s.w.control.highest, h.term.Epoch)
	n.checkReport(m.id, rep)
	return rep, nil
}

// sealIn seals h's epoch in, at the replica's own tail or, ahead of it, at
// another one.
func (s *stage) sealIn(h *hand, i int, ahead bool, tail uint64) error {
	if len(h.sessions[i]) == 0 {
		if _, err := s.fence(h, i); err != nil {
			return err
		}
	}
	c, err := h.session(i, false)
	if err != nil {
		return err
	}
	in := pmemlog.SealIn{Seals: format.AddSeal(h.seals, h.seal), Set: h.set, Tail: c.Replica().Info().Tail}
	if ahead {
		in.Tail = tail
	}
	in.Hint = format.Position{Epoch: h.term.Epoch, LSN: in.Tail}
	if err := c.Seal(in); err != nil {
		return err
	}
	h.sealed[i] = true
	s.w.nodes[i].names(s.member(i).id, h.term)
	return nil
}

// put writes [from, to) of h's log. I4: a session that another one has fenced
// writes nothing.
func (s *stage) put(h *hand, c *pmemlog.Session, i int, from, to uint64) error {
	if err := c.Write(from, h.ring.At(from, int(to-from))); err != nil {
		return err
	}
	if c != s.fencers[i] {
		s.w.fail("I4", "epoch %d wrote [%d, %d) through a session that was ended, after r%d had answered a fence", h.term.Epoch, from, to, i)
	}
	s.w.nodes[i].checkSpace(c.Replica(), from, to)
	return nil
}

func (s *stage) flush(h *hand, c *pmemlog.Session, i int) (uint64, error) {
	durable, err := c.Flush()
	if err != nil {
		return 0, err
	}
	h.durable[i] = durable
	if id := s.member(i).id; !s.w.damaged[id] { // a flip takes back what was persistent
		s.w.nodes[i].checkDurable(id, h.term, durable)
	}
	return durable, nil
}

// acknowledge tells h's caller what an ack quorum of sealed replicas has.
func (s *stage) acknowledge(h *hand) []mark {
	commit := uint64(0)
	for _, at := range h.durable {
		n := 0
		for i, other := range h.durable {
			if h.sealed[i] && other >= at {
				n++
			}
		}
		if n >= s.w.cfg.Ack {
			commit = max(commit, at)
		}
	}
	if commit <= h.told {
		return nil
	}
	log := marksOf(h.ring, h.told, commit)
	h.told = commit
	s.w.model.acknowledged(h.term, log)
	return log
}

// stop ends a daemon's process; nothing is lost by it.
func (s *stage) stop(i int) {
	n := s.w.nodes[i]
	n.pool, n.registered, n.medium = nil, false, n.medium.CrashKeepingUnsynced()
}

// cutPower takes the power from a daemon. Of what was not persistent the given
// stretches of the log survive.
func (s *stage) cutPower(i int, kept []span) {
	n := s.w.nodes[i]
	now, ring := n.medium.Image(), n.ring(s.member(i).id)
	image := n.medium.CrashClean().Image()
	for _, k := range kept {
		copy(image[ring+int64(k.from):ring+int64(k.to)], now[ring+int64(k.from):])
	}
	n.pool, n.registered, n.medium = nil, false, pmemtest.Of(image, s.w.media())
}

// start starts a daemon, without waiting for the control plane.
func (s *stage) start(i int, register bool) {
	n := s.w.nodes[i]
	n.start()
	n.boot++ // or it would register by itself
	if register && n.up() {
		s.w.control.admit(n)
	}
}

// run lets time pass until done.
func (s *stage) run(most time.Duration, done func() bool) bool {
	for end := s.w.now + most; !done() && s.w.now < end && s.w.step(); {
	}
	return done()
}

// patience is how long a log may take to open, or an append.
const patience = 3 * time.Second

// contents lists the records of a ring by their names.
func contents(ring format.Ring, from, to uint64) string {
	var names []string
	for _, m := range marksOf(ring, from, to) {
		names = append(names, string(ring.At(m.lsn, format.HeaderSize+1)[format.HeaderSize]))
	}
	if names == nil {
		return "nothing"
	}
	return strings.Join(names, " ")
}

// ringOf returns a copy of a replica's ring.
func (s *stage) ringOf(i int) format.Ring {
	n := s.w.nodes[i]
	ring := make(format.Ring, s.w.cfg.Capacity)
	if off := n.ring(s.member(i).id); off >= 0 {
		copy(ring, n.medium.Image()[off:])
	}
	return ring
}
