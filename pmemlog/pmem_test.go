package pmemlog_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

// declared are the ways to have a mapping persistent on any file system.
var declared = []pmemlog.Durability{pmemlog.DurabilityFlush, pmemlog.DurabilityFence, pmemlog.DurabilityMsync} //nolint:gochecknoglobals // a constant table

func newPMemPool(t testing.TB, d pmemlog.Durability) (string, *pmemlog.Pool) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pool")
	p := get[*pmemlog.Pool](t)(pmemlog.CreatePMemPool(path, fileOptions(1<<20), d))
	t.Cleanup(func() { _ = p.Close() })
	return path, p
}

func TestPMemPoolKeepsWhatWasAppended(t *testing.T) {
	t.Parallel()
	for _, d := range declared {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			path, p := newPMemPool(t, d)
			if kind := p.Identity().Kind; kind != pmemlog.KindPmem || kind.String() != "pmem" {
				t.Errorf("the pool says that it is %s", kind)
			}
			w := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(1, ringSize))), 1)
			for range 20 { // more than once around the ring
				if !w.room(300) {
					must(t, w.s.Trim(w.point()))
					w.trim = w.point()
				}
				w.appendNow(300)
			}
			must(t, p.Close())
			p = get[*pmemlog.Pool](t)(pmemlog.OpenPMemPool(path, d))
			defer p.Close()
			again := openWriter(t, get[*pmemlog.Replica](t)(p.Replica(id(1))), 2)
			if again.chain.LSN != w.chain.LSN || !bytes.Equal(again.ring[:0], w.ring[:0]) {
				t.Errorf("the tail is %d, was %d", again.chain.LSN, w.chain.LSN)
			}
		})
	}
}

func TestPMemRefusesWhatIsNotPersistent(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pool")
	_, err := pmemlog.CreatePMemPool(path, fileOptions(1<<20), pmemlog.DurabilityAuto)
	if err == nil {
		t.Skip("the temporary folder lies on a DAX file system")
	}
	if !errors.Is(err, pmemlog.ErrNotPersistent) || !strings.Contains(err.Error(), "MAP_SYNC") || !strings.Contains(err.Error(), "msync") {
		t.Errorf("got %v, want ErrNotPersistent that says what to do", err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	must(t, err)
	if len(left) != 0 {
		t.Errorf("a refused creation left %v", left)
	}
	if _, err := pmemlog.CreatePMemPool(path, fileOptions(1<<20), "hope"); !errors.Is(err, pmemlog.ErrRange) {
		t.Errorf("durability hope: %v", err)
	}
}

func TestPMemRefusesWhatIsNoPool(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	must(t, get[*pmemlog.Pool](t)(pmemlog.CreateFilePool(file, fileOptions(1<<20))).Close())
	empty, short := filepath.Join(dir, "empty"), filepath.Join(dir, "short")
	must(t, os.WriteFile(empty, nil, 0o600))
	must(t, os.WriteFile(short, []byte("hello"), 0o600))
	for path, want := range map[string]error{
		file:                     pmemlog.ErrWrongMedium,
		empty:                    pmemlog.ErrNoPool,
		short:                    pmemlog.ErrNoPool,
		filepath.Join(dir, "no"): fs.ErrNotExist,
		"/dev/null":              pmemlog.ErrNoPool,
	} {
		if _, err := pmemlog.OpenPMemPool(path, pmemlog.DurabilityFlush); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", path, err, want)
		}
	}
	path, p := newPMemPool(t, pmemlog.DurabilityFlush)
	if _, err := pmemlog.OpenPMemPool(path, pmemlog.DurabilityFlush); !errors.Is(err, pmemlog.ErrLocked) {
		t.Errorf("second opener: %v", err)
	}
	if _, err := pmemlog.CreatePMemPool(path, fileOptions(1<<20), pmemlog.DurabilityFlush); !errors.Is(err, pmemlog.ErrExists) {
		t.Errorf("create over a pool: %v", err)
	}
	must(t, p.Close())
	if _, err := pmemlog.OpenFilePool(path); !errors.Is(err, pmemlog.ErrWrongMedium) {
		t.Errorf("a pmem pool as a file: %v", err)
	}
}

// TestFaultFailsTheReplicaOnly takes away the memory under a part of a mapping, as
// poison does, and goes on with what is left.
func TestFaultFailsTheReplicaOnly(t *testing.T) {
	t.Parallel()
	path, p := newPMemPool(t, pmemlog.DurabilityFlush)
	first := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(1, ringSize))), 1)
	second := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(2, 64<<10))), 1)
	first.appendNow(500)
	for range 50 {
		second.appendNow(1000)
	}
	listed := p.Replicas()[1]
	must(t, os.Truncate(path, (listed.Offset+format.RingOffset+20<<10)&^4095))

	var fault *pmemlog.FaultError
	buf := make([]byte, 1024)
	if err := second.s.Read(40<<10, buf); !errors.As(err, &fault) || fault.Off < listed.Offset {
		t.Errorf("read of lost memory: %v", err)
	}
	must(t, second.s.Read(0, buf))
	rep := get[format.Report](t)(second.s.Fence(second.term))
	if rep.Tail == 0 || rep.Tail > 20<<10 || !rep.Suspect() {
		t.Errorf("the replica that lost memory reports %+v", rep)
	}
	if info := second.s.Replica().Info(); !errors.As(info.Stop, &fault) {
		t.Errorf("its scan stopped for %v", info.Stop)
	}
	first.appendNow(500)
	if _, err := second.s.Append(rep.Tail, make([]byte, 64)); !errors.Is(err, pmemlog.ErrChain) {
		t.Errorf("a write of no record: %v", err)
	}
	must(t, p.Failure())
}

// TestFaultOnWriteFailsTheReplicaOnly truncates the file under a mapping: a write to
// what is gone makes the file no longer again, and the pool goes on.
func TestFaultOnWriteFailsTheReplicaOnly(t *testing.T) {
	t.Parallel()
	path, p := newPMemPool(t, pmemlog.DurabilityFlush)
	other := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(2, ringSize))), 1)
	w := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(1, 64<<10))), 1)
	size := (p.Replicas()[0].Offset + format.RingOffset) &^ 4095
	must(t, os.Truncate(path, size))
	var fault *pmemlog.FaultError
	if _, err := w.tryAppend(500); !errors.Is(err, pmemlog.ErrUnwritable) || !errors.As(err, &fault) || fault.Off != size {
		t.Errorf("append to lost memory: %v", err)
	}
	must(t, p.Failure())
	i := w.s.Replica().Info()
	if !errors.Is(i.Failure, pmemlog.ErrUnwritable) || i.Damage == nil || !errors.As(i.Damage.Err, &fault) {
		t.Errorf("the replica says %v, %+v", i.Failure, i.Damage)
	}
	other.appendNow(500)
	if info := get[os.FileInfo](t)(os.Stat(path)); info.Size() != size {
		t.Errorf("the file has %d bytes again, had %d", info.Size(), size)
	}
	must(t, p.Delete(id(1)))
	must(t, p.Close())
	if err := other.s.Read(0, make([]byte, 64)); !errors.Is(err, pmemlog.ErrClosed) {
		t.Errorf("read after the end: %v", err)
	}
}

// A bug in what looks at a mapping is no damage of it, and holds nothing up.
func TestPanicInALookIsPassedOn(t *testing.T) {
	t.Parallel()
	path, p := newPMemPool(t, pmemlog.DurabilityFlush)
	must(t, p.Close())
	m := get[*pmemlog.PMem](t)(pmemlog.OpenPMem(path, pmemlog.DurabilityFlush))
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = m.View(0, 64, func([]byte) error { panic("a bug") })
	}()
	must(t, m.Close())
}

func TestFullFileSystemUnderPMem(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("needs the right to mount a tmpfs:", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	p := get[*pmemlog.Pool](t)(pmemlog.CreatePMemPool(filepath.Join(dir, "pool"), fileOptions(4<<20), pmemlog.DurabilityFlush))
	defer p.Close()
	if _, err := p.Create(spec(1, 2<<20)); !errors.Is(err, pmemlog.ErrNoSpace) {
		t.Errorf("a ring of twice the file system: %v", err)
	}
	must(t, p.Failure())
	w := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(2, 64<<10))), 1)
	w.appendNow(500)
	if _, err := pmemlog.CreatePMemPool(filepath.Join(dir, "other"), pmemlog.FormatOptions{PoolID: id(7), Size: 16 << 20, Replicas: 4096}, pmemlog.DurabilityFlush); !errors.Is(err, pmemlog.ErrNoSpace) {
		t.Errorf("a pool whose directory alone is too large: %v", err)
	}
}

// TestAppendIsWriteAndFlush compares what Append leaves with what the two do, on
// each kind of medium.
func TestAppendIsWriteAndFlush(t *testing.T) {
	t.Parallel()
	for _, kind := range []pmemlog.Kind{pmemlog.KindFile, pmemlog.KindPmem} {
		infos := map[bool]pmemlog.Info{}
		for _, at := range []bool{false, true} {
			_, _, r := newReplica(t, pmemtest.Options{Kind: kind})
			w := openWriter(t, r, 1)
			for range 10 {
				if at {
					w.appendNow(200)
				} else {
					w.append(200)
					w.flush()
				}
			}
			if lag := r.HintLag(); !lag {
				t.Errorf("%s: the hint of the last append is persistent already", kind)
			}
			infos[at] = r.Info()
		}
		a, b := infos[false], infos[true]
		if a.Tail != b.Tail || a.Durable != b.Durable || a.Slot.Hint != b.Slot.Hint {
			t.Errorf("%s: tail %d, durable %d, hint %s by Write and Flush; %d, %d, %s by Append", kind, a.Tail, a.Durable, a.Slot.Hint, b.Tail, b.Durable, b.Slot.Hint)
		}
	}
}

// Where the kernel writes, an append may take as long as a disk does, and nobody who
// asks for a replica's state may have to wait for that.
func TestOnlyMsyncBlocks(t *testing.T) {
	t.Parallel()
	for d, blocks := range map[pmemlog.Durability]bool{pmemlog.DurabilityMsync: true, pmemlog.DurabilityFlush: false} {
		p := get[*pmemlog.Pool](t)(pmemlog.CreatePMemPool(filepath.Join(t.TempDir(), "pool"), fileOptions(4<<20), d))
		if got := pmemlog.Blocks(p); got != blocks {
			t.Errorf("durability %s: an append may block: %v", d, got)
		}
		w := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(1, 1<<20))), 1)
		w.appendNow(200)
		w.appendNow(200)
		must(t, p.Close())
	}
}

func TestAppendOnPMemIsOneFence(t *testing.T) {
	t.Parallel()
	m, _, r := newReplica(t, pmemtest.Options{Kind: pmemlog.KindPmem})
	w := openWriter(t, r, 1)
	w.appendNow(200)
	before := m.Syncs()
	w.appendNow(200)
	if n := m.Syncs() - before; n != 1 {
		t.Errorf("an append, with the hint of the one before, took %d fences", n)
	}
	if r.Info().Slot.Hint.LSN == 0 {
		t.Error("the hint was not carried along")
	}
}

func TestAppendOnPMemAllocatesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pool")
	p := get[*pmemlog.Pool](t)(pmemlog.CreatePMemPool(path, fileOptions(32<<20), pmemlog.DurabilityFlush))
	defer p.Close()
	w := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(1, 16<<20))), 1)
	from := w.chain.LSN
	var encoded [][]byte
	for range 1000 {
		_, b := w.encode(4096)
		encoded = append(encoded, b)
	}
	next := 0
	if n := testing.AllocsPerRun(900, func() {
		b := encoded[next]
		if _, err := w.s.Append(from, b); err != nil {
			t.Error(err)
		}
		from += uint64(len(b))
		next++
	}); n > 0 {
		t.Errorf("an append allocates %v times", n)
	}
}

// TestArrivedBytes has records stored behind the replica's back and loses the
// power at once.
func TestArrivedBytes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		m, _, r := newReplica(t, pmemtest.Options{Kind: pmemlog.KindPmem})
		w := openWriter(t, r, 1)
		for range 8 { // past the end of the ring
			if !w.room(900) {
				must(t, w.s.Trim(w.point()))
				w.trim = w.point()
			}
			from, b := w.encode(900)
			for i := range b {
				must(t, m.Arrive(b[i:i+1], ringStart+int64((from+uint64(i))%ringSize)))
			}
			if durable, err := w.s.Arrived(from, uint64(len(b))); err != nil || durable != w.chain.LSN {
				t.Fatalf("seed %d: arrived: durable %d, %v; want %d", seed, durable, err, w.chain.LSN)
			}
		}
		_, r = reopen(t, m.Crash(seeded(t, seed)))
		rep := get[format.Report](t)(r.Attach(false).Fence(term(2)))
		if rep.Tail != w.chain.LSN || rep.Suspect() {
			t.Fatalf("seed %d: after a crash the tail is %d, was %d; %+v", seed, rep.Tail, w.chain.LSN, rep)
		}
	}
}

func TestArrivedIsChecked(t *testing.T) {
	t.Parallel()
	m, _, r := newReplica(t, pmemtest.Options{Kind: pmemlog.KindPmem})
	w := openWriter(t, r, 1)
	from, b := w.encode(200)
	b[100] ^= 1
	must(t, m.Arrive(b, ringStart))
	for name, tt := range map[string]struct {
		lsn, n uint64
		want   error
	}{
		"damaged":         {from, uint64(len(b)), pmemlog.ErrChain},
		"cut":             {from, 64, pmemlog.ErrChain},
		"no line":         {from, 100, pmemlog.ErrRange},
		"elsewhere":       {64, 64, pmemlog.ErrRange},
		"beyond the ring": {from, ringSize + 64, pmemlog.ErrRange},
	} {
		if _, err := w.s.Arrived(tt.lsn, tt.n); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
	}
	if tail := r.Info().Tail; tail != 0 {
		t.Errorf("the tail is %d", tail)
	}
	_, _, onFile := newReplica(t, pmemtest.Options{})
	if _, err := openWriter(t, onFile, 1).s.Arrived(0, 64); !errors.Is(err, pmemlog.ErrWrongMedium) {
		t.Errorf("on a file: %v", err)
	}
}

// TestPMemWritesOfAnyPlace writes ranges that share their first and last lines
// with others, and loses the power.
func TestPMemWritesOfAnyPlace(t *testing.T) {
	t.Parallel()
	rng := seeded(t, 7)
	for range 300 {
		m := pmemtest.New(4096, pmemtest.Options{Kind: pmemlog.KindPmem})
		want := make([]byte, 4096)
		for range 1 + rng.IntN(4) {
			off := rng.IntN(4000)
			p := bytes.Repeat([]byte{byte(1 + rng.IntN(255))}, rng.IntN(4096-off))
			copy(want[off:], p)
			must(t, m.WriteAt(p, int64(off)))
		}
		must(t, m.Sync())
		if got := m.Crash(rng).Image(); !bytes.Equal(got, want) {
			t.Fatal("what was written did not survive")
		}
	}
}
