package pmemlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// PoolScrubbed is what a scrub of a pool's own structures has found.
type PoolScrubbed struct {
	Begun, Ended time.Time
	Bytes        uint64         // read and checked
	Healed       []CorruptError // copies that were damaged, and have been rewritten
	Damaged      []CorruptError // copies that could not be, such as in a pool that has failed
}

// errStale says that a copy is whole and not what was written last.
var errStale = errors.New("it is not what was written last")

// Scrub reads both copies of the superblock and of every entry of the directory,
// and checks that they are what was written. A copy that is not is rewritten,
// and synced before the next one is. The replicas are not looked at; see
// [Replica.Scrub].
//
// It may be called beside everything else, and holds up what changes the pool,
// such as Create, for one page at a time. The error is that of ctx or pace, or
// ErrClosed.
func (p *Pool) Scrub(ctx context.Context, pace Pace) (PoolScrubbed, error) {
	s := poolScrub{p: p, ctx: ctx, pace: pace, disk: fresh{dev: p.dev}, buf: make([]byte, superblockSize)}
	s.res.Begun = time.Now()
	err := s.run()
	s.res.Ended = time.Now()
	if err != nil {
		return s.res, fmt.Errorf("scrub of the pool: %w", err)
	}
	return s.res, nil
}

type poolScrub struct {
	p    *Pool
	ctx  context.Context
	pace Pace
	disk fresh
	buf  []byte
	res  PoolScrubbed
}

func (s *poolScrub) run() error {
	for i := range superblocks {
		if err := s.part(superblockSize, func() { s.superblock(i) }); err != nil {
			return err
		}
	}
	for first := 0; first < len(s.p.dir.entries); first += entriesPerPage {
		for c := range entryCopies {
			n := min(entriesPerPage, len(s.p.dir.entries)-first)
			if err := s.part(n*entrySize, func() { s.entries(first, n, c) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// part waits for its turn and reads a part of n bytes while nothing changes it.
func (s *poolScrub) part(n int, read func()) error {
	if err := s.pace(s.ctx, n); err != nil {
		return err
	}
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	s.p.change.Lock()
	defer s.p.change.Unlock()
	if s.p.closed {
		return ErrClosed
	}
	s.res.Bytes += uint64(n)
	read()
	return nil
}

func (s *poolScrub) superblock(i int) {
	want := s.p.super.encode()
	off := int64(i) * superblockSize
	err := s.disk.readAt(s.buf, off)
	if err == nil {
		_, err = decodeSuperblock(s.buf)
	}
	found := CorruptError{Part: "superblock " + copyName(i), Offset: off, Err: err}
	if s.bad(&found, s.buf, want) {
		s.heal(off, want, found)
	}
}

// entries checks n entries of one copy of the directory. Where the page can't be
// read each is read by itself.
func (s *poolScrub) entries(first, n, c int) {
	entries := s.p.dir.entries
	page := s.buf[:n*entrySize]
	whole := s.disk.readAt(page, entryOffset(first, c, uint32(len(entries))))
	var bad []CorruptError
	for i := range n {
		got, off, err := page[i*entrySize:(i+1)*entrySize], entryOffset(first+i, c, uint32(len(entries))), error(nil)
		if whole != nil {
			err = s.disk.readAt(got, off)
		}
		if err == nil {
			_, err = decodeEntry(got, first+i)
		}
		found := CorruptError{Part: fmt.Sprintf("directory entry %d, copy %s", first+i, copyName(c)), Offset: off, Err: err}
		if s.bad(&found, got, entries[first+i].encode(first+i)) {
			bad = append(bad, found)
		}
	}
	if len(bad) > 0 {
		s.heal(s.p.dir.pageOffset(first, c), s.p.dir.page(first), bad...)
	}
}

// bad says whether a copy is not what it should be. After a failure of the medium
// it can't be told which of two that are whole was written last.
func (s *poolScrub) bad(found *CorruptError, got, want []byte) bool {
	if found.Err == nil && s.p.dev.failure() == nil && !bytes.Equal(got, want) {
		found.Err = errStale
	}
	return found.Err != nil
}

// heal rewrites the page in which copies are bad: whole, so that the medium need
// not read it first.
func (s *poolScrub) heal(off int64, page []byte, bad ...CorruptError) {
	part := bad[0].Part
	if off >= directoryOffset {
		part = "directory, page of " + part
	}
	err := s.p.mended(part, off, s.p.dev.persist([]Span{{Off: off, Bytes: page}}))
	if err == nil {
		s.res.Healed = append(s.res.Healed, bad...)
		return
	}
	for _, found := range bad {
		found.Err = fmt.Errorf("%w; it can't be rewritten: %w", found.Err, err)
		s.res.Damaged = append(s.res.Damaged, found)
	}
}
