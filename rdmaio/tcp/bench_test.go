package tcp

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
)

// BenchmarkExchange sends records one way and completions back, with depth of
// them under way. provider=bare is the floor: the same bytes over net.Conn
// between two goroutines with a blocking read each, and nothing else.
//
// The replica only copies, so what is measured is this package.
func BenchmarkExchange(b *testing.B) {
	for _, depth := range []int{1, 32} {
		for _, size := range []int{4096} {
			b.Run(fmt.Sprintf("provider=bare/size=%d/depth=%d", size, depth), func(b *testing.B) { benchBare(b, size, depth) })
			b.Run(fmt.Sprintf("provider=tcp/size=%d/depth=%d", size, depth), func(b *testing.B) { benchTCP(b, size, depth, false) })
			b.Run(fmt.Sprintf("provider=tls/size=%d/depth=%d", size, depth), func(b *testing.B) { benchTCP(b, size, depth, true) })
		}
	}
}

// window keeps depth exchanges under way and measures each.
type window struct {
	slots chan struct{}
	start []time.Time // by number modulo depth
	took  []time.Duration
	done  uint64
}

func newWindow(depth int) *window {
	return &window{slots: make(chan struct{}, depth), start: make([]time.Time, depth)}
}

// begin waits for room and starts exchange number i.
func (w *window) begin(i uint64) {
	w.slots <- struct{}{}
	w.start[i%uint64(len(w.start))] = time.Now()
}

// finish ends all exchanges below n.
func (w *window) finish(n uint64) {
	now := time.Now()
	for ; w.done < n; w.done++ {
		w.took = append(w.took, now.Sub(w.start[w.done%uint64(len(w.start))]))
		<-w.slots
	}
}

func (w *window) report(b *testing.B) {
	slices.Sort(w.took)
	b.ReportMetric(float64(w.took[len(w.took)/2]), "p50-ns/op")
	b.ReportMetric(float64(w.took[len(w.took)*99/100]), "p99-ns/op")
}

// run makes exchanges until the benchmark has enough.
func (w *window) run(b *testing.B, size int, send func(i uint64)) {
	b.SetBytes(int64(size))
	b.ReportAllocs()
	w.took = make([]time.Duration, 0, 1<<20)
	i := uint64(0)
	for ; b.Loop(); i++ {
		w.begin(i)
		send(i)
	}
	for range cap(w.slots) { // all are back
		w.slots <- struct{}{}
	}
	b.StopTimer()
	w.report(b)
}

type copyTarget struct {
	rdmaio.Target
	ring format.Ring
	tail uint64
}

func (c *copyTarget) Hello(context.Context, rdmaio.Hello) (rdmaio.Target, rdmaio.Welcome, error) {
	return c, rdmaio.Welcome{}, nil
}

func (c *copyTarget) Write(lsn uint64, p []byte) error {
	c.tail = lsn + uint64(len(p))
	for len(p) > 0 {
		n := min(len(p), int(c.ring.ToEnd(lsn)))
		copy(c.ring.At(lsn, n), p)
		p, lsn = p[n:], lsn+uint64(n)
	}
	return nil
}

func (c *copyTarget) Flush() (uint64, error) { return c.tail, nil }
func (c *copyTarget) FlushIsCheap() bool     { return true }
func (c *copyTarget) Close()                 {}

func benchTCP(b *testing.B, size, depth int, secure bool) {
	record := make([]byte, format.RecordSize(size))
	far, near := quiet(), quiet()
	if secure {
		far.TLS, near.TLS = certificates(b)
	}
	addr := serve(b, &copyTarget{ring: make(format.Ring, 1<<22)}, far)
	w := newWindow(depth)
	ev := rdmaio.Events{Flushed: func(durable uint64) { w.finish(durable / uint64(len(record))) }}
	c, _, err := Dial(b.Context(), addr, rdmaio.Hello{Capacity: 1 << 22}, ev, near)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	segs := [][]byte{record}
	w.run(b, size, func(i uint64) {
		if err := c.Post(i*uint64(len(record)), segs); err != nil {
			b.Fatal(err)
		}
	})
}

func benchBare(b *testing.B, size, depth int) {
	record := make([]byte, headerSize+int(format.RecordSize(size)))
	near, far := pair(b)
	defer near.Close()
	defer far.Close()
	go func() {
		in, out := make([]byte, len(record)), make([]byte, headerSize)
		for {
			if _, err := io.ReadFull(far, in); err != nil {
				return
			}
			if _, err := far.Write(out); err != nil {
				return
			}
		}
	}()
	w := newWindow(depth)
	go func() {
		in := make([]byte, headerSize)
		for n := uint64(1); ; n++ {
			if _, err := io.ReadFull(near, in); err != nil {
				return
			}
			w.finish(n)
		}
	}()
	w.run(b, size, func(uint64) {
		if _, err := near.Write(record); err != nil {
			b.Fatal(err)
		}
	})
}

// pair returns the two ends of a connection.
func pair(tb testing.TB) (near, far net.Conn) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer ln.Close()
	near, err = net.Dial("tcp", ln.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	far, err = ln.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	return near, far
}
