package pmemlog

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"

	"github.com/gravenio/graven/pmemlog/format"
)

// FormatOptions say what a new pool is to be.
type FormatOptions struct {
	PoolID    format.ID // must be set; never used twice
	ClusterID format.ID // may be left zero until the pool is registered
	Size      int64     // bytes; zero means all of the medium
	Replicas  int       // entries of the directory, 1 to MaxReplicas; DefaultReplicas if zero
	Overwrite bool      // make the pool on a block device that holds something else, which is lost; never over a pool
}

func (o FormatOptions) withDefaults(m Medium) FormatOptions {
	if o.Size == 0 {
		o.Size = m.Size()
	}
	if o.Replicas == 0 {
		o.Replicas = DefaultReplicas
	}
	return o
}

func (o FormatOptions) validate(m Medium) error {
	if o.PoolID.IsZero() {
		return fmt.Errorf("%w: PoolID is not set", ErrRange)
	}
	if o.Replicas < 1 || o.Replicas > MaxReplicas {
		return fmt.Errorf("%w: Replicas is %d, must be 1 to %d", ErrRange, o.Replicas, MaxReplicas)
	}
	least := regionsStart(uint32(o.Replicas)) + regionSize(MinCapacity)
	if o.Size > m.Size() || o.Size < least {
		return fmt.Errorf("%w: Size is %d bytes, must be %d (for a directory of %d replicas) to %d (the medium)", ErrRange, o.Size, least, o.Replicas, m.Size())
	}
	return nil
}

// Identity is what a pool says of itself.
type Identity struct {
	Pool        format.ID
	Cluster     format.ID // zero until bound
	Daemon      string    // empty until bound
	Incarnation uint64    // of the daemon; 0 before the first
	Confirmed   uint64    // the highest incarnation that the control plane is known to have accepted
	Kind        Kind
	Size        int64 // bytes
}

// Space is a pool's room, in bytes, derived from the replicas that it holds.
type Space struct {
	Total   int64 // for regions: the pool without its own structures
	Free    int64
	Largest int64 // the longest free stretch
	Entries int   // replicas that the directory has room for yet
}

// LargestCapacity returns the largest ring, in bytes, that a replica could be
// created with now; 0 if none.
func (s Space) LargestCapacity() uint64 {
	if s.Entries == 0 || s.Largest < regionSize(MinCapacity) {
		return 0
	}
	return uint64(s.Largest - format.RingOffset)
}

// Pool is a medium with replicas in it. All methods may be called from any
// goroutine. Those that change the pool wait for each other; those that only
// look never wait for I/O.
type Pool struct {
	dev *device

	change sync.Mutex // held by Create, Delete, Close and what writes the superblock

	// What follows is written with both locks held and read with either.
	mu       sync.Mutex
	super    superblock
	superAt  int
	newest   superblock // that has been written, or is being written now
	dir      *directory
	replicas map[format.ID]*Replica
	unmended map[int64]CorruptError // pages of superblocks and directory that can't be written, by offset
	closed   bool
}

// Format makes an empty pool on a medium that holds none: ErrExists when it
// does. The pool owns the medium from then on. When Format fails, the caller
// still owns it.
func Format(m Medium, opts FormatOptions) (*Pool, error) {
	opts = opts.withDefaults(m)
	if err := opts.validate(m); err != nil {
		return nil, err
	}
	if err := vacant(m); err != nil {
		return nil, err
	}
	p := &Pool{dev: newDevice(m), replicas: map[format.ID]*Replica{}, unmended: map[int64]CorruptError{}}
	p.super = superblock{
		generation: 1, kind: m.Kind(), entries: uint32(opts.Replicas),
		pool: opts.PoolID, cluster: opts.ClusterID, size: uint64(opts.Size),
	}
	p.newest = p.super
	var err error
	if p.dir, err = layOut(p.dev, &p.super); err != nil {
		return nil, err
	}
	return p, nil
}

// vacant refuses a medium with a pool on it.
func vacant(m Medium) error {
	s, _, err := readSuperblock(m, &scratch{})
	if err == nil {
		return fmt.Errorf("%w: pool %s is on this medium; open it, or if nothing in it is needed, zero its first %d bytes", ErrExists, s.pool, directoryOffset)
	}
	if errors.Is(err, ErrVersion) {
		return err
	}
	return nil
}

// Open opens the pool on a medium, mends what is bad in its directory (see
// [Pool.Unmended] for what it can't) and owns the medium from then on. When Open
// fails, the caller still owns it: ErrNoPool where there is none, ErrVersion,
// ErrWrongMedium, or a [CorruptError]. A single replica that is damaged does not
// fail Open; [Pool.Replica] says so for that one.
func Open(m Medium) (*Pool, error) {
	if err := m.Sync(); err != nil { // rule: sync before open
		return nil, fmt.Errorf("pmemlog: make persistent what an earlier process has left unsynced: %w", err)
	}
	buf := make(scratch, format.RingOffset)
	super, at, err := readSuperblock(m, &buf)
	if err != nil {
		return nil, err
	}
	if err := super.validate(m.Kind(), m.Size()); err != nil {
		return nil, err
	}
	p := &Pool{dev: newDevice(m), super: super, newest: super, superAt: at, replicas: map[format.ID]*Replica{}, unmended: map[int64]CorruptError{}}
	if err := p.openDirectory(&buf); err != nil {
		return nil, err
	}
	for _, e := range p.dir.entries {
		if !e.used {
			continue
		}
		if _, twice := p.replicas[e.replica]; twice {
			return nil, &CorruptError{Part: "directory", Offset: directoryOffset, Err: fmt.Errorf("replica %s is in it twice; %s", e.replica, removePool)}
		}
		p.replicas[e.replica] = loadReplica(p, e, &buf)
	}
	if err := p.dev.failure(); err != nil {
		return nil, err
	}
	return p, nil
}

// openDirectory reads the directory and mends what it can.
func (p *Pool) openDirectory(buf *scratch) error {
	if err := p.dev.settlePast(0, regionsStart(p.super.entries)); err != nil {
		return err
	}
	dir, bad, err := readDirectory(p.dev, buf, p.super.entries, int64(p.super.size))
	if err != nil {
		return err
	}
	p.dir = dir
	return p.heal(bad)
}

// scratch is what a pool's parts are read into, one after the other: there may be
// thousands of replicas.
type scratch []byte

// take returns n bytes, which are valid until the next take.
func (s *scratch) take(n int64) []byte {
	if int64(len(*s)) < n {
		*s = make([]byte, n)
	}
	return (*s)[:n]
}

// Identity returns what the pool says of itself.
func (p *Pool) Identity() Identity {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.super.identity()
}

func (s *superblock) identity() Identity {
	return Identity{
		Pool: s.pool, Cluster: s.cluster, Daemon: s.daemon, Incarnation: s.incarnation, Confirmed: s.confirmed,
		Kind: s.kind, Size: int64(min(s.size, math.MaxInt64)),
	}
}

// BindCluster makes the pool one of a cluster's, for good: ErrIdentity if it is
// another one's.
func (p *Pool) BindCluster(id format.ID) error {
	return p.updateSuper(func(s *superblock) error {
		if id.IsZero() {
			return fmt.Errorf("%w: cluster ID is zero", ErrRange)
		}
		if !s.cluster.IsZero() && s.cluster != id { // rule: cluster bound once
			return fmt.Errorf("%w cluster: %s, not %s", ErrIdentity, s.cluster, id)
		}
		s.cluster = id
		return nil
	})
}

// BindDaemon makes the pool the one of a daemon, for good: ErrIdentity if it is
// another one's.
func (p *Pool) BindDaemon(id string) error {
	return p.updateSuper(func(s *superblock) error {
		if id == "" || len(id) > MaxDaemonID {
			return fmt.Errorf("%w: daemon ID of %d bytes, must have 1 to %d", ErrRange, len(id), MaxDaemonID)
		}
		if s.daemon != "" && s.daemon != id { // rule: daemon bound once
			return fmt.Errorf("%w daemon: %q, not %q", ErrIdentity, s.daemon, id)
		}
		s.daemon = id
		return nil
	})
}

// NextIncarnation returns the number of this start of the daemon: one more than
// the last that was confirmed. It is persistent when it is returned. A start that
// was never confirmed leaves its number to the next, so that a pool which was set
// back does not catch up by being started again and again.
func (p *Pool) NextIncarnation() (uint64, error) {
	var next uint64
	err := p.updateSuper(func(s *superblock) error {
		s.incarnation = s.confirmed + 1 // rule: only confirmed starts count
		next = s.incarnation
		return nil
	})
	if err != nil {
		return 0, err
	}
	return next, nil
}

// ConfirmIncarnation says that the control plane has accepted this start. A pool
// that forgets it is refused, once another start has been confirmed.
func (p *Pool) ConfirmIncarnation() error {
	return p.updateSuper(func(s *superblock) error {
		s.confirmed = s.incarnation
		return nil
	})
}

func (p *Pool) updateSuper(change func(*superblock) error) error {
	p.change.Lock()
	defer p.change.Unlock()
	if p.closed {
		return ErrClosed
	}
	next := p.super
	if err := change(&next); err != nil || next == p.super {
		return err
	}
	if err := p.own(); err != nil {
		return err
	}
	next.generation++
	p.mu.Lock()
	p.newest = next // before it can be read
	p.mu.Unlock()
	at, err := p.writeSuperblock(&next)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.super, p.superAt = next, at
	return nil
}

// Replica returns the replica of that ID: ErrNotFound if there is none, a
// [CorruptError] or ErrVersion if what is there can't be used.
func (p *Pool) Replica(id format.ID) (*Replica, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	r, ok := p.replicas[id]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	return r, r.damage
}

// Listed is a replica as the directory knows it.
type Listed struct {
	Cluster  format.ID
	Log      format.ID
	Replica  format.ID
	Capacity uint64 // of the ring, in bytes
	Offset   int64  // of its region, in bytes from the start of the pool
	Bytes    int64  // of the pool that it takes
	Err      error  // why it can't be used; nil if it can
}

// Replicas lists what the pool holds, in the order of replica IDs.
func (p *Pool) Replicas() []Listed {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Listed, 0, len(p.replicas))
	for _, r := range p.replicas {
		out = append(out, Listed{
			Cluster: r.entry.cluster, Log: r.entry.log, Replica: r.entry.replica,
			Capacity: r.entry.capacity, Offset: r.entry.offset, Bytes: r.entry.length, Err: r.damage,
		})
	}
	slices.SortFunc(out, func(a, b Listed) int { return bytes.Compare(a.Replica[:], b.Replica[:]) })
	return out
}

// Free returns the pool's room.
func (p *Pool) Free() Space {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dir.space(p.super.regions())
}

// regions returns where regions may lie.
func (s *superblock) regions() (start, end int64) {
	return regionsStart(s.entries), int64(min(s.size, math.MaxInt64))
}

// Close ends all sessions with ErrClosed and closes the medium. What has not
// been flushed may be lost. It may be called twice.
func (p *Pool) Close() error {
	p.change.Lock()
	defer p.change.Unlock()
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	replicas := slices.SortedFunc(maps.Values(p.replicas), func(a, b *Replica) int { return cmp.Compare(a.entry.offset, b.entry.offset) })
	p.mu.Unlock()
	for _, r := range replicas {
		r.giveUp(ErrClosed)
	}
	return p.dev.close()
}
