package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
)

func benchID(b byte) format.ID { return format.ID{0: 0xbe, 15: b} }

func benchTerm() format.Fence { return format.Fence{Epoch: 1, Nonce: 1} }

// appender appends records of one size to a replica of its own for ever: it trims
// when the ring is full, which is part of what an append costs. Records are encoded
// ahead of the time that is measured: that is the writer's work, on another host.
type appender struct {
	s        *pmemlog.Session
	payload  int
	size     uint64       // of a record
	capacity uint64       // of the ring: a multiple of size, so that no record needs a pad
	next     format.Chain // behind what has been encoded
	tail     uint64       // LSN behind what has been appended
	trim     uint64       // LSN
	buf      []byte       // records that were encoded last
}

// newAppender makes a replica and goes round its ring once, so that no page of it
// is touched for the first time while it is measured.
func newAppender(p *pmemlog.Pool, id byte, ring int64, payload int) (*appender, error) {
	size := format.RecordSize(payload)
	a := &appender{payload: payload, size: size, capacity: uint64(ring) / size * size}
	r, err := p.Create(pmemlog.Spec{Cluster: benchID(2), Log: benchID(3), Replica: benchID(id), Capacity: a.capacity})
	if err != nil {
		return nil, err
	}
	a.s = r.Attach(false)
	if _, err := a.s.Fence(benchTerm()); err != nil {
		return nil, err
	}
	own := format.Seal{Epoch: benchTerm().Epoch, Nonce: benchTerm().Nonce, SetVersion: 1}
	err = a.s.Seal(pmemlog.SealIn{Seals: []format.Seal{own}, Set: []format.ID{r.ID()}, Hint: format.Position{Epoch: own.Epoch}})
	if err != nil {
		return nil, err
	}
	a.next.Epoch = own.Epoch
	return a, a.fill()
}

// encode makes up to n bytes of records, one at least, that follow. All that were
// encoded before have been appended.
func (a *appender) encode(n int) [][]byte {
	count := max(1, n/int(a.size))
	if need := count * int(a.size); len(a.buf) < need {
		a.buf = make([]byte, need)
		for i := range a.buf {
			a.buf[i] = byte(i * 7)
		}
	}
	records := make([][]byte, count)
	for i := range records {
		rec := a.buf[uint64(i)*a.size:][:a.size]
		h := format.Header{Kind: format.KindData, Length: uint32(a.payload), Prev: a.next.CRC, LSN: a.next.LSN, Epoch: a.next.Epoch}
		a.next.CRC = format.EncodeHeader(rec, &h)
		a.next.LSN = h.End()
		records[i] = rec
	}
	return records
}

// append appends whole records, the next ones that were encoded.
func (a *appender) append(records []byte) error {
	end := a.tail + uint64(len(records))
	if end > a.trim+a.capacity {
		if err := a.makeRoom(records); err != nil {
			return err
		}
	}
	durable, err := a.s.Append(a.tail, records)
	if err != nil {
		return err
	}
	if durable != end {
		return fmt.Errorf("an append up to LSN %d has made persistent what is below %d", end, durable)
	}
	a.tail = end
	return nil
}

// makeRoom trims all that there is. The record that comes next names the one
// before it.
func (a *appender) makeRoom(next []byte) error {
	h, err := format.DecodeHeader(next)
	if err != nil {
		return err
	}
	a.trim = a.tail
	return a.s.Trim(format.TrimPoint{LSN: a.tail, Epoch: h.Epoch, CRC: h.Prev})
}

// fill appends until the ring is full.
func (a *appender) fill() error {
	for a.tail < a.trim+a.capacity {
		room := a.trim + a.capacity - a.tail
		n := len(a.encode(int(min(room, pmemBatchSize)))) * int(a.size)
		if err := a.append(a.buf[:n]); err != nil {
			return err
		}
	}
	return nil
}

// encodeAhead is how many bytes of records are encoded before they are appended
// one by one: few, so that they are in the cache, as bytes are that have just been
// received, and as the baseline's are.
const encodeAhead = 16 << 10

// appends measures appends of one record at a time.
func (a *appender) appends(ctx context.Context, d time.Duration) (work, error) {
	var w work
	for w.elapsed < d {
		if err := ctx.Err(); err != nil {
			return w, err
		}
		records := a.encode(encodeAhead)
		start := time.Now()
		for _, rec := range records {
			if err := a.append(rec); err != nil {
				return w, err
			}
		}
		w.elapsed += time.Since(start)
		w.ops += len(records)
	}
	w.bytes = int64(w.ops) * int64(a.payload)
	return w, nil
}

// batches measures appends of many records at a time.
func (a *appender) batches(ctx context.Context, d time.Duration) (work, error) {
	var w work
	for w.elapsed < d {
		if err := ctx.Err(); err != nil {
			return w, err
		}
		records := a.encode(pmemBatchSize)
		start := time.Now()
		if err := a.append(a.buf[:len(records)*int(a.size)]); err != nil {
			return w, err
		}
		w.elapsed += time.Since(start)
		w.ops++
		w.bytes += int64(len(records) * a.payload)
	}
	return w, nil
}

// scans measures fences, each of which scans the ring.
func (a *appender) scans(ctx context.Context, d time.Duration) (work, error) {
	return repeat(ctx, d, int64(a.capacity), func() error {
		rep, err := a.s.Fence(benchTerm())
		if err == nil && rep.Tail != a.tail {
			err = fmt.Errorf("a scan ended at LSN %d, the tail is %d", rep.Tail, a.tail)
		}
		return err
	})
}

// appenders append side by side to one pool.
type appenders []*appender

// appends measures them by the wall clock.
func (all appenders) appends(ctx context.Context, d time.Duration) (work, error) {
	works, errs := make([]work, len(all)), make([]error, len(all))
	var done sync.WaitGroup
	start := time.Now()
	for i, a := range all {
		done.Go(func() { works[i], errs[i] = a.appends(ctx, d) })
	}
	done.Wait()
	sum := work{elapsed: time.Since(start)}
	for i, w := range works {
		if errs[i] != nil {
			return sum, errs[i]
		}
		sum.ops += w.ops
		sum.bytes += w.bytes
	}
	return sum, nil
}

// crowd is many who append to one log. What has gathered while one append was under
// way goes along with the next, as a log's writer sends it.
type crowd struct {
	*appender
	many int

	mu       sync.Mutex
	busy     bool       // one of them appends, for itself and the others
	gathered *gathering // what goes with the next append
	spare    []byte
	err      error
}

// gathering is records that are appended together. done is closed when they have been.
type gathering struct {
	records []byte
	done    chan struct{}
	err     error // once it is done
}

func newCrowd(a *appender, many int) *crowd {
	return &crowd{appender: a, many: many, gathered: &gathering{done: make(chan struct{})}}
}

// appends measures them by the wall clock. Encoding is in, since a record can't be
// encoded before the one before it has its place.
func (c *crowd) appends(ctx context.Context, d time.Duration) (work, error) {
	ops := make([]int, c.many)
	var wg sync.WaitGroup
	start := time.Now()
	for i := range c.many {
		wg.Go(func() {
			for ops[i] == 0 || time.Since(start) < d {
				if ctx.Err() != nil || c.appendOne() != nil {
					return
				}
				ops[i]++
			}
		})
	}
	wg.Wait()
	w := work{elapsed: time.Since(start)}
	for _, n := range ops {
		w.ops += n
	}
	w.bytes = int64(w.ops) * int64(c.payload)
	return w, errors.Join(ctx.Err(), c.err)
}

func (c *crowd) appendOne() error {
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return c.err
	}
	f := c.gathered
	f.records = append(f.records, c.encode(1)[0]...)
	if !c.busy {
		c.lead()
	}
	c.mu.Unlock()
	<-f.done
	return f.err
}

// lead appends what has gathered until nothing has, with the lock given up meanwhile.
func (c *crowd) lead() {
	c.busy = true
	for len(c.gathered.records) > 0 && c.err == nil {
		for n := 0; n < len(c.gathered.records); { // whoever the last append was for gathers anew
			n = len(c.gathered.records)
			c.mu.Unlock()
			runtime.Gosched()
			c.mu.Lock()
		}
		f := c.gathered
		c.gathered = &gathering{records: c.spare[:0], done: make(chan struct{})}
		c.mu.Unlock()
		f.err = c.append(f.records)
		c.mu.Lock()
		c.spare, c.err = f.records, f.err
		close(f.done)
	}
	if c.busy = false; c.err != nil {
		c.gathered.err = c.err
		close(c.gathered.done)
	}
}
