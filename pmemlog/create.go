package pmemlog

import (
	"errors"
	"fmt"

	"github.com/gravenio/graven/pmemlog/format"
)

// MinCapacity is the smallest ring, in bytes.
const MinCapacity = 1024

// createTries bounds how many places a creation tries that can't be written.
const createTries = 16

// Spec says what replica is to be created.
type Spec struct {
	Cluster  format.ID
	Log      format.ID
	Replica  format.ID
	Capacity uint64 // of the ring in bytes: a multiple of format.Align, at least MinCapacity
}

func (s Spec) validate(pool *superblock) error {
	if s.Cluster.IsZero() || s.Log.IsZero() || s.Replica.IsZero() {
		return fmt.Errorf("%w: Cluster, Log and Replica must be set", ErrRange)
	}
	if !pool.cluster.IsZero() && pool.cluster != s.Cluster {
		return fmt.Errorf("%w cluster: %s, not %s", ErrIdentity, pool.cluster, s.Cluster)
	}
	if s.Capacity < MinCapacity || s.Capacity%format.Align != 0 {
		return fmt.Errorf("%w: Capacity is %d bytes, must be a multiple of %d and at least %d", ErrRange, s.Capacity, format.Align, MinCapacity)
	}
	return nil
}

// regionSize returns the bytes of a pool that a ring takes.
func regionSize(capacity uint64) int64 { return pages(format.RingOffset + int64(capacity)) }

// Create makes an empty replica: ErrExists if the pool has one of that ID,
// ErrNoSpace if it, or the disk under a sparse file, has no room, ErrUnwritable if
// no place that was tried for it can be written. The region is written before the directory names it, so a crash leaves all of the replica or
// nothing.
func (p *Pool) Create(s Spec) (*Replica, error) {
	p.change.Lock()
	defer p.change.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	if err := s.validate(&p.super); err != nil {
		return nil, err
	}
	if _, ok := p.replicas[s.Replica]; ok {
		return nil, fmt.Errorf("%w: replica %s", ErrExists, s.Replica)
	}
	if p.dir.removed(s.Replica) { // rule: removed is never made anew
		return nil, fmt.Errorf("%w: replica %s", ErrRemoved, s.Replica)
	}
	if err := p.own(); err != nil { // another may have given the space away
		return nil, err
	}
	e, index, err := p.make(s)
	if err != nil {
		return nil, err
	}
	r := loadReplica(p, e, &scratch{})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dir.entries[index] = e
	p.replicas[s.Replica] = r
	return r, r.damage
}

// make makes a replica on the medium: where a stretch that was thought to be free
// can't be written, or a page of the directory, in the next one.
func (p *Pool) make(s Spec) (entry, int, error) {
	var unwritable error
	for range createTries {
		e, index, err := p.place(s)
		if err != nil {
			return e, index, errors.Join(err, unwritable)
		}
		if err = p.makeRegion(e); err == nil {
			if err = p.writeEntry(index, e); err == nil { // rule: region before entry
				return e, index, nil
			}
		} else {
			p.avoid(err)
		}
		unwritable = fmt.Errorf("create replica %s: %w", s.Replica, err)
		if !errors.Is(err, ErrUnwritable) {
			break
		}
	}
	return entry{}, 0, unwritable
}

// avoid leaves out the place that an error names when room is looked for, until the
// pool is opened again: nothing is lost with free space that is bad.
func (p *Pool) avoid(err error) {
	var at *UnwritableError
	if !errors.As(err, &at) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	start := at.Off &^ (pageSize - 1)
	p.dir.bad = append(p.dir.bad, extent{start, pages(at.Off+at.Len) - start})
}

// place finds room for a replica: a region and an entry.
func (p *Pool) place(s Spec) (entry, int, error) {
	start, end := p.super.regions()
	index := p.dir.unused(func(i int) bool { return p.writable(i) == nil })
	if index < 0 {
		return entry{}, 0, fmt.Errorf("%w: all %d entries of the directory are taken, or can't be written; delete a replica, or choose another pool", ErrNoSpace, len(p.dir.entries))
	}
	if s.Capacity > uint64(end) {
		return entry{}, 0, fmt.Errorf("%w: a ring of %d bytes in a pool of %d; choose a smaller one, or another pool", ErrNoSpace, s.Capacity, end)
	}
	length := regionSize(s.Capacity)
	offset, ok := p.dir.allocate(start, end, length)
	if !ok {
		space := p.Free()
		return entry{}, 0, fmt.Errorf("%w: a ring of %d bytes needs a stretch of %d, the longest that is free has %d of %d; delete a replica, choose a smaller ring, or another pool",
			ErrNoSpace, s.Capacity, length, space.Largest, space.Total)
	}
	return entry{
		generation: p.dir.entries[index].generation + 1, used: true,
		cluster: s.Cluster, log: s.Log, replica: s.Replica,
		offset: offset, length: length, capacity: s.Capacity,
	}, index, nil
}

// makeRegion zeroes a region, since an earlier replica's records could pass for
// this one's, and writes its first header.
func (p *Pool) makeRegion(e entry) error {
	if err := p.dev.zero(e.offset, e.length); err != nil {
		return err
	}
	header := make([]byte, format.SlotSize)
	format.EncodeSlot(header, &format.Slot{
		Generation: 1, Cluster: e.cluster, Log: e.log, Replica: e.replica, Capacity: e.capacity,
	})
	if err := p.dev.writeAt(header, e.offset); err != nil {
		return err
	}
	return p.dev.sync()
}

// Delete removes a replica and all that it holds: ErrNotFound if there is none
// of that ID, ErrUnwritable if its entry in the directory can't be written; then it
// is still there. Its sessions end. The space may be used again when Delete has
// returned.
func (p *Pool) Delete(id format.ID) error {
	p.change.Lock()
	defer p.change.Unlock()
	if p.closed {
		return ErrClosed
	}
	r, ok := p.replicas[id]
	if !ok {
		return fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	if err := p.own(); err != nil { // sessions end only for a delete that can be carried out
		return err
	}
	index := p.dir.find(id)
	if err := p.writable(index); err != nil {
		return fmt.Errorf("delete replica %s: %w", id, err)
	}
	r.giveUp(fmt.Errorf("%w: %s has been deleted", ErrNotFound, id))
	gone := entry{generation: p.dir.entries[index].generation + 1, replica: id}
	if err := p.writeEntry(index, gone); err != nil { // rule: entry before space
		err = fmt.Errorf("delete replica %s: %w", id, err)
		r.giveUp(err)
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dir.entries[index] = gone
	delete(p.replicas, id)
	return nil
}

// find returns the index of a replica's entry, or -1.
func (dir *directory) find(id format.ID) int {
	for i := range dir.entries {
		if dir.entries[i].used && dir.entries[i].replica == id {
			return i
		}
	}
	return -1
}
