package pmemlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gravenio/graven/pmemlog/format"
)

const (
	scrubChunk    = 256 << 10 // bytes that are read at a time, unless one record is larger
	scrubRestarts = 16        // after which a replica that is being rewound again and again is left for the next time
)

// ErrUnsettled says that a replica was fenced, aligned or reset so often during
// a scrub that it could not be read from one end to the other. Each fence has
// read it meanwhile.
var ErrUnsettled = errors.New("pmemlog: replica was rewound during the scrub, again and again")

// Pace is called before each read of a scrub with its number of bytes, at least
// one, and returns when it may be done; an error ends the scrub with it.
type Pace func(ctx context.Context, n int) error

// Scrubbed is what a scrub of a replica has found.
type Scrubbed struct {
	Begun, Ended time.Time
	Bytes        uint64  // read and checked
	Records      uint64  // data records among them, all good
	Damage       *Damage // the first one; nil for none
	Healed       []error // what was damaged in the header on the medium, and has been rewritten
	Header       error   // why the header could not be rewritten; nil if it could, or was good
}

// Scrub reads all that is persistent of the replica, from the trim LSN to the
// durable LSN of now, and checks that it is still what was written. Damage that
// it finds is remembered in [Info]; damage from before that it does not find any
// more is forgotten. A header on the medium that is not what it should be is
// written anew. What a file or block device holds is read from there, not from the
// system's cache.
//
// A replica that has not been fenced since the pool was opened is scanned as a
// fence would, without a promise: damage then is what makes it a suspect.
//
// It may be called beside everything else, and holds up none of it for longer
// than one read of 256 KiB, or of one record. What changes under it is read
// again; only what is damaged and at rest is reported. The error is that of ctx or pace, ErrUnsettled,
// ErrVersion, or why the replica can't be used.
func (r *Replica) Scrub(ctx context.Context, pace Pace) (Scrubbed, error) {
	s := scrub{r: r, ctx: ctx, pace: pace, disk: fresh{dev: r.pool.dev}}
	s.res.Begun = time.Now()
	err := s.header()
	if err == nil {
		err = s.ring()
	}
	s.res.Ended = time.Now()
	if err != nil {
		return s.res, fmt.Errorf("scrub of replica %s: %w", r.entry.replica, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.scrubbed = s.res.Ended
	return s.res, nil
}

type scrub struct {
	r    *Replica
	ctx  context.Context
	pace Pace
	disk fresh
	buf  []byte
	res  Scrubbed
}

// What has changed under a scrub.
var (
	errMoved   = errors.New("pmemlog: the replica has been rewound")
	errTrimmed = errors.New("pmemlog: the log has been trimmed")
)

// moment is what the meaning of a ring's bytes depends on.
type moment struct {
	scanned bool
	rewinds uint64
	trim    format.TrimPoint
	durable uint64
	known   *damaged
}

func (r *Replica) moment() (moment, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return moment{scanned: r.scanned, rewinds: r.rewinds, trim: r.slot.Trim, durable: r.durable, known: r.damaged}, r.gone
}

// unchanged returns whether bytes from LSN on mean now what they meant then:
// errMoved or errTrimmed if not. Each change of them is announced before it
// begins, so what was read before a moment that is unchanged was at rest. mu is
// held.
func (r *Replica) unchanged(then *moment, lsn uint64) error {
	switch {
	case r.gone != nil:
		return r.gone
	case r.scanned != then.scanned || r.rewinds != then.rewinds:
		return errMoved
	case r.slot.Trim.LSN > lsn:
		return errTrimmed
	default:
		return nil
	}
}

// read fills p from a place in the pool at the pace. The region is the
// replica's while it is being read.
func (s *scrub) read(p []byte, off int64) error {
	if err := s.pace(s.ctx, len(p)); err != nil {
		return err
	}
	if err := s.ctx.Err(); err != nil {
		return context.Cause(s.ctx)
	}
	r := s.r
	r.use.RLock()
	defer r.use.RUnlock()
	if _, err := r.moment(); err != nil {
		return err
	}
	if err := s.disk.readAt(p, off); err != nil {
		return err
	}
	s.res.Bytes += uint64(len(p))
	return nil
}

// take returns n bytes, which are valid until the next take.
func (s *scrub) take(n uint64) []byte {
	if uint64(len(s.buf)) < n {
		s.buf = make([]byte, max(n, scrubChunk))
	}
	return s.buf[:n]
}

// ring reads the log, from the beginning again when the replica is rewound.
func (s *scrub) ring() error {
	for range scrubRestarts {
		now, err := s.r.moment()
		if err != nil {
			return err
		}
		s.res.Records = 0
		if now.scanned {
			err = s.follow(&now)
		} else {
			err = s.scan(&now)
		}
		if !errors.Is(err, errMoved) {
			return err
		}
	}
	return ErrUnsettled
}

// report takes damage down, unless the bytes were not at rest after all.
func (s *scrub) report(then *moment, lsn uint64, why error) error {
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.unchanged(then, lsn); err != nil {
		return err
	}
	if r.damaged == nil || r.damaged.LSN != lsn {
		r.damaged = &damaged{Damage: Damage{LSN: lsn, Err: why}}
	}
	s.res.Damage = r.knownDamage()
	return nil
}

// good forgets damage that was known before in [from, to) and has not been found.
func (s *scrub) good(then *moment, to uint64) error {
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone != nil {
		return r.gone
	}
	if d := r.damaged; d != nil && d == then.known && d.LSN < to && r.rewinds == then.rewinds {
		d.cut = true // it may go, as if it had been rewritten
		r.reviewDamage()
		if !r.scanned { // then a scan has found all that once was
			r.damaged = nil
		}
	}
	return nil
}

// scan reads a ring that nobody has fenced yet.
func (s *scrub) scan(now *moment) error {
	r := s.r
	r.mu.Lock()
	in := format.ScanInput{Trim: r.slot.Trim, Seals: r.slot.Seals, Hint: r.hint}
	r.mu.Unlock()
	var stopped error
	src := &window{ahead: scrubChunk, start: r.entry.offset + format.RingOffset, capacity: r.entry.capacity}
	src.read = func(p []byte, off int64) error {
		if stopped == nil {
			err := s.read(p, off)
			if errors.Is(err, ErrUnreadable) {
				return err
			}
			if stopped = err; err == nil {
				r.mu.Lock()
				stopped = r.unchanged(now, now.trim.LSN)
				r.mu.Unlock()
			}
		}
		if stopped != nil {
			return format.ErrStopped
		}
		return nil
	}
	res, err := format.Scan(src, in, nil)
	switch {
	case stopped != nil:
		return stopped
	case errors.Is(err, format.ErrVersion):
		return fmt.Errorf("%w: %w", ErrVersion, err)
	case err != nil:
		return err
	}
	s.res.Records = res.Records
	if d := scanDamage(&res); d != nil {
		return s.report(now, d.LSN, d.Err)
	}
	return s.good(now, res.Chain.LSN)
}
