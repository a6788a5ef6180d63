package pmemlog_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// scripted carries out what each byte stands for, as far as it may be done then.
func scripted(script []byte) step {
	return func(w *world) error {
		for i, op := range script {
			if err := w.scripted(op); err != nil {
				return fmt.Errorf("operation %d, %d: %w", i, op, err)
			}
		}
		return nil
	}
}

// scripted has 16 kinds of operations, on replica 1 or 2, each with 8 variants.
func (w *world) scripted(op byte) error {
	kind, b, variant := op&15, 1+op>>4&1, int(op>>5)
	switch kind {
	case 0:
		return w.nextIncarnation()
	case 1:
		return w.confirm()
	case 2:
		return w.comeOrGo(2 + byte(variant))
	case 3:
		return w.reopen()
	}
	if r, ok := w.book.replicas[b]; !ok || r.presence != present {
		return nil
	}
	return w.scriptedWriter(kind, b, variant)
}

// comeOrGo creates a replica, deletes it, or leaves it gone.
func (w *world) comeOrGo(b byte) error {
	r, ok := w.book.replicas[b]
	switch {
	case !ok && w.p.Free().LargestCapacity() >= ringSize && w.p.Free().Entries > 0:
		return steps(creates(b), takesOver(b))(w)
	case ok && r.presence == present:
		return w.remove(b)
	}
	return nil
}

// reopen is a process that ends, and another that takes everything over.
func (w *world) reopen() error {
	if err := w.open(); err != nil {
		return err
	}
	for _, b := range w.present() {
		if err := w.takeOver(b); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) scriptedWriter(kind, b byte, variant int) error {
	s := w.book.replicas[b].now()
	sizes := []int{1, 64, 100, 300, 450, 700, 900, 30}[variant:]
	fits := w.room(b, sizes[0])
	switch kind {
	case 4, 5, 6:
		if fits {
			return w.append(b, sizes[0])
		}
	case 7:
		if fits {
			return w.commit(b, sizes[0])
		}
	case 8, 9:
		return w.flush(b)
	case 10:
		return w.persistHint(b)
	case 11:
		return w.takeOver(b)
	case 12:
		return w.fence(b, s.fenced)
	case 13:
		return steps(fences(b, 1), func(w *world) error { return w.alignSome(b, variant) }, seals(b))(w)
	case 14:
		if variant == 0 {
			return steps(fences(b, 1), resets(b, 128), seals(b))(w)
		}
		return w.reseal(b, 1+s.log().end().LSN, id(b))
	default:
		return w.trimSome(b, variant)
	}
	return nil
}

// alignSome keeps all but the last records, and rewrites some of them.
func (w *world) alignSome(b byte, variant int) error {
	s := w.book.replicas[b].now()
	ends, from := s.log().ends, s.log().boundary(s.trim.LSN)
	n := max(len(ends)-1-variant%4, from)
	do := []step{aligns(b, n)}
	if variant >= 4 && n < len(ends)-1 {
		do = append(do, appends(b, 10*variant), flushes(b))
	}
	return steps(do...)(w)
}

// trimSome trims what is durable, but for the last records.
func (w *world) trimSome(b byte, keep int) error {
	s := w.book.replicas[b].now()
	n := s.log().boundary(s.durable) - keep
	if n < 0 || s.log().ends[n].LSN <= s.trim.LSN {
		return nil
	}
	return w.trim(b, s.log().ends[n].LSN)
}

// TestCrashRandomOperations breaks random scripts off at every boundary.
func TestCrashRandomOperations(t *testing.T) {
	t.Parallel()
	for n := range *crashSeeds {
		seed := baseSeed() + n
		rng := seeded(t, seed<<8)
		script := make([]byte, 16)
		for i := range script {
			script[i] = byte(rng.Uint32())
		}
		c := crashCase{prepare: begins(), operate: scripted(script), recover: goesOn()}
		for _, m := range crashMedia() {
			for _, e := range endings() {
				boundaries, err := c.boundaries(m, e)
				for k := 1; err == nil && k <= boundaries+1; k++ {
					err = c.endAt(m, e, k, boundaries, 2, func(try int) *rand.Rand { return seeded(t, seed<<32+uint64(k<<16+try)) })
				}
				if err != nil {
					t.Fatalf("seed %d, script %x: %v", seed, script, err)
				}
			}
		}
	}
}

// FuzzCrash looks for a script, an ending and losses that break a promise.
func FuzzCrash(f *testing.F) {
	f.Add([]byte{0x44, 0x08, 0x0f, 0x2d, 0x42, 0x64, 0x18}, uint8(0), uint8(0), uint16(3), uint64(1))
	f.Add([]byte{0xa6, 0xc6, 0xa7, 0x0f, 0xc6, 0x09, 0x03, 0x0e}, uint8(1), uint8(1), uint16(9), uint64(2))
	f.Add([]byte{0x42, 0x64, 0x74, 0x19, 0x0d, 0xcd, 0x42, 0x00, 0x01}, uint8(2), uint8(2), uint16(20), uint64(3))
	f.Fuzz(func(t *testing.T, script []byte, medium, end uint8, boundary uint16, seed uint64) {
		if len(script) > 32 {
			return
		}
		media, ends := crashMedia(), endings()
		m, e := media[int(medium)%len(media)], ends[int(end)%len(ends)]
		c := crashCase{prepare: begins(), operate: scripted(script), recover: goesOn()}
		boundaries, err := c.boundaries(m, e)
		must(t, err)
		k := 1 + int(boundary)%(boundaries+1)
		must(t, c.endAt(m, e, k, boundaries, 3, func(try int) *rand.Rand { return seeded(t, seed+uint64(try)) }))
	})
}
