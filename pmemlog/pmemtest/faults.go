package pmemtest

import (
	"bytes"
	"math/rand/v2"
)

// Crash takes the power away, for good as far as this medium goes, and returns
// what survives as a new one: all that was synced, and of the rest any subset.
func (m *Medium) Crash(rng *rand.Rand) *Medium {
	return m.crash(func(was []byte, versions [][]byte) []byte {
		if m.opts.Unit != Line {
			return pick(rng, was, versions)
		}
		out := make([]byte, 0, len(was))
		for at := 0; at < len(was); at += word {
			from := pick(rng, was, versions)
			out = append(out, from[at:min(at+word, len(from))]...)
		}
		return out
	})
}

// CrashClean is a crash that loses all that was not synced.
func (m *Medium) CrashClean() *Medium {
	return m.crash(func(was []byte, _ [][]byte) []byte { return was })
}

// CrashKeepingUnsynced is the death of a process, not of the machine: readers of
// the new medium see all that was written, but what was not synced is still not
// persistent.
func (m *Medium) CrashKeepingUnsynced() *Medium {
	out := m.Clone()
	out.dead, out.cutAt, out.failSync, out.failNext = false, 0, nil, nil
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = true
	return out
}

func pick(rng *rand.Rand, was []byte, versions [][]byte) []byte {
	if i := rng.IntN(len(versions) + 1); i > 0 {
		return versions[i-1]
	}
	return was
}

func (m *Medium) crash(survivor func(was []byte, versions [][]byte) []byte) *Medium {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = true
	out := New(int64(len(m.safe)), m.opts)
	copy(out.safe, m.safe)
	for _, u := range m.order {
		copy(out.unit(out.safe, u), survivor(m.unit(m.safe, u), m.dirty[u]))
	}
	copy(out.now, out.safe)
	out.badReads = append(out.badReads, m.badReads...)
	return out
}

// Clone returns a copy in the same state, with planned faults and without
// events.
func (m *Medium) Clone() *Medium {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := New(int64(len(m.safe)), m.opts)
	copy(out.safe, m.safe)
	copy(out.now, m.now)
	for u, versions := range m.dirty {
		out.dirty[u] = append([][]byte(nil), versions...) // versions never change
	}
	out.order = append(out.order, m.order...)
	out.dead, out.syncs, out.cutAt = m.dead, m.syncs, m.cutAt
	out.failSync, out.failNext = m.failSync, m.failNext
	out.badReads = append(out.badReads, m.badReads...)
	return out
}

// FlipBit turns a bit over, 0 to 7 of the byte at off, in what is persistent and
// in what readers see. Later writes heal it.
func (m *Medium) FlipBit(off int64, bit uint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now[off] ^= 1 << bit
	m.safe[off] ^= 1 << bit
	u := int(off) / m.opts.Unit
	for i, v := range m.dirty[u] {
		flipped := append([]byte(nil), v...)
		flipped[int(off)%m.opts.Unit] ^= 1 << bit
		m.dirty[u][i] = flipped
	}
}

// FailNextSync makes the next sync fail with err; nothing becomes persistent by
// it.
func (m *Medium) FailNextSync(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failSync = err
}

// FailNextWrite makes the next write fail with err, without effect.
func (m *Medium) FailNextWrite(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failNext = err
}

// FailReads makes reads that touch [from, to) fail with ErrInjected.
func (m *Medium) FailReads(from, to int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.badReads = append(m.badReads, [2]int64{from, to})
}

// CutAtSync makes the power go just before the n-th sync from now, the first
// being 1: that sync and all that comes after it fail with ErrPowerless. Crash
// then tells what survives.
func (m *Medium) CutAtSync(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cutAt = m.syncs + n
}

// Dead reports whether the power has gone.
func (m *Medium) Dead() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dead
}

// Syncs returns how many syncs have succeeded.
func (m *Medium) Syncs() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.syncs
}

// Events returns what happened so far, in order, if Options.Log asked for it.
func (m *Medium) Events() []Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Event(nil), m.events...)
}

// Persistent reports whether all of [off, off+n) would survive any crash as it
// reads now.
func (m *Medium) Persistent(off int64, n int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for u := int(off) / m.opts.Unit; u*m.opts.Unit < int(off)+n; u++ {
		if m.dirty[u] != nil {
			return false
		}
	}
	return bytes.Equal(m.now[off:off+int64(n)], m.safe[off:off+int64(n)])
}

// Image returns a copy of what readers see.
func (m *Medium) Image() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]byte(nil), m.now...)
}
