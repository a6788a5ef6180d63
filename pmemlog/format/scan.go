package format

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrStopped is what a [Source] fails with when the scan is to end, whatever the
// medium holds: because its caller has gone away, or what is read has changed.
var ErrStopped = errors.New("format: scan stopped by its source")

// Source is a ring to scan. View returns the n bytes at offset off, which lie
// within the ring; they stay valid until the next call. An error means that
// the medium could not read them, unless it is ErrStopped, which ends the scan.
type Source interface {
	Capacity() uint64
	View(off int64, n int) ([]byte, error)
}

// ScanInput is what a replica knows beside its ring.
type ScanInput struct {
	Trim  TrimPoint
	Seals []Seal   // in any order
	Hint  Position // the newest one found

	// OnBeyond, if not nil, sees the header of each record that Scan counts in
	// ScanResult.Beyond, in the order of LSN.
	OnBeyond func(Header)
}

// ScanResult is what the bytes prove.
type ScanResult struct {
	Chain    Chain    // the tail: LSN, CRC and epoch that the next record must follow
	Written  uint64   // the epoch of the last valid record, the trim point's without one; a seal that matches behind it makes Chain.Epoch higher
	Last     Position // (epoch, tail): what an opener compares
	Pairs    []Pair   // in the order of First
	Records  uint64   // valid data records in [trim, tail)
	Commit   uint64   // the highest commit LSN that a valid record carries
	Evidence Position // what this replica, or a quorum, must once have had
	Beyond   uint64   // records with a good CRC found behind the tail
	Stop     error    // why the record at the tail is none
}

// Suspect reports whether the replica has lost something: its evidence lies
// beyond what it holds.
func (r *ScanResult) Suspect() bool { return r.Evidence.After(r.Last) }

// Scan reads a ring from its trim LSN on: first the valid records, one behind
// the other; then, where they stop, on through the window for what a power cut
// or damage has left behind.
//
// Unflushed lines reach a medium in any order, so a good record behind a bad
// one may be nothing but a torn tail. Such a record tells more: the commit LSN
// that it carries was acknowledged by a quorum, under its epoch. The highest
// such pair, and the hint, are the replica's evidence.
//
// visit, if not nil, sees each valid record with its payload, which it may keep
// only until it returns; an error of its ends the scan. A source that can't
// read a record ends the log there, with the source's error in Stop. Behind it,
// what can be read beside a page that can't still testifies.
//
// A record of another version that stands where the next one must and is whole
// makes Scan fail with ErrVersion: taken for the end, it would be overwritten.
func Scan(src Source, in ScanInput, visit func(Header, []byte) error) (ScanResult, error) {
	s := scanner{src: src, in: in, seals: append([]Seal(nil), in.Seals...)}
	SortSeals(s.seals)
	s.begin()
	if err := s.check(); err != nil {
		return s.res, err
	}
	if err := s.follow(visit); err != nil {
		return s.res, err
	}
	s.res.Last = Position{Epoch: s.res.Chain.Epoch, LSN: s.res.Chain.LSN}
	s.res.Evidence = in.Hint // rule: evidence of the hint
	err := s.lookBeyond()
	return s.res, err
}

type scanner struct {
	src   Source
	in    ScanInput
	seals []Seal
	res   ScanResult
}

// check refuses what would lead the scan past the end of the ring.
func (s *scanner) check() error {
	if trim, capacity := s.in.Trim.LSN, s.src.Capacity(); trim%Align != 0 || capacity < Align || capacity%Align != 0 {
		return fmt.Errorf("%w: trim LSN %d of a ring of %d bytes, both must be multiples of %d", ErrLength, trim, capacity, Align)
	}
	return nil
}

// begin sets the chain at the trim LSN and opens the first pair: the epoch of
// the record that was trimmed last, under the nonce of its seal if that is
// still known. Epoch 0 is the empty log, which all replicas share.
func (s *scanner) begin() {
	t := s.in.Trim
	s.res.Chain = Chain{LSN: t.LSN, CRC: t.CRC, Epoch: t.Epoch} // rule: a trimmed log keeps its epoch
	s.res.Written = t.Epoch
	first := Pair{Fence: Fence{Epoch: t.Epoch}, First: t.LSN, Known: t.Epoch == 0}
	for _, seal := range s.seals {
		if seal.T < t.LSN && seal.Epoch == t.Epoch {
			first.Fence, first.Known = seal.Fence(), true
		}
	}
	s.res.Pairs = append(s.res.Pairs, first)
}

// enter applies the seals that stand at the chain's LSN.
func (s *scanner) enter() {
	c := &s.res.Chain
	for _, seal := range s.seals {
		if seal.T != c.LSN || seal.Prev != c.CRC || seal.Epoch < c.Epoch { // rule: a seal must match
			continue
		}
		c.Epoch = seal.Epoch // rule: matching seal
		s.res.Pairs = append(s.res.Pairs, Pair{Fence: seal.Fence(), First: seal.T, Known: true})
	}
}

func (s *scanner) follow(visit func(Header, []byte) error) error {
	c := &s.res.Chain
	for {
		s.enter()
		before := c.Epoch
		h, rec, err := s.next()
		if errors.Is(err, ErrVersion) { // rule: another version is not the end
			s.res.Stop = err
			return fmt.Errorf("record at LSN %d: %w", c.LSN, err)
		}
		if errors.Is(err, ErrStopped) {
			return err
		}
		if err != nil {
			s.res.Stop = err
			return nil
		}
		s.count(&h, before)
		if visit != nil {
			if err := visit(h, rec[HeaderSize:HeaderSize+int(h.Length)]); err != nil {
				return err
			}
		}
	}
}

// next moves the chain past the record behind it. Without one it leaves the
// chain as it is and returns why.
func (s *scanner) next() (Header, []byte, error) {
	c, limit := &s.res.Chain, s.in.Trim.LSN+s.src.Capacity()
	if c.LSN >= limit {
		return Header{}, nil, ErrNoRecord
	}
	rec, err := s.record(c.LSN)
	if err != nil {
		return Header{}, nil, err
	}
	was := *c
	h, err := c.Follow(rec)
	if err == nil && h.End() > limit {
		*c, err = was, ErrLength
	}
	return h, rec, err
}

// count adds a record, whose predecessor was of epoch before, to the result.
func (s *scanner) count(h *Header, before uint64) {
	if h.Epoch > before {
		s.res.Pairs = append(s.res.Pairs, Pair{Fence: Fence{Epoch: h.Epoch}, First: h.LSN})
	}
	s.res.Written = h.Epoch
	s.res.Commit = max(s.res.Commit, h.Commit)
	if h.Kind == KindData {
		s.res.Records++
	}
}

// record returns the bytes of the record whose header stands at LSN, as far as
// that header can be believed about its length. Of what version it is, is for
// those to say who have checked its CRC.
func (s *scanner) record(lsn uint64) ([]byte, error) {
	off := int64(lsn % s.src.Capacity())
	head, err := s.src.View(off, HeaderSize)
	if err != nil {
		return nil, err
	}
	h, err := readHeader(head)
	if err != nil {
		return nil, err
	}
	if h.LSN != lsn { // rule: lsn
		return nil, ErrLSN
	}
	if h.Size() > ToEnd(lsn, s.src.Capacity()) {
		return nil, ErrLength
	}
	return s.src.View(off, int(h.Size()))
}

// How much of the ring is looked through at a time, in bytes: a chunk, or where
// the medium can't read, as little as a page, which is what memory loses at once.
const (
	beyondChunk = 256 << 10
	beyondPage  = 4 << 10
)

// lookBeyond goes through the rest of the window, from the tail to trim +
// capacity, for records of this lap with a good CRC and an epoch that is not
// lower than the log's. A record of another version testifies, too: all that is
// asked of it stands at the same place in every version. One whose CRC does not
// match is no evidence, whatever version it names.
//
// What can't be read is narrowed down to pages, so that it hides no more than
// itself. The size of a look falls by half with each failure and doubles with
// each success, so that a page costs one failed look however many are bad.
func (s *scanner) lookBeyond() error {
	capacity := s.src.Capacity()
	limit := s.in.Trim.LSN + capacity
	for lsn, size := s.res.Chain.LSN, uint64(beyondChunk); lsn < limit; {
		off := lsn % capacity
		n := min(limit-lsn, capacity-off, size-off%beyondPage)
		chunk, err := s.src.View(int64(off), int(n))
		switch {
		case err == nil:
			lsn += s.lookThrough(lsn, chunk)
			size = min(2*size, beyondChunk)
		case errors.Is(err, ErrStopped):
			return err
		case size > beyondPage:
			size /= 2
		default: // unreadable: it can't testify
			lsn += n
		}
	}
	return nil
}

// lookThrough returns how far it got: through the whole chunk, or just past the
// header of a record that crosses its end and so had to be viewed anew, which
// may have replaced the chunk.
func (s *scanner) lookThrough(lsn uint64, chunk []byte) uint64 {
	le := binary.LittleEndian
	for i := 0; i+HeaderSize <= len(chunk); {
		b := chunk[i:]
		if le.Uint16(b[8:]) != recordMagic || le.Uint64(b[24:]) != lsn+uint64(i) {
			i += Align
			continue
		}
		h, err := readHeader(b)
		if err == nil && h.Size() > uint64(len(b)) {
			if rec, err := s.record(lsn + uint64(i)); err == nil {
				s.testify(h, rec)
			}
			return uint64(i) + Align
		}
		if err == nil && s.testify(h, b) {
			i += int(h.Size()) // what its payload looks like is no evidence
			continue
		}
		i += Align
	}
	return uint64(len(chunk))
}

// testify takes a record behind the tail as evidence and reports whether its
// CRC was good.
func (s *scanner) testify(h Header, rec []byte) bool {
	if !h.CheckCRC(rec) {
		return false
	}
	if h.Epoch >= s.res.Chain.Epoch {
		s.res.Beyond++
		if s.in.OnBeyond != nil {
			s.in.OnBeyond(h)
		}
		s.res.Evidence = s.res.Evidence.Max(Position{Epoch: h.Epoch, LSN: h.Commit}) // rule: evidence of records
	}
	return true
}

// Boundary checks that a record ends at LSN, in [trim, tail) of a ring, and
// returns the chain there: what the next record must follow. It reads from the
// trim LSN on and leaves seals aside, since what follows may be another
// writer's rewriting. Where the log ends before LSN, the error is also why it
// does, such as the source's.
func Boundary(src Source, trim TrimPoint, lsn uint64) (Chain, error) {
	s := scanner{src: src, in: ScanInput{Trim: trim}}
	s.begin()
	if err := s.check(); err != nil {
		return Chain{}, err
	}
	at := s.res.Chain
	if lsn == at.LSN {
		return at, nil
	}
	err := s.follow(func(h Header, _ []byte) error {
		at = Chain{LSN: h.End(), CRC: h.CRC, Epoch: h.Epoch}
		if at.LSN >= lsn {
			return errReached
		}
		return nil
	})
	if err != nil && !errors.Is(err, errReached) {
		return Chain{}, err
	}
	if at.LSN != lsn {
		return Chain{}, fmt.Errorf("format: LSN %d is no record boundary of a log that goes from %d to %d: %w", lsn, trim.LSN, at.LSN, s.stop())
	}
	return at, nil
}

var errReached = errors.New("format: reached")

// stop returns why the log ends where it does: ErrNoRecord if it goes on, but no
// record of it ends where it was asked to.
func (s *scanner) stop() error {
	if s.res.Stop == nil {
		return ErrNoRecord
	}
	return s.res.Stop
}
