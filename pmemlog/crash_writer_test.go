package pmemlog_test

import (
	"fmt"
	"slices"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
)

// change carries out what replaces a header: after a crash the state is the one
// before, or next.
func (w *world) change(b byte, next state, do func(*pmemlog.Session) error) error {
	r := w.book.replicas[b]
	r.states = append(r.states[:1:1], next)
	if err := do(w.sessions[b]); err != nil {
		return err
	}
	r.states = []state{next}
	return nil
}

// next returns a copy of what is promised of a replica, to change; each header
// write carries what was acknowledged before it.
func (w *world) nextState(b byte) state {
	r := w.book.replicas[b]
	next := *r.now()
	next.floor = next.floor.Max(r.acked)
	return next
}

// takeOver fences in the next term and seals the replica in.
func (w *world) takeOver(b byte) error {
	if err := w.fence(b, term(w.book.replicas[b].now().fenced.Epoch+1)); err != nil {
		return err
	}
	return w.seal(b)
}

// fence compares what the replica reports with the book. What it reports is
// promised from then on.
func (w *world) fence(b byte, term format.Fence) error {
	r, err := w.p.Replica(id(b))
	if err != nil {
		return err
	}
	w.sessions[b] = r.Attach(false)
	next := w.nextState(b)
	next.fenced = term
	var rep format.Report
	err = w.change(b, next, func(s *pmemlog.Session) error {
		var err error
		rep, err = s.Fence(term)
		return err
	})
	if err != nil {
		return err
	}
	return w.reported(b, &rep)
}

func (w *world) reported(b byte, rep *format.Report) error {
	r, s := w.book.replicas[b], w.book.replicas[b].now()
	if rep.Fenced != s.fenced || rep.Trim != s.trim || !slices.Equal(rep.Seals, s.seals) || rep.Durable != rep.Tail {
		return fmt.Errorf("report %+v, promised was %v", rep, *s)
	}
	if err := s.checkEvidence(rep); err != nil {
		return err
	}
	held, err := w.held(b, rep)
	if err != nil {
		return err
	}
	if rep.Tail < s.durable {
		return fmt.Errorf("tail is %d, acknowledged was %d", rep.Tail, s.durable)
	}
	for _, log := range s.logs {
		if n, ok := log.begins(rep.Trim.LSN, held); ok {
			s.logs = []history{log.cut(n).inEpoch(rep.Last.Epoch)}
			s.durable, s.floor, s.testify = rep.Tail, rep.Last.Max(s.lost), nil
			r.acked = format.Position{}
			return nil
		}
	}
	return fmt.Errorf("what the replica holds from %d to %d is the beginning of no log that was written", rep.Trim.LSN, rep.Tail)
}

// checkEvidence wants a suspect where something was lost, and only there.
func (s *state) checkEvidence(rep *format.Report) error {
	none := format.Position{}
	switch {
	case s.lost.After(rep.Evidence):
		return fmt.Errorf("evidence is %s, lost was %s", rep.Evidence, s.lost)
	case s.lost == none && rep.Suspect() && !slices.Contains(s.testify, rep.Evidence):
		return fmt.Errorf("suspect though nothing was lost: last %s, evidence %s, acknowledged %d", rep.Last, rep.Evidence, s.durable)
	case rep.Suspect():
		s.lost = rep.Evidence
	}
	return nil
}

// held reads what the replica holds.
func (w *world) held(b byte, rep *format.Report) ([]byte, error) {
	held := make([]byte, rep.Tail-rep.Trim.LSN)
	return held, w.sessions[b].Read(rep.Trim.LSN, held)
}

// seal seals the replica in at its tail.
func (w *world) seal(b byte) error {
	next := w.nextState(b)
	end := next.log().end()
	own := format.Seal{Epoch: next.fenced.Epoch, Nonce: next.fenced.Nonce, T: end.LSN, Prev: end.CRC, SetVersion: 1}
	next.seals = slices.DeleteFunc(slices.Clone(next.seals), func(s format.Seal) bool { return s.T > end.LSN })
	next.seals = format.AddSeal(next.seals, own)
	next.set = []format.ID{id(b)}
	next.floor = format.Position{Epoch: own.Epoch, LSN: end.LSN}
	next.logs = []history{next.log().inEpoch(own.Epoch)}
	next.lost, next.testify = format.Position{}, nil
	in := pmemlog.SealIn{Seals: next.seals, Set: next.set, Hint: next.floor, Tail: end.LSN}
	return w.change(b, next, func(s *pmemlog.Session) error { return s.Seal(in) })
}

func (w *world) reseal(b byte, version uint64, set ...format.ID) error {
	next := w.nextState(b)
	next.seals, next.set = slices.Clone(next.seals), set
	for i := range next.seals {
		if next.seals[i].Fence() == next.fenced {
			next.seals[i].SetVersion = version
		}
	}
	return w.change(b, next, func(s *pmemlog.Session) error { return s.Reseal(version, set) })
}

// encode books records that are about to be written.
func (w *world) encode(b byte, sizes ...int) (lsn uint64, p []byte) {
	r := w.book.replicas[b]
	s := r.now()
	epoch := s.fenced.Epoch
	if !s.sealed() { // records of the chosen log
		epoch = max(s.log().end().Epoch, s.fenced.Epoch-1)
	}
	lsn = s.log().end().LSN
	r.stamp++
	grown, p := s.log().grow(r.capacity, epoch, s.durable, r.stamp, sizes...)
	s.logs = append([]history{grown}, s.logs[1:]...)
	if s.testify != nil {
		s.testify = append(slices.Clip(s.testify), grown.evidence()...)
	}
	return lsn, p
}

// append writes records with one Write.
func (w *world) append(b byte, sizes ...int) error {
	lsn, p := w.encode(b, sizes...)
	return w.sessions[b].Write(lsn, p)
}

// commit writes records and has them acknowledged, with one Append.
func (w *world) commit(b byte, sizes ...int) error {
	lsn, p := w.encode(b, sizes...)
	durable, err := w.sessions[b].Append(lsn, p)
	if err != nil {
		return err
	}
	return w.book.replicas[b].acknowledge(durable)
}

// room says whether a record fits.
func (w *world) room(b byte, payload int) bool {
	r := w.book.replicas[b]
	s, size := r.now(), format.RecordSize(payload)
	end := s.log().end().LSN
	return end+size+format.PadBefore(end, size, r.capacity) <= s.trim.LSN+r.capacity
}

func (w *world) flush(b byte) error {
	durable, err := w.sessions[b].Flush()
	if err != nil {
		return err
	}
	return w.book.replicas[b].acknowledge(durable)
}

func (w *world) persistHint(b byte) error {
	if err := w.sessions[b].Replica().PersistHint(); err != nil {
		return err
	}
	r := w.book.replicas[b]
	r.now().floor = r.now().floor.Max(r.acked)
	return nil
}

func (w *world) trim(b byte, lsn uint64) error {
	next := w.nextState(b)
	log := next.log()
	at := log.ends[log.boundary(lsn)]
	next.trim = format.TrimPoint{LSN: at.LSN, Epoch: at.Epoch, CRC: at.CRC}
	return w.change(b, next, func(s *pmemlog.Session) error { return s.Trim(next.trim) })
}

// align keeps the log up to lsn. Until it has returned, nothing of what lies
// behind may be lost; only the hint may have fallen.
func (w *world) align(b byte, lsn uint64) error {
	s := w.book.replicas[b].now()
	if s.lost == (format.Position{}) {
		s.floor = format.Position{}
	}
	if err := w.sessions[b].Align(lsn); err != nil {
		return err
	}
	old := s.log()
	kept := old.cut(old.boundary(lsn))
	s.logs = append([]history{kept}, s.logs...)
	s.durable, s.testify = min(s.durable, lsn), old.evidence()
	w.book.replicas[b].acked = format.Position{}
	return nil
}

func (w *world) reset(b byte, at format.TrimPoint) error {
	next := w.nextState(b)
	next.trim, next.seals, next.set = at, nil, nil
	next.logs, next.durable = []history{emptyHistory(at)}, at.LSN
	next.floor = at.Position().Max(next.lost)
	if !next.lost.After(at.Position()) {
		next.lost = format.Position{}
	}
	return w.change(b, next, func(s *pmemlog.Session) error { return s.Reset(at) })
}
