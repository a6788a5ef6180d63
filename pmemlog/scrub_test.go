package pmemlog_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

func unpaced(context.Context, int) error { return nil }

func scrubbed(t testing.TB, r *pmemlog.Replica) pmemlog.Scrubbed {
	t.Helper()
	res := get[pmemlog.Scrubbed](t)(r.Scrub(context.Background(), unpaced))
	if res.Header != nil {
		t.Errorf("header: %v", res.Header)
	}
	return res
}

// wantDamage checks what a scrub and the replica say: nothing, if why is nil.
func wantDamage(t *testing.T, r *pmemlog.Replica, lsn uint64, why error) {
	t.Helper()
	for what, d := range map[string]*pmemlog.Damage{"scrub": scrubbed(t, r).Damage, "info": r.Info().Damage} {
		switch {
		case why == nil && d != nil:
			t.Errorf("%s: damage at LSN %d: %v", what, d.LSN, d.Err)
		case why != nil && (d == nil || d.LSN != lsn || !errors.Is(d.Err, why)):
			t.Errorf("%s: %+v, want damage at LSN %d: %v", what, d, lsn, why)
		}
	}
}

// The records that a scrub must go through: small ones, ones that are larger than
// a read, one that fills a read up, and a pad at the end of the ring.
func mixed(t testing.TB, opts pmemtest.Options) (*pmemtest.Medium, *pmemlog.Pool, *writer, []format.Chain) {
	t.Helper()
	const ring = 4 << 20
	m := pmemtest.New(ring+poolSize, opts)
	p := get[*pmemlog.Pool](t)(pmemlog.Format(m, formatOptions()))
	t.Cleanup(func() { _ = p.Close() })
	w := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(1, ring))), 1)
	var starts []format.Chain
	for i := 0; ; i++ {
		size := []int{0, 100, 4096, 300 << 10, 256<<10 - format.HeaderSize, 1 << 20}[i%6]
		if !w.room(size) {
			return m, p, w, starts
		}
		if i == 12 { // so that the ring wraps
			w.flush()
			must(t, w.s.Trim(trimAt(starts[7])))
			w.trim = trimAt(starts[7])
			starts = starts[7:]
		}
		starts = append(starts, w.chain)
		w.append(size)
		w.flush()
	}
}

func trimAt(c format.Chain) format.TrimPoint {
	return format.TrimPoint{LSN: c.LSN, Epoch: c.Epoch, CRC: c.CRC}
}

func TestScrubOfAGoodReplica(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]pmemtest.Options{"file": {}, "pmem": {Kind: pmemlog.KindPmem}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, p, w, starts := mixed(t, opts)
			r := w.s.Replica()
			if w.chain.LSN < r.Capacity() {
				t.Fatal("the ring has not wrapped")
			}
			check := func(r *pmemlog.Replica) {
				res := scrubbed(t, r)
				if res.Damage != nil || res.Records != uint64(len(starts)) || res.Bytes < w.chain.LSN-w.trim.LSN || len(res.Healed) > 0 {
					t.Errorf("%+v, want %d records", res, len(starts))
				}
				if at := r.Info().Scrubbed; res.Begun.After(res.Ended) || !at.Equal(res.Ended) {
					t.Errorf("begun %v, ended %v, the replica says %v", res.Begun, res.Ended, at)
				}
			}
			check(r)
			must(t, r.PersistHint())
			must(t, p.Close())
			_, r = reopen(t, m)
			if at := r.Info().Scrubbed; !at.IsZero() {
				t.Errorf("scrubbed at %v by another process", at)
			}
			check(r) // nobody has fenced it yet
		})
	}
}

// Whatever record is bad is found, with the writer's session open and without
// any, and is forgotten when it is good again.
func TestScrubFindsDamage(t *testing.T) {
	t.Parallel()
	m, _, w, starts := mixed(t, pmemtest.Options{})
	must(t, w.s.Replica().PersistHint())
	for i, c := range starts {
		end := w.chain.LSN
		if i+1 < len(starts) {
			end = starts[i+1].LSN
		}
		off := ringStart + int64((end-1)%w.s.Replica().Capacity())
		off -= off % format.Align // the last line of the record
		for name, r := range map[string]func() *pmemlog.Replica{
			"fenced":     w.s.Replica,
			"not fenced": func() *pmemlog.Replica { _, r := reopen(t, m.Clone()); return r },
		} {
			m.FlipBit(off+3, 1) // within the record's CRC, or payload
			found := r()
			want := c.LSN
			if d := scrubbed(t, found).Damage; d == nil || d.LSN < want || d.LSN >= end {
				t.Errorf("%s, record %d: %+v, want damage within [%d, %d)", name, i, d, want, end)
			}
			m.FlipBit(off+3, 1)
			if name == "fenced" {
				wantDamage(t, found, 0, nil)
			}
		}
	}
}

func TestScrubFindsWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	for i := range 12 {
		m, _, w, starts := mixed(t, pmemtest.Options{})
		must(t, w.s.Replica().PersistHint())
		if i >= len(starts) {
			break
		}
		off := ringStart + int64(starts[i].LSN%w.s.Replica().Capacity())
		m.FailReads(off+10, off+20)
		wantDamage(t, w.s.Replica(), starts[i].LSN, pmemlog.ErrUnreadable)
		_, r := reopen(t, m)
		wantDamage(t, r, starts[i].LSN, pmemtest.ErrInjected)
	}
}

// hooked has something happen in the middle of reads: what was read is older, or
// newer, than what the replica says a moment later.
type hooked struct {
	*pmemtest.Medium
	before, after func(off int64)
}

func (h *hooked) ReadAt(p []byte, off int64) error {
	if h.before != nil {
		h.before(off)
	}
	err := h.Medium.ReadAt(p, off)
	if h.after != nil {
		h.after(off)
	}
	return err
}

// What a writer does in the middle of a read is no damage.
func TestScrubBesideChanges(t *testing.T) {
	t.Parallel()
	fill := func(w *writer) {
		for w.room(500) {
			w.append(500)
		}
		w.flush()
	}
	changes := map[string]func(t *testing.T, w *writer, first format.Chain){
		"trim and the next lap": func(t *testing.T, w *writer, first format.Chain) {
			must(t, w.s.Trim(trimAt(first)))
			w.trim = trimAt(first)
			fill(w)
		},
		"all trimmed": func(t *testing.T, w *writer, _ format.Chain) {
			must(t, w.s.Trim(w.point()))
			w.trim = w.point()
			fill(w)
		},
		"align and other records": func(t *testing.T, w *writer, first format.Chain) {
			must(t, w.s.Align(first.LSN))
			w.chain = first
			for w.room(200) {
				w.append(200)
			}
			w.flush()
		},
		"align, and it stays shorter": func(t *testing.T, w *writer, first format.Chain) {
			must(t, w.s.Align(first.LSN))
			w.chain = first
			must(t, w.write(100)) // not flushed
		},
		"reset": func(t *testing.T, w *writer, _ format.Chain) {
			at := w.point()
			must(t, w.s.Reset(at))
			w.trim, w.seals = at, nil
			w.seal()
			fill(w)
		},
		"a newer writer": func(t *testing.T, w *writer, first format.Chain) {
			must(t, w.s.Trim(trimAt(first)))
			openWriter(t, w.s.Replica(), 2).append(64)
		},
	}
	for name, change := range changes {
		for _, when := range []string{"before", "after"} {
			t.Run(name+" "+when, func(t *testing.T) {
				t.Parallel()
				m := &hooked{Medium: pmemtest.New(poolSize, pmemtest.Options{})}
				p := get[*pmemlog.Pool](t)(pmemlog.Format(m, formatOptions()))
				defer p.Close()
				w := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(1, ringSize))), 1)
				w.append(500)
				first := w.chain
				fill(w)
				done := false
				hook := func(off int64) {
					if off >= ringStart && !done {
						done = true
						change(t, w, first)
					}
				}
				if when == "before" {
					m.before = hook
				} else {
					m.after = hook
				}
				wantDamage(t, w.s.Replica(), 0, nil)
				if !done {
					t.Error("nothing was changed")
				}
			})
		}
	}
}

// A replica that is rewound all the time is left for the next time.
func TestScrubGivesUpOnAnUnsettledReplica(t *testing.T) {
	t.Parallel()
	_, _, r := newReplica(t, pmemtest.Options{})
	w := openWriter(t, r, 1)
	w.append(100)
	w.flush()
	_, err := r.Scrub(context.Background(), func(context.Context, int) error {
		_, err := r.Attach(false).Fence(term(2))
		return err
	})
	if !errors.Is(err, pmemlog.ErrUnsettled) {
		t.Errorf("got %v", err)
	}
	if at := r.Info().Scrubbed; !at.IsZero() {
		t.Errorf("scrubbed at %v", at)
	}
}

func TestScrubEnds(t *testing.T) {
	t.Parallel()
	ours := errors.New("ours")
	for name, tt := range map[string]struct {
		then func(cancel context.CancelCauseFunc, p *pmemlog.Pool) error
		want error
	}{
		"with its context":     {func(cancel context.CancelCauseFunc, _ *pmemlog.Pool) error { cancel(ours); return nil }, ours},
		"with its pace":        {func(context.CancelCauseFunc, *pmemlog.Pool) error { return ours }, ours},
		"with the pool":        {func(_ context.CancelCauseFunc, p *pmemlog.Pool) error { return p.Close() }, pmemlog.ErrClosed},
		"with its replica":     {func(_ context.CancelCauseFunc, p *pmemlog.Pool) error { return p.Delete(id(1)) }, pmemlog.ErrNotFound},
		"with one made anew":   {func(_ context.CancelCauseFunc, p *pmemlog.Pool) error { return replaceReplica(p) }, pmemlog.ErrNotFound},
		"before anything else": {nil, context.Canceled},
	} {
		for _, fenced := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				m, p, r := newReplica(t, pmemtest.Options{})
				w := openWriter(t, r, 1)
				for w.room(100) {
					w.append(100)
				}
				w.flush()
				if !fenced {
					p, r = reopen(t, m.Clone())
				}
				ctx, cancel := context.WithCancelCause(context.Background())
				defer cancel(nil)
				if tt.then == nil {
					cancel(nil)
				}
				reads := 0
				_, err := r.Scrub(ctx, func(context.Context, int) error {
					if reads++; reads == 4 { // the first three are the header
						return tt.then(cancel, p)
					}
					return nil
				})
				if !errors.Is(err, tt.want) || !r.Info().Scrubbed.IsZero() {
					t.Errorf("got %v, want %v", err, tt.want)
				}
			})
		}
	}
}

func replaceReplica(p *pmemlog.Pool) error {
	if err := p.Delete(id(1)); err != nil {
		return err
	}
	_, err := p.Create(spec(2, ringSize))
	return err
}

// Damage is shown until it is none any more, whoever has found it.
func TestDamageIsForgottenWhenItIsMadeGood(t *testing.T) {
	t.Parallel()
	const at = 128 // the second record
	repair := func(t *testing.T, w *writer, epoch uint64) {
		whole := w.ring
		s := w.s.Replica().Attach(false)
		rep := get[format.Report](t)(s.Fence(term(epoch)))
		if rep.Tail != at || !rep.Suspect() {
			t.Fatalf("report %+v", rep)
		}
		remembered := func(what string) {
			t.Helper()
			if s.Replica().Info().Damage == nil {
				t.Errorf("%s, and the damage is forgotten", what)
			}
		}
		must(t, s.Write(at, whole[at:2*at]))
		get[uint64](t)(s.Flush())
		remembered("it holds less than it once did")
		must(t, s.Write(2*at, whole[2*at:w.chain.LSN]))
		remembered("what has been rewritten is not persistent yet")
		get[uint64](t)(s.Flush())
	}
	for name, makeGood := range map[string]func(t *testing.T, w *writer){
		"rewritten by the same term": func(t *testing.T, w *writer) { repair(t, w, 1) },
		"rewritten by another":       func(t *testing.T, w *writer) { repair(t, w, 2) },
		"trimmed": func(t *testing.T, w *writer) {
			must(t, w.s.Trim(w.point()))
		},
		"reset": func(t *testing.T, w *writer) {
			must(t, w.s.Reset(w.point()))
		},
		"a shorter log": func(t *testing.T, w *writer) {
			s := w.s.Replica().Attach(false)
			get[format.Report](t)(s.Fence(term(2)))
			must(t, s.Align(0))
			seal := format.Seal{Epoch: 2, Nonce: 2000, T: 0}
			must(t, s.Seal(pmemlog.SealIn{Seals: []format.Seal{seal}, Set: []format.ID{id(1)}, Hint: pos(2, 0)}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, r, w := suspect(t)
			wantDamage(t, r, at, format.ErrCRC)
			wantDamage(t, r, at, format.ErrCRC) // it stays
			makeGood(t, w)
			if d := r.Info().Damage; d != nil {
				t.Errorf("damage at LSN %d: %v", d.LSN, d.Err)
			}
			wantDamage(t, r, 0, nil)
		})
	}
}

func TestFenceRemembersDamage(t *testing.T) {
	t.Parallel()
	_, r, _ := suspect(t)
	if d := r.Info().Damage; d != nil {
		t.Fatalf("nobody has looked, and it says %+v", d)
	}
	get[format.Report](t)(r.Attach(false).Fence(term(2)))
	if d := r.Info().Damage; d == nil || d.LSN != 128 || !errors.Is(d.Err, format.ErrCRC) {
		t.Errorf("damage is %+v", d)
	}
}

// What a crash may tear is no damage, and what counts is mended.
func TestScrubMendsTheHeader(t *testing.T) {
	t.Parallel()
	const slotA, slotB, hints = ringStart - format.RingOffset, ringStart - 2*format.SlotSize, ringStart - format.SlotSize
	for name, tt := range map[string]struct {
		damage func(m *pmemtest.Medium, newest, other int64)
		part   string
	}{
		"the slot that counts":     {func(m *pmemtest.Medium, newest, _ int64) { m.FlipBit(newest+30, 0) }, "header slot"},
		"the one before it":        {func(m *pmemtest.Medium, _, other int64) { m.FlipBit(other+30, 0) }, ""},
		"the hint line":            {func(m *pmemtest.Medium, _, _ int64) { flipHints(m, hints) }, "hint page"},
		"an older slot came back":  {func(m *pmemtest.Medium, newest, other int64) { copyBytes(m, newest, other, format.SlotSize) }, "header slot"},
		"both slots and the hints": {func(m *pmemtest.Medium, n, o int64) { m.FlipBit(n+30, 0); m.FlipBit(o+30, 0); flipHints(m, hints) }, "header slot"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, p, r := newReplica(t, pmemtest.Options{})
			w := openWriter(t, r, 3)
			w.append(100)
			w.flush()
			must(t, r.PersistHint())
			newest, other := int64(slotA), int64(slotB)
			if r.Info().Slot.Generation%2 == 0 { // generation 1 is in slot A
				newest, other = other, newest
			}
			before := r.Info().Slot
			tt.damage(m, newest, other)
			res := scrubbed(t, r)
			if healed := joined(res.Healed); !strings.Contains(healed, tt.part) || (healed == "") != (tt.part == "") {
				t.Errorf("healed %q, want %q", healed, tt.part)
			}
			if again := scrubbed(t, r); len(again.Healed) > 0 {
				t.Errorf("healed again: %v", again.Healed)
			}
			if page := m.Image()[ringStart-format.RingOffset : ringStart]; tt.part != "" {
				_, errA := format.DecodeSlot(page)
				_, errB := format.DecodeSlot(page[format.SlotSize:])
				if errA != nil || errB != nil || bytes.Count(page[format.HintOffset:], []byte{0}) != format.SlotSize {
					t.Errorf("slots are not mended (A: %v, B: %v), or the hints not void", errA, errB)
				}
			}
			w.append(100)
			w.flush()
			must(t, p.Close())
			_, r = reopen(t, m.CrashClean())
			if after := r.Info().Slot; after.Fenced != before.Fenced || after.Hint != before.Hint || len(after.Seals) != len(before.Seals) {
				t.Errorf("after a crash the header is %+v, was %+v", after, before)
			}
		})
	}
}

func joined(errs []error) string {
	if err := errors.Join(errs...); err != nil {
		return err.Error()
	}
	return ""
}

func flipHints(m *pmemtest.Medium, page int64) {
	m.FlipBit(page+20, 0)
	m.FlipBit(page+format.HintStride+20, 0)
}

// copyBytes flips the bits of one place to what stands at another.
func copyBytes(m *pmemtest.Medium, to, from int64, n int) {
	image := m.Image()
	for i := range int64(n) {
		for bit := range uint(8) {
			if (image[to+i]^image[from+i])>>bit&1 == 1 {
				m.FlipBit(to+i, bit)
			}
		}
	}
}

// A pool that writes nothing any more is read, scrubbed and asked, and says why.
func TestPoisonedPoolIsStillRead(t *testing.T) {
	t.Parallel()
	m, p, r := newReplica(t, pmemtest.Options{})
	w := openWriter(t, r, 1)
	for range 4 {
		w.append(64)
	}
	w.flush()
	must(t, r.PersistHint())
	m.FailNextSync(pmemtest.ErrInjected)
	w.append(64)
	if _, err := w.s.Flush(); !errors.Is(err, pmemlog.ErrPoisoned) {
		t.Fatalf("flush: %v", err)
	}
	reader := r.Attach(true)
	must(t, reader.Read(0, make([]byte, 256)))
	if i, err := reader.Info(); err != nil || !errors.Is(i.Failure, pmemtest.ErrInjected) || i.Durable != 512 {
		t.Errorf("info %+v, %v", i, err)
	}
	wantDamage(t, r, 0, nil)
	m.FlipBit(ringStart+128+70, 0)
	wantDamage(t, r, 128, format.ErrCRC)

	newest := int64(ringStart - format.RingOffset)
	if r.Info().Slot.Generation%2 == 0 {
		newest += format.SlotSize
	}
	m.FlipBit(newest+30, 0)
	res, err := r.Scrub(context.Background(), unpaced)
	if err != nil || !errors.Is(res.Header, pmemlog.ErrPoisoned) || !errors.Is(res.Header, format.ErrCRC) {
		t.Errorf("header: %v, %v", res.Header, err)
	}
	m.FlipBit(0, 0)
	pool := get[pmemlog.PoolScrubbed](t)(p.Scrub(context.Background(), unpaced))
	if len(pool.Healed) != 0 || len(pool.Damaged) != 1 || !errors.Is(pool.Damaged[0].Err, pmemlog.ErrPoisoned) {
		t.Errorf("%+v", pool)
	}
}

// A read error is its replica's, and is remembered where it lies.
func TestUnreadableIsThisReplicasError(t *testing.T) {
	t.Parallel()
	const page = 16 << 10
	newTwo := func(t *testing.T) (*pmemtest.Medium, *writer, *writer, []format.Chain) {
		t.Helper()
		m := pmemtest.New(8*poolSize, pmemtest.Options{})
		p := get[*pmemlog.Pool](t)(pmemlog.Format(m, formatOptions()))
		t.Cleanup(func() { _ = p.Close() })
		w := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(1, 64<<10))), 1)
		other := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(2, ringSize))), 1)
		starts := []format.Chain{}
		for range 40 {
			starts = append(starts, w.chain)
			w.append(960)
		}
		w.flush()
		must(t, w.s.Replica().PersistHint())
		m.FailReads(ringStart+page+10, ringStart+page+11)
		return m, w, other, starts
	}
	for name, do := range map[string]func(w *writer, starts []format.Chain) error{
		"read": func(w *writer, _ []format.Chain) error {
			return w.s.Replica().Attach(true).Read(0, make([]byte, 40<<10))
		},
		"align": func(w *writer, starts []format.Chain) error { return w.s.Align(starts[20].LSN) },
		"trim":  func(w *writer, starts []format.Chain) error { return w.s.Trim(trimAt(starts[16])) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, w, other, starts := newTwo(t)
			if starts[16].LSN != page {
				t.Fatalf("record 16 begins at LSN %d", starts[16].LSN)
			}
			before := w.s.Replica().Info()
			if err := do(w, starts); !errors.Is(err, pmemlog.ErrUnreadable) || errors.Is(err, pmemlog.ErrRange) {
				t.Errorf("got %v", err)
			}
			after := w.s.Replica().Info()
			if after.Tail != before.Tail || after.Slot.Hint != before.Slot.Hint {
				t.Errorf("tail %d hint %s, before it was %d and %s", after.Tail, after.Slot.Hint, before.Tail, before.Slot.Hint)
			}
			if d := after.Damage; name != "align" && (d == nil || d.LSN != page) {
				t.Errorf("damage is %+v, want it at LSN %d", d, page)
			}
			other.append(100)
			if other.flush() != other.chain.LSN || after.Failure != nil {
				t.Errorf("the pool has failed: %v", after.Failure)
			}
			wantDamage(t, other.s.Replica(), 0, nil)
			w.append(0) // what can be written still is: the writer decides what becomes of the session
			w.flush()
		})
	}
}

// Align learns from seals how far a hint may fall. If it can't read what a seal
// stands for, it must not guess.
func TestAlignDoesNotGuessASealThatCannotBeRead(t *testing.T) {
	t.Parallel()
	m := pmemtest.New(8*poolSize, pmemtest.Options{})
	h := &hooked{Medium: m}
	p := get[*pmemlog.Pool](t)(pmemlog.Format(h, formatOptions()))
	t.Cleanup(func() { _ = p.Close() })
	r := get[*pmemlog.Replica](t)(p.Create(spec(1, ringSize)))
	w := openWriter(t, r, 1)
	w.append(64)
	w.flush()
	w = openWriter(t, r, 2) // its seal stands at 128
	at := w.chain
	w.append(64)
	w.append(64)
	w.flush()
	s := r.Attach(false)
	get[format.Report](t)(s.Fence(term(3)))
	before := r.Info().Slot.Hint
	reads := 0
	h.before = func(off int64) {
		if reads++; off == ringStart+128 { // what finds the boundary has read all at once
			m.FailReads(ringStart+128, ringStart+192)
		}
	}
	if err := s.Align(at.LSN); !errors.Is(err, pmemlog.ErrUnreadable) {
		t.Errorf("align: %v after %d reads", err, reads)
	}
	if hint := r.Info().Slot.Hint; hint != before {
		t.Errorf("the hint fell from %s to %s", before, hint)
	}
}

// A scrub reads no more at a time than it says, so that what waits for the medium
// waits for no more: of a replica that nobody has fenced, either.
func TestScrubReadsLittleAtATime(t *testing.T) {
	t.Parallel()
	m := pmemtest.New(4<<20, pmemtest.Options{})
	p := get[*pmemlog.Pool](t)(pmemlog.Format(m, formatOptions()))
	w := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(1, 3<<20))), 1)
	for range 20 {
		w.appendNow(100_000)
	}
	scrub := func(r *pmemlog.Replica) (most int) {
		t.Helper()
		res := get[pmemlog.Scrubbed](t)(r.Scrub(t.Context(), func(_ context.Context, n int) error { most = max(most, n); return nil }))
		if res.Records != 20 {
			t.Errorf("%d records, want 20", res.Records)
		}
		return most
	}
	if n := scrub(w.s.Replica()); n > 256<<10 {
		t.Errorf("%d bytes at a time of a replica with a writer", n)
	}
	must(t, p.Close())
	p, r := reopen(t, m)
	defer p.Close()
	if n := scrub(r); n > 256<<10 {
		t.Errorf("%d bytes at a time of one that nobody has fenced", n)
	}
}
