package pmemlog_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

// regionStart is where the first replica's region lies in a pool of newReplica.
const regionStart = ringStart - format.RingOffset

// inspect examines a pool of the given bytes, as a test of its own compares it
// with an open, and returns all that is found.
func inspect(t *testing.T, image []byte) (*pmemlog.Inspection, []pmemlog.ReplicaView, []pmemlog.Finding) {
	t.Helper()
	compareWithOpen(t, image)
	i := get[*pmemlog.Inspection](t)(pmemlog.Inspect(t.Context(), pmemtest.Of(image, pmemtest.Options{})))
	findings := i.Findings
	var views []pmemlog.ReplicaView
	for _, r := range i.Regions {
		v := get[pmemlog.ReplicaView](t)(i.Replica(t.Context(), r, pmemlog.Visit{}))
		views = append(views, v)
		findings = append(findings, v.Findings...)
	}
	must(t, i.Forgotten(t.Context(), func(f pmemlog.Forgotten) { findings = append(findings, f.Finding) }))
	return i, views, findings
}

func TestInspectSoundPool(t *testing.T) {
	t.Parallel()
	i, views, findings := inspect(t, goodPool(t))
	if len(findings) != 0 || i.Refused != nil || !i.Known || i.Entries != 8 || i.Removed != 0 {
		t.Errorf("found %+v, refused %v, %+v", findings, i.Refused, i)
	}
	if len(views) != 1 || !views[0].Scanned || views[0].Err != nil || views[0].Suspect() || views[0].Scan.Records != 1 {
		t.Fatalf("views: %+v", views)
	}
	v := views[0]
	if v.Replica != id(1) || v.Offset != regionStart || v.Capacity != ringSize || v.Slot.Trim.LSN == 0 || v.Hint != v.Scan.Last {
		t.Errorf("view: %+v", v)
	}
	if !v.Slots[v.SlotAt].Slot.Trim.Position().After(format.Position{}) || v.Lines[0].Counts == v.Lines[1].Counts {
		t.Errorf("slots %+v, lines %+v", v.Slots, v.Lines)
	}
}

func flip(at int) func([]byte) { return func(b []byte) { b[at] ^= 0x10 } }

func wipe(from, to int) func([]byte) { return func(b []byte) { clear(b[from:to]) } }

// set writes a number and makes all checksums right again.
func set(at int, value uint64) func([]byte) {
	return func(b []byte) {
		binary.LittleEndian.PutUint64(b[at:], value)
		pmemlog.MendChecksums(b, 8)
	}
}

func both(fs ...func([]byte)) func([]byte) {
	return func(b []byte) {
		for _, f := range fs {
			f(b)
		}
	}
}

// TestInspectDamage hurts a good pool in one way after the other.
func TestInspectDamage(t *testing.T) {
	t.Parallel()
	const (
		dirA, dirB = 8192, 12288
		slotA      = regionStart
		slotB      = regionStart + format.SlotSize
		lineA      = regionStart + format.HintOffset
	)
	good := goodPool(t)
	counts, other := slotA, slotB // of the two slots
	if binary.LittleEndian.Uint64(good[slotB+16:]) > binary.LittleEndian.Uint64(good[slotA+16:]) {
		counts, other = slotB, slotA
	}
	trim := int(binary.LittleEndian.Uint64(good[counts+96:]))
	for name, tt := range map[string]struct {
		hurt    func([]byte)
		want    string // a finding: severity, part, offset
		says    string
		refused bool // by Open
		err     bool // of the view
	}{
		"superblock A":            {hurt: flip(100), want: "heals superblock A 0", says: "checksum"},
		"superblock B":            {hurt: wipe(4096, 8192), want: "heals superblock B 4096", says: "magic"},
		"older superblock":        {hurt: set(4096+16, 1), want: "heals superblock B 4096", says: "of generation 1"},
		"superblocks differ":      {hurt: set(4096+32, 77), want: "damage superblock 0", says: "yet they differ"},
		"superblock, stray bytes": {hurt: both(set(2000, 1), set(4096+2000, 1)), want: "note superblock A 0", says: "version 1 leaves zero"},
		"both superblocks":        {hurt: both(flip(100), flip(4196)), want: "damage superblock 0", says: "neither copy", refused: true},
		"pool larger than medium": {hurt: both(set(24, 1<<40), set(4096+24, 1<<40)), want: "damage superblock 0", says: "truncated", refused: true},
		"no entries":              {hurt: both(set(40, 0), set(4096+40, 0)), want: "damage superblock 0", says: "a directory of 0 entries", refused: true},
		"entry, copy A":           {hurt: flip(dirA + 60), want: "heals directory entry 0 (copy A) 8192", says: "checksum"},
		"all entries, copy B":     {hurt: wipe(dirB, dirB+8*128), want: "heals directory entries 0 to 7 (copy B) 12288", says: "no directory entry"},
		"older entry":             {hurt: set(dirA+8, 1), want: "heals directory entry 0 (copy A) 8192", says: "older"},
		"entries differ":          {hurt: set(dirA+24, 9), want: "damage directory entry 0 8192", says: "yet they differ"},
		"entry, both copies":      {hurt: both(flip(dirA+60), flip(dirB+60)), want: "damage directory entry 0 8192", says: "neither copy", refused: true},
		"entry out of the pool":   {hurt: both(set(dirA+72, 1<<50), set(dirB+72, 1<<50)), want: "damage directory entry 0 8192", says: "region of", refused: true},
		"entry, next version":     {hurt: both(set(dirA+96, 2), set(dirB+96, 2)), want: "damage directory entry 0 8192", says: "version of the entry is 2", refused: true},
		"entry of no region":      {hurt: both(set(dirA+88, 1<<20), set(dirB+88, 1<<20)), want: "damage directory entry 0 8192", says: "ring of", refused: true},
		"slot that counts":        {hurt: flip(counts + 80), want: fmt.Sprintf("damage header %d", regionStart), says: "newer header", err: true},
		"slot that does not":      {hurt: flip(other + 80), want: "heals header slot " + string(rune('A'+(other-slotA)/format.SlotSize)), says: "checksum"},
		"both slots":              {hurt: both(flip(slotA+80), flip(slotB+80)), want: fmt.Sprintf("damage header %d", regionStart), says: "neither slot", err: true},
		"slot of another replica": {hurt: set(counts+56, 99), want: fmt.Sprintf("damage header %d", regionStart), says: "the directory says", err: true},
		"slot, next version":      {hurt: func(b []byte) { b[counts+8] = 2; pmemlog.MendChecksums(b, 8) }, want: fmt.Sprintf("damage header %d", regionStart), says: "version of a header slot is 2", err: true},
		"hint line":               {hurt: flip(lineA + 20), want: fmt.Sprintf("heals hint line A %d", lineA), says: "torn"},
		"last record":             {hurt: flip(ringStart + trim + 70), want: fmt.Sprintf("damage ring %d", ringStart+trim), says: "suspect"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			image := append([]byte(nil), good...)
			tt.hurt(image)
			i, views, findings := inspect(t, image)
			at := slices.IndexFunc(findings, func(f pmemlog.Finding) bool {
				return strings.HasPrefix(fmt.Sprintf("%v %s %d", f.Severity, f.Part, f.Offset), tt.want) && strings.Contains(f.What, tt.says)
			})
			if at < 0 {
				t.Fatalf("found %+v; want %q: %s", findings, tt.want, tt.says)
			}
			if f := findings[at]; (f.Advice == "") != (f.Severity == pmemlog.SeverityNote) {
				t.Errorf("advice of a %v: %q", f.Severity, f.Advice)
			}
			if (i.Refused != nil) != tt.refused {
				t.Errorf("refused: %v", i.Refused)
			}
			if tt.err && (len(views) != 1 || views[0].Err == nil) {
				t.Errorf("views: %+v", views)
			}
		})
	}
}

// TestInspectDirectory makes entries contradict each other.
func TestInspectDirectory(t *testing.T) {
	t.Parallel()
	const dirA, dirB, offset, whose = 8192, 12288, 72, 56
	m := pmemtest.New(poolSize, pmemtest.Options{})
	p := get[*pmemlog.Pool](t)(pmemlog.Format(m, formatOptions()))
	defer p.Close()
	for b := range byte(2) {
		get[*pmemlog.Replica](t)(p.Create(spec(b+1, ringSize)))
	}
	for name, tt := range map[string]struct {
		copyFrom, copyTo, n int // within an entry of 128 bytes
		says                string
	}{
		"two entries claim one region": {offset, 128 + offset, 8, "overlap"},
		"a replica is there twice":     {whose, 128 + whose, 16, "is in entry 0, too"},
	} {
		image := m.Image()
		for _, dir := range []int{dirA, dirB} {
			copy(image[dir+tt.copyTo:][:tt.n], image[dir+tt.copyFrom:])
		}
		pmemlog.MendChecksums(image, 8)
		i, _, findings := inspect(t, image)
		if i.Refused == nil || len(findings) == 0 || findings[0].Severity != pmemlog.SeverityDamage || !strings.Contains(findings[0].What, tt.says) {
			t.Errorf("%s: refused %v, found %+v", name, i.Refused, findings)
		}
	}
}

// TestInspectForgotten finds what is left of a removed replica, and of one whose
// entry is damaged, and reads it.
func TestInspectForgotten(t *testing.T) {
	t.Parallel()
	search := func(t *testing.T, image []byte) (*pmemlog.Inspection, pmemlog.Forgotten) {
		i := get[*pmemlog.Inspection](t)(pmemlog.Inspect(t.Context(), pmemtest.Of(image, pmemtest.Options{})))
		var all []pmemlog.Forgotten
		must(t, i.Forgotten(t.Context(), func(f pmemlog.Forgotten) { all = append(all, f) }))
		if len(all) != 1 || all[0].Replica != id(1) || all[0].Offset != regionStart || all[0].Finding.Severity != pmemlog.SeverityNote {
			t.Fatalf("found %+v", all)
		}
		v := get[pmemlog.ReplicaView](t)(i.Replica(t.Context(), all[0].Region, pmemlog.Visit{}))
		if v.Scan.Records != 1 || !v.Damaged() {
			t.Errorf("its view: %+v", v)
		}
		return i, all[0]
	}
	t.Run("removed", func(t *testing.T) {
		t.Parallel()
		m := pmemtest.Of(goodPool(t), pmemtest.Options{})
		p := get[*pmemlog.Pool](t)(pmemlog.Open(m))
		must(t, p.Delete(id(1)))
		must(t, p.Close())
		if i, f := search(t, m.Image()); i.Removed != 1 || !strings.Contains(f.Finding.What, "was removed") {
			t.Errorf("%d removed; %+v", i.Removed, f)
		}
	})
	t.Run("entry damaged", func(t *testing.T) {
		t.Parallel()
		image := goodPool(t)
		both(flip(8192+60), flip(12288+60))(image)
		if _, f := search(t, image); !strings.Contains(f.Finding.What, "damaged entry") {
			t.Errorf("%+v", f)
		}
	})
}

// TestInspectTornTail: records that were never acknowledged leave a note, no
// damage.
func TestInspectTornTail(t *testing.T) {
	t.Parallel()
	m, p, r := newReplica(t, pmemtest.Options{})
	w := openWriter(t, r, 1)
	w.append(300)
	w.flush()
	must(t, r.PersistHint())
	torn := int(w.chain.LSN)
	w.append(300)
	w.append(300)
	must(t, p.Close())
	image := m.CrashKeepingUnsynced().Image()
	flip(ringStart + torn + 100)(image)
	_, views, findings := inspect(t, image)
	if len(findings) != 1 || findings[0].Severity != pmemlog.SeverityNote || !strings.Contains(findings[0].What, "1 whole records") {
		t.Errorf("found %+v", findings)
	}
	if v := views[0]; v.Suspect() || v.Scan.Beyond != 1 || v.Scan.Chain.LSN != uint64(torn) {
		t.Errorf("view: %+v", v)
	}
}

// TestInspectUnreadable: what the medium can't read is damage, wherever it is.
func TestInspectUnreadable(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]int64{
		"directory (copy A)": 8192, "directory (copy B)": 12288, "header": regionStart, "ring": ringStart + 2048, "free space": 60 << 10,
	} {
		m := pmemtest.Of(goodPool(t), pmemtest.Options{})
		m.FailReads(at, at+64)
		i := get[*pmemlog.Inspection](t)(pmemlog.Inspect(t.Context(), m))
		findings := i.Findings
		for _, r := range i.Regions {
			findings = append(findings, get[pmemlog.ReplicaView](t)(i.Replica(t.Context(), r, pmemlog.Visit{})).Findings...)
		}
		must(t, i.Forgotten(t.Context(), func(f pmemlog.Forgotten) { findings = append(findings, f.Finding) }))
		found := false
		for _, f := range findings {
			found = found || f.Part == name && f.Severity == pmemlog.SeverityDamage && strings.Contains(f.What, "can't be read")
		}
		if !found {
			t.Errorf("%s: found %+v", name, findings)
		}
	}
}

func TestInspectWhatIsNoPool(t *testing.T) {
	t.Parallel()
	next := goodPool(t)
	next[8], next[4096+8] = 2, 2
	pmemlog.MendChecksums(next, 8)
	for name, tt := range map[string]struct {
		image []byte
		want  error
	}{
		"nothing":       {nil, pmemlog.ErrNoPool},
		"a short text":  {[]byte("no pool"), pmemlog.ErrNoPool},
		"zeroes":        {make([]byte, poolSize), pmemlog.ErrNoPool},
		"next version":  {next, pmemlog.ErrVersion},
		"cut to a page": {goodPool(t)[:4096], nil},
	} {
		compareWithOpen(t, tt.image)
		if _, err := pmemlog.Inspect(t.Context(), pmemtest.Of(tt.image, pmemtest.Options{})); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

func TestInspectEndsWithItsContext(t *testing.T) {
	t.Parallel()
	m := pmemtest.Of(goodPool(t), pmemtest.Options{})
	i := get[*pmemlog.Inspection](t)(pmemlog.Inspect(t.Context(), m))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := pmemlog.Inspect(ctx, m); !errors.Is(err, context.Canceled) {
		t.Errorf("Inspect: %v", err)
	}
	if _, err := i.Replica(ctx, i.Regions[0], pmemlog.Visit{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Replica: %v", err)
	}
	if err := i.Forgotten(ctx, func(pmemlog.Forgotten) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("Forgotten: %v", err)
	}
	stop := errors.New("enough")
	if _, err := i.Replica(t.Context(), i.Regions[0], pmemlog.Visit{Record: func(format.Header, []byte) error { return stop }}); !errors.Is(err, stop) {
		t.Errorf("Replica: %v", err)
	}
}

// measured remembers the longest read.
type measured struct {
	pmemlog.Readable
	longest int
}

func (m *measured) ReadAt(p []byte, off int64) error {
	m.longest = max(m.longest, len(p))
	return m.Readable.ReadAt(p, off)
}

// TestInspectStreams: no read, so no buffer, grows with the pool.
func TestInspectStreams(t *testing.T) {
	t.Parallel()
	const ring = 32 << 20
	path, p := newFilePool(t, 64<<20)
	w := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(1, ring))), 1)
	for w.room(1 << 20) {
		w.append(1 << 20)
	}
	w.flush()
	must(t, p.Close())
	bare := get[*pmemlog.ReadOnly](t)(pmemlog.OpenReadOnly(path))
	defer bare.Close()
	m := &measured{Readable: bare} // which hides that it knows holes
	i := get[*pmemlog.Inspection](t)(pmemlog.Inspect(t.Context(), m))
	if v := get[pmemlog.ReplicaView](t)(i.Replica(t.Context(), i.Regions[0], pmemlog.Visit{})); v.Scan.Records < 30 {
		t.Errorf("view: %+v", v)
	}
	must(t, i.Forgotten(t.Context(), func(f pmemlog.Forgotten) { t.Errorf("found %+v", f) }))
	if most := 1<<20 + format.HeaderSize; m.longest > most {
		t.Errorf("the longest read has %d bytes, want at most %d: a record", m.longest, most)
	}
}
