package pmemlog_test

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/pmemlog/pmemtest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	poolSize = 64 << 10
	ringSize = 4 << 10
)

func id(b byte) format.ID { return format.ID{0: b, 15: 1} }

func spec(b byte, capacity uint64) pmemlog.Spec {
	return pmemlog.Spec{Cluster: id(0xc), Log: id(0xb), Replica: id(b), Capacity: capacity}
}

func formatOptions() pmemlog.FormatOptions {
	return pmemlog.FormatOptions{PoolID: id(0xa), ClusterID: id(0xc), Replicas: 8}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func get[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		must(t, err)
		return v
	}
}

// newReplica returns a replica on a new pool in a test medium.
func newReplica(t testing.TB, opts pmemtest.Options) (*pmemtest.Medium, *pmemlog.Pool, *pmemlog.Replica) {
	t.Helper()
	m := pmemtest.New(poolSize, opts)
	p := get[*pmemlog.Pool](t)(pmemlog.Format(m, formatOptions()))
	t.Cleanup(func() { _ = p.Close() })
	return m, p, get[*pmemlog.Replica](t)(p.Create(spec(1, ringSize)))
}

func reopen(t testing.TB, m pmemlog.Medium) (*pmemlog.Pool, *pmemlog.Replica) {
	t.Helper()
	p := get[*pmemlog.Pool](t)(pmemlog.Open(m))
	t.Cleanup(func() { _ = p.Close() })
	return p, get[*pmemlog.Replica](t)(p.Replica(id(1)))
}

// ringStart is where the ring of the first replica lies in a pool of newReplica.
const ringStart = 2*4096 + 2*4096 + format.RingOffset

// writer is what a log's writer keeps: a mirror of the ring and its chain.
type writer struct {
	t      testing.TB
	s      *pmemlog.Session
	ring   format.Ring
	chain  format.Chain
	term   format.Fence
	seals  []format.Seal
	commit uint64
	trim   format.TrimPoint
}

func term(epoch uint64) format.Fence { return format.Fence{Epoch: epoch, Nonce: epoch * 1000} }

// openWriter fences r in an epoch, goes on with what it holds and seals it in.
func openWriter(t testing.TB, r *pmemlog.Replica, epoch uint64) *writer {
	t.Helper()
	w := &writer{t: t, s: r.Attach(false), ring: make(format.Ring, r.Capacity()), term: term(epoch)}
	rep := get[format.Report](t)(w.s.Fence(w.term))
	w.trim = rep.Trim
	must(t, w.s.Read(rep.Trim.LSN, w.ring[:0]))
	for lsn := rep.Trim.LSN; lsn < rep.Tail; {
		b := w.ring.At(lsn, int(min(rep.Tail-lsn, w.ring.ToEnd(lsn))))
		must(t, w.s.Read(lsn, b))
		lsn += uint64(len(b))
	}
	w.chain = get[format.Chain](t)(format.Boundary(w.ring, rep.Trim, rep.Tail))
	w.seals = rep.Seals
	w.seal()
	return w
}

// seal seals the replica in at its tail.
func (w *writer) seal() {
	w.t.Helper()
	w.seals = format.AddSeal(w.seals, w.ownSeal())
	must(w.t, w.s.Seal(w.sealIn()))
	w.chain.Epoch = w.term.Epoch
}

func (w *writer) ownSeal() format.Seal {
	return format.Seal{Epoch: w.term.Epoch, Nonce: w.term.Nonce, T: w.chain.LSN, Prev: w.chain.CRC, SetVersion: 1}
}

func (w *writer) sealIn() pmemlog.SealIn {
	return pmemlog.SealIn{
		Seals: w.seals, Set: []format.ID{id(1)}, Tail: w.chain.LSN,
		Hint: format.Position{Epoch: w.term.Epoch, LSN: w.chain.LSN},
	}
}

// encode puts a record of n bytes into the mirror and returns where it, with its
// pad, begins.
func (w *writer) encode(n int) (from uint64, bytes []byte) {
	from = w.chain.LSN
	payload := make([]byte, n)
	for i := range payload {
		payload[i] = byte(from>>6) + byte(i)
	}
	w.ring.Append(&w.chain, w.commit, format.Record{Payload: payload})
	for _, seg := range w.ring.Segments(nil, from, w.chain.LSN) {
		bytes = append(bytes, seg...)
	}
	return from, bytes
}

// room returns whether a record of n bytes fits.
func (w *writer) room(n int) bool {
	size := format.RecordSize(n)
	need := size + format.PadBefore(w.chain.LSN, size, uint64(len(w.ring)))
	return w.chain.LSN+need <= w.trim.LSN+uint64(len(w.ring))
}

func (w *writer) write(n int) error {
	from, b := w.encode(n)
	return w.s.Write(from, b)
}

func (w *writer) append(n int) {
	w.t.Helper()
	must(w.t, w.write(n))
}

func (w *writer) flush() uint64 {
	w.t.Helper()
	return get[uint64](w.t)(w.s.Flush())
}

// point returns the chain's end as a trim point.
func (w *writer) point() format.TrimPoint {
	return format.TrimPoint{LSN: w.chain.LSN, Epoch: w.chain.Epoch, CRC: w.chain.CRC}
}

func seeded(t testing.TB, seed uint64) *rand.Rand {
	t.Helper()
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return rand.New(rand.NewChaCha8(key))
}

// checkSays checks that an error is want and tells people all of the words.
func checkSays(t testing.TB, name string, err, want error, words ...string) {
	t.Helper()
	if !errors.Is(err, want) || (err == nil) != (want == nil) {
		t.Errorf("%s: %v, want %v", name, err, want)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: %v; it does not say %q", name, err, w)
		}
	}
}

// tryAppend encodes a record of n bytes and appends it.
func (w *writer) tryAppend(n int) (uint64, error) {
	from, b := w.encode(n)
	return w.s.Append(from, b)
}

// appendNow appends a record, and it is persistent.
func (w *writer) appendNow(n int) {
	w.t.Helper()
	if durable := get[uint64](w.t)(w.tryAppend(n)); durable != w.chain.LSN {
		w.t.Fatalf("durable is %d, the tail %d", durable, w.chain.LSN)
	}
}
