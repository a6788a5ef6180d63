package pmemlog_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

const claimSize = 1 << 20

// claimed is what a device holds before a pool is made on it.
func claimed(change func(b []byte)) []byte {
	b := make([]byte, claimSize)
	change(b)
	return b
}

func put(at int, s string) func([]byte) { return func(b []byte) { copy(b[at:], s) } }

func TestClaimRefusesWhatIsThere(t *testing.T) {
	t.Parallel()
	pool := func(mend func([]byte)) func([]byte) {
		return func(b []byte) {
			m := pmemtest.New(claimSize, pmemtest.Options{})
			p := get[*pmemlog.Pool](t)(pmemlog.Format(m, formatOptions()))
			copy(b, m.Image())
			must(t, p.Close())
			mend(b)
		}
	}
	for name, tt := range map[string]struct {
		change func([]byte)
		want   error
		says   string
		always bool // also when it may be overwritten
	}{
		"nothing":              {func([]byte) {}, nil, "", false},
		"something far inside": {put(claimSize/2, "x"), nil, "", false},
		"ext4":                 {put(1080, "\x53\xef"), pmemlog.ErrForeign, "ext4 file system", false},
		"XFS":                  {put(0, "XFSB"), pmemlog.ErrForeign, "XFS file system", false},
		"btrfs, behind 64 KiB": {put(64<<10+64, "_BHRfS_M"), pmemlog.ErrForeign, "btrfs file system", false},
		"LUKS":                 {put(0, "LUKS\xba\xbe"), pmemlog.ErrForeign, "encrypted volume", false},
		"LVM":                  {put(512, "LABELONE"), pmemlog.ErrForeign, "volume of LVM", false},
		"RAID":                 {put(4096, "\xfc\x4e\x2b\xa9"), pmemlog.ErrForeign, "member of a RAID", false},
		"swap":                 {put(4086, "SWAPSPACE2"), pmemlog.ErrForeign, "swap space", false},
		"GPT":                  {func(b []byte) { put(510, "\x55\xaa")(b); put(512, "EFI PART")(b) }, pmemlog.ErrForeign, "partition table (GPT)", false},
		"MBR":                  {put(510, "\x55\xaa"), pmemlog.ErrForeign, "partition table", false},
		"a byte":               {put(60000, "x"), pmemlog.ErrForeign, "byte 60000 is not zero", false},
		"the copy at the end":  {put(claimSize-512, "EFI PART"), pmemlog.ErrForeign, "byte 1048064 is not zero", false},
		"the last byte":        {put(claimSize-1, "x"), pmemlog.ErrForeign, "byte 1048575 is not zero", false},
		"a pool":               {pool(func([]byte) {}), pmemlog.ErrExists, id(0xa).String(), true},
		"a damaged pool":       {pool(func(b []byte) { b[100] ^= 1; b[4096+100] ^= 1 }), pmemlog.ErrForeign, "damaged pool", false},
		"what was a pool":      {pool(func(b []byte) { clear(b[:8192]) }), pmemlog.ErrForeign, "byte 8192 is not zero", false},
		"a newer pool": {pool(func(b []byte) {
			binary.LittleEndian.PutUint32(b[8:], 2)
			pmemlog.MendChecksums(b, formatOptions().Replicas)
		}), pmemlog.ErrVersion, "version of the superblock is 2", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := claimed(tt.change)
			m := pmemtest.Of(before, pmemtest.Options{})
			_, err := pmemlog.Claim(m, formatOptions())
			if !errors.Is(err, tt.want) || (err != nil && !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("claim: %v, want %v that says %q", err, tt.want, tt.says)
			}
			if err == nil {
				return
			}
			if !bytes.Equal(m.Image(), before) {
				t.Error("what was refused has been changed")
			}
			opts := formatOptions()
			opts.Overwrite = true
			_, err = pmemlog.Claim(m, opts)
			if tt.always {
				if !errors.Is(err, tt.want) || !bytes.Equal(m.Image(), before) {
					t.Errorf("claim that may overwrite: %v, want %v and nothing changed", err, tt.want)
				}
				return
			}
			must(t, err)
			m = m.CrashClean()
			get[*pmemlog.Pool](t)(pmemlog.Open(m))
			if b := m.Image()[claimSize-128<<10:]; !bytes.Equal(b, make([]byte, len(b))) {
				t.Error("what was at the end is still there")
			}
		})
	}
}

// TestClaimIsWholeOrNothing takes the power away before each sync: what is left is
// no pool, or all of one.
func TestClaimIsWholeOrNothing(t *testing.T) {
	t.Parallel()
	damaged := func(b []byte) { // what looks most like the pool that is made
		m := pmemtest.New(claimSize, pmemtest.Options{})
		p := get[*pmemlog.Pool](t)(pmemlog.Format(m, formatOptions()))
		copy(b, m.Image())
		must(t, p.Close())
		b[100] ^= 1
		b[4096+100] ^= 1
		clear(b[8192:16384])
	}
	for name, change := range map[string]func([]byte){"nothing": func([]byte) {}, "ext4": put(1080, "\x53\xef"), "a damaged pool": damaged} {
		for _, unit := range []int{pmemtest.Line, pmemtest.Sector} {
			for seed := range uint64(8) {
				for cut := 1; ; cut++ {
					before := claimed(change)
					m := pmemtest.Of(before, pmemtest.Options{Unit: unit})
					m.CutAtSync(cut)
					opts := formatOptions()
					opts.Overwrite = true
					_, made := pmemlog.Claim(m, opts)
					after := m.Crash(seeded(t, seed))
					checkClaim(t, name, cut, seed, after, made == nil)
					if made == nil {
						break
					}
				}
			}
		}
	}
}

func checkClaim(t *testing.T, name string, cut int, seed uint64, m *pmemtest.Medium, made bool) {
	t.Helper()
	p, err := pmemlog.Open(m)
	if err == nil {
		must(t, create(p, spec(1, ringSize)))
		if i := p.Identity(); i.Pool != id(0xa) || len(p.Replicas()) != 1 {
			t.Errorf("over %s, cut at sync %d, seed %d: identity %+v", name, cut, seed, i)
		}
		return
	}
	first := cut == 1 && name == "a damaged pool" // it may be there yet
	if made || (!first && !errors.Is(err, pmemlog.ErrNoPool)) || (first && !errors.Is(err, pmemlog.ErrCorrupt) && !errors.Is(err, pmemlog.ErrNoPool)) {
		t.Errorf("over %s, cut at sync %d, seed %d: %v; made: %v", name, cut, seed, err, made)
	}
}

// Options are checked before anything is wiped.
func TestClaimChecksItsOptionsFirst(t *testing.T) {
	t.Parallel()
	before := claimed(put(0, "XFSB"))
	m := pmemtest.Of(before, pmemtest.Options{})
	if _, err := pmemlog.Claim(m, pmemlog.FormatOptions{PoolID: format.ID{}, Overwrite: true}); !errors.Is(err, pmemlog.ErrRange) {
		t.Errorf("claim without an ID: %v, want %v", err, pmemlog.ErrRange)
	}
	if !bytes.Equal(m.Image(), before) {
		t.Error("what was there has been wiped")
	}
}
