package format

import (
	"errors"
	"reflect"
	"testing"
)

// log is a ring in the making.
type log struct {
	Ring
	c      Chain
	commit uint64
}

func newLog(capacity int) *log { return &log{Ring: make(Ring, capacity)} }

// add appends n records of 128 bytes in an epoch.
func (l *log) add(epoch uint64, n int) *log {
	l.c.Epoch = epoch
	for range n {
		l.Append(&l.c, l.commit, Record{Payload: []byte("some payload")})
	}
	return l
}

func (l *log) trimPoint() TrimPoint { return TrimPoint{LSN: l.c.LSN, Epoch: l.c.Epoch, CRC: l.c.CRC} }

func (l *log) seal(epoch uint64) Seal {
	return Seal{Epoch: epoch, Nonce: epoch * 10, T: l.c.LSN, Prev: l.c.CRC}
}

// copyOf returns the ring with some bytes flipped.
func (l *log) flipped(at ...uint64) Ring {
	r := append(Ring(nil), l.Ring...)
	for _, lsn := range at {
		r[lsn%uint64(len(r))] ^= 1
	}
	return r
}

func scan(t *testing.T, src Source, in ScanInput) ScanResult {
	t.Helper()
	res, err := Scan(src, in, nil)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestScanOfAnEmptyRing(t *testing.T) {
	t.Parallel()
	res := scan(t, make(Ring, 1024), ScanInput{})
	if res.Last != (Position{}) || res.Suspect() || !errors.Is(res.Stop, ErrNoRecord) || !reflect.DeepEqual(res.Pairs, []Pair{{Known: true}}) {
		t.Errorf("%+v", res)
	}
	trim := TrimPoint{LSN: 640, Epoch: 3, CRC: 9}
	res = scan(t, make(Ring, 1024), ScanInput{Trim: trim, Hint: Position{3, 640}})
	if res.Last != (Position{3, 640}) || res.Suspect() || res.Chain != (Chain{640, 9, 3}) {
		t.Errorf("all trimmed: %+v", res)
	}
}

func TestScanVisitsInOrder(t *testing.T) {
	t.Parallel()
	l := newLog(1024)
	l.add(1, 3)
	l.commit = 256
	l.add(2, 2)
	var seen []uint64
	res, err := Scan(l.Ring, ScanInput{}, func(h Header, p []byte) error {
		if string(p) != "some payload" {
			t.Errorf("payload %q", p)
		}
		seen = append(seen, h.LSN)
		return nil
	})
	if err != nil || !reflect.DeepEqual(seen, []uint64{0, 128, 256, 384, 512}) {
		t.Errorf("visited %v, %v", seen, err)
	}
	if res.Records != 5 || res.Commit != 256 || res.Last != (Position{2, 640}) || res.Chain != l.c || res.Written != 2 {
		t.Errorf("%+v", res)
	}
	stop := errors.New("stop")
	if _, err := Scan(l.Ring, ScanInput{}, func(Header, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}

func TestScanStopsAtAnEarlierLap(t *testing.T) {
	t.Parallel()
	l := newLog(1024).add(1, 8) // a full lap
	trim := l.trimPoint()
	l.add(1, 3)
	res := scan(t, l.Ring, ScanInput{Trim: trim})
	if res.Last.LSN != 1024+3*128 || !errors.Is(res.Stop, ErrLSN) || res.Beyond != 0 || res.Suspect() {
		t.Errorf("%+v", res)
	}
	full := newLog(1024).add(1, 8)
	if res := scan(t, full.Ring, ScanInput{}); res.Last.LSN != 1024 || res.Suspect() {
		t.Errorf("a full ring: %+v", res)
	}
}

func TestScanGoesOnBehindAPad(t *testing.T) {
	t.Parallel()
	l := newLog(1024 + 64)
	l.add(1, 8)
	trim := TrimPoint{LSN: 512}
	c, _ := Boundary(l.Ring, TrimPoint{}, 512)
	trim.CRC, trim.Epoch = c.CRC, c.Epoch
	l.add(1, 2) // a pad of 64 and two records of the next lap
	res := scan(t, l.Ring, ScanInput{Trim: trim})
	if res.Records != 6 || res.Last.LSN != l.c.LSN || l.c.LSN != 1024+64+256 {
		t.Errorf("%+v, the tail is %d", res, l.c.LSN)
	}
}

func TestHoleOrTail(t *testing.T) {
	t.Parallel()
	ten := func(commit uint64) *log {
		l := newLog(2048).add(2, 5)
		l.commit = commit
		return l.add(2, 5)
	}
	stale := newLog(2048).add(2, 5)
	old := *stale
	old.Ring = append(Ring(nil), stale.Ring...)
	old.commit = 128 * 9
	old.add(1, 5)
	for name, tt := range map[string]struct {
		ring    Ring
		hint    Position
		tail    uint64
		beyond  uint64
		suspect bool
	}{
		"whole":                             {ten(640).Ring, Position{2, 1280}, 1280, 0, false},
		"torn tail, hint below":             {ten(640).flipped(1152 + 70), Position{2, 1024}, 1152, 0, false},
		"torn before good records":          {ten(640).flipped(640 + 70), Position{2, 640}, 640, 4, false},
		"hole below the hint":               {ten(0).flipped(640 + 70), Position{2, 768}, 640, 4, true},
		"hole below a commit":               {ten(640).flipped(512 + 70), Position{}, 512, 5, true},
		"hole in two places":                {ten(640).flipped(128+70, 640+70), Position{}, 128, 7, true},
		"hint of a higher epoch":            {ten(640).Ring, Position{3, 0}, 1280, 0, true},
		"hint of a lower epoch, but longer": {ten(640).Ring, Position{1, 9999}, 1280, 0, false},
		"records of an older epoch behind":  {old.flipped(512 + 70), Position{}, 512, 0, false},
	} {
		res := scan(t, tt.ring, ScanInput{Hint: tt.hint})
		if res.Last.LSN != tt.tail || res.Beyond != tt.beyond || res.Suspect() != tt.suspect {
			t.Errorf("%s: tail %d, %d beyond, evidence %s; want %d, %d, suspect %v", name, res.Last.LSN, res.Beyond, res.Evidence, tt.tail, tt.beyond, tt.suspect)
		}
	}
}

func TestEvidenceCarriesTheRecordsEpoch(t *testing.T) {
	t.Parallel()
	l := newLog(2048).add(1, 4)
	l.commit = 384
	l.add(3, 2)
	res := scan(t, l.flipped(128+70), ScanInput{Hint: Position{1, 512}})
	if want := (Position{3, 384}); res.Evidence != want {
		t.Errorf("evidence %s, want %s", res.Evidence, want)
	}
}

func TestPayloadIsNoEvidence(t *testing.T) {
	t.Parallel()
	inner := newLog(2048).add(1, 2)
	c := Chain{LSN: 256 + 64, Epoch: 9}
	forged := make(Ring, 2048)
	forged.Append(&c, 2000, Record{})
	inner.Append(&inner.c, 0, Record{Payload: forged.At(320, 64)}) // at 256: the payload is a record for 320
	res := scan(t, inner.flipped(128+70), ScanInput{})
	if res.Evidence.LSN >= 2000 || res.Beyond != 1 {
		t.Errorf("%+v: a payload was taken for a record", res)
	}
}

// Torn, and across the border between two of the chunks that are looked through.
func TestEvidenceAcrossChunks(t *testing.T) {
	t.Parallel()
	l := &log{Ring: make(Ring, 1<<20)}
	l.add(1, 1)
	for range 8 {
		l.commit = l.c.LSN
		l.Append(&l.c, l.commit, Record{Payload: make([]byte, 100_000)})
	}
	res := scan(t, l.flipped(70), ScanInput{})
	if res.Beyond != 8 || res.Evidence != (Position{1, l.commit}) {
		t.Errorf("%d beyond, evidence %s; want 8 and 1/%d", res.Beyond, res.Evidence, l.commit)
	}
}

func TestSeals(t *testing.T) {
	t.Parallel()
	base := newLog(2048).add(1, 3)
	matching := base.seal(2)
	other := matching
	other.Prev++
	tail := *base
	tail.Ring = append(Ring(nil), base.Ring...)
	tail.add(1, 2) // an older writer's, at and behind T
	newer := *base
	newer.Ring = append(Ring(nil), base.Ring...)
	newer.add(2, 2)
	behind := matching
	behind.T += 128
	start := Seal{Epoch: 1, Nonce: 10}
	for name, tt := range map[string]struct {
		ring  Ring
		seals []Seal
		last  Position
		pairs []Pair
	}{
		"none": {tail.Ring, nil, Position{1, 640}, []Pair{{Known: true}, {Fence: Fence{1, 0}}}},
		"at the tail": {
			base.Ring,
			[]Seal{matching, start},
			Position{2, 384},
			[]Pair{{Known: true}, {Fence{1, 10}, 0, true}, {Fence{2, 20}, 384, true}},
		},
		"before an older writer's records": {
			tail.Ring,
			[]Seal{start, matching},
			Position{2, 384},
			[]Pair{{Known: true}, {Fence{1, 10}, 0, true}, {Fence{2, 20}, 384, true}},
		},
		"before its own records": {
			newer.Ring,
			[]Seal{start, matching},
			Position{2, 640},
			[]Pair{{Known: true}, {Fence{1, 10}, 0, true}, {Fence{2, 20}, 384, true}},
		},
		"of another log":  {tail.Ring, []Seal{start, other}, Position{1, 640}, []Pair{{Known: true}, {Fence{1, 10}, 0, true}}},
		"behind the tail": {base.Ring, []Seal{start, behind}, Position{1, 384}, []Pair{{Known: true}, {Fence{1, 10}, 0, true}}},
		"forgotten, with its records": {
			newer.Ring,
			[]Seal{start},
			Position{2, 640},
			[]Pair{{Known: true}, {Fence{1, 10}, 0, true}, {Fence{2, 0}, 384, false}},
		},
	} {
		res := scan(t, tt.ring, ScanInput{Seals: tt.seals})
		if res.Last != tt.last || !reflect.DeepEqual(res.Pairs, tt.pairs) {
			t.Errorf("%s: last %s, pairs %+v; want %s, %+v", name, res.Last, res.Pairs, tt.last, tt.pairs)
		}
	}
	res := scan(t, tail.Ring, ScanInput{Trim: base.trimPoint(), Seals: []Seal{start}})
	if want := []Pair{{Fence{1, 10}, 384, true}}; !reflect.DeepEqual(res.Pairs, want) || res.Last != (Position{1, 640}) {
		t.Errorf("after a trim: %+v, want pairs %+v", res, want)
	}
	res = scan(t, base.Ring, ScanInput{Trim: base.trimPoint(), Seals: []Seal{start, matching}})
	if res.Written != 1 || res.Chain.Epoch != 2 {
		t.Errorf("epoch of the last record %d, of the chain %d; want 1 and 2", res.Written, res.Chain.Epoch)
	}
}

func TestSealListKeepsTheNewest(t *testing.T) {
	t.Parallel()
	var seals []Seal
	for i := range uint64(MaxSeals + 5) {
		seals = AddSeal(seals, Seal{Epoch: i + 1, T: i * 64})
	}
	if len(seals) != MaxSeals || seals[0].Epoch != 6 || seals[MaxSeals-1].Epoch != MaxSeals+5 {
		t.Errorf("%d seals from %d to %d", len(seals), seals[0].Epoch, seals[len(seals)-1].Epoch)
	}
	before := append([]Seal(nil), seals...)
	again := AddSeal(seals, Seal{Epoch: 99, T: seals[3].T})
	if len(again) != MaxSeals || again[3].Epoch != 99 || !reflect.DeepEqual(seals, before) {
		t.Errorf("one seal per T: %+v", again)
	}
	r := Report{Seals: again, Last: Position{1, 2}, Evidence: Position{1, 3}}
	if s, ok := r.NewestSeal(); !ok || s.Epoch != 99 || !r.Suspect() {
		t.Errorf("newest %+v", s)
	}
	if _, ok := (&Report{}).NewestSeal(); ok {
		t.Error("newest of none")
	}
}

func TestAgreement(t *testing.T) {
	t.Parallel()
	zero := Pair{Known: true}
	p := func(epoch, nonce, first uint64) Pair { return Pair{Fence{epoch, nonce}, first, true} }
	unknown := func(epoch, first uint64) Pair { return Pair{Fence{epoch, 0}, first, false} }
	for name, tt := range map[string]struct {
		a     []Pair
		aTail uint64
		b     []Pair
		bTail uint64
		want  uint64
		ok    bool
	}{
		"both empty":             {[]Pair{zero}, 0, []Pair{zero}, 0, 0, true},
		"one empty":              {[]Pair{zero, p(1, 1, 0)}, 640, []Pair{zero}, 0, 0, true},
		"same":                   {[]Pair{zero, p(1, 1, 0)}, 640, []Pair{zero, p(1, 1, 0)}, 640, 640, true},
		"one longer":             {[]Pair{zero, p(1, 1, 0)}, 640, []Pair{zero, p(1, 1, 0)}, 320, 320, true},
		"went on elsewhere":      {[]Pair{zero, p(1, 1, 0), p(2, 2, 320)}, 640, []Pair{zero, p(1, 1, 0)}, 640, 320, true},
		"two openers":            {[]Pair{zero, p(1, 1, 0), p(2, 2, 320)}, 640, []Pair{zero, p(1, 1, 0), p(3, 3, 128)}, 640, 128, true},
		"another life":           {[]Pair{zero, p(1, 1, 0)}, 640, []Pair{zero, p(1, 2, 0)}, 640, 0, true},
		"seal at the tail":       {[]Pair{zero, p(1, 1, 0), p(2, 2, 640)}, 640, []Pair{zero, p(1, 1, 0), p(2, 2, 640)}, 900, 640, true},
		"nonce forgotten":        {[]Pair{unknown(1, 64)}, 640, []Pair{unknown(1, 64)}, 640, 0, false},
		"trimmed apart":          {[]Pair{p(2, 2, 640)}, 900, []Pair{p(1, 1, 0)}, 320, 0, false},
		"trim beyond the other":  {[]Pair{p(1, 1, 640)}, 900, []Pair{p(1, 1, 0)}, 320, 0, false},
		"trim within the other":  {[]Pair{p(1, 1, 192)}, 900, []Pair{p(1, 1, 0)}, 320, 320, true},
		"no pairs":               {nil, 0, []Pair{zero}, 0, 0, false},
		"the later pair decides": {[]Pair{zero, unknown(1, 0), p(2, 2, 320)}, 640, []Pair{zero, p(1, 1, 0), p(2, 2, 320)}, 512, 512, true},
	} {
		for range 2 { // both ways
			if got, ok := Agreement(tt.a, tt.aTail, tt.b, tt.bTail); got != tt.want || ok != tt.ok {
				t.Errorf("%s: %d, %v; want %d, %v", name, got, ok, tt.want, tt.ok)
			}
			tt.a, tt.aTail, tt.b, tt.bTail = tt.b, tt.bTail, tt.a, tt.aTail
		}
	}
}

// A replica with a stale first record of epoch 1 was sent two records of a newer
// log; the power cut kept only the second.
func TestHybridLogIsRefused(t *testing.T) {
	t.Parallel()
	stale := newLog(1024).add(1, 1)
	chosen := newLog(1024).add(2, 1).add(3, 1)
	hybrid := append(Ring(nil), stale.Ring...)
	copy(hybrid[128:256], chosen.Ring[128:256])
	res := scan(t, hybrid, ScanInput{})
	if res.Last != (Position{1, 128}) || !errors.Is(res.Stop, ErrChain) {
		t.Errorf("last %s, stopped by %v; want 1/128 and a broken chain", res.Last, res.Stop)
	}
}

// newer turns the record at lsn into one of a version to come, whole.
func (l *log) newer(lsn uint64) *log {
	rec := l.At(lsn, int(l.ToEnd(lsn)))
	rec[10], rec[11], rec[12] = 2, 7, 1
	mend(rec)
	return l
}

// A newer program's record is not the end of the log, or this program would
// write over it.
func TestScanRefusesAnotherVersion(t *testing.T) {
	t.Parallel()
	l := newLog(2048).add(1, 4)
	l.newer(384)
	visited := 0
	res, err := Scan(l.Ring, ScanInput{}, func(Header, []byte) error {
		visited++
		return nil
	})
	want := "record at LSN 384: format: of another version: version of a record is 2, must be 1; start the program that wrote it, or a newer one"
	if !errors.Is(err, ErrVersion) || err.Error() != want || visited != 3 || !errors.Is(res.Stop, ErrVersion) {
		t.Errorf("%d records visited, then %v, stop %v; want %s", visited, err, res.Stop, want)
	}
	if _, err := Boundary(l.Ring, TrimPoint{}, 512); !errors.Is(err, ErrVersion) {
		t.Errorf("a boundary behind it: %v", err)
	}
	if c, err := Boundary(l.Ring, TrimPoint{}, 384); err != nil || c.LSN != 384 {
		t.Errorf("a boundary before it: %+v, %v", c, err)
	}
}

// What a torn write leaves behind may look like another version's magic; only
// a whole record in its place is one.
func TestATornRecordOfAnotherVersionIsATail(t *testing.T) {
	t.Parallel()
	line := func(l *log, at uint64) { // a line of which only magic and version have arrived
		b := l.At(at, Align)
		clear(b)
		b[8], b[9], b[10] = 0x72, 0x67, 2
	}
	sealed := newLog(2048).add(1, 3)
	seal := sealed.seal(2)
	sealed.add(1, 1).newer(384)
	for name, tt := range map[string]struct {
		ring  Ring
		seals []Seal
		want  error
	}{
		"a torn payload": {newLog(2048).add(1, 4).newer(384).flipped(384 + 70), nil, ErrCRC},
		"a torn header":  {newLog(2048).add(1, 4).newer(384).flipped(384 + 40), nil, ErrCRC},
		"another lap's": {func() Ring {
			l := newLog(2048).add(1, 4).newer(384)
			l.Ring[384+26] = 1
			mend(l.Ring[384:])
			return l.Ring
		}(), nil, ErrLSN},
		"after another predecessor": {func() Ring {
			l := newLog(2048).add(1, 4).newer(384)
			l.Ring[384+4]++
			mend(l.Ring[384:])
			return l.Ring
		}(), nil, ErrChain},
		"excluded by a seal": {sealed.Ring, []Seal{seal}, ErrEpoch},
		"one line":           {func() Ring { l := newLog(2048).add(1, 3); line(l, 384); return l.Ring }(), nil, ErrLSN},
	} {
		res, err := Scan(tt.ring, ScanInput{Seals: tt.seals}, nil)
		if err != nil || res.Last.LSN != 384 || !errors.Is(res.Stop, tt.want) || res.Suspect() {
			t.Errorf("%s: %v, %+v; want a tail at 384 because of %v", name, err, res, tt.want)
		}
	}
}

// Behind the tail, a whole record of another version testifies like any other,
// and what only looks like one does not.
func TestEvidenceOfAnotherVersion(t *testing.T) {
	t.Parallel()
	l := newLog(2048).add(1, 3)
	l.commit = 384
	l.add(1, 1).newer(384)
	if res := scan(t, l.flipped(128+70), ScanInput{}); res.Beyond != 2 || !res.Suspect() || res.Evidence != (Position{1, 384}) {
		t.Errorf("%d records beyond the tail, evidence %s", res.Beyond, res.Evidence)
	}
	if res := scan(t, l.flipped(128+70, 384+70), ScanInput{}); res.Beyond != 1 || res.Suspect() {
		t.Errorf("torn: %d records beyond the tail, evidence %s", res.Beyond, res.Evidence)
	}
}

func TestBoundary(t *testing.T) {
	t.Parallel()
	l := newLog(1024).add(1, 2)
	two := l.c
	l.add(2, 2)
	for lsn, want := range map[uint64]Chain{0: {}, 256: two, 512: l.c} {
		if got, err := Boundary(l.Ring, TrimPoint{}, lsn); err != nil || got != want {
			t.Errorf("at %d: %+v, %v; want %+v", lsn, got, err, want)
		}
	}
	for _, lsn := range []uint64{64, 640, 1 << 40} {
		if got, err := Boundary(l.Ring, TrimPoint{}, lsn); err == nil {
			t.Errorf("at %d: %+v", lsn, got)
		}
	}
}

func TestScanRefusesOddPlaces(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		ring Ring
		trim uint64
	}{"odd trim": {make(Ring, 1024), 1}, "no ring": {nil, 0}, "odd ring": {make(Ring, 100), 0}} {
		if _, err := Scan(tt.ring, ScanInput{Trim: TrimPoint{LSN: tt.trim}}, nil); !errors.Is(err, ErrLength) {
			t.Errorf("%s: scan: %v", name, err)
		}
		if _, err := Boundary(tt.ring, TrimPoint{LSN: tt.trim}, 64); !errors.Is(err, ErrLength) {
			t.Errorf("%s: boundary: %v", name, err)
		}
	}
}

func FuzzScan(f *testing.F) {
	l := newLog(1024).add(1, 3)
	l.commit = 128
	l.add(2, 4)
	f.Add([]byte(l.Ring), uint64(0), uint64(2), uint64(384), l.c.CRC)
	f.Add([]byte(l.flipped(200)), uint64(0), uint64(1), uint64(0), uint32(0))
	f.Add([]byte(l.Ring), uint64(1<<64-64), uint64(1), uint64(0), uint32(0))
	f.Add(make([]byte, 64), uint64(64), uint64(0), uint64(64), uint32(0))
	f.Add([]byte(newLog(1024).add(1, 4).newer(256).Ring), uint64(0), uint64(0), uint64(0), uint32(0))
	f.Fuzz(func(t *testing.T, b []byte, trim, epoch, at uint64, crc uint32) {
		in := ScanInput{
			Trim:  TrimPoint{LSN: trim, CRC: crc},
			Seals: []Seal{{Epoch: epoch, T: at, Prev: crc}, {Epoch: epoch + 1, T: trim}},
			Hint:  Position{epoch, at},
		}
		res, err := Scan(Ring(b), in, nil)
		if errors.Is(err, ErrVersion) != errors.Is(res.Stop, ErrVersion) {
			t.Fatalf("stopped by %v with %v", res.Stop, err)
		}
		if err != nil {
			return
		}
		if held := res.Chain.LSN - trim; held > uint64(len(b)) || res.Last.LSN != res.Chain.LSN || res.Stop == nil {
			t.Fatalf("%d bytes in a ring of %d: %+v", held, len(b), res)
		}
		for i := 1; i < len(res.Pairs); i++ {
			if res.Pairs[i].First < res.Pairs[i-1].First {
				t.Fatalf("pairs out of order: %+v", res.Pairs)
			}
		}
		_, _ = Boundary(Ring(b), in.Trim, at)
		Agreement(res.Pairs, res.Last.LSN, res.Pairs, res.Last.LSN)
	})
}
