package pmemlog_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

// busy is a writer that does all that writers do, at random.
type busy struct {
	*writer
	past []format.Chain // record boundaries in [trim, tail]
}

func (b *busy) step(n int) {
	switch {
	case n < 70:
		if n *= 7; b.room(n) {
			b.append(n)
			b.past = append(b.past, b.chain)
			return
		}
		b.flush()
		b.trimTo(len(b.past) / 2)
	case n < 85:
		b.flush()
	case n < 90:
		b.flush()
		b.trimTo(n - 84)
	case n < 95:
		b.align(max(0, len(b.past)-1-n%5))
	case n < 98: // a newer term goes on with what is there
		b.writer = openWriter(b.t, b.s.Replica(), b.term.Epoch+1)
		b.past = []format.Chain{b.chain}
	default:
		at := b.point()
		must(b.t, b.s.Reset(at))
		b.trim, b.seals, b.past = at, nil, []format.Chain{b.chain}
		b.seal()
	}
}

func (b *busy) trimTo(i int) {
	i = min(i, len(b.past)-1)
	must(b.t, b.s.Trim(trimAt(b.past[i])))
	b.trim, b.past = trimAt(b.past[i]), b.past[i:]
}

// align rewrites what lies behind a boundary, but for what was sealed.
func (b *busy) align(i int) {
	if at := b.past[i]; at.LSN >= b.seals[len(b.seals)-1].T && at.Epoch == b.term.Epoch {
		must(b.t, b.s.Align(at.LSN))
		b.chain, b.past = at, b.past[:i+1]
	}
}

// Whatever a writer does meanwhile, a scrub finds no damage where there is none.
func TestScrubBesideABusyWriter(t *testing.T) {
	t.Parallel()
	for media, pool := range scrubPools(t) {
		t.Run(media, func(t *testing.T) {
			t.Parallel()
			seed := *crashSeed
			t.Logf("-seed %d", seed)
			rng := seeded(t, seed)
			r := get[*pmemlog.Replica](t)(pool.Create(spec(1, ringSize)))
			b := &busy{writer: openWriter(t, r, 1)}
			b.past = []format.Chain{b.chain}
			ctx, stop := context.WithCancel(context.Background())
			var done sync.WaitGroup
			defer done.Wait()
			defer stop()
			yield := func(context.Context, int) error { runtime.Gosched(); return nil }
			scrubs, enough := 0, make(chan struct{})
			done.Go(func() {
				for ctx.Err() == nil {
					res, err := r.Scrub(ctx, yield)
					if err != nil && !errors.Is(err, pmemlog.ErrUnsettled) && ctx.Err() == nil || res.Damage != nil || res.Header != nil || len(res.Healed) > 0 {
						t.Errorf("%+v, %v", res, err)
					}
					if res, err := pool.Scrub(ctx, yield); err != nil && ctx.Err() == nil || len(res.Healed)+len(res.Damaged) > 0 {
						t.Errorf("%+v, %v", res, err)
					}
					if scrubs++; scrubs == 20 {
						close(enough)
					}
				}
			})
			for steps, more := 0, true; more || steps < 500; steps++ {
				b.step(rng.IntN(100))
				if d := r.Info().Damage; d != nil {
					t.Fatalf("damage at LSN %d: %v", d.LSN, d.Err)
				}
				select {
				case <-enough:
					more = false
				default:
				}
			}
		})
	}
}

// A reset changes the trim point and the tail at once. Who sees the one without the
// other takes the bytes of the log before for damage.
func TestScrubBesideResets(t *testing.T) {
	t.Parallel()
	const resets = 10_000
	m := get[*pmemlog.Volatile](t)(pmemlog.NewVolatile(1 << 20))
	p := get[*pmemlog.Pool](t)(pmemlog.Format(m, formatOptions()))
	defer p.Close()
	r := get[*pmemlog.Replica](t)(p.Create(spec(1, ringSize)))
	s := r.Attach(false)
	get[format.Report](t)(s.Fence(term(2)))
	var done sync.WaitGroup
	defer done.Wait()
	over := make(chan struct{})
	done.Go(func() {
		defer close(over)
		for i := range uint64(resets) {
			at := format.TrimPoint{LSN: i * 256 /* more than a record has */, Epoch: 1, CRC: uint32(i)}
			ring, chain := make(format.Ring, ringSize), format.Chain{LSN: at.LSN, Epoch: 1, CRC: at.CRC}
			err := s.Reset(at)
			ring.Append(&chain, 0, format.Record{Payload: []byte("x")})
			if err == nil {
				err = s.Write(at.LSN, ring.At(at.LSN, int(chain.LSN-at.LSN)))
			}
			if err == nil {
				_, err = s.Flush()
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 2 { // so many that one of them waits for whatever lock is given up
		done.Go(func() {
			for running := true; running; {
				select {
				case <-over:
					running = false
				default:
				}
				if i := r.Info(); i.Slot.Trim.LSN > i.Tail {
					t.Errorf("the tail is %d, the trim LSN %d", i.Tail, i.Slot.Trim.LSN)
					running = false
				}
			}
		})
	}
	for running := true; running; {
		select {
		case <-over:
			running = false
		default:
		}
		if res, err := r.Scrub(context.Background(), unpaced); res.Damage != nil {
			t.Errorf("a scrub has found damage at LSN %d: %v (%v)", res.Damage.LSN, res.Damage.Err, err)
			running = false
		}
	}
}

// scrubPools makes a pool on each kind of medium.
func scrubPools(t *testing.T) map[string]*pmemlog.Pool {
	t.Helper()
	m := get[*pmemlog.Volatile](t)(pmemlog.NewVolatile(1 << 20))
	pools := map[string]*pmemlog.Pool{"volatile": get[*pmemlog.Pool](t)(pmemlog.Format(m, formatOptions()))}
	_, pools["file"] = newFilePool(t, 1<<20)
	t.Cleanup(func() { _ = pools["volatile"].Close() })
	return pools
}

// A header that is mended beside a writer takes nothing of what it writes.
func TestHeaderIsMendedBesideAWriter(t *testing.T) {
	t.Parallel()
	m, p, r := newReplica(t, pmemtest.Options{})
	w := openWriter(t, r, 1)
	over := make(chan struct{})
	var done sync.WaitGroup
	healed := 0
	done.Go(func() {
		for running := true; running; { // once more when the writer is done
			select {
			case <-over:
				running = false
			default:
			}
			slot := int64(ringStart - format.RingOffset)
			if r.Info().Slot.Generation%2 == 0 { // generation 1 is in slot A
				slot += format.SlotSize
			}
			m.FlipBit(slot+30, 0)
			res, err := r.Scrub(context.Background(), unpaced)
			if err != nil || res.Header != nil || res.Damage != nil {
				t.Errorf("%+v, %v", res, err)
			}
			healed += len(res.Healed)
		}
	})
	for i := range 200 {
		if !w.room(100) {
			w.flush()
			must(t, w.s.Trim(w.point()))
			w.trim = w.point()
		}
		w.append(100)
		if i%3 == 0 {
			w.flush()
		}
	}
	want := w.flush()
	close(over)
	done.Wait()
	if healed == 0 {
		t.Error("nothing was healed")
	}
	must(t, p.Close())
	_, r = reopen(t, m.CrashClean())
	if rep := get[format.Report](t)(r.Attach(false).Fence(term(2))); rep.Tail != want || rep.Suspect() {
		t.Errorf("report %+v, want tail %d", rep, want)
	}
}

// BenchmarkScrub is how fast a scrub is that nobody slows down.
func BenchmarkScrub(b *testing.B) {
	const capacity = 32 << 20
	pools := benchPools(b, 64<<20)
	for _, media := range []string{"volatile", "file"} {
		b.Run(fmt.Sprintf("media=%s/size=4096", media), func(b *testing.B) {
			w := newBenchWriter(b, pools[media], 1, capacity, 4096)
			defer func() { must(b, pools[media].Delete(w.s.Replica().ID())) }()
			for w.room(4096) {
				w.writer.append(4096)
			}
			w.flush()
			b.SetBytes(int64(w.chain.LSN))
			b.ReportAllocs()
			for b.Loop() {
				if res := scrubbed(b, w.s.Replica()); res.Damage != nil {
					b.Fatal(res.Damage.Err)
				}
			}
		})
	}
}
