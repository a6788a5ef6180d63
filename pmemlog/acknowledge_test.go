package pmemlog_test

import (
	"sync"
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

// counted is a medium that remembers what was written before the last sync
// began.
type counted struct {
	pmemlog.Medium
	mu      sync.Mutex
	syncs   int
	written map[int64]int // offset of a write: syncs begun when it was made
}

func (c *counted) WriteAt(p []byte, off int64) error {
	if err := c.Medium.WriteAt(p, off); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.written[off] = c.syncs
	return nil
}

func (c *counted) Sync() error {
	c.mu.Lock()
	c.syncs++
	c.mu.Unlock()
	return c.Medium.Sync()
}

// Nothing is acknowledged that was not synced: counted on a real file, and looked
// up in what a crash would leave.
func TestAcknowledgedIsSynced(t *testing.T) {
	t.Parallel()
	const start = 8192 + 2*1024*128 + 3*4096
	path, p := newFilePool(t, 8<<20)
	must(t, p.Close())
	c := &counted{Medium: get[*pmemlog.File](t)(pmemlog.OpenFile(path)), written: map[int64]int{}}
	p = get[*pmemlog.Pool](t)(pmemlog.Open(c))
	t.Cleanup(func() { _ = p.Close() })
	w := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(1, 1<<20))), 1)
	acknowledged, syncs := uint64(0), c.syncs
	for i := range 50 {
		for range 1 + i%4 {
			w.append(1000)
		}
		durable := w.flush()
		for off, begun := range c.written {
			if off >= start && uint64(off-start) < durable && begun >= c.syncs {
				t.Fatalf("%d acknowledged, the write at LSN %d came after the last of %d syncs", durable, off-start, c.syncs)
			}
		}
		if c.syncs != syncs+1 || durable <= acknowledged {
			t.Fatalf("flush %d: %d syncs, acknowledged from %d to %d", i, c.syncs-syncs, acknowledged, durable)
		}
		acknowledged, syncs = durable, c.syncs
	}

	m, _, r := newReplica(t, pmemtest.Options{Log: true})
	w = openWriter(t, r, 1)
	for w.room(200) {
		w.append(200)
		if !w.room(200) {
			break
		}
		w.append(200)
		durable := w.flush()
		if !m.Persistent(ringStart, int(durable)) {
			t.Fatalf("%d acknowledged, some of it is not persistent", durable)
		}
		events := m.Events()
		if last := events[len(events)-1]; last.Op != pmemtest.OpSync {
			t.Fatalf("the last event before the acknowledgement is a %s", last.Op)
		}
	}
}

func TestWriteAndFlushAllocateNothing(t *testing.T) {
	m := get[*pmemlog.Volatile](t)(pmemlog.NewVolatile(64 << 20))
	p := get[*pmemlog.Pool](t)(pmemlog.Format(m, fileOptions(0)))
	t.Cleanup(func() { _ = p.Close() })
	w := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(1, 32<<20))), 1)
	var encoded [][]byte
	from := w.chain.LSN
	for range 1000 {
		_, b := w.encode(4096)
		encoded = append(encoded, b)
	}
	next := 0
	if n := testing.AllocsPerRun(900, func() {
		must(t, w.s.Write(from, encoded[next]))
		from += uint64(len(encoded[next]))
		next++
		if _, err := w.s.Flush(); err != nil {
			t.Error(err)
		}
	}); n > 0 {
		t.Errorf("a write and its flush allocate %v times", n)
	}
}
