package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog"
)

// pump moves a stream into a log: one goroutine reads blocks, one submits them,
// one takes the commits in, in the order of the records.
type pump struct {
	w     *replog.Writer
	depth int
	block int
	trim  bool
	wake  chan struct{} // has one element after more was committed
	steps trimSteps

	mu      sync.Mutex
	started time.Time
	records int64
	bytes   int64 // of payload
	commit  uint64
	elapsed time.Duration
	latency histogram
}

func newPump(w *replog.Writer, depth, block int, trim bool) *pump {
	p := &pump{w: w, depth: depth, block: block, trim: trim, wake: make(chan struct{}, 1), started: time.Now(), commit: w.Commit()}
	p.steps.last = w.TrimLSN()
	p.steps.mark(w.Commit(), 1)
	return p
}

// flight is a record under way.
type flight struct {
	ticket *replog.Ticket
	begun  time.Time
	bytes  int
}

// block is a piece of the input; the last one may be short and carries the error
// that ended the input, io.EOF included.
type block struct {
	data []byte
	err  error
}

// run returns nil when the whole input is committed. However it ends, what was
// counted is committed.
func (p *pump) run(ctx context.Context, in io.Reader) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	blocks, spare := make(chan block), make(chan []byte, 2)
	spare <- make([]byte, p.block)
	spare <- make([]byte, p.block)
	go read(ctx, in, blocks, spare) // may stay in a read that never returns; it touches nothing of ours then

	flights := make(chan flight, p.depth)
	slots := make(chan struct{}, p.depth)
	landed := make(chan error, 1)
	go func() {
		err := p.land(ctx, flights, slots)
		if err != nil {
			cancel(err)
		}
		landed <- err
	}()
	err := p.submit(ctx, blocks, spare, flights, slots)
	close(flights)
	landErr := <-landed
	p.mu.Lock()
	p.elapsed = time.Since(p.started)
	p.mu.Unlock()
	if landErr != nil {
		return landErr
	}
	return err
}

// read cuts the input into blocks until it ends or fails.
func read(ctx context.Context, in io.Reader, out chan<- block, spare <-chan []byte) {
	for {
		var buf []byte
		select {
		case buf = <-spare:
		case <-ctx.Done():
			return
		}
		n, err := io.ReadFull(in, buf)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF
		}
		select {
		case out <- block{data: buf[:n], err: err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// submit begins one append after another until the input ends.
func (p *pump) submit(ctx context.Context, blocks <-chan block, spare chan<- []byte, flights chan<- flight, slots chan<- struct{}) error {
	for {
		var b block
		select {
		case b = <-blocks:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if len(b.data) > 0 {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if err := p.makeRoom(0); err != nil {
				return err
			}
			begun := time.Now()
			t, err := p.w.Submit(ctx, format.Record{Payload: b.data})
			if err != nil {
				return err
			}
			flights <- flight{ticket: t, begun: begun, bytes: len(b.data)}
			spare <- b.data[:cap(b.data)] // Submit has copied it
		}
		switch {
		case b.err == io.EOF: //nolint:errorlint // read hands it on bare
			return nil
		case b.err != nil:
			return fmt.Errorf("read the input: %w", b.err)
		}
	}
}

// land takes the commits in. After ctx has ended it still counts those that are
// there.
func (p *pump) land(ctx context.Context, flights <-chan flight, slots <-chan struct{}) error {
	for f := range flights {
		select {
		case <-f.ticket.Done():
		default:
			select {
			case <-f.ticket.Done():
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if err := f.ticket.Err(); err != nil {
			return err
		}
		p.count(f)
		<-slots
		if err := p.makeRoom(f.ticket.End); err != nil {
			return err
		}
	}
	return nil
}

func (p *pump) count(f flight) {
	took := time.Since(f.begun)
	commit := p.w.Commit()
	p.mu.Lock()
	p.records++
	p.bytes += int64(f.bytes)
	p.commit = commit
	p.latency.add(took)
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// makeRoom trims, a step at a time, while less than a quarter of the ring is
// free, or less than the largest record could need beside the pad at the ring's
// end. end is a record boundary below which all is committed. Both submit and
// land call it: the one may find a full log with nothing under way, the other may
// be all that moves while the first waits for space.
func (p *pump) makeRoom(end uint64) error {
	if !p.trim {
		return nil
	}
	capacity := p.w.Grant().Capacity
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps.mark(end, capacity/8)
	for p.w.Free() < max(capacity/4, 2*format.RecordSize(p.block)) {
		to, ok := p.steps.next()
		if !ok {
			return nil // what is under way comes first
		}
		if err := p.w.Trim(to); err != nil {
			return err
		}
	}
	return nil
}

// trimSteps remembers record boundaries to trim to, so that a trim lets go of no
// more than it must. There are at most as many as steps fit into the ring.
type trimSteps struct {
	last  uint64 // the newest boundary
	marks []uint64
}

// mark adds a boundary that is at least step behind the one before.
func (s *trimSteps) mark(lsn, step uint64) {
	if lsn >= s.last+step {
		s.last, s.marks = lsn, append(s.marks, lsn)
	}
}

// next takes the oldest boundary.
func (s *trimSteps) next() (uint64, bool) {
	if len(s.marks) == 0 {
		return 0, false
	}
	lsn := s.marks[0]
	s.marks = s.marks[1:]
	return lsn, true
}

// committed returns what is committed so far.
func (p *pump) committed() (records, bytes int64, commit uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.records, p.bytes, p.commit
}

// appendSummary is the result of `log append`. Latencies are from submit to
// commit, of the records that were committed.
type appendSummary struct {
	Log              string  `json:"name"`
	Complete         bool    `json:"complete"`
	Records          int64   `json:"records"`
	Bytes            int64   `json:"bytes"`
	CommitLSN        uint64  `json:"commit_lsn"`
	TrimLSN          uint64  `json:"trim_lsn"`
	Seconds          float64 `json:"seconds"`
	BytesPerSecond   float64 `json:"bytes_per_second"`
	RecordsPerSecond float64 `json:"records_per_second"`
	P50Seconds       float64 `json:"p50_seconds"`
	P99Seconds       float64 `json:"p99_seconds"`
	P999Seconds      float64 `json:"p999_seconds"`
	MaxSeconds       float64 `json:"max_seconds"`
}

func (p *pump) summary(name string, complete bool) appendSummary {
	trim := p.w.TrimLSN()
	p.mu.Lock()
	defer p.mu.Unlock()
	s := appendSummary{
		Log: name, Complete: complete, Records: p.records, Bytes: p.bytes, CommitLSN: p.commit, TrimLSN: trim,
		Seconds:     p.elapsed.Seconds(),
		P50Seconds:  p.latency.quantile(0.50).Seconds(),
		P99Seconds:  p.latency.quantile(0.99).Seconds(),
		P999Seconds: p.latency.quantile(0.999).Seconds(),
		MaxSeconds:  p.latency.most.Seconds(),
	}
	if s.Seconds > 0 {
		s.BytesPerSecond, s.RecordsPerSecond = float64(s.Bytes)/s.Seconds, float64(s.Records)/s.Seconds
	}
	return s
}

func (s *appendSummary) rows(t *table) {
	what := "committed"
	if !s.Complete {
		what = "committed before it stopped"
	}
	t.row(what, fmt.Sprintf("%d records, %s (%d bytes)", s.Records, humanSize(s.Bytes), s.Bytes))
	t.row("commit LSN", s.CommitLSN)
	if s.TrimLSN > 0 {
		t.row("trim LSN", s.TrimLSN)
	}
	t.row("rate", fmt.Sprintf("%s/s, %.0f records/s, in %v", humanSize(int64(s.BytesPerSecond)), s.RecordsPerSecond, roundDuration(seconds(s.Seconds))))
	t.row("latency", fmt.Sprintf("p50 %v, p99 %v, p99.9 %v, max %v", spell(s.P50Seconds), spell(s.P99Seconds), spell(s.P999Seconds), spell(s.MaxSeconds)))
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
