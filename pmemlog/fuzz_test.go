package pmemlog_test

import (
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

// goodPool returns the bytes of a pool with a replica that holds something.
func goodPool(t testing.TB) []byte {
	m, p, r := newReplica(t, pmemtest.Options{})
	must(t, p.BindDaemon("d1"))
	w := openWriter(t, r, 1)
	for range 5 {
		w.append(300)
	}
	w.flush()
	must(t, w.s.Trim(w.point()))
	w.trim = w.point()
	w.append(64)
	w.flush()
	must(t, r.PersistHint())
	return m.Image()
}

// use opens whatever lies on a medium and calls what can be called.
func use(m *pmemtest.Medium) {
	p, err := pmemlog.Open(m)
	if err != nil {
		return
	}
	defer p.Close()
	p.Identity()
	p.Free()
	_, _ = p.NextIncarnation()
	for _, l := range p.Replicas() {
		r, err := p.Replica(l.Replica)
		if err != nil {
			continue
		}
		s := r.Attach(false)
		rep, err := s.Fence(format.Fence{Epoch: r.Info().Slot.Fenced.Epoch + 1, Nonce: 1})
		if err != nil {
			continue
		}
		_ = s.Read(rep.Trim.LSN, make([]byte, 64))
		_ = s.Align(rep.Trim.LSN)
		_ = s.Trim(format.TrimPoint{LSN: rep.Tail})
		_ = s.Seal(pmemlog.SealIn{Seals: rep.Seals, Tail: rep.Tail})
		_ = s.Reseal(7, []format.ID{id(1), id(2)})
		_, _ = s.Flush()
		_ = r.PersistHint()
		_ = s.Reset(format.TrimPoint{LSN: 64})
	}
	for _, l := range p.Replicas() {
		_ = p.Delete(l.Replica)
	}
	_, _ = p.Create(spec(9, ringSize))
}

// FuzzOpen opens pools of arbitrary bytes, or with arbitrary bytes in one place
// of a good pool and its checksums made right again.
func FuzzOpen(f *testing.F) {
	good := goodPool(f)
	addPools(f, good)
	f.Fuzz(func(_ *testing.T, b []byte, at int, patch bool) {
		if image := fuzzedPool(good, b, at, patch); image != nil {
			use(pmemtest.Of(image, pmemtest.Options{}))
		}
	})
}

// addPools adds seeds for fuzzedPool.
func addPools(f *testing.F, good []byte) {
	f.Add([]byte(nil), 0, false)
	f.Add(good, 0, false)
	f.Add(good[:8192], 0, false)
	for _, at := range []int{0, 4096, 8192, 12288, 16384, 16384 + 4096, 16384 + 8192, ringStart} {
		f.Add([]byte("garbage that is put in"), at+16, true)
		f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, at+72, true)
	}
	for _, version := range []int{8, 4096 + 8, 8192 + 96, 16384 + 8, 16384 + 4096 + 8, 16384 + 8192 + 40, ringStart + 10} {
		f.Add([]byte{2}, version, true)
	}
}

// fuzzedPool returns b, or a good pool with b in it and the checksums made right;
// nil for what would take too long or can't be.
func fuzzedPool(good, b []byte, at int, patch bool) []byte {
	if !patch {
		if len(b) > 1<<20 {
			return nil
		}
		return b
	}
	if at < 0 || at > len(good) {
		return nil
	}
	image := append([]byte(nil), good...)
	copy(image[at:], b)
	return pmemlog.MendChecksums(image, 8)
}

// FuzzWrite sends arbitrary bytes to a replica: it takes whole records only.
func FuzzWrite(f *testing.F) {
	_, _, r := newReplica(f, pmemtest.Options{})
	w := openWriter(f, r, 1)
	before := w.chain
	_, rec := w.encode(100)
	f.Add(uint64(0), rec)
	f.Add(uint64(64), rec)
	f.Add(uint64(0), rec[:64])
	f.Add(uint64(0), append(append([]byte(nil), rec...), rec...))
	f.Fuzz(func(t *testing.T, lsn uint64, b []byte) {
		_, _, r := newReplica(t, pmemtest.Options{})
		w := openWriter(t, r, 1)
		w.chain = before
		if err := w.s.Write(lsn, b); err != nil {
			if tail := r.Info().Tail; tail != 0 {
				t.Fatalf("refused (%v), but the tail is %d", err, tail)
			}
			return
		}
		rep := get[format.Report](t)(r.Attach(false).Fence(term(2)))
		if rep.Tail != uint64(len(b)) {
			t.Fatalf("took %d bytes, holds %d", len(b), rep.Tail)
		}
	})
}
