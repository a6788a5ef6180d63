package pmemlog_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
)

// book is what a pool has promised, and what it is promising now. After a crash
// it must be one or the other, never a third.
type book struct {
	formatted bool
	identity  []pmemlog.Identity // what was promised first, then what is being promised
	replicas  map[byte]*replicaBook
}

// presence is whether a replica is in the pool.
type presence int

const (
	absent     presence = iota
	coming              // Create has not returned
	present             //
	going               // Delete has not returned
	gone                // never to be made anew
	forgetting          // its tombstone may have been used for another
)

// replicaBook is the part of one replica.
type replicaBook struct {
	capacity uint64
	presence presence
	states   []state // what was promised first, then what is being promised
	acked    format.Position
	stamp    byte // so that no two records look alike
}

// state is a header, and what goes with it.
type state struct {
	fenced format.Fence
	trim   format.TrimPoint
	seals  []format.Seal
	set    []format.ID

	logs    []history       // the ring holds the beginning of one of these; the writer's own comes first
	durable uint64          // and not less than this
	floor   format.Position // the hint is not lower
	lost    format.Position // the evidence of a suspect; zero for a replica that has lost nothing

	testify []format.Position // while an alignment is under way: what records behind the tail may say that a quorum once had
}

func (b *book) clone() book {
	c := book{formatted: b.formatted, identity: slices.Clone(b.identity), replicas: maps.Clone(b.replicas)}
	for id, r := range c.replicas {
		own := *r
		own.states = slices.Clone(r.states)
		c.replicas[id] = &own
	}
	return c
}

// String leaves out the bytes.
func (s state) String() string {
	return fmt.Sprintf("{fenced %+v, trim %+v, seals %+v, set %v, records of %v, durable %d, hint from %s on, lost %s}",
		s.fenced, s.trim, s.seals, s.set, s.logs, s.durable, s.floor, s.lost)
}

// now is the state that was promised.
func (r *replicaBook) now() *state { return &r.states[0] }

// log is what the writer has written.
func (s *state) log() history { return s.logs[0] }

// sealed says whether the writer of the term has sealed the replica in.
func (s *state) sealed() bool {
	return slices.ContainsFunc(s.seals, func(seal format.Seal) bool { return seal.Fence() == s.fenced })
}

// header says whether a slot is this state's.
func (s *state) header(slot *format.Slot) bool {
	return s.fenced == slot.Fenced && s.trim == slot.Trim && slices.Equal(s.seals, slot.Seals) && slices.Equal(s.set, slot.Set)
}

// settle takes the state whose header was found for the one that was promised.
func (r *replicaBook) settle(slot format.Slot) error {
	format.SortSeals(slot.Seals)
	i := slices.IndexFunc(r.states, func(s state) bool { return s.header(&slot) })
	if i < 0 {
		return fmt.Errorf("header %+v is none of those promised: %v", slot, r.states)
	}
	r.states, r.acked = []state{r.states[i]}, format.Position{}
	if floor := r.now().floor; floor.After(slot.Hint) {
		return fmt.Errorf("hint is %s, promised was %s", slot.Hint, floor)
	}
	return nil
}

// acknowledge notes that a flush has returned.
func (r *replicaBook) acknowledge(durable uint64) error {
	s := r.now()
	end := s.log().end()
	if durable != end.LSN {
		return fmt.Errorf("durable is %d after a flush, the tail %d", durable, end.LSN)
	}
	if durable == s.durable {
		return nil
	}
	s.floor = s.floor.Max(pmemlog.HintAfter(r.capacity, r.acked))
	s.durable, s.logs = durable, s.logs[:1:1]
	if s.sealed() {
		r.acked = format.Position{Epoch: end.Epoch, LSN: durable}
	}
	return nil
}

// history is a log as its writer wrote it. It never changes.
type history struct {
	from  uint64
	bytes []byte
	ends  []format.Chain // record boundaries, from the first
}

// String says where the records end.
func (h history) String() string {
	var ends []uint64
	for _, c := range h.ends {
		ends = append(ends, c.LSN)
	}
	return fmt.Sprint(ends)
}

func emptyHistory(at format.TrimPoint) history {
	return history{from: at.LSN, ends: []format.Chain{{LSN: at.LSN, CRC: at.CRC, Epoch: at.Epoch}}}
}

func (h history) end() format.Chain { return h.ends[len(h.ends)-1] }

// boundary returns the number of the boundary at lsn, -1 if there is none.
func (h history) boundary(lsn uint64) int {
	return slices.IndexFunc(h.ends, func(c format.Chain) bool { return c.LSN == lsn })
}

// cut returns the history up to the n-th boundary.
func (h history) cut(n int) history {
	h.ends = h.ends[: n+1 : n+1]
	size := h.end().LSN - h.from
	h.bytes = h.bytes[:size:size]
	return h
}

// inEpoch returns the history with a seal at its end.
func (h history) inEpoch(epoch uint64) history {
	h.ends = slices.Clone(h.ends)
	h.ends[len(h.ends)-1].Epoch = epoch
	return h
}

// evidence is what its records say that a quorum once had.
func (h history) evidence() []format.Position {
	out := []format.Position{}
	for _, at := range h.ends[:len(h.ends)-1] {
		header, err := format.DecodeHeader(h.bytes[at.LSN-h.from:])
		if err != nil {
			panic(err)
		}
		out = append(out, format.Position{Epoch: header.Epoch, LSN: header.Commit})
	}
	return out
}

// grow returns the history with records of the given payload sizes, and their
// bytes, pads included.
func (h history) grow(capacity, epoch, commit uint64, stamp byte, sizes ...int) (history, []byte) {
	ring, at := make(format.Ring, capacity), h.end()
	at.Epoch = epoch
	var grown []byte
	for i, n := range sizes {
		from, payload := at.LSN, make([]byte, n)
		for j := range payload {
			payload[j] = stamp + byte(i*31+j)
		}
		ring.Append(&at, commit, format.Record{Payload: payload})
		for _, segment := range ring.Segments(nil, from, at.LSN) {
			grown = append(grown, segment...)
		}
	}
	end, ends := h.end(), slices.Clone(h.ends)
	end.Epoch = epoch
	for rest := grown; len(rest) > 0; {
		header, err := end.Follow(rest)
		if err != nil {
			panic(err)
		}
		ends, rest = append(ends, end), rest[header.Size():]
	}
	return history{from: h.from, bytes: append(slices.Clip(h.bytes), grown...), ends: ends}, grown
}

// begins says whether the history begins with what a ring holds from lsn on, and
// where. What follows a payload up to the next multiple of 64 is covered by no
// checksum: the torn write of a whole record may leave anything there.
func (h history) begins(lsn uint64, held []byte) (int, bool) {
	first, last := h.boundary(lsn), h.boundary(lsn+uint64(len(held)))
	if first < 0 || last < 0 {
		return 0, false
	}
	for _, at := range h.ends[first:last] {
		record := h.bytes[at.LSN-h.from:]
		header, err := format.DecodeHeader(record)
		if err != nil {
			panic(err)
		}
		n := format.HeaderSize + int(header.Length)
		if !bytes.Equal(record[:n], held[at.LSN-lsn:][:n]) {
			return 0, false
		}
	}
	return last, true
}
