package pmemlog_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

func TestFormatOptions(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*pmemlog.FormatOptions){
		"no pool ID":       func(o *pmemlog.FormatOptions) { o.PoolID = format.ID{} },
		"too many entries": func(o *pmemlog.FormatOptions) { o.Replicas = pmemlog.MaxReplicas + 1 },
		"negative entries": func(o *pmemlog.FormatOptions) { o.Replicas = -1 },
		"too small":        func(o *pmemlog.FormatOptions) { o.Size = 16 << 10 },
		"too large":        func(o *pmemlog.FormatOptions) { o.Size = poolSize + 1 },
		"negative":         func(o *pmemlog.FormatOptions) { o.Size = -1 },
		"default entries do not fit": func(o *pmemlog.FormatOptions) {
			o.Replicas = 0
		},
	} {
		opts := formatOptions()
		change(&opts)
		if _, err := pmemlog.Format(pmemtest.New(poolSize, pmemtest.Options{}), opts); !errors.Is(err, pmemlog.ErrRange) {
			t.Errorf("%s: %v", name, err)
		}
	}
	m, _, _ := newReplica(t, pmemtest.Options{})
	if _, err := pmemlog.Format(m, formatOptions()); !errors.Is(err, pmemlog.ErrExists) {
		t.Errorf("format of a pool: %v", err)
	}
}

func TestIdentityIsBoundOnce(t *testing.T) {
	t.Parallel()
	m := pmemtest.New(poolSize, pmemtest.Options{})
	opts := formatOptions()
	opts.ClusterID = format.ID{}
	p := get[*pmemlog.Pool](t)(pmemlog.Format(m, opts))
	must(t, p.BindCluster(id(0xc)))
	must(t, p.BindCluster(id(0xc)))
	must(t, p.BindDaemon("d1"))
	must(t, p.BindDaemon("d1"))
	for call, err := range map[string]error{
		"cluster": p.BindCluster(id(0xd)), "daemon": p.BindDaemon("d2"),
		"create": create(p, pmemlog.Spec{Cluster: id(0xd), Log: id(1), Replica: id(1), Capacity: ringSize}),
	} {
		if !errors.Is(err, pmemlog.ErrIdentity) {
			t.Errorf("another %s: %v", call, err)
		}
	}
	if err := errors.Join(p.BindDaemon("")); !errors.Is(err, pmemlog.ErrRange) {
		t.Errorf("empty daemon ID: %v", err)
	}
	if err := p.BindDaemon(string(make([]byte, 256))); !errors.Is(err, pmemlog.ErrRange) {
		t.Errorf("long daemon ID: %v", err)
	}
	if n := get[uint64](t)(p.NextIncarnation()); n != 1 {
		t.Errorf("first incarnation is %d", n)
	}
	m = m.CrashClean()
	p = get[*pmemlog.Pool](t)(pmemlog.Open(m))
	want := pmemlog.Identity{Pool: id(0xa), Cluster: id(0xc), Daemon: "d1", Incarnation: 1, Kind: pmemlog.KindFile, Size: poolSize}
	if got := p.Identity(); got != want {
		t.Errorf("identity %+v, want %+v", got, want)
	}
	if n := get[uint64](t)(p.NextIncarnation()); n != 1 {
		t.Errorf("the next start of a daemon that was never registered is %d", n)
	}
	must(t, p.ConfirmIncarnation())
	p = get[*pmemlog.Pool](t)(pmemlog.Open(m.CrashClean()))
	if n := get[uint64](t)(p.NextIncarnation()); n != 2 || p.Identity().Confirmed != 1 {
		t.Errorf("next incarnation is %d, confirmed %d", n, p.Identity().Confirmed)
	}
}

func create(p *pmemlog.Pool, s pmemlog.Spec) error {
	_, err := p.Create(s)
	return err
}

func TestCreateRefusals(t *testing.T) {
	t.Parallel()
	_, p, _ := newReplica(t, pmemtest.Options{})
	for name, tt := range map[string]struct {
		s    pmemlog.Spec
		want error
	}{
		"exists":        {spec(1, ringSize), pmemlog.ErrExists},
		"no room":       {spec(2, poolSize), pmemlog.ErrNoSpace},
		"absurd":        {spec(2, 1<<63), pmemlog.ErrNoSpace},
		"too small":     {spec(2, 512), pmemlog.ErrRange},
		"odd":           {spec(2, ringSize+1), pmemlog.ErrRange},
		"no replica ID": {pmemlog.Spec{Cluster: id(0xc), Log: id(1), Capacity: ringSize}, pmemlog.ErrRange},
	} {
		if err := create(p, tt.s); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	if err := p.Delete(id(9)); !errors.Is(err, pmemlog.ErrNotFound) {
		t.Errorf("delete of nothing: %v", err)
	}
	if _, err := p.Replica(id(9)); !errors.Is(err, pmemlog.ErrNotFound) {
		t.Errorf("nothing: %v", err)
	}
}

// TestCreateOnAFullDisk: a sparse pool that can't grow has lost nothing.
func TestCreateOnAFullDisk(t *testing.T) {
	t.Parallel()
	m, p, r := newReplica(t, pmemtest.Options{})
	w := openWriter(t, r, 1)
	m.FailNextWrite(&os.PathError{Op: "write", Path: "pool", Err: syscall.ENOSPC})
	if err := create(p, spec(2, ringSize)); !errors.Is(err, pmemlog.ErrNoSpace) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("create: %v", err)
	}
	must(t, p.Failure())
	w.append(64)
	w.flush()
	must(t, create(p, spec(2, ringSize)))
}

func TestSpaceIsWhatNoReplicaTakes(t *testing.T) {
	t.Parallel()
	m := pmemtest.New(1<<20, pmemtest.Options{})
	p := get[*pmemlog.Pool](t)(pmemlog.Format(m, formatOptions()))
	empty := p.Free()
	if empty.Total != 1<<20-16<<10 || empty.Free != empty.Total || empty.Largest != empty.Total || empty.Entries != 8 {
		t.Fatalf("empty pool: %+v", empty)
	}
	must(t, create(p, spec(1, empty.LargestCapacity()))) // exactly all of it
	if f := p.Free(); f.Free != 0 || f.LargestCapacity() != 0 {
		t.Errorf("full pool: %+v", f)
	}
	must(t, p.Delete(id(1)))
	for i := range byte(8) {
		must(t, create(p, spec(i+2, ringSize)))
	}
	if err := create(p, spec(10, ringSize)); !errors.Is(err, pmemlog.ErrNoSpace) {
		t.Errorf("a ninth replica: %v", err)
	}
	if f := p.Free(); f.Entries != 0 || f.LargestCapacity() != 0 || f.Free == 0 {
		t.Errorf("full directory: %+v", f)
	}
	for _, i := range []byte{3, 5, 4} {
		must(t, p.Delete(id(i)))
	}
	must(t, create(p, spec(10, 2*ringSize+1024))) // fits only where neighbours have become one
	if l := p.Replicas(); len(l) != 6 || l[5].Replica != id(10) {
		t.Errorf("replicas %+v", l)
	}
	before := p.Free()
	p = get[*pmemlog.Pool](t)(pmemlog.Open(m.CrashClean()))
	if f := p.Free(); f != before {
		t.Errorf("space after reopening %+v, before %+v", f, before)
	}
}

func TestRandomAllocationNeverOverlaps(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		rng := seeded(t, seed)
		m := pmemtest.New(1<<20, pmemtest.Options{})
		opts := formatOptions()
		opts.Replicas = 40
		p := get[*pmemlog.Pool](t)(pmemlog.Format(m, opts))
		total := p.Free().Total
		held := map[byte]int64{}
		next := byte(0)
		for range 200 {
			if len(held) > 0 && rng.IntN(2) == 0 {
				i := slices.Sorted(maps.Keys(held))[rng.IntN(len(held))]
				must(t, p.Delete(id(i)))
				delete(held, i)
			} else if r, err := p.Create(spec(next, 1024+64*uint64(rng.IntN(2000)))); err == nil {
				held[next] = int64(r.Capacity()+format.RingOffset+4095) &^ 4095
				next++
			} else if !errors.Is(err, pmemlog.ErrNoSpace) {
				t.Fatalf("seed %d: %v", seed, err)
			}
			taken := int64(0)
			for _, n := range held {
				taken += n
			}
			if f := p.Free(); f.Free != total-taken || f.Largest > f.Free {
				t.Fatalf("seed %d: %+v with %d bytes taken of %d", seed, f, taken, total)
			}
		}
		if _, err := pmemlog.Open(m.CrashClean()); err != nil { // refuses overlaps
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func TestNewReplicaHoldsNothingOfAnEarlierOne(t *testing.T) {
	t.Parallel()
	_, p, r := newReplica(t, pmemtest.Options{})
	w := openWriter(t, r, 1)
	w.append(64)
	w.flush()
	must(t, p.Delete(id(1)))
	for call, err := range everyCall(w.s) {
		if !errors.Is(err, pmemlog.ErrNotFound) {
			t.Errorf("%s of a deleted replica: %v", call, err)
		}
	}
	r = get[*pmemlog.Replica](t)(p.Create(spec(2, ringSize))) // in the same place
	if rep := get[format.Report](t)(r.Attach(false).Fence(term(1))); rep.Tail != 0 || rep.Evidence != (format.Position{}) {
		t.Errorf("report of a new replica %+v", rep)
	}
}

// A writer that has not heard of a removal must not have the replica made anew,
// empty; that lasts until the directory needs the place.
func TestRemovedIsNeverMadeAnew(t *testing.T) {
	t.Parallel()
	m := pmemtest.New(1<<20, pmemtest.Options{})
	p := get[*pmemlog.Pool](t)(pmemlog.Format(m, formatOptions()))
	must(t, create(p, spec(1, ringSize)))
	must(t, p.Delete(id(1)))
	for range 2 {
		if err := create(p, spec(1, ringSize)); !errors.Is(err, pmemlog.ErrRemoved) {
			t.Fatalf("create of a removed replica: %v", err)
		}
		m = m.Clone().CrashClean()
		p = get[*pmemlog.Pool](t)(pmemlog.Open(m))
	}
	for i := range byte(8) { // all other places, and then its own
		must(t, create(p, spec(i+2, 1024)))
	}
	must(t, p.Delete(id(9)))
	if err := create(p, spec(9, 1024)); !errors.Is(err, pmemlog.ErrRemoved) {
		t.Errorf("create of the one that was removed last: %v", err)
	}
	must(t, create(p, spec(1, 1024))) // it has been forgotten
}

func TestDamagedPools(t *testing.T) {
	t.Parallel()
	m, p, _ := newReplica(t, pmemtest.Options{})
	must(t, p.BindDaemon("d1"))
	get[uint64](t)(p.NextIncarnation())
	good := m.Image()
	flip := func(at ...int) func([]byte) []byte {
		return func(b []byte) []byte {
			for _, i := range at {
				b[i] ^= 4
			}
			return b
		}
	}
	hole := func(from, to int) func([]byte) []byte {
		return func(b []byte) []byte {
			clear(b[from:to])
			return b
		}
	}
	version := func(at int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte {
			binary.LittleEndian.PutUint32(b[at:], v)
			return pmemlog.MendChecksums(b, formatOptions().Replicas)
		}
	}
	hintLine := func(generation uint64, v uint32) func([]byte) []byte {
		return func(b []byte) []byte {
			line := b[16384+format.HintOffset+format.HintStride:][:format.HintSize]
			format.EncodeHint(line, format.HintLine{Generation: generation, Sequence: 5, Hint: pos(9, 640)})
			return version(16384+format.HintOffset+format.HintStride+40, v)(b)
		}
	}
	noRing := func(b []byte) []byte { // a region that has no room for its header, and an endless ring in it
		for _, entry := range []int{8192, 12288} {
			binary.LittleEndian.PutUint64(b[entry+80:], 4096)
			binary.LittleEndian.PutUint64(b[entry+88:], 1<<40)
		}
		return pmemlog.MendChecksums(b, formatOptions().Replicas)
	}
	for name, tt := range map[string]struct {
		damage func([]byte) []byte
		want   error // of Open
		holds  error // of Replica, when Open succeeds
	}{
		"none":                       {func(b []byte) []byte { return b }, nil, nil},
		"superblock A":               {flip(100), nil, nil},
		"superblock B":               {flip(4096 + 100), nil, nil},
		"both superblocks":           {flip(100, 4096+100), pmemlog.ErrCorrupt, nil},
		"both magic numbers":         {flip(0, 4096), pmemlog.ErrNoPool, nil},
		"hole at the start":          {hole(0, 8192), pmemlog.ErrNoPool, nil},
		"all zero":                   {hole(0, poolSize), pmemlog.ErrNoPool, nil},
		"an older version":           {version(8, 0), pmemlog.ErrVersion, nil},
		"a newer version":            {version(8, 2), pmemlog.ErrVersion, nil},
		"a newer version, copy B":    {version(4096+8, 2), pmemlog.ErrVersion, nil},
		"truncated":                  {func(b []byte) []byte { return b[:poolSize-4096] }, pmemlog.ErrCorrupt, nil},
		"truncated to one block":     {func(b []byte) []byte { return b[:4096] }, pmemlog.ErrCorrupt, nil},
		"truncated to a few bytes":   {func(b []byte) []byte { return b[:10] }, pmemlog.ErrCorrupt, nil},
		"empty":                      {func([]byte) []byte { return nil }, pmemlog.ErrNoPool, nil},
		"entry, copy A":              {flip(8192 + 30), nil, nil},
		"entry, copy B":              {flip(12288 + 30), nil, nil},
		"entry, both copies":         {flip(8192+30, 12288+30), pmemlog.ErrCorrupt, nil},
		"entry, older copy A":        {version(8192+96, 0), pmemlog.ErrVersion, nil},
		"entry, newer copy A":        {version(8192+96, 2), pmemlog.ErrVersion, nil},
		"entry, newer copy B":        {version(12288+96, 2), pmemlog.ErrVersion, nil},
		"entry, newer, of nothing":   {version(12288+7*128+96, 2), pmemlog.ErrVersion, nil},
		"entry, unknown state":       {version(8192+20, 3), pmemlog.ErrVersion, nil},
		"entry, impossible region":   {noRing, pmemlog.ErrCorrupt, nil},
		"hole in the directory":      {hole(8192, 16384), pmemlog.ErrCorrupt, nil},
		"hole in a directory's copy": {hole(8192, 12288), nil, nil},
		"header slot A":              {flip(16384 + 30), nil, pmemlog.ErrCorrupt}, // the only one so far
		"an older header":            {version(16384+8, 0), nil, pmemlog.ErrVersion},
		"a newer header":             {version(16384+8, 2), nil, pmemlog.ErrVersion},
		"a hint line":                {hintLine(1, 1), nil, nil},
		"an older hint line":         {hintLine(1, 0), nil, pmemlog.ErrVersion},
		"a newer hint line":          {hintLine(1, 2), nil, pmemlog.ErrVersion},
		"a newer hint line, later":   {hintLine(2, 2), nil, pmemlog.ErrVersion},
		"a newer hint line, void":    {hintLine(0, 2), nil, nil}, // the header was written after it
		"hole in the header":         {hole(16384, 16384+12288), nil, pmemlog.ErrCorrupt},
		"hole in the ring":           {hole(16384+12288, 16384+16384), nil, nil},
	} {
		p, err := pmemlog.Open(pmemtest.Of(tt.damage(append([]byte(nil), good...)), pmemtest.Options{}))
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: open: %v, want %v", name, err, tt.want)
		}
		if err != nil {
			continue
		}
		if i := p.Identity(); i.Daemon != "d1" || i.Incarnation != 1 {
			t.Errorf("%s: identity %+v", name, i)
		}
		if _, err := p.Replica(id(1)); !errors.Is(err, tt.holds) {
			t.Errorf("%s: replica: %v, want %v", name, err, tt.holds)
		}
		if l := p.Replicas(); len(l) != 1 || !errors.Is(l[0].Err, tt.holds) {
			t.Errorf("%s: replicas %+v", name, l)
		}
		must(t, p.Delete(id(1))) // what is damaged can be given up
	}
	if _, err := pmemlog.Open(pmemtest.Of(good, pmemtest.Options{Kind: pmemlog.KindVolatile})); !errors.Is(err, pmemlog.ErrWrongMedium) {
		t.Errorf("on another kind of medium: %v", err)
	}
}

// A pool of a newer program stays as it is, down to what could be healed.
func TestARefusedPoolIsNotTouched(t *testing.T) {
	t.Parallel()
	m, _, _ := newReplica(t, pmemtest.Options{})
	b := m.Image()
	binary.LittleEndian.PutUint32(b[12288+7*128+96:], 2)
	pmemlog.MendChecksums(b, formatOptions().Replicas)
	b[8192+30] ^= 1 // an entry before it has one good copy
	newer := pmemtest.Of(b, pmemtest.Options{})
	_, err := pmemlog.Open(newer)
	want := "directory entry 7: pmemlog: made by another version of the program: version of the entry is 2, must be 1; start the program that made it, or a newer one"
	if !errors.Is(err, pmemlog.ErrVersion) || err.Error() != want {
		t.Errorf("open: %v, want %s", err, want)
	}
	if !bytes.Equal(newer.Image(), b) {
		t.Error("the pool was changed")
	}
	binary.LittleEndian.PutUint32(b[8:], 0)
	pmemlog.MendChecksums(b, formatOptions().Replicas)
	want = "pmemlog: made by another version of the program: version of the superblock is 0, must be 1; that version is no longer read: save what you need of its logs with the program that made it, then remove the pool and have it made anew"
	if _, err := pmemlog.Open(pmemtest.Of(b, pmemtest.Options{})); err == nil || err.Error() != want {
		t.Errorf("open: %v, want %s", err, want)
	}
	if _, err := pmemlog.Format(pmemtest.Of(b, pmemtest.Options{}), formatOptions()); !errors.Is(err, pmemlog.ErrVersion) {
		t.Errorf("format: %v, want %v", err, pmemlog.ErrVersion)
	}
}

func TestOpenHealsTheDirectory(t *testing.T) {
	t.Parallel()
	m, _, _ := newReplica(t, pmemtest.Options{})
	m = m.CrashClean()
	m.FlipBit(8192+30, 1)
	reopen(t, m)
	m = m.CrashClean()
	m.FlipBit(12288+30, 1)
	reopen(t, m)
}

func TestUnreadableRingEndsTheLog(t *testing.T) {
	t.Parallel()
	m, _, r := newReplica(t, pmemtest.Options{})
	w := openWriter(t, r, 1)
	for range 4 {
		w.append(64)
	}
	w.flush()
	must(t, r.PersistHint())
	m.FailReads(ringStart+256, ringStart+257)
	rep := get[format.Report](t)(r.Attach(false).Fence(term(2)))
	if rep.Tail != 256 || !rep.Suspect() {
		t.Errorf("report %+v, want a suspect with tail 256", rep)
	}
	if err := r.Info().Stop; !errors.Is(err, pmemtest.ErrInjected) {
		t.Errorf("the scan stopped because of %v", err)
	}
	if err := r.Attach(true).Read(256, make([]byte, 64)); !errors.Is(err, pmemtest.ErrInjected) {
		t.Errorf("read: %v", err)
	}
}

// What a process has left in the cache is not persistent: a second crash after a
// start must not find both header slots torn.
func TestOpenMakesPersistentWhatItBelieves(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		m, p, r := newReplica(t, pmemtest.Options{})
		get[format.Report](t)(r.Attach(false).Fence(term(1)))
		m.CutAtSync(1)
		_, _ = r.Attach(false).Fence(term(2)) // the header is written, not synced
		_, _ = p.NextIncarnation()
		m = m.CrashKeepingUnsynced()
		_, r = reopen(t, m)
		m.CutAtSync(1)
		_, _ = r.Attach(false).Fence(term(3))
		rng := rand.New(rand.NewPCG(seed, 0))
		_, r = reopen(t, m.Crash(rng))
		if f := r.Info().Slot.Fenced; f.Epoch < 2 {
			t.Fatalf("seed %d: fenced is %+v, a start after the promise of 2 believed it", seed, f)
		}
	}
}
