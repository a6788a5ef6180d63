package pmemtest

import (
	"bytes"
	"math"
	"math/rand/v2"
)

// Crash takes the power away, for good as far as this medium goes, and returns
// what survives as a new one: all that was synced, and of the rest any subset, torn as the unit allows. The same random numbers give
// the same loss.
func (m *Medium) Crash(rng *rand.Rand) *Medium {
	return m.crash(func(out *image) {
		now, odds := m.safe.fork(), newSurvival(rng)
		versions := map[int64]int{} // of a unit, beside the synced one
		buf := make([]byte, m.opts.Unit)
		for _, w := range m.writes {
			now.write(m.written(&w), w.off)
			o := odds.write()
			for u, end := m.units(w.off, w.n); u < end; u++ {
				versions[u]++
				at := u * int64(m.opts.Unit)
				version := buf[:min(int64(m.opts.Unit), m.Size()-at)]
				now.read(version, at)
				m.replace(out, version, at, func() bool { return odds.survives(o, versions[u]) }, o.torn)
			}
		}
	})
}

// replace puts a version of a unit in the place of an earlier one, or not, grain
// by grain.
func (m *Medium) replace(out *image, version []byte, at int64, survives func() bool, torn bool) {
	grain := m.opts.Unit
	if grain == Line && torn {
		grain = word
	}
	for from := 0; from < len(version); from += grain {
		if survives() {
			out.write(version[from:min(from+grain, len(version))], at+int64(from))
		}
	}
}

// CrashClean is a crash that loses all that was not synced.
func (m *Medium) CrashClean() *Medium {
	return m.crash(func(*image) {})
}

// CrashKeepingUnsynced is the death of a process, not of the machine: readers of
// the new medium see all that was written, but what was not synced is still not
// persistent. Of persistent memory, what the process had on its way is in the
// cache again: a fence is only for what its own process has flushed.
func (m *Medium) CrashKeepingUnsynced() *Medium {
	out := m.Clone()
	out.dead, out.cutAt, out.cutOp, out.plan = false, 0, 0, plan{}
	if out.pmem != nil {
		for i := range out.writes {
			out.writes[i].sent = false
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = true
	return out
}

func (m *Medium) crash(survive func(out *image)) *Medium {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = true
	out := newMedium(m.opts, image{}, m.safe.fork())
	survive(&out.safe)
	out.now = out.safe.fork()
	out.badReads = append(out.badReads, m.badReads...)
	return out
}

// Clone returns a copy in the same state, with planned faults and without
// events.
func (m *Medium) Clone() *Medium {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := newMedium(m.opts, m.now.fork(), m.safe.fork())
	out.writes = append([]write(nil), m.writes...)
	out.dead, out.syncs, out.cutAt, out.plan = m.dead, m.syncs, m.cutAt, m.plan
	out.ops, out.cutOp = m.ops, m.cutOp
	out.badReads = append([][2]int64(nil), m.badReads...)
	return out
}

// FlipBit turns a bit over, 0 to 7 of the byte at off, in what is persistent and
// in what readers see. Later writes heal it.
func (m *Medium) FlipBit(off int64, bit uint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.change(off)[0] ^= 1 << bit
	m.safe.change(off)[0] ^= 1 << bit
	for i := range m.writes {
		if w := &m.writes[i]; w.data != nil && w.off <= off && off < w.end() {
			w.data = append([]byte(nil), w.data...)
			w.data[off-w.off] ^= 1 << bit
		}
	}
}

// FailNextSync makes the next sync fail with err; nothing becomes persistent by
// it.
func (m *Medium) FailNextSync(err error) { m.FailAtSync(1, err) }

// FailAtSync makes the n-th sync from now fail with err, the first being 1;
// nothing becomes persistent by it. Syncs after it work, and persist what it did
// not.
func (m *Medium) FailAtSync(n int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failAt, m.failSync = m.syncs+n, err
}

// LieAtSync makes the n-th sync from now return nil without effect, the first
// being 1. What it should have made persistent is gone after a crash, whatever
// later syncs do, unless it is written again.
func (m *Medium) LieAtSync(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lieFrom, m.lieTo = m.syncs+n, m.syncs+n
}

// LieFromSync is LieAtSync for the n-th sync and all that follow it.
func (m *Medium) LieFromSync(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lieFrom, m.lieTo = m.syncs+n, math.MaxInt
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

// CutAtEvent makes the power go just before the n-th event from now, the first
// being 1: a write, a sync, or what persistent memory has in place of them.
func (m *Medium) CutAtEvent(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cutOp = m.ops + n
}

// Counted returns how many events there have been.
func (m *Medium) Counted() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ops
}

// Dead reports whether the power has gone.
func (m *Medium) Dead() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dead
}

// Syncs returns how many syncs have succeeded, or said so.
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
	first, end := m.units(off, n)
	for _, w := range m.writes {
		if from, to := m.units(w.off, w.n); from < end && first < to && first < end {
			return false
		}
	}
	now, safe := make([]byte, n), make([]byte, n)
	m.now.read(now, off)
	m.safe.read(safe, off)
	return bytes.Equal(now, safe) // or a sync has lied
}

// units returns the numbers of the first unit that [off, off+n) touches and of
// the one behind the last.
func (m *Medium) units(off int64, n int) (first, end int64) {
	unit := int64(m.opts.Unit)
	return off / unit, (off + int64(n) + unit - 1) / unit
}

// Image returns a copy of what readers see.
func (m *Medium) Image() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := make([]byte, m.now.size)
	m.now.read(b, 0)
	return b
}
