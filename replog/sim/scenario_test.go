package sim

import (
	"bytes"
	"testing"
	"time"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/pmemlog/pmemtest"
	"github.com/gravenio/graven/replog/core"
)

// stage is a world without chance, set up by hand: three replicas, an ack
// quorum of two, all of them present.
type stage struct {
	t *testing.T
	w *world
}

func newStage(t *testing.T) *stage {
	cfg := Config{Seed: 1, Replicas: 3, Ack: 2}.withDefaults()
	cfg.Spares = 0
	w := newWorld(cfg)
	w.faults, w.sizes, w.batch = false, 1, 1024
	for i := range w.nodes {
		w.control.set[i].state = core.Present
	}
	s := &stage{t: t, w: w}
	for i := range w.nodes {
		if _, err := s.hello(i, true); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *stage) hello(i int, mayMake bool) (*pmemlog.Session, error) {
	return s.w.nodes[i].hello(s.w.control.set[i], format.Fence{}, mayMake)
}

func term(epoch uint64) format.Fence { return format.Fence{Epoch: epoch, Nonce: epoch * 1000} }

// book is a log as its writer has it.
type book struct {
	ring  format.Ring
	chain format.Chain
}

func (s *stage) book(epoch uint64) *book {
	return &book{ring: make(format.Ring, s.w.cfg.Capacity), chain: format.Chain{Epoch: epoch}}
}

// write appends records of 128 bytes, each of which carries the commit LSN.
func (b *book) write(commit uint64, payloads ...byte) {
	for _, p := range payloads {
		b.ring.Append(&b.chain, commit, format.Record{Payload: bytes.Repeat([]byte{p}, 64)})
	}
}

// fenced returns a session that has fenced node i.
func (s *stage) fenced(i int, epoch uint64) *pmemlog.Session {
	s.t.Helper()
	s.w.control.term.Epoch = max(s.w.control.term.Epoch, epoch)
	c, err := s.hello(i, false)
	if err == nil {
		_, err = c.Fence(term(epoch))
	}
	if err != nil {
		s.t.Fatalf("fence node %d in epoch %d: %v", i, epoch, err)
	}
	return c
}

// sealed is fenced, and seals the epoch in at LSN 0 of the empty log.
func (s *stage) sealed(i int, epoch uint64) *pmemlog.Session {
	s.t.Helper()
	c := s.fenced(i, epoch)
	own := format.Seal{Epoch: epoch, Nonce: term(epoch).Nonce, SetVersion: 1}
	s.must(c.Seal(pmemlog.SealIn{Seals: []format.Seal{own}, Hint: format.Position{Epoch: epoch}}))
	return c
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// put writes [from, to) of the book without a flush.
func (s *stage) put(c *pmemlog.Session, b *book, from, to uint64) {
	s.t.Helper()
	s.must(c.Write(from, b.ring.At(from, int(to-from))))
}

func (s *stage) flush(c *pmemlog.Session) {
	s.t.Helper()
	_, err := c.Flush()
	s.must(err)
}

// committed says that the book's records in [0, to) have been acknowledged.
func (s *stage) committed(b *book, to uint64) { s.w.model.commit(marksOf(b.ring, 0, to)) }

// down stops a daemon; nothing is lost by it.
func (s *stage) down(i int) {
	n := s.w.nodes[i]
	n.pool, n.medium = nil, n.medium.CrashKeepingUnsynced()
}

func (s *stage) up(i int) {
	s.w.nodes[i].start()
	s.w.nodes[i].registered = true
}

func (s *stage) ring(i int) int64 { return s.w.nodes[i].ring(s.w.control.set[i].id) }

func (s *stage) flip(i int, lsn uint64) {
	n := s.w.nodes[i]
	n.medium.FlipBit(s.ring(i)+int64(lsn)+70, 3)
}

// run lets writer x go on for a while, or until done.
func (s *stage) run(x *writer, done func() bool) {
	for end := s.w.now + 3*time.Second; !done() && s.w.now < end && s.w.step(); {
	}
	if v := s.w.violation; v != nil {
		s.t.Fatal(v)
	}
}

// mustWait says that an opener can't be sure, and must not open.
func (s *stage) mustWait() *writer {
	s.t.Helper()
	x := s.w.newWriter()
	s.run(x, func() bool { return x.opened })
	if x.opened {
		s.w.fail("I1", "epoch %d opened at LSN %d, though what was acknowledged may be missing", x.term.Epoch, x.core.Commit())
		s.t.Fatal(s.w.violation)
	}
	return x
}

// mustOpen says that a writer must open, and that appends must go through.
func (s *stage) mustOpen(x *writer) {
	s.t.Helper()
	s.run(x, x.content)
	if !x.content() {
		s.w.fail("liveness", "epoch %d is %s: %s", x.term.Epoch, x.core.Phase(), x.core.Waiting())
		s.t.Fatal(s.w.violation)
	}
}

const rec = 128 // size of a book's record

// TestScenario replays the ways in which drafts of the rules lost data.
func TestScenario(t *testing.T) {
	t.Parallel()
	t.Run("hybrid log", func(t *testing.T) {
		t.Parallel()
		s := newStage(t)
		old := s.book(1)
		old.write(0, 'a', 'b')
		c := s.sealed(0, 1)
		s.put(c, old, 0, 2*rec)
		s.flush(c)
		now := s.book(2)
		now.write(0, 'A', 'B')
		for i := 1; i <= 2; i++ {
			c := s.sealed(i, 2)
			s.put(c, now, 0, 2*rec)
			s.flush(c)
		}
		s.committed(now, 2*rec)
		c = s.fenced(0, 3) // a writer brings node 0 up to date, and the power goes
		s.must(c.Align(0))
		s.put(c, now, 0, 2*rec)
		s.w.nodes[0].medium = s.keepOnly(0, old, now)
		s.w.nodes[0].pool = nil
		s.up(0)
		s.down(2)
		s.mustOpen(s.w.newWriter())
	})
	t.Run("records testify", func(t *testing.T) {
		t.Parallel()
		s := newStage(t)
		b := s.book(1)
		b.write(0, 'A', 'B')
		b.write(2*rec, 'C') // carries that A and B are committed
		c := s.sealed(0, 1)
		s.put(c, b, 0, 2*rec)
		s.flush(c)
		s.put(c, b, 2*rec, 3*rec)
		s.down(0) // before a flush could carry the hint
		c = s.sealed(1, 1)
		s.put(c, b, 0, 2*rec)
		s.flush(c)
		s.sealed(2, 1)
		s.committed(b, 2*rec)
		s.flip(0, 0)
		s.up(0)
		s.down(1)
		x := s.mustWait()
		s.up(1)
		s.mustOpen(x)
	})
	t.Run("flip between fence and alignment", func(t *testing.T) {
		t.Parallel()
		s := newStage(t)
		b := s.book(1)
		b.write(0, 'A', 'B', 'C')
		for i, n := range []uint64{2 * rec, 3 * rec} {
			c := s.sealed(i, 1)
			s.put(c, b, 0, n)
			s.flush(c)
		}
		s.sealed(2, 1)
		s.committed(b, 2*rec)
		s.down(0)
		s.up(0)             // it has forgotten what it acknowledged last, and finds it by its scan
		c := s.fenced(0, 2) // node 0 says that it holds A and B
		s.flip(0, 0)
		s.put(c, b, 2*rec, 3*rec)
		s.flush(c)
		s.down(0)
		s.up(0)
		s.down(1)
		x := s.mustWait()
		s.up(1)
		s.mustOpen(x)
	})
	t.Run("suspect is reset", func(t *testing.T) {
		t.Parallel()
		s := newStage(t)
		b := s.book(1)
		b.write(0, 'A', 'B')
		for i := range 2 {
			c := s.sealed(i, 1)
			s.put(c, b, 0, 2*rec)
			s.flush(c)
			s.must(c.Replica().PersistHint())
		}
		s.sealed(2, 1)
		s.committed(b, 2*rec)
		s.flip(0, rec)
		c := s.fenced(0, 2)
		head, err := format.DecodeHeader(b.ring)
		s.must(err)
		s.must(c.Reset(format.TrimPoint{LSN: rec, Epoch: 1, CRC: head.CRC}))
		s.w.model.trimmed = rec
		s.down(1)
		x := s.mustWait()
		s.up(1)
		s.mustOpen(x)
	})
	t.Run("committed without a seal", func(t *testing.T) {
		t.Parallel()
		s := newStage(t)
		old, late := s.book(1), s.book(2)
		old.write(0, 'A')
		late.write(0, 'Z')
		c := s.sealed(0, 1)
		s.put(c, old, 0, rec)
		s.flush(c)
		c = s.sealed(1, 2)
		s.put(c, late, 0, rec)
		s.flush(c)
		s.down(1)
		x := s.w.newWriter() // finds A on node 0, copies it to node 2, and dies before a seal lands
		s.run(x, func() bool {
			return x.opened || x.core.Status()[2].Stage == "sealing" || x.core.Status()[0].Stage == "sealing" && x.core.Status()[2].Durable == rec
		})
		x.die()
		for i := range s.w.nodes {
			if l := x.seats[i].link; l != nil {
				l.until = s.w.now
			}
		}
		s.down(0)
		s.up(1)
		s.mustOpen(s.w.newWriter())
	})
	t.Run("an epoch handed out twice", func(t *testing.T) {
		t.Parallel()
		s := newStage(t)
		b := s.book(1)
		b.write(0, 'A')
		first := []*pmemlog.Session{s.sealed(0, 1), s.sealed(1, 1)}
		again, err := s.hello(1, false) // the control plane was set back: epoch 1 has a second writer
		s.must(err)
		rep, err := again.Fence(format.Fence{Epoch: 1, Nonce: 7})
		if err != nil {
			return // refused: the promise was to the first
		}
		first[1] = s.fenced(1, 1) // and the first comes back
		for _, c := range first {
			s.put(c, b, 0, rec)
			s.flush(c)
		}
		s.w.fail("I4", "an opener was told that node 1 ends at LSN %d, and then its rival had %d acknowledged there", rep.Tail, rec)
		t.Fatal(s.w.violation)
	})
	t.Run("seal of a failed open", func(t *testing.T) {
		t.Parallel()
		s := newStage(t)
		b := s.book(1)
		b.write(0, 'A', 'B')
		c := s.sealed(0, 1)
		s.put(c, b, 0, 2*rec)
		s.flush(c)
		s.sealed(1, 1)
		s.sealed(2, 2) // an opener that saw nothing of A and B, and got no further than here
		s.down(2)
		x := s.w.newWriter()
		s.run(x, func() bool { return x.opened })
		s.up(2)
		s.down(1)
		s.mustOpen(x)
	})
}

// keepOnly takes the power from node i so that of the unsynced bytes only the
// new log's second record survives, behind the old log's first.
func (s *stage) keepOnly(i int, old, now *book) *pmemtest.Medium {
	n := s.w.nodes[i]
	off := s.ring(i)
	image := n.medium.CrashClean().Image()
	if !bytes.Equal(image[off:off+rec], old.ring[:rec]) {
		s.t.Fatal("the old log's first record is not there any more")
	}
	copy(image[off+rec:], now.ring[rec:2*rec])
	return pmemtest.Of(image, pmemtest.Options{})
}
