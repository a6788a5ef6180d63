package format

import (
	"errors"
	"testing"
)

// FuzzFollowUnchecked compares it, with the CRC, to Follow: on a good record that
// is changed in one place, and on arbitrary bytes.
func FuzzFollowUnchecked(f *testing.F) {
	ring := make(Ring, 4096)
	before := Chain{LSN: 128, CRC: 7, Epoch: 3}
	at := before
	ring.Append(&at, 64, Record{Payload: []byte("what a record holds")})
	good := ring.At(before.LSN, int(at.LSN-before.LSN))
	f.Add(good, 0, byte(0))
	for i := range HeaderSize + 3 {
		f.Add(good, i, byte(1))
		f.Add(good, i, byte(0x80))
	}
	f.Add(good[:HeaderSize], 0, byte(0))
	f.Add(good[:10], 0, byte(0))
	f.Fuzz(func(t *testing.T, b []byte, i int, flip byte) {
		b = append([]byte(nil), b...)
		if i >= 0 && i < len(b) {
			b[i] ^= flip
		}
		want, got := before, before
		h, err := want.Follow(b)
		o, unchecked := got.FollowUnchecked(b)
		switch {
		case err == nil && (unchecked != nil || got != want || o.Size() != h.Size() || o.Epoch != h.Epoch || !o.CheckCRC(b)):
			t.Errorf("a good record: %+v, %v, chain %+v; want %+v", o, unchecked, got, want)
		case unchecked != nil && (err == nil || !sameKind(err, unchecked) || got != before):
			t.Errorf("refused for %v, by Follow for %v; chain %+v", unchecked, err, got)
		case err != nil && unchecked == nil && (!errors.Is(err, ErrCRC) || o.CheckCRC(b)):
			t.Errorf("taken, though Follow refuses it for %v", err)
		}
	})
}

func sameKind(a, b error) bool {
	for _, kind := range []error{ErrNoRecord, ErrVersion, ErrLength, ErrLSN, ErrCRC, ErrChain, ErrEpoch} {
		if errors.Is(a, kind) {
			return errors.Is(b, kind)
		}
	}
	return false
}
