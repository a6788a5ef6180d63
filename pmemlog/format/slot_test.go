package format

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"reflect"
	"testing"
)

func fullSlot() Slot {
	s := Slot{
		Generation: 1, Cluster: ID{2}, Log: ID{3}, Replica: ID{4}, Capacity: 5, Fenced: Fence{6, 7},
		Trim: TrimPoint{8, 9, 10}, Hint: Position{11, 12},
	}
	for i := range MaxReplicas {
		s.Set = append(s.Set, ID{byte(i), 15: 1})
	}
	for i := range uint64(MaxSeals) {
		s.Seals = append(s.Seals, Seal{Epoch: i, Nonce: i * 2, T: i * 3, Prev: uint32(i * 4), SetVersion: i * 5})
	}
	return s
}

func TestSlotRoundTrip(t *testing.T) {
	t.Parallel()
	b := make([]byte, SlotSize)
	for _, want := range []Slot{{}, fullSlot()} {
		EncodeSlot(b, &want)
		got, err := DecodeSlot(b)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
		c := got.Clone()
		if !reflect.DeepEqual(c, want) {
			t.Errorf("clone %+v", c)
		}
		if len(c.Seals) > 0 {
			if c.Seals[0].Nonce++; got.Seals[0].Nonce != 0 {
				t.Error("a clone shares its seals")
			}
		}
	}
}

func TestDamagedSlots(t *testing.T) {
	t.Parallel()
	s := fullSlot()
	good := make([]byte, SlotSize)
	EncodeSlot(good, &s)
	for i := range SlotSize {
		b := append([]byte(nil), good...)
		b[i] ^= 1
		if _, err := DecodeSlot(b); err == nil {
			t.Fatalf("byte %d flipped: still a slot", i)
		}
	}
	sealed := func(off int, v uint32) []byte {
		b := append([]byte(nil), good...)
		binary.LittleEndian.PutUint32(b[off:], v)
		binary.LittleEndian.PutUint32(b[slotCRC:], crc32.Checksum(b[:slotCRC], castagnoli))
		return b
	}
	for name, tt := range map[string]struct {
		b    []byte
		want error
	}{
		"short":         {good[:SlotSize-1], ErrNoSlot},
		"zero":          {make([]byte, SlotSize), ErrNoSlot},
		"older":         {sealed(8, 0), ErrVersion},
		"newer":         {sealed(8, 2), ErrVersion},
		"too many":      {sealed(12, MaxSeals+1), ErrLength},
		"4 G of seals":  {sealed(12, 1<<32-1), ErrLength},
		"too large set": {sealed(144, MaxReplicas+1), ErrLength},
	} {
		if _, err := DecodeSlot(tt.b); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

func TestHintLines(t *testing.T) {
	t.Parallel()
	b := make([]byte, HintSize)
	want := HintLine{Generation: 1, Sequence: 2, Hint: Position{3, 4}}
	EncodeHint(b, want)
	if got, err := DecodeHint(b); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	for i := range b {
		b[i] ^= 1
		if _, err := DecodeHint(b); !errors.Is(err, ErrNoHint) {
			t.Errorf("byte %d flipped: %v", i, err)
		}
		b[i] ^= 1
	}
	if _, err := DecodeHint(b[:HintSize-1]); !errors.Is(err, ErrNoHint) {
		t.Errorf("short: %v", err)
	}
	for _, version := range []uint32{0, 2, 1 << 31} {
		binary.LittleEndian.PutUint32(b[40:], version)
		binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli))
		if got, err := DecodeHint(b); !errors.Is(err, ErrVersion) || got != (HintLine{Generation: 1}) {
			t.Errorf("version %d: %+v, %v; want ErrVersion and the generation alone", version, got, err)
		}
	}
}

func TestProgrammingErrorsPanic(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func(){
		"seals":    func() { EncodeSlot(make([]byte, SlotSize), &Slot{Seals: make([]Seal, MaxSeals+1)}) },
		"hint":     func() { EncodeHint(nil, HintLine{}) },
		"record":   func() { EncodeHeader(make([]byte, 64), &Header{Length: 1}) },
		"segments": func() { make(Ring, 64).Segments(nil, 0, 128) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func FuzzSlot(f *testing.F) {
	s := fullSlot()
	b := make([]byte, SlotSize)
	EncodeSlot(b, &s)
	f.Add(b)
	line := make([]byte, HintSize)
	EncodeHint(line, HintLine{Generation: 1, Sequence: 2, Hint: Position{3, 4}})
	f.Add(line)
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, err := DecodeHint(b); err == nil {
			again := make([]byte, HintSize)
			EncodeHint(again, l)
			if got, err := DecodeHint(again); err != nil || got != l {
				t.Fatalf("%+v became %+v, %v", l, got, err)
			}
		}
		if len(b) >= SlotSize {
			binary.LittleEndian.PutUint32(b[slotCRC:], crc32.Checksum(b[:slotCRC], castagnoli))
		}
		s, err := DecodeSlot(b)
		if err != nil {
			return
		}
		again := make([]byte, SlotSize)
		EncodeSlot(again, &s)
		if got, err := DecodeSlot(again); err != nil || !reflect.DeepEqual(got, s) {
			t.Fatalf("%+v became %+v, %v", s, got, err)
		}
	})
}
