package format

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/gravenio/graven/internal/golden"
)

func someMeta() [MetaSize]byte {
	return [MetaSize]byte{'c', 'a', 'l', 'l', 'e', 'r', '\'', 's', ' ', 'm', 'e', 't', 'a', 'd', 'a', 't'}
}

func someID(first byte) ID {
	var id ID
	for i := range id {
		id[i] = first + byte(i)
	}
	return id
}

func TestGoldenRecords(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]Header{
		"record-data.v1": {
			Prev: 0x04030201, Kind: KindData, Length: 70, LSN: 0x1817161514131240, Epoch: 0x2827262524232221,
			Commit: 0x3837363534333231, Meta: someMeta(),
		},
		"record-pad.v1": {Prev: 0x04030201, Kind: KindPad, LSN: 0x1817161514131240, Epoch: 0x2827262524232221, Commit: 0x3837363534333231},
	} {
		rec := make([]byte, want.Size())
		for i := range int(want.Length) {
			rec[HeaderSize+i] = byte('a' + i%26)
		}
		payload := bytes.Clone(rec[HeaderSize:])
		EncodeHeader(rec, &want)
		file := golden.Check(t, name, rec)
		c := Chain{LSN: want.LSN, CRC: want.Prev, Epoch: want.Epoch}
		got, err := c.Follow(file)
		if err != nil || got != want || !bytes.Equal(file[HeaderSize:], payload) {
			t.Errorf("%s holds %+v, %v; want %+v", name, got, err, want)
		}
	}
}

func TestGoldenSlot(t *testing.T) {
	t.Parallel()
	want := Slot{
		Generation: 0x1817161514131211, Cluster: someID(0x20), Log: someID(0x30), Replica: someID(0x40),
		Capacity: 0x5857565554535250, Fenced: Fence{Epoch: 0x6867666564636261, Nonce: 0x7877767574737271},
		Trim: TrimPoint{LSN: 0x8887868584838280, Epoch: 0x9897969594939291, CRC: 0xa4a3a2a1},
		Hint: Position{Epoch: 0xb8b7b6b5b4b3b2b1, LSN: 0xc8c7c6c5c4c3c2c0},
		Set:  []ID{someID(0xd0), someID(0xe0)},
		Seals: []Seal{
			{Epoch: 1, Nonce: 2, T: 64, Prev: 3, SetVersion: 4},
			{Epoch: 0x0807060504030201, Nonce: 0x1817161514131211, T: 0x2827262524232240, Prev: 0x34333231, SetVersion: 0x4847464544434241},
		},
	}
	b := make([]byte, SlotSize)
	EncodeSlot(b, &want)
	got, err := DecodeSlot(golden.Check(t, "slot.v1", b))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("the file holds %+v, %v; want %+v", got, err, want)
	}
}

func TestGoldenHintLine(t *testing.T) {
	t.Parallel()
	want := HintLine{
		Generation: 0x1817161514131211, Sequence: 0x2827262524232221,
		Hint: Position{Epoch: 0x3837363534333231, LSN: 0x4847464544434240},
	}
	b := make([]byte, HintSize)
	EncodeHint(b, want)
	got, err := DecodeHint(golden.Check(t, "hint.v1", b))
	if err != nil || got != want {
		t.Errorf("the file holds %+v, %v; want %+v", got, err, want)
	}
}
