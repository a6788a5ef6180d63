package agent

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
	"github.com/gravenio/graven/rdmaio/tcp"
)

func id(t *testing.T, s string) format.ID {
	t.Helper()
	u, err := uuid.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return format.ID(u)
}

// hello is a writer's Hello to the log's replica at the index.
func hello(t *testing.T, o *openapi.OpenedLog, index int) rdmaio.Hello {
	t.Helper()
	nonce, err := strconv.ParseUint(o.Nonce, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return rdmaio.Hello{
		Cluster: id(t, o.ClusterID), Log: id(t, o.LogID), Replica: id(t, o.Replicas[index].ReplicaID),
		Term: format.Fence{Epoch: uint64(o.Epoch), Nonce: nonce}, Capacity: uint64(o.CapacityBytes),
		Create: o.Replicas[index].State == openapi.ReplicaAllocated, Grant: o.Grant,
	}
}

func dial(addr net.Addr, h rdmaio.Hello, ev rdmaio.Events) (*tcp.Conn, rdmaio.Welcome, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return tcp.Dial(ctx, addr.String(), h, ev, tcp.Options{})
}

func noEvents() rdmaio.Events { return rdmaio.Events{} }

// writer is a session that has sealed one replica in and appends to it.
type writer struct {
	*tcp.Conn
	t     *testing.T
	hello rdmaio.Hello
	ring  format.Ring
	chain format.Chain

	mu      sync.Mutex
	durable uint64
	ended   error
	changed chan struct{} // one token: durable or ended has changed
	onFlush func(durable uint64)
}

// write opens a replica as a log's writer does: fence, load, seal in.
func write(t *testing.T, addr net.Addr, h rdmaio.Hello, onFlush func(uint64)) *writer {
	t.Helper()
	w := &writer{t: t, hello: h, ring: make(format.Ring, h.Capacity), changed: make(chan struct{}, 1), onFlush: onFlush}
	conn, _, err := dial(addr, h, rdmaio.Events{Flushed: w.flushed, Ended: w.end})
	if err != nil {
		t.Fatal(err)
	}
	w.Conn = conn
	t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	report, err := conn.Fence(ctx)
	if err != nil {
		t.Fatal(err)
	}
	w.load(ctx, report)
	own := format.Seal{Epoch: h.Term.Epoch, Nonce: h.Term.Nonce, T: report.Tail, Prev: w.chain.CRC}
	seals := append(report.Seals, own)
	if n := len(report.Seals); n > 0 && report.Seals[n-1].T == own.T {
		seals = append(report.Seals[:n-1], own)
	}
	err = conn.Seal(ctx, rdmaio.SealIn{
		Seals: seals, Set: []format.ID{h.Replica}, Tail: report.Tail,
		Hint: format.Position{Epoch: own.Epoch, LSN: own.T},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.chain.Epoch, w.durable = h.Term.Epoch, report.Tail
	return w
}

// load fetches what the replica holds and checks it.
func (w *writer) load(ctx context.Context, report format.Report) {
	w.t.Helper()
	for lsn := report.Trim.LSN; lsn < report.Tail; {
		n := min(report.Tail-lsn, w.ring.ToEnd(lsn))
		if err := w.Read(ctx, lsn, w.ring.At(lsn, int(n))); err != nil {
			w.t.Fatal(err)
		}
		lsn += n
	}
	res, err := format.Scan(w.ring, format.ScanInput{Trim: report.Trim, Seals: report.Seals, Hint: report.Evidence}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if res.Chain.LSN != report.Tail {
		w.t.Fatalf("the bytes end at LSN %d (%v), the replica said %d", res.Chain.LSN, res.Stop, report.Tail)
	}
	w.chain = res.Chain
}

func (w *writer) flushed(durable uint64) {
	if w.onFlush != nil {
		w.onFlush(durable)
	}
	w.mu.Lock()
	w.durable = durable
	w.mu.Unlock()
	signal(w.changed)
}

func (w *writer) end(err error) {
	w.mu.Lock()
	w.ended = err
	w.mu.Unlock()
	signal(w.changed)
}

// append posts a record and returns the LSN behind it.
func (w *writer) append(payload []byte) uint64 {
	w.t.Helper()
	from := w.chain.LSN
	w.ring.Append(&w.chain, 0, format.Record{Payload: payload})
	if err := w.Post(from, w.ring.Segments(nil, from, w.chain.LSN)); err != nil {
		w.t.Fatal(err)
	}
	return w.chain.LSN
}

// until waits for an acknowledgement, or for the end of the session.
func (w *writer) until(lsn uint64) error {
	deadline := time.After(patience)
	for {
		w.mu.Lock()
		durable, ended := w.durable, w.ended
		w.mu.Unlock()
		switch {
		case durable >= lsn:
			return nil
		case ended != nil:
			return ended
		}
		select {
		case <-w.changed:
		case <-deadline:
			return fmt.Errorf("no acknowledgement of LSN %d, the last was %d", lsn, durable)
		}
	}
}

// commit appends a record and waits for its acknowledgement.
func (w *writer) commit(payload string) uint64 {
	w.t.Helper()
	lsn := w.append([]byte(payload))
	if err := w.until(lsn); err != nil {
		w.t.Fatal(err)
	}
	return lsn
}

// payloads returns what the ring holds.
func (w *writer) payloads() []string {
	var out []string
	_, err := format.Scan(w.ring, format.ScanInput{}, func(h format.Header, p []byte) error {
		if h.Kind == format.KindData {
			out = append(out, string(p))
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}
