package pmemlog_test

import (
	"fmt"
	"hash/crc32"
	"os"
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
		"pmem":     get[*pmemlog.Pool](b)(pmemlog.CreatePMemPool(filepath.Join(memoryFolder(b), "pool"), fileOptions(size), pmemlog.DurabilityFlush)),
		"file":     get[*pmemlog.Pool](b)(pmemlog.CreateFilePool(filepath.Join(b.TempDir(), "pool"), fileOptions(size))),
	}
	b.Cleanup(func() {
		for _, p := range pools {
			_ = p.Close()
		}
	})
	return pools
}

// memoryFolder returns a folder whose files are memory, so that a pool of medium
// pmem in it costs what the instructions do; on a disk it would fault page by page.
func memoryFolder(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "pmemlog-bench-")
	if err != nil {
		b.Logf("no memory under /dev/shm: medium pmem lies on a disk: %v", err)
		return b.TempDir()
	}
	b.Cleanup(func() { must(b, os.RemoveAll(dir)) })
	return dir
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
	for _, s := range w.segs[:len(w.segs)-1] { // there are two where the ring ends
		must(w.b, w.s.Write(from, s))
		from += uint64(len(s))
	}
	if _, err := w.s.Append(from, w.segs[len(w.segs)-1]); err != nil {
		w.b.Fatal(err)
	}
}

func newBenchWriter(b *testing.B, p *pmemlog.Pool, i byte, capacity uint64, size int) *benchWriter {
	b.Helper()
	r := get[*pmemlog.Replica](b)(p.Create(spec(i, capacity)))
	return &benchWriter{writer: openWriter(b, r, 1), b: b, payload: make([]byte, size)}
}

// BenchmarkAppend encodes, appends and makes persistent one record at a time. The
// only allocations are those of trims, one a lap.
func BenchmarkAppend(b *testing.B) {
	pools := benchPools(b, 256<<20)
	id := byte(0)
	for _, media := range []string{"pmem", "volatile", "file"} {
		for _, size := range []int{64, 512, 4 << 10, 64 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("media=%s/size=%d", media, size), func(b *testing.B) {
				id++
				w := newBenchWriter(b, pools[media], id, 64<<20, size)
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
	for _, replicas := range []int{1, 4, 16, 64} {
		b.Run(fmt.Sprintf("media=file/replicas=%d", replicas), func(b *testing.B) {
			p := benchPools(b, 128<<20)["file"]
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
	for _, media := range []string{"pmem", "volatile", "file"} {
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

// BenchmarkChecksum is what a scan can't be faster than: the CRC32C of as many
// bytes in memory, record by record.
func BenchmarkChecksum(b *testing.B) {
	bytes := make([]byte, 64<<20)
	table := crc32.MakeTable(crc32.Castagnoli)
	b.SetBytes(int64(len(bytes)))
	for b.Loop() {
		for at := 0; at < len(bytes); at += 4096 {
			crc32.Checksum(bytes[at:at+4096], table)
		}
	}
}
