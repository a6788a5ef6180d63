package pmemlog_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

// Where the parts of a pool of newReplica lie, in bytes.
const (
	memDirectory = 8192
	memCopy      = 4096 // of the directory
	memRegion    = memDirectory + 2*memCopy
)

// field is a place in a pool's structures that says something, in both copies.
type field struct {
	name  string
	at    []int
	width int // bytes
}

func twice(name string, at, stride, width int) field {
	return field{name, []int{at, at + stride}, width}
}

// fields are all that version 1 says.
func fields() []field {
	super := func(name string, at, width int) field { return twice("superblock: "+name, at, 4096, width) }
	entry := func(name string, at, width int) field {
		return twice("entry: "+name, memDirectory+at, memCopy, width)
	}
	slot := func(name string, at, width int) field {
		return twice("header: "+name, memRegion+at, format.SlotSize, width)
	}
	hint := func(name string, at, width int) field {
		return twice("hint line: "+name, memRegion+format.HintOffset+at, format.HintStride, width)
	}
	return []field{
		super("magic", 0, 8), super("version", 8, 4), super("kind", 12, 4), super("generation", 16, 8), super("size", 24, 8),
		super("incarnation", 32, 8), super("entries", 40, 4), super("pool", 48, 8), super("cluster", 64, 8),
		super("length of the daemon ID", 80, 4), super("daemon ID", 96, 8), super("confirmed", 352, 8),
		entry("magic", 0, 4), entry("generation", 8, 8), entry("index", 16, 4), entry("state", 20, 4), entry("cluster", 24, 8),
		entry("log", 40, 8), entry("replica", 56, 8), entry("offset", 72, 8), entry("length", 80, 8), entry("capacity", 88, 8),
		entry("version", 96, 4),
		slot("magic", 0, 8), slot("version", 8, 4), slot("seals", 12, 4), slot("generation", 16, 8), slot("cluster", 24, 8),
		slot("log", 40, 8), slot("replica", 56, 8), slot("capacity", 72, 8), slot("epoch of the fence", 80, 8),
		slot("nonce of the fence", 88, 8), slot("trim LSN", 96, 8), slot("trim epoch", 104, 8), slot("trim CRC", 112, 4),
		slot("hint epoch", 120, 8), slot("hint LSN", 128, 8), slot("members", 144, 4), slot("member", 152, 8),
		slot("seal's epoch", 264, 8), slot("seal's nonce", 272, 8), slot("seal's LSN", 280, 8), slot("seal's CRC", 288, 4),
		hint("magic", 0, 4), hint("generation", 8, 8), hint("sequence", 16, 8), hint("epoch", 24, 8), hint("LSN", 32, 8), hint("version", 40, 4),
	}
}

// values are what a field is set to: the ends of its range, powers of two, what is
// just off them and what overflows a sum.
func values(width int) []uint64 {
	out := []uint64{0, 1, 2, 3, 7, 63, 64, 65, 4095, 4096, 4097, 1 << 20, 1<<31 - 1, 1 << 31, 1<<32 - 1}
	if width == 8 {
		out = append(out, 1<<32, 1<<40, 1<<62-64, 1<<62, 1<<62+64, 1<<63-1, 1<<63, 1<<64-64, 1<<64-1)
	}
	return out
}

func setField(b []byte, f field, v uint64, copies ...int) {
	for _, c := range copies {
		if f.width == 4 {
			binary.LittleEndian.PutUint32(b[f.at[c]:], uint32(v))
		} else {
			binary.LittleEndian.PutUint64(b[f.at[c]:], v)
		}
	}
}

// TestEveryFieldOutOfRange sets each field of each structure to what no program
// writes there, in one copy and in both, with and without a right checksum. An
// error says what to do; what is taken works, and no call panics or believes a
// length.
func TestEveryFieldOutOfRange(t *testing.T) {
	t.Parallel()
	good := goodPool(t)
	for _, f := range fields() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			for _, v := range values(f.width) {
				for _, copies := range [][]int{{0}, {1}, {0, 1}} {
					b := append([]byte(nil), good...)
					setField(b, f, v, copies...)
					try(t, fmt.Sprintf("%d in copies %v, checksums wrong", v, copies), append([]byte(nil), b...))
					try(t, fmt.Sprintf("%d in copies %v, checksums right", v, copies), pmemlog.MendChecksums(b, formatOptions().Replicas))
				}
			}
		})
	}
}

// try does with a pool what a daemon does.
func try(t *testing.T, name string, b []byte) {
	t.Helper()
	m := pmemtest.Of(b, pmemtest.Options{})
	p, err := pmemlog.Open(m)
	if err != nil {
		checkAdvice(t, name+": open", err)
		return
	}
	defer p.Close()
	for _, l := range p.Replicas() {
		r, err := p.Replica(l.Replica)
		if err != nil {
			checkAdvice(t, name+": replica", err)
			continue
		}
		s := r.Attach(false)
		rep, err := s.Fence(format.Fence{Epoch: 1<<64 - 1, Nonce: 1})
		if err != nil {
			checkAdvice(t, name+": fence", err)
			continue
		}
		if rep.Tail < rep.Trim.LSN || rep.Tail-rep.Trim.LSN > rep.Capacity {
			t.Errorf("%s: a log from %d to %d in a ring of %d", name, rep.Trim.LSN, rep.Tail, rep.Capacity)
		}
		must(t, s.Read(rep.Trim.LSN, make([]byte, rep.Tail-rep.Trim.LSN)))
	}
	if err := p.Failure(); err != nil {
		t.Errorf("%s: the pool has failed: %v", name, err)
	}
}

// checkAdvice checks that an error names what to do.
func checkAdvice(t *testing.T, name string, err error) {
	t.Helper()
	for _, advice := range []string{
		"remove the pool", "delete the replica", "start the ", "open it as what it is", "name another",
		"refused, epoch", // a term is refused: not damage
	} {
		if strings.Contains(err.Error(), advice) {
			return
		}
	}
	t.Errorf("%s: %v; it does not say what to do", name, err)
}

// TestCopiesStandInForEachOther damages one copy of each structure that has two.
func TestCopiesStandInForEachOther(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]int{
		"superblock A": 200, "superblock B": 4096 + 200, "entry A": memDirectory + 30, "entry B": memDirectory + memCopy + 30,
		"an empty entry A": memDirectory + 7*128 + 50, "an empty entry B": memDirectory + memCopy + 7*128 + 50,
	} {
		b := goodPool(t)
		b[at] ^= 0x80
		m := pmemtest.Of(b, pmemtest.Options{})
		p, r := reopen(t, m)
		get[format.Report](t)(r.Attach(false).Fence(term(9)))
		must(t, p.BindDaemon(p.Identity().Daemon)) // which changes nothing
		get[uint64](t)(p.NextIncarnation())        // which writes both superblocks
		must(t, p.Close())
		other := at ^ 4096 // where the same stands in the other copy
		b = m.Image()
		b[other] ^= 0x80
		if _, err := pmemlog.Open(pmemtest.Of(b, pmemtest.Options{})); err != nil {
			t.Errorf("%s was not mended when it was damaged alone: %v", name, err)
		}
	}
}

// TestHeaderSlotsStandInForEachOther damages the older and the newer header of a
// replica, and each hint line.
func TestHeaderSlotsStandInForEachOther(t *testing.T) {
	t.Parallel()
	m, _, r := newReplica(t, pmemtest.Options{})
	w := openWriter(t, r, 1)
	for range 4 {
		w.append(64)
		w.flush()
	}
	must(t, r.PersistHint())
	newer := int(1 - r.Info().Slot.Generation%2) // generation 1 is in slot A
	durable := r.Info().Durable
	image := m.CrashClean().Image()
	for name, tt := range map[string]struct {
		at   int
		want error
	}{
		"the newer header": {memRegion + newer*format.SlotSize + 100, pmemlog.ErrCorrupt}, // the hint lines tell
		"the older header": {memRegion + (1-newer)*format.SlotSize + 100, nil},
		"hint line A":      {memRegion + format.HintOffset + 30, nil},
		"hint line B":      {memRegion + format.HintOffset + format.HintStride + 30, nil},
	} {
		b := append([]byte(nil), image...)
		b[tt.at] ^= 1
		p := get[*pmemlog.Pool](t)(pmemlog.Open(pmemtest.Of(b, pmemtest.Options{})))
		r, err := p.Replica(id(1))
		if tt.want != nil {
			checkSays(t, name, err, tt.want, "delete the replica")
			continue
		}
		must(t, err)
		rep := get[format.Report](t)(r.Attach(false).Fence(term(2)))
		if rep.Tail != durable || rep.Suspect() {
			t.Errorf("%s damaged: report %+v, want tail %d", name, rep, durable)
		}
	}
}

// TestFieldsThatNoProgramWrites have right checksums in both copies, so only a
// check of the field itself can refuse them.
func TestFieldsThatNoProgramWrites(t *testing.T) {
	t.Parallel()
	byName := map[string]field{}
	for _, f := range fields() {
		byName[f.name] = f
	}
	good := goodPool(t)
	for _, tt := range []struct {
		field string
		value uint64
		want  error
		says  string
	}{
		{"superblock: kind", 0, pmemlog.ErrWrongMedium, `made on medium "kind 0"`},
		{"superblock: kind", 2, pmemlog.ErrWrongMedium, `made on medium "volatile"`},
		{"superblock: version", 2, pmemlog.ErrVersion, "version of the superblock is 2, must be 1"},
		{"superblock: size", poolSize + 1, pmemlog.ErrCorrupt, "the pool has 65537 bytes, the medium only 65536"},
		{"superblock: size", 1<<64 - 1, pmemlog.ErrCorrupt, "it has been truncated"},
		{"superblock: size", 16383, pmemlog.ErrCorrupt, "a directory of 8 entries in a pool of 16383 bytes"},
		{"superblock: size", 16384, pmemlog.ErrCorrupt, "of a pool whose regions lie between 16384 and 16384"},
		{"superblock: entries", 0, pmemlog.ErrCorrupt, "a directory of 0 entries"},
		{"superblock: entries", 4097, pmemlog.ErrCorrupt, "a directory of 4097 entries"},
		{"superblock: entries", 1<<32 - 1, pmemlog.ErrCorrupt, "a directory of 4294967295 entries"},
		{"superblock: length of the daemon ID", 256, pmemlog.ErrCorrupt, "daemon ID of 256 bytes, at most 255"},
		{"entry: index", 1, pmemlog.ErrCorrupt, "it is a copy of entry 1"},
		{"entry: state", 3, pmemlog.ErrVersion, "state of the entry is 3, must be 0 to 2"},
		{"entry: version", 0, pmemlog.ErrVersion, "version of the entry is 0, must be 1"},
		{"entry: offset", 0, pmemlog.ErrCorrupt, "region of 16384 bytes at byte 0"},
		{"entry: offset", memRegion + 64, pmemlog.ErrCorrupt, "region of 16384 bytes at byte 16448"},
		{"entry: offset", poolSize, pmemlog.ErrCorrupt, "at byte 65536 of a pool whose regions lie between 16384 and 65536"},
		{"entry: offset", 1 << 63, pmemlog.ErrCorrupt, "at byte -9223372036854775808"},
		{"entry: length", 0, pmemlog.ErrCorrupt, "region of 0 bytes"},
		{"entry: length", 16385, pmemlog.ErrCorrupt, "region of 16385 bytes"},
		{"entry: length", 1 << 62, pmemlog.ErrCorrupt, "region of 4611686018427387904 bytes"},
		{"entry: length", 12288, pmemlog.ErrCorrupt, "ring of 4096 bytes in a region of 12288"},
		{"entry: capacity", 0, pmemlog.ErrCorrupt, "ring of 0 bytes in a region of 16384"},
		{"entry: capacity", 960, pmemlog.ErrCorrupt, "ring of 960 bytes"},
		{"entry: capacity", 4097, pmemlog.ErrCorrupt, "ring of 4097 bytes"},
		{"entry: capacity", 8192, pmemlog.ErrCorrupt, "ring of 8192 bytes in a region of 16384"},
		{"entry: capacity", 2048, pmemlog.ErrCorrupt, "with a ring of 4096 bytes, the directory says"},
		{"entry: log", 7, pmemlog.ErrCorrupt, "the directory says replica"},
		{"header: version", 2, pmemlog.ErrVersion, "version of a header slot is 2, must be 1"},
		{"header: replica", 7, pmemlog.ErrCorrupt, "the header is replica"},
		{"header: cluster", 7, pmemlog.ErrCorrupt, "the header is replica"},
		{"header: capacity", 1 << 40, pmemlog.ErrCorrupt, "with a ring of 1099511627776 bytes"},
		{"header: trim LSN", 65, pmemlog.ErrCorrupt, "trim LSN 65 is no multiple of 64"},
		{"header: trim LSN", 1<<62 + 64, pmemlog.ErrCorrupt, "or beyond 4611686018427387904"},
		{"header: seals", 33, pmemlog.ErrCorrupt, "length out of range"},
		{"header: members", 8, pmemlog.ErrCorrupt, "length out of range"},
		{"hint line: generation", 1 << 40, pmemlog.ErrCorrupt, "a hint line belongs to generation 1099511627776"},
		{"hint line: version", 2, pmemlog.ErrVersion, "version of a hint line is 2, must be 1"},
	} {
		f, ok := byName[tt.field]
		if !ok {
			t.Fatalf("no field %s", tt.field)
		}
		b := append([]byte(nil), good...)
		setField(b, f, tt.value, 0, 1)
		name := fmt.Sprintf("%s %d", tt.field, tt.value)
		p, err := pmemlog.Open(pmemtest.Of(pmemlog.MendChecksums(b, formatOptions().Replicas), pmemtest.Options{}))
		if err == nil {
			err = p.Replicas()[0].Err
		}
		checkSays(t, name, err, tt.want, tt.says)
		if err != nil {
			checkAdvice(t, name, err)
		}
	}
}
