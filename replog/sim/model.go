package sim

import (
	"sort"

	"github.com/gravenio/graven/pmemlog/format"
)

// mark is one committed record: its place, its epoch, and the checksum that
// covers it and, through the chain, all before it.
type mark struct {
	lsn, end uint64
	epoch    uint64
	commit   uint64 // that it carries
	crc      uint32
}

// model is what must be true of the log for ever: the records that some writer
// acknowledged, or found below the tail that it opened at.
type model struct {
	w         *world
	committed []mark // contiguous, in order
	trimmed   uint64 // the highest trim LSN that a writer decided on
	openers   []opener
	open      map[format.Fence]bool // the terms that have opened the log
}

// opener is a writer that has had its answers: it will go on from T.
type opener struct {
	term format.Fence
	log  []mark // [trim, T)
	trim uint64
	t    uint64
}

func (m *model) end() uint64 {
	if len(m.committed) == 0 {
		return 0
	}
	return m.committed[len(m.committed)-1].end
}

// at returns the index of the committed record at lsn, or of the next one.
func (m *model) at(lsn uint64) int {
	return sort.Search(len(m.committed), func(i int) bool { return m.committed[i].lsn >= lsn })
}

// opened checks a log that was opened with [trim, T) and takes it as committed.
// The writer may learn late that it has opened, when a later one has long gone
// on; what that one wrote is not missing.
func (m *model) opened(epoch uint64, log []mark, trim, t uint64) {
	if m.w.violation != nil {
		return
	}
	for _, r := range m.committed[m.at(t):] {
		if r.epoch < epoch {
			m.w.fail("I1", "epoch %d opened with the tail at LSN %d, acknowledged was %+v", epoch, t, r)
			return
		}
	}
	if trim > m.trimmed {
		m.w.fail("I1", "opened with the trim LSN %d, no one trimmed beyond %d", trim, m.trimmed)
		return
	}
	m.commit(log)
}

// commit takes records, contiguous and in order, as committed.
func (m *model) commit(log []mark) {
	for _, r := range log {
		i := m.at(r.lsn)
		switch {
		case i < len(m.committed) && m.committed[i] == r:
			continue
		case i < len(m.committed):
			m.w.fail("I2", "at LSN %d there was %+v, and now %+v", r.lsn, m.committed[i], r)
			return
		case r.lsn != m.end():
			m.w.fail("I3", "record at LSN %d, but the log ended at %d", r.lsn, m.end())
			return
		}
		m.committed = append(m.committed, r)
	}
}

// answered remembers that a writer has its answers and goes on from them.
func (m *model) answered(term format.Fence, log []mark, trim, t uint64) {
	m.openers = append(m.openers, opener{term: term, log: log, trim: trim, t: t})
}

// acknowledged checks what a writer tells its caller.
func (m *model) acknowledged(term format.Fence, log []mark) {
	for _, o := range m.openers {
		if o.term == term || o.term.Epoch < term.Epoch {
			continue
		}
		for _, r := range log {
			if r.lsn < o.trim || holds(o.log, r) {
				continue
			}
			m.w.fail("I4", "epoch %d acknowledged LSN %d, which the log that epoch %d opened lacks", term.Epoch, r.lsn, o.term.Epoch)
			return
		}
	}
	m.commit(log)
}

func holds(log []mark, r mark) bool {
	i := sort.Search(len(log), func(i int) bool { return log[i].lsn >= r.lsn })
	return i < len(log) && log[i] == r
}

// marksOf lists the records of a ring in [from, to).
func marksOf(r format.Ring, from, to uint64) []mark {
	var out []mark
	for lsn := from; lsn < to; {
		h, err := format.DecodeHeader(r.At(lsn, format.HeaderSize))
		if err != nil || h.LSN != lsn || h.Size() > r.ToEnd(lsn) || !h.CheckCRC(r.At(lsn, int(h.Size()))) {
			return out
		}
		out = append(out, mark{lsn: lsn, end: h.End(), epoch: h.Epoch, commit: h.Commit, crc: h.CRC})
		lsn = h.End()
	}
	return out
}
