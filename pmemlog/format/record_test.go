package format

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"
)

// castagnoli is for the library's checksum, beside the one that is used. Read-only.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func mend(rec []byte) {
	n := min(int(binary.LittleEndian.Uint32(rec[16:])), len(rec)-HeaderSize)
	binary.LittleEndian.PutUint32(rec, crc32.Checksum(rec[4:HeaderSize+n], castagnoli))
}

func TestRecordRoundTrip(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 63, 64, 65, 4096, MaxPayload} {
		rec := bytes.Repeat([]byte{0xee}, int(RecordSize(n)))
		payload := rec[HeaderSize : HeaderSize+n]
		for i := range payload {
			payload[i] = byte(i)
		}
		want := Header{Prev: 7, Kind: KindData, Length: uint32(n), LSN: 640, Epoch: 3, Commit: 64, Meta: [MetaSize]byte{1, 15: 2}}
		crc := EncodeHeader(rec, &want)
		got, err := DecodeHeader(rec)
		if err != nil || got != want || got.CRC != crc || !got.CheckCRC(rec) {
			t.Errorf("%d bytes: got %+v, %v; want %+v", n, got, err, want)
		}
		if got.End() != 640+uint64(len(rec)) || len(rec)%Align != 0 {
			t.Errorf("%d bytes: ends at %d", n, got.End())
		}
		for _, b := range rec[HeaderSize+n:] {
			if b != 0 {
				t.Errorf("%d bytes: the padding is not zero", n)
				break
			}
		}
	}
}

func TestEveryByteOfARecordIsCovered(t *testing.T) {
	t.Parallel()
	ring := make(Ring, 1024)
	c := Chain{Epoch: 1}
	ring.Append(&c, 9, Record{Payload: []byte("some payload")})
	for i := range HeaderSize + len("some payload") {
		ring[i] ^= 0x20
		at := Chain{Epoch: 1}
		if _, err := at.Follow(ring); err == nil {
			t.Errorf("byte %d flipped: still a record", i)
		}
		if at != (Chain{Epoch: 1}) {
			t.Errorf("byte %d flipped: the chain moved to %+v", i, at)
		}
		ring[i] ^= 0x20
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	at := Chain{LSN: 4096, CRC: 55, Epoch: 4}
	good := func() []byte {
		ring, c := make(Ring, 4096), at
		ring.Append(&c, 1, Record{Payload: make([]byte, 100)})
		return ring[:192]
	}
	field := func(off int, v byte) func([]byte) []byte {
		return func(b []byte) []byte {
			b[off] = v
			mend(b)
			return b
		}
	}
	for name, tt := range map[string]struct {
		change func([]byte) []byte
		want   error
	}{
		"good":              {func(b []byte) []byte { return b }, nil},
		"more behind":       {func(b []byte) []byte { return append(b, 1, 2, 3) }, nil},
		"nothing":           {func([]byte) []byte { return nil }, ErrLength},
		"half a header":     {func(b []byte) []byte { return b[:63] }, ErrLength},
		"half a payload":    {func(b []byte) []byte { return b[:164] }, ErrLength},
		"half the padding":  {func(b []byte) []byte { return b[:191] }, ErrLength},
		"zeroes":            {func(b []byte) []byte { return make([]byte, len(b)) }, ErrNoRecord},
		"magic":             {field(8, 0), ErrNoRecord},
		"older version":     {field(10, 0), ErrVersion},
		"newer version":     {field(10, 2), ErrVersion},
		"kind 0":            {field(11, 0), ErrVersion},
		"kind 3":            {field(11, 3), ErrVersion},
		"flags":             {field(15, 0x80), ErrVersion},
		"reserved":          {field(20, 1), ErrVersion},
		"claims 16 MiB":     {field(19, 1), ErrLength},
		"claims 4 GiB":      {field(19, 0xff), ErrLength},
		"claims 64 KiB":     {field(18, 1), ErrLength},
		"lower LSN":         {field(25, 0), ErrLSN},
		"higher LSN":        {field(31, 1), ErrLSN},
		"torn":              {func(b []byte) []byte { b[120] ^= 1; return b }, ErrCRC},
		"CRC":               {func(b []byte) []byte { b[0] ^= 1; return b }, ErrCRC},
		"other predecessor": {field(4, 54), ErrChain},
		"lower epoch":       {field(32, 3), ErrEpoch},
		"higher epoch":      {field(32, 5), nil},
	} {
		c := at
		h, err := c.Follow(tt.change(good()))
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		if err != nil && c != at {
			t.Errorf("%s: the chain moved to %+v", name, c)
		}
		if err == nil && (c.LSN != at.LSN+192 || c.CRC != h.CRC || c.Epoch != h.Epoch) {
			t.Errorf("%s: the chain is %+v behind %+v", name, c, h)
		}
	}
}

// Only a record that is whole, in its place and follows the one before it is
// another program's. All else that names a version is what a torn write or an
// earlier lap left behind.
func TestAnotherVersionIsTheLastThingThatIsWrong(t *testing.T) {
	t.Parallel()
	at := Chain{LSN: 4096, CRC: 55, Epoch: 4}
	newer := func(change func([]byte), good bool) []byte {
		ring, c := make(Ring, 4096), at
		ring.Append(&c, 1, Record{Payload: make([]byte, 100)})
		rec := ring[:192]
		rec[10], rec[12], rec[20] = 9, 9, 9
		change(rec)
		if good {
			mend(rec)
		}
		return rec
	}
	set := func(off int, v byte) func([]byte) { return func(b []byte) { b[off] = v } }
	for name, tt := range map[string]struct {
		rec  []byte
		want error
	}{
		"whole":             {newer(func([]byte) {}, true), ErrVersion},
		"torn":              {newer(set(120, 1), false), ErrCRC},
		"another lap's":     {newer(set(25, 0), true), ErrLSN},
		"other predecessor": {newer(set(4, 54), true), ErrChain},
		"lower epoch":       {newer(set(32, 3), true), ErrEpoch},
		"too long":          {newer(set(19, 1), true), ErrLength},
		"no magic":          {newer(set(8, 0), true), ErrNoRecord},
	} {
		c := at
		_, err := c.Follow(tt.rec)
		if !errors.Is(err, tt.want) || c != at {
			t.Errorf("%s: %v, chain %+v; want %v", name, err, c, tt.want)
		}
		if errors.Is(err, ErrVersion) && !errors.Is(tt.want, ErrVersion) {
			t.Errorf("%s: taken for another program's", name)
		}
	}
}

func TestVersionsSayWhatToDo(t *testing.T) {
	t.Parallel()
	rec := make(Ring, 1024)
	rec.Append(&Chain{}, 0, Record{})
	for want, change := range map[string][2]byte{
		"format: of another version: version of a record is 0, must be 1; an older program wrote it, and this one no longer reads that: start the older one": {10, 0},
		"format: of another version: version of a record is 7, must be 1; start the program that wrote it, or a newer one":                                   {10, 7},
		"format: of another version: kind of a record is 7, must be 1 or 2; start the program that wrote it, or a newer one":                                 {11, 7},
		"format: of another version: flags of a record are 0x700, must be 0; start the program that wrote it, or a newer one":                                {13, 7},
		"format: of another version: reserved field of a record is 0x70000, must be 0; start the program that wrote it, or a newer one":                      {22, 7},
	} {
		b := bytes.Clone(rec[:HeaderSize])
		b[change[0]] = change[1]
		if _, err := DecodeHeader(b); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestRingWrapsWithPads(t *testing.T) {
	t.Parallel()
	ring := make(Ring, 1024)
	var c Chain
	var sizes []int
	for _, n := range []int{200, 200, 200, 100, 200} { // 320, 320, 320 leave 64 for a pad
		h := ring.Append(&c, 0, Record{Payload: bytes.Repeat([]byte{byte(n)}, n)})
		if h.LSN%1024+h.Size() > 1024 {
			t.Fatalf("a record of %d bytes at %d crosses the end of the ring", h.Size(), h.LSN)
		}
		sizes = append(sizes, int(h.LSN))
	}
	want := []int{0, 320, 640, 1024, 1216}
	for i := range want {
		if sizes[i] != want[i] {
			t.Fatalf("records at %v, want %v", sizes, want)
		}
	}
	pad, err := DecodeHeader(ring.At(960, 64))
	if err != nil || pad.Kind != KindPad || pad.Length != 0 || pad.LSN != 960 {
		t.Errorf("pad %+v, %v", pad, err)
	}
	if got := ring.Segments(nil, 960, 1216); len(got) != 2 || len(got[0]) != 64 || len(got[1]) != 192 {
		t.Errorf("segments of %v", got)
	}
}

func TestLongPadIsSeveral(t *testing.T) {
	t.Parallel()
	ring := make(Ring, 4<<20)
	c := Chain{LSN: 4<<20 - 2<<20 - 192}
	start := c
	ring.Append(&c, 0, Record{Payload: make([]byte, MaxPayload)})
	ring.Append(&c, 0, Record{Payload: make([]byte, MaxPayload)})
	for at := start; at != c; {
		if _, err := at.Follow(ring[at.LSN%uint64(len(ring)):]); err != nil {
			t.Fatalf("at %d: %v", at.LSN, err)
		}
	}
	if PadBefore(64, 128, 1024) != 0 || PadBefore(960, 64, 1024) != 0 || PadBefore(960, 128, 1024) != 64 {
		t.Error("PadBefore")
	}
	if MaxRecordPayload(1024) != 192 || MaxRecordPayload(1<<40) != MaxPayload {
		t.Error("MaxRecordPayload")
	}
}

func TestPositions(t *testing.T) {
	t.Parallel()
	order := []Position{{}, {0, 9}, {1, 0}, {1, 5}, {2, 1}}
	for i, p := range order {
		for j, q := range order {
			if p.After(q) != (i > j) || p.Max(q) != order[max(i, j)] {
				t.Errorf("%s and %s", p, q)
			}
		}
	}
	promised := Fence{Epoch: 3, Nonce: 7}
	for f, want := range map[Fence]bool{{2, 7}: false, {3, 7}: true, {3, 8}: false, {4, 0}: true} {
		if promised.Admits(f) != want {
			t.Errorf("%+v admits %+v: %v", promised, f, !want)
		}
	}
	if got := (ID{1, 2, 15: 0xff}).String(); got != "01020000-0000-0000-0000-0000000000ff" {
		t.Error(got)
	}
}

func FuzzFollow(f *testing.F) {
	ring := make(Ring, 1024)
	c := Chain{Epoch: 1}
	ring.Append(&c, 0, Record{Payload: []byte("payload")})
	f.Add([]byte(ring[:128]))
	f.Add([]byte(ring[:64]))
	f.Add([]byte{})
	newer := bytes.Clone(ring[:128])
	newer[10] = 2
	f.Add(newer)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= HeaderSize {
			mend(b)
		}
		c := Chain{Epoch: 1}
		if h, err := c.Follow(b); err == nil && (h.Size() > uint64(len(b)) || c.LSN != h.Size()) {
			t.Fatalf("a record of %d bytes in %d", h.Size(), len(b))
		}
	})
}

// TestSumIsTheCRC sums records of all lengths from their first byte on, whatever
// their CRC is, and leaves the rest to CheckSum.
func TestSumIsTheCRC(t *testing.T) {
	t.Parallel()
	for n := range 400 {
		rec := make([]byte, RecordSize(n))
		for i := range rec {
			rec[i] = byte(i * n)
		}
		h := Header{Kind: KindData, Length: uint32(n), LSN: 64, Epoch: 3, Prev: uint32(n)}
		crc := EncodeHeader(rec, &h)
		o := Outline{CRC: crc, Length: uint32(n), LSN: 64, Epoch: 3}
		s := o.Sum(rec)
		if s.Len%Align != 0 || s.Len > HeaderSize+n || HeaderSize+n-s.Len >= Align {
			t.Fatalf("%d of %d bytes are to be summed", s.Len, HeaderSize+n)
		}
		if !o.CheckSum(rec, &s) {
			t.Fatalf("%d bytes: what nobody has summed is refused", n)
		}
		s.CRC, s.Taken = crc32.Update(s.CRC, castagnoli, rec[:s.Len]), true
		if !o.CheckSum(rec, &s) {
			t.Fatalf("%d bytes: the sum is not the CRC", n)
		}
		for _, flip := range []int{4, HeaderSize - 1, HeaderSize + n - 1} {
			bad := bytes.Clone(rec)
			bad[flip] ^= 8
			s := o.Sum(bad)
			s.CRC, s.Taken = crc32.Update(s.CRC, castagnoli, bad[:s.Len]), true
			if o.CheckSum(bad, &s) {
				t.Fatalf("%d bytes: a flip of byte %d is not seen", n, flip)
			}
		}
	}
}
