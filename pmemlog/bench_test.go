package pmemlog_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
)

// benchPools makes a pool on each kind of medium.
func benchPools(b *testing.B, size int64) map[string]*pmemlog.Pool {
	b.Helper()
	m := get[*pmemlog.Volatile](b)(pmemlog.NewVolatile(size))
	pools := map[string]*pmemlog.Pool{
		"volatile": get[*pmemlog.Pool](b)(pmemlog.Format(m, fileOptions(0))),
		"file":     get[*pmemlog.Pool](b)(pmemlog.CreateFilePool(filepath.Join(b.TempDir(), "pool"), fileOptions(size))),
	}
	b.Cleanup(func() {
		for _, p := range pools {
			_ = p.Close()
		}
	})
	return pools
}

// benchWriter appends records of one size for ever: it trims when the ring is
// full, which is part of what an append costs.
type benchWriter struct {
	*writer
	b       testing.TB
	payload []byte
	segs    [][]byte
}

func (w *benchWriter) append() {
	if !w.room(len(w.payload)) {
		must(w.b, w.s.Trim(w.point()))
		w.trim = w.point()
	}
	from := w.chain.LSN
	w.ring.Append(&w.chain, w.commit, format.Record{Payload: w.payload})
	w.segs = w.ring.Segments(w.segs[:0], from, w.chain.LSN)
	for _, s := range w.segs {
		must(w.b, w.s.Write(from, s))
		from += uint64(len(s))
	}
	get[uint64](w.b)(w.s.Flush())
}

func newBenchWriter(b *testing.B, p *pmemlog.Pool, i byte, capacity uint64, size int) *benchWriter {
	b.Helper()
	r := get[*pmemlog.Replica](b)(p.Create(spec(i, capacity)))
	return &benchWriter{writer: openWriter(b, r, 1), b: b, payload: make([]byte, size)}
}

func BenchmarkAppend(b *testing.B) {
	pools := benchPools(b, 256<<20)
	id := byte(0)
	for _, media := range []string{"volatile", "file"} {
		for _, size := range []int{512, 4096, 65536} {
			b.Run(fmt.Sprintf("media=%s/size=%d", media, size), func(b *testing.B) {
				id++
				w := newBenchWriter(b, pools[media], id, 16<<20, size)
				defer func() { must(b, pools[media].Delete(w.s.Replica().ID())) }()
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					w.append()
				}
			})
		}
	}
}

// BenchmarkGroupSync appends to several replicas of one pool at once: the syncs
// that they share are reported.
func BenchmarkGroupSync(b *testing.B) {
	for _, replicas := range []int{1, 4, 16} {
		b.Run(fmt.Sprintf("media=file/replicas=%d", replicas), func(b *testing.B) {
			p := benchPools(b, 64<<20)["file"]
			writers := make(chan *benchWriter, replicas)
			for i := range replicas {
				writers <- newBenchWriter(b, p, byte(i+1), 1<<20, 4096)
			}
			before := pmemlog.Syncs(p)
			b.SetBytes(4096)
			b.SetParallelism(replicas)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					w := <-writers
					w.append()
					writers <- w
				}
			})
			b.ReportMetric(float64(pmemlog.Syncs(p)-before)/float64(b.N), "syncs/op")
		})
	}
}

func BenchmarkScan(b *testing.B) {
	const capacity = 64 << 20
	pools := benchPools(b, 128<<20)
	for _, media := range []string{"volatile", "file"} {
		b.Run(fmt.Sprintf("media=%s/size=4096", media), func(b *testing.B) {
			w := newBenchWriter(b, pools[media], 1, capacity, 4096)
			defer func() { must(b, pools[media].Delete(w.s.Replica().ID())) }()
			for w.room(4096) {
				w.writer.append(4096)
			}
			w.flush()
			b.SetBytes(capacity)
			b.ReportAllocs()
			for b.Loop() {
				get[format.Report](b)(w.s.Fence(w.term))
			}
		})
	}
}
