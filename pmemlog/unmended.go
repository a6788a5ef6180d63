package pmemlog

import (
	"cmp"
	"errors"
	"maps"
	"slices"
)

// Unmended returns the copies of the pool's own structures that are bad and could
// not be written anew, by offset: a page of each. The other copy of each stands. A
// directory entry of which one copy is so is not changed any more, since a crash
// would leave none. A scrub tries to mend them again.
func (p *Pool) Unmended() []CorruptError {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.SortedFunc(maps.Values(p.unmended), func(a, b CorruptError) int { return cmp.Compare(a.Offset, b.Offset) })
}

// mended takes down how the writing of a page of the pool's own structures has
// ended, and returns that. change is held, or the pool is nobody's yet.
func (p *Pool) mended(part string, off int64, err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		delete(p.unmended, off)
	case errors.Is(err, ErrUnwritable):
		p.unmended[off] = CorruptError{Part: part, Offset: off, Err: err}
	}
	return err
}

// writable returns why an entry can't be changed: nil if both of its copies can.
// change or mu is held.
func (p *Pool) writable(index int) error {
	for c := range entryCopies {
		if bad, ok := p.unmended[p.dir.pageOffset(index, c)]; ok {
			return &bad
		}
	}
	return nil
}

// writeDirectoryPage writes the page of a copy of the directory in which entry
// index stands.
func (p *Pool) writeDirectoryPage(index, copyOf int, page []byte) error {
	off := p.dir.pageOffset(index, copyOf)
	return p.mended("directory, copy "+copyName(copyOf), off, p.dev.writeAt(page, off))
}

// writeEntry persists e at index: one copy, then the other. What can't be written
// in part is written as a whole page.
//
// ErrUnwritable when the first copy can't be written: then nothing has changed, and
// nothing will. The two lines of an entry both differ from those of one that holds
// something else, so a part of it is no entry; and a page that can't be written in
// part counts again only when it has been written whole. When only the second copy
// can't be written, the change is made, and the page is unmended.
func (p *Pool) writeEntry(index int, e entry) error {
	if err := p.writable(index); err != nil {
		return err
	}
	b, page := e.encode(index), p.dir.page(index)
	copy(page[index%entriesPerPage*entrySize:], b)
	for c := range entryCopies {
		err := p.dev.writeAt(b, entryOffset(index, c, uint32(len(p.dir.entries))))
		if errors.Is(err, ErrUnwritable) {
			err = p.writeDirectoryPage(index, c, page)
		}
		if errors.Is(err, ErrUnwritable) && c > 0 {
			return nil
		}
		if err != nil {
			return err
		}
		if err := p.dev.sync(); err != nil { // rule: one copy after the other
			return err
		}
	}
	return nil
}
