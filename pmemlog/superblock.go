package pmemlog

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/gravenio/graven/pmemlog/crc32c"
	"github.com/gravenio/graven/pmemlog/format"
)

// Sizes of a pool's own structures, in bytes; doc.go draws them.
const (
	version         = 1 // of superblocks and directory entries
	superblockSize  = 4096
	superblocks     = 2
	directoryOffset = superblocks * superblockSize
	pageSize        = 4096 // regions and the directory's copies start at multiples of it

	superblockMagic = 0x4c4f4f504e565247 // "GRVNPOOL"
	superblockCRC   = superblockSize - 4
	daemonOffset    = 96
	confirmedOffset = 352

	// MaxDaemonID is the longest daemon ID, in bytes.
	MaxDaemonID = 255
)

var errNoMagic = errors.New("the magic number is missing")

// superblock is what a pool says of itself. Both copies are written at each
// change, one after the other, so a flipped bit costs nothing.
type superblock struct {
	generation  uint64
	kind        Kind
	entries     uint32 // of the directory
	pool        format.ID
	cluster     format.ID
	incarnation uint64
	confirmed   uint64 // the highest incarnation that the control plane is known to have accepted
	size        uint64
	daemon      string
}

func (s *superblock) encode() []byte {
	b := make([]byte, superblockSize)
	le := binary.LittleEndian
	le.PutUint64(b, superblockMagic)
	le.PutUint32(b[8:], version)
	le.PutUint32(b[12:], uint32(s.kind))
	le.PutUint64(b[16:], s.generation)
	le.PutUint64(b[24:], s.size)
	le.PutUint64(b[32:], s.incarnation)
	le.PutUint32(b[40:], s.entries)
	copy(b[48:64], s.pool[:])
	copy(b[64:80], s.cluster[:])
	le.PutUint32(b[80:], uint32(len(s.daemon)))
	copy(b[daemonOffset:daemonOffset+MaxDaemonID], s.daemon)
	le.PutUint64(b[confirmedOffset:], s.confirmed)
	le.PutUint32(b[superblockCRC:], crc32c.Checksum(b[:superblockCRC]))
	return b
}

func decodeSuperblock(b []byte) (superblock, error) {
	le := binary.LittleEndian
	if len(b) < superblockSize || le.Uint64(b) != superblockMagic {
		return superblock{}, errNoMagic
	}
	if le.Uint32(b[superblockCRC:]) != crc32c.Checksum(b[:superblockCRC]) {
		return superblock{}, format.ErrCRC
	}
	if err := checkVersion("superblock", le.Uint32(b[8:])); err != nil {
		return superblock{}, err
	}
	s := superblock{
		kind: Kind(le.Uint32(b[12:])), generation: le.Uint64(b[16:]), size: le.Uint64(b[24:]),
		incarnation: le.Uint64(b[32:]), confirmed: le.Uint64(b[confirmedOffset:]), entries: le.Uint32(b[40:]),
		pool: format.ID(b[48:64]), cluster: format.ID(b[64:80]),
	}
	n := le.Uint32(b[80:])
	if n > MaxDaemonID {
		return superblock{}, fmt.Errorf("daemon ID of %d bytes, at most %d", n, MaxDaemonID)
	}
	s.daemon = string(b[daemonOffset : daemonOffset+int(n)])
	return s, nil
}

// checkVersion returns ErrVersion unless a part of the pool has the version that
// this program knows.
func checkVersion(part string, is uint32) error {
	if is == version {
		return nil
	}
	advice := "start the program that made it, or a newer one"
	if is < version {
		advice = "that version is no longer read: save what you need of its logs with the program that made it, then remove the pool and have it made anew"
	}
	return fmt.Errorf("%w: version of the %s is %d, must be %d; %s", ErrVersion, part, is, version, advice)
}

// validate checks what a superblock claims against the medium that it was found
// on, and the medium's size in bytes, before anything is done with the claims.
func (s *superblock) validate(kind Kind, size int64) error {
	if s.kind != kind {
		return fmt.Errorf("%w: the pool was made on medium %q, this is %q; open it as what it is, or have one made anew on this medium", ErrWrongMedium, s.kind, kind)
	}
	if s.size > uint64(size) {
		return &CorruptError{Part: "superblock", Err: fmt.Errorf("the pool has %d bytes, the medium only %d: it has been truncated, and what lay behind is lost; %s", s.size, size, removePool)}
	}
	if s.entries == 0 || s.entries > MaxReplicas || s.size < uint64(regionsStart(s.entries)) {
		return &CorruptError{Part: "superblock", Err: fmt.Errorf("a directory of %d entries in a pool of %d bytes; %s", s.entries, s.size, removePool)}
	}
	return nil
}

// readSuperblock finds the superblock that counts and the place of it.
func readSuperblock(m Medium, buf *scratch) (superblock, int, error) {
	var best superblock
	at := -1
	if err := longEnough(m); err != nil {
		return best, at, err
	}
	var errs [superblocks]error
	b := buf.take(superblockSize)
	for i := range superblocks {
		if err := m.ReadAt(b, int64(i)*superblockSize); err != nil {
			errs[i] = err
			continue
		}
		s, err := decodeSuperblock(b)
		if errors.Is(err, ErrVersion) {
			return superblock{}, 0, err
		}
		if errs[i] = err; err == nil && (at < 0 || s.generation > best.generation) {
			best, at = s, i
		}
	}
	if at < 0 {
		return superblock{}, 0, noSuperblock(errs)
	}
	return best, at, nil
}

// longEnough refuses a medium on which there was never room for a pool, or is not
// any more.
func longEnough(m Medium) error {
	if m.Size() >= superblocks*superblockSize {
		return nil
	}
	magic := make([]byte, 8)
	if m.ReadAt(magic, 0) == nil && binary.LittleEndian.Uint64(magic) == superblockMagic {
		return &CorruptError{Part: "superblock", Err: fmt.Errorf("the medium has only %d bytes: it has been truncated, and what lay behind is lost; %s", m.Size(), removePool)}
	}
	return fmt.Errorf("%w: %d bytes are too few for one; name another, or make a pool under a name of its own", ErrNoPool, m.Size())
}

func noSuperblock(errs [superblocks]error) error {
	if errors.Is(errs[0], errNoMagic) && errors.Is(errs[1], errNoMagic) {
		return fmt.Errorf("%w: %w at both places of a superblock; this is no pool, or its beginning has been wiped; name another, or make a pool under a name of its own", ErrNoPool, errNoMagic)
	}
	return &CorruptError{Part: "superblock", Err: fmt.Errorf("neither copy can be used (A: %w; B: %w); %s", errs[0], errs[1], removePool)}
}

// layOut writes the structures of an empty pool. The magic number of a superblock
// comes last, a word by itself, when all else is persistent: at any time before
// that there is no pool, and from then on a whole one.
func layOut(d *device, s *superblock) (*directory, error) {
	if err := d.grow(make([]byte, superblocks*superblockSize), 0); err != nil {
		return nil, err
	}
	dir, err := formatDirectory(d, s.entries) // which syncs the zeroes, too
	if err != nil {
		return nil, err
	}
	b := s.encode()
	const magic = 8 // bytes of it
	for _, part := range []struct{ from, to, off int }{
		{magic, superblockSize, superblockSize + magic},
		{0, magic, superblockSize},
		{0, superblockSize, 0},
	} {
		if err := d.writeAt(b[part.from:part.to], int64(part.off)); err != nil {
			return nil, err
		}
		if err := d.sync(); err != nil { // rule: one after the other
			return nil, err
		}
	}
	return dir, nil
}

// writeSuperblock persists s in both places, first in the one that does not
// count now: a crash between leaves one good copy at least. It returns the place of
// a good copy, which then counts.
//
// Where one place can't be written, the other one has to do: a pool whose daemon
// can't be told from an earlier start of it serves nobody. If that is the place that
// counts, it is written over, and a crash in that moment, on top of the damage, may
// lose the pool.
func (p *Pool) writeSuperblock(s *superblock) (int, error) {
	b, good := s.encode(), -1
	var bad error
	for _, i := range []int{1 - p.superAt, p.superAt} {
		err := p.mended("superblock "+copyName(i), int64(i)*superblockSize, p.dev.writeAt(b, int64(i)*superblockSize))
		if err == nil {
			err = p.dev.sync()
		}
		switch {
		case err == nil:
			good = i
		case errors.Is(err, ErrUnwritable):
			bad = err
		default:
			return good, err
		}
	}
	if good < 0 { // nobody knows what is left of the one that counted
		return good, p.dev.poison("write", bad)
	}
	return good, nil
}
