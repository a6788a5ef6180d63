package pmemlog_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

func TestAppendIsReadBackAfterReopen(t *testing.T) {
	t.Parallel()
	m, p, r := newReplica(t, pmemtest.Options{})
	w := openWriter(t, r, 1)
	for range 5 {
		w.append(100)
	}
	durable := w.flush()
	if durable != w.chain.LSN {
		t.Fatalf("durable is %d after a flush of all, tail is %d", durable, w.chain.LSN)
	}
	must(t, p.Close())

	_, r = reopen(t, m.CrashClean())
	if i := r.Info(); i.Scanned || i.Tail != 0 {
		t.Errorf("before a fence: scanned %v, tail %d", i.Scanned, i.Tail)
	}
	s := r.Attach(false)
	rep := get[format.Report](t)(s.Fence(term(2)))
	if rep.Tail != durable || rep.Records != 5 || rep.Suspect() || rep.Last != (format.Position{Epoch: 1, LSN: durable}) {
		t.Errorf("report %+v", rep)
	}
	got := make([]byte, durable)
	must(t, s.Read(0, got))
	if !bytes.Equal(got, w.ring[:durable]) {
		t.Error("the ring differs from what was written")
	}
}

func TestWriteRules(t *testing.T) {
	t.Parallel()
	other := func(w *writer, change func(*writer)) (uint64, []byte) {
		c := *w
		c.ring = append(format.Ring(nil), w.ring...)
		change(&c)
		return c.encode(64)
	}
	tests := []struct {
		name string
		do   func(w *writer) error
		want error
	}{
		{"at the tail", func(w *writer) error { return w.write(64) }, nil},
		{"nothing", func(w *writer) error { return w.s.Write(w.chain.LSN, nil) }, nil},
		{"before the tail", func(w *writer) error {
			from, b := other(w, func(c *writer) { c.chain.LSN -= 64 })
			return w.s.Write(from, b)
		}, pmemlog.ErrRange},
		{"behind the tail", func(w *writer) error {
			from, b := other(w, func(c *writer) { c.chain.LSN += 64 })
			return w.s.Write(from, b)
		}, pmemlog.ErrRange},
		{"another chain", func(w *writer) error {
			from, b := other(w, func(c *writer) { c.chain.CRC++ })
			return w.s.Write(from, b)
		}, format.ErrChain},
		{"a lower epoch", func(w *writer) error {
			from, b := other(w, func(c *writer) { c.chain.Epoch-- })
			return w.s.Write(from, b)
		}, format.ErrEpoch},
		{"a higher epoch than the session's", func(w *writer) error {
			from, b := other(w, func(c *writer) { c.chain.Epoch++ })
			return w.s.Write(from, b)
		}, pmemlog.ErrChain},
		{"a flipped bit", func(w *writer) error {
			from, b := w.encode(64)
			b[70] ^= 1
			return w.s.Write(from, b)
		}, format.ErrCRC},
		{"half a record", func(w *writer) error {
			from, b := w.encode(128)
			return w.s.Write(from, b[:128])
		}, format.ErrLength},
		{"a record and garbage", func(w *writer) error {
			from, b := w.encode(64)
			return w.s.Write(from, append(b, make([]byte, 64)...))
		}, pmemlog.ErrChain},
		{"more than the ring", func(w *writer) error {
			for w.room(900) {
				w.append(900)
			}
			return w.s.Write(w.chain.LSN, make([]byte, 1024))
		}, pmemlog.ErrRange},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, _, r := newReplica(t, pmemtest.Options{})
			w := openWriter(t, r, 2)
			w.append(64)
			before := r.Info().Tail
			err := tt.do(w)
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if err != nil && tt.name != "more than the ring" && r.Info().Tail != before {
				t.Error("a refused write moved the tail")
			}
		})
	}
}

func TestRecordsDoNotCrossTheEndOfTheRing(t *testing.T) {
	t.Parallel()
	_, _, r := newReplica(t, pmemtest.Options{})
	w := openWriter(t, r, 1)
	big := make(format.Ring, 4*ringSize) // a writer that believes in a larger ring
	for range 3 {
		w.append(960)
	}
	w.append(500)
	w.flush()
	must(t, w.s.Trim(w.point()))
	c := w.chain
	big.Append(&c, 0, format.Record{Payload: make([]byte, 960)})
	if err := w.s.Write(w.chain.LSN, big[w.chain.LSN:c.LSN]); !errors.Is(err, pmemlog.ErrChain) {
		t.Errorf("a record across the end of the ring: %v", err)
	}
}

func TestRingWrapsWithPads(t *testing.T) {
	t.Parallel()
	m, _, r := newReplica(t, pmemtest.Options{})
	w := openWriter(t, r, 1)
	points := []format.TrimPoint{w.point()}
	for range 40 {
		for !w.room(500) {
			must(t, w.s.Trim(points[len(points)-2]))
			w.trim = points[len(points)-2]
		}
		w.append(500)
		w.flush()
		points = append(points, w.point())
	}
	if w.chain.LSN < 4*ringSize {
		t.Fatalf("the test wrote %d bytes only", w.chain.LSN)
	}
	_, r = reopen(t, m.CrashClean())
	rep := get[format.Report](t)(r.Attach(false).Fence(term(1)))
	if rep.Tail != w.chain.LSN || rep.Trim != w.trim || rep.Suspect() {
		t.Errorf("report %+v, want tail %d and trim %+v", rep, w.chain.LSN, w.trim)
	}
}

func TestSpaceRuleNeedsAPersistentTrim(t *testing.T) {
	t.Parallel()
	m, _, r := newReplica(t, pmemtest.Options{})
	w := openWriter(t, r, 1)
	w.append(960)
	first := w.point()
	if err := w.s.Trim(first); !errors.Is(err, pmemlog.ErrRange) {
		t.Errorf("trim beyond what is persistent: %v", err)
	}
	for w.room(960) {
		w.append(960)
	}
	w.flush()
	if err := w.s.Trim(format.TrimPoint{LSN: w.chain.LSN + 64, Epoch: 1}); !errors.Is(err, pmemlog.ErrRange) {
		t.Errorf("trim beyond the durable LSN: %v", err)
	}
	if err := w.s.Trim(format.TrimPoint{LSN: first.LSN - 64, Epoch: 1}); !errors.Is(err, pmemlog.ErrRange) {
		t.Errorf("trim in the middle of a record: %v", err)
	}
	if err := w.s.Trim(format.TrimPoint{LSN: first.LSN, Epoch: 1, CRC: 1}); !errors.Is(err, pmemlog.ErrChain) {
		t.Errorf("trim with another CRC: %v", err)
	}
	if err := w.s.Trim(format.TrimPoint{LSN: first.LSN, Epoch: 2, CRC: first.CRC}); !errors.Is(err, pmemlog.ErrRange) {
		t.Errorf("trim of a later epoch: %v", err)
	}
	syncs := m.Syncs()
	must(t, w.s.Trim(format.TrimPoint{}))
	if m.Syncs() != syncs {
		t.Error("a trim that changes nothing was synced")
	}
	must(t, w.s.Trim(first))
	if m.Syncs() == syncs {
		t.Error("a trim was not synced")
	}
	if got := r.Info().Slot.Trim; got != first {
		t.Errorf("trim is %+v, want %+v", got, first)
	}
	must(t, w.s.Trim(format.TrimPoint{}))
	if got := r.Info().Slot.Trim; got != first {
		t.Errorf("trim went back to %+v", got)
	}
	w.trim = first
	if !w.room(900) {
		t.Fatal("the trim made no room")
	}
	w.append(900)
}

func TestFence(t *testing.T) {
	t.Parallel()
	_, _, r := newReplica(t, pmemtest.Options{})
	w := openWriter(t, r, 5)
	for _, refused := range []format.Fence{term(4), {Epoch: 5, Nonce: 1}} {
		var f *pmemlog.FencedError
		if _, err := r.Attach(false).Fence(refused); !errors.As(err, &f) || !errors.Is(err, pmemlog.ErrFenced) || f.Promised != term(5) {
			t.Errorf("fence by %+v: %v", refused, err)
		}
	}
	w.append(64) // a refused fence has ended nothing
	if _, err := r.Attach(false).Fence(format.Fence{}); !errors.Is(err, pmemlog.ErrRange) {
		t.Errorf("fence by the zero term: %v", err)
	}
	if got := r.Info().Slot.Fenced; got != term(5) {
		t.Errorf("fenced is %+v", got)
	}
}

func TestNewerSessionEndsOlderOnes(t *testing.T) {
	t.Parallel()
	for name, epoch := range map[string]uint64{"same term": 3, "higher term": 4} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, r := newReplica(t, pmemtest.Options{})
			idle, reader := r.Attach(false), r.Attach(true)
			w := openWriter(t, r, 3)
			next := r.Attach(false)
			w.append(64) // attaching ends nothing
			if err := next.Write(w.chain.LSN, nil); !errors.Is(err, pmemlog.ErrNotFenced) {
				t.Errorf("write before the fence: %v", err)
			}
			get[format.Report](t)(next.Fence(term(epoch)))
			for name, s := range map[string]*pmemlog.Session{"fenced": w.s, "idle": idle} {
				for call, err := range everyCall(s) {
					if !errors.Is(err, pmemlog.ErrSessionEnded) {
						t.Errorf("%s session: %s: %v", name, call, err)
					}
				}
			}
			must(t, reader.Read(0, make([]byte, 64)))
			for call, err := range everyCall(reader) {
				if want := call != "Read" && call != "Info"; want != errors.Is(err, pmemlog.ErrReadOnly) {
					t.Errorf("read-only session: %s: %v", call, err)
				}
			}
			next.Close()
			for call, err := range everyCall(next) {
				if !errors.Is(err, pmemlog.ErrClosed) {
					t.Errorf("closed session: %s: %v", call, err)
				}
			}
		})
	}
}

// everyCall makes every call of a session and returns the errors.
func everyCall(s *pmemlog.Session) map[string]error {
	_, fence := s.Fence(term(9))
	_, flush := s.Flush()
	_, info := s.Info()
	return map[string]error{
		"Fence": fence, "Write": s.Write(0, nil), "Flush": flush, "Read": s.Read(0, nil), "Align": s.Align(0),
		"Reset": s.Reset(format.TrimPoint{}), "Seal": s.Seal(pmemlog.SealIn{}), "Reseal": s.Reseal(0, nil), "Trim": s.Trim(format.TrimPoint{}), "Info": info,
	}
}

func TestReadStaysInTheWindow(t *testing.T) {
	t.Parallel()
	_, _, r := newReplica(t, pmemtest.Options{})
	w := openWriter(t, r, 1)
	w.append(960)
	w.flush()
	must(t, w.s.Trim(w.point()))
	trim := w.chain.LSN
	for _, tt := range []struct {
		lsn  uint64
		n    int
		want error
	}{
		{trim, 64, nil},
		{trim, ringSize, nil},
		{trim + ringSize, 0, nil},
		{trim - 64, 64, pmemlog.ErrRange},
		{trim, ringSize + 1, pmemlog.ErrRange},
		{trim + 64, ringSize, pmemlog.ErrRange},
		{1 << 63, 64, pmemlog.ErrRange},
		{^uint64(0), 64, pmemlog.ErrRange},
	} {
		if err := w.s.Read(tt.lsn, make([]byte, tt.n)); !errors.Is(err, tt.want) {
			t.Errorf("read of %d bytes at %d: %v, want %v", tt.n, tt.lsn, err, tt.want)
		}
	}
}

func TestAppendNeedsTheSeal(t *testing.T) {
	t.Parallel()
	_, _, r := newReplica(t, pmemtest.Options{})
	old := openWriter(t, r, 1)
	old.append(64)
	old.flush()
	w := &writer{t: t, s: r.Attach(false), ring: old.ring, chain: old.chain, term: term(2), seals: old.seals}
	get[format.Report](t)(w.s.Fence(w.term))

	old.s = w.s
	old.append(64) // records of the chosen log go in before the seal
	w.chain = old.chain
	w.chain.Epoch = 2
	before := w.chain
	if err := w.write(64); !errors.Is(err, pmemlog.ErrNotSealed) {
		t.Fatalf("append before the seal: %v", err)
	}
	w.chain = before
	w.seals = format.AddSeal(w.seals, w.ownSeal())
	if err := w.s.Seal(w.sealIn()); !errors.Is(err, pmemlog.ErrRange) {
		t.Fatalf("seal before the bytes are persistent: %v", err)
	}
	w.flush()
	for name, change := range map[string]func(*pmemlog.SealIn){
		"tail":          func(in *pmemlog.SealIn) { in.Tail -= 64 },
		"no own seal":   func(in *pmemlog.SealIn) { in.Seals = old.seals },
		"own seal":      func(in *pmemlog.SealIn) { in.Seals[len(in.Seals)-1].T += 64 },
		"alignment":     func(in *pmemlog.SealIn) { in.Seals[len(in.Seals)-1].T -= 8 },
		"other seal":    func(in *pmemlog.SealIn) { in.Seals[0].T += 8 },
		"place":         func(in *pmemlog.SealIn) { in.Seals[0].T = 1<<62 + 64 },
		"another chain": func(in *pmemlog.SealIn) { in.Seals[len(in.Seals)-1].Prev++ },
		"hint":          func(in *pmemlog.SealIn) { in.Hint.LSN += 64 },
		"hint epoch":    func(in *pmemlog.SealIn) { in.Hint.Epoch++ },
		"seals":         func(in *pmemlog.SealIn) { in.Seals = make([]format.Seal, format.MaxSeals+1) },
		"set":           func(in *pmemlog.SealIn) { in.Set = make([]format.ID, format.MaxReplicas+1) },
	} {
		in := w.sealIn()
		in.Seals = append([]format.Seal(nil), in.Seals...)
		change(&in)
		if err := w.s.Seal(in); !errors.Is(err, pmemlog.ErrRange) && !errors.Is(err, pmemlog.ErrChain) {
			t.Errorf("seal with a wrong %s: %v", name, err)
		}
	}
	must(t, w.s.Seal(w.sealIn()))
	w.append(64)
	w.flush()
	slot := r.Info().Slot
	if len(slot.Seals) != 2 || len(slot.Set) != 1 || slot.Hint != (format.Position{Epoch: 2, LSN: before.LSN}) {
		t.Errorf("header %+v", slot)
	}
}

func TestPoisonedPoolRefusesEverything(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*pmemtest.Medium){
		"sync":  func(m *pmemtest.Medium) { m.FailNextSync(pmemtest.ErrInjected) },
		"write": func(m *pmemtest.Medium) { m.FailNextWrite(pmemtest.ErrInjected) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, p, r := newReplica(t, pmemtest.Options{})
			w := openWriter(t, r, 1)
			w.append(64)
			fail(m)
			err := w.write(64)
			if err == nil {
				_, err = w.s.Flush()
			}
			if !errors.Is(err, pmemlog.ErrPoisoned) || !errors.Is(err, pmemtest.ErrInjected) {
				t.Fatalf("the failure itself: %v", err)
			}
			_, flush := w.s.Flush()
			_, fence := r.Attach(false).Fence(term(2))
			_, create := p.Create(spec(2, ringSize))
			_, next := p.NextIncarnation()
			for call, err := range map[string]error{
				"Flush": flush, "Fence": fence, "Create": create, "NextIncarnation": next,
				"Delete": p.Delete(id(1)), "Failure": p.Failure(), "Info": r.Info().Failure,
			} {
				if !errors.Is(err, pmemlog.ErrPoisoned) {
					t.Errorf("%s after the failure: %v", call, err)
				}
			}
			if d := r.Info().Durable; d != 0 {
				t.Errorf("durable is %d though no flush succeeded", d)
			}
		})
	}
}
