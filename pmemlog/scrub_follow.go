package pmemlog

import (
	"errors"

	"github.com/gravenio/graven/pmemlog/format"
)

// follower goes along the records of a replica that has been fenced, beside
// its writer: from the trim LSN to where the log was durable when it began.
type follower struct {
	*scrub
	then  *moment
	chain format.Chain
	goal  uint64
	want  uint64 // bytes to read next
	one   bool   // they are one record, or its header
	again bool   // they have been read once already, and were no good
}

func (s *scrub) follow(now *moment) error {
	f := follower{scrub: s, then: now, goal: now.durable}
	f.begin(now.trim)
	for f.chain.LSN < f.goal && s.res.Damage == nil {
		err := f.step()
		if errors.Is(err, errTrimmed) {
			var later moment
			if later, err = s.r.moment(); err == nil {
				f.begin(later.trim)
			}
		}
		if err != nil {
			return err
		}
	}
	if s.res.Damage != nil {
		return nil
	}
	return s.good(now, f.goal)
}

func (f *follower) begin(at format.TrimPoint) {
	f.chain = format.Chain{LSN: at.LSN, CRC: at.CRC, Epoch: at.Epoch}
	f.want, f.one, f.again = scrubChunk, false, false
}

// step reads a stretch and follows the records in it.
func (f *follower) step() error {
	lsn := f.chain.LSN
	p := f.take(min(f.want, f.rest()))
	err := f.read(p, f.r.ringOffset(lsn))
	if err != nil && !errors.Is(err, ErrUnreadable) {
		return err
	}
	if err := f.atRest(lsn); err != nil {
		return err
	}
	if err != nil {
		return f.narrow(uint64(len(p)), err)
	}
	return f.records(p)
}

// rest returns how many bytes the next record can have at most.
func (f *follower) rest() uint64 {
	return min(f.goal-f.chain.LSN, format.ToEnd(f.chain.LSN, f.r.entry.capacity))
}

func (f *follower) atRest(lsn uint64) error {
	f.r.mu.Lock()
	defer f.r.mu.Unlock()
	return f.r.unchanged(f.then, lsn)
}

// narrow reads less where a stretch of n bytes can't be read, down to one
// record.
func (f *follower) narrow(n uint64, why error) error {
	if f.one || n <= format.HeaderSize {
		return f.doubt(why)
	}
	f.want = max(n/2&^(format.Align-1), format.HeaderSize)
	return nil
}

// doubt reads a bad record once more before it is reported.
func (f *follower) doubt(why error) error {
	if !f.again {
		f.again = true
		return nil
	}
	return f.report(f.then, f.chain.LSN, why)
}

// records moves the chain along the records in p.
func (f *follower) records(p []byte) error {
	for len(p) > 0 {
		h, err := f.chain.Follow(p)
		size := h.Size()
		switch {
		case err == nil:
			p = p[size:]
			f.again = false
			if h.Kind == format.KindData {
				f.res.Records++
			}
		case errors.Is(err, format.ErrLength) && h.LSN == f.chain.LSN && size > uint64(len(p)) && size <= f.rest():
			f.want, f.one = size, true // the rest of it was not read yet
			return nil
		default:
			return f.doubt(err)
		}
	}
	f.want, f.one = min(2*f.want, scrubChunk), false
	return nil
}
