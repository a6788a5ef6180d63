package pmemlog_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

func poolScrubbed(t testing.TB, p *pmemlog.Pool) pmemlog.PoolScrubbed {
	t.Helper()
	return get[pmemlog.PoolScrubbed](t)(p.Scrub(context.Background(), unpaced))
}

// The places of a pool of newReplica: two copies of the superblock, then of eight
// entries, of which the first holds the replica.
const dirA, dirB, entrySize = 2 * 4096, 3 * 4096, 128

func TestScrubHealsThePool(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		flips  []int64
		healed []string
	}{
		"nothing":                   {nil, nil},
		"superblock A":              {[]int64{100}, []string{"superblock A"}},
		"superblock B":              {[]int64{4096 + 100}, []string{"superblock B"}},
		"both superblocks":          {[]int64{100, 4096 + 100}, []string{"superblock A", "superblock B"}},
		"an entry's copy A":         {[]int64{dirA + 20}, []string{"directory entry 0, copy A"}},
		"an entry's copy B":         {[]int64{dirB + 20}, []string{"directory entry 0, copy B"}},
		"both copies of an entry":   {[]int64{dirA + 20, dirB + 20}, []string{"directory entry 0, copy A", "directory entry 0, copy B"}},
		"one that holds nothing":    {[]int64{dirB + 7*entrySize + 20}, []string{"directory entry 7, copy B"}},
		"padding that has no check": {[]int64{dirB + 8*entrySize}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, p, _ := newReplica(t, pmemtest.Options{Log: true})
			want := p.Identity()
			for _, off := range tt.flips {
				m.FlipBit(off, 2)
			}
			before := len(m.Events())
			res := poolScrubbed(t, p)
			var healed []string
			for _, c := range res.Healed {
				healed = append(healed, c.Part)
				if c.Err == nil {
					t.Errorf("%s: healed of nothing", c.Part)
				}
			}
			if fmt.Sprint(healed) != fmt.Sprint(tt.healed) || len(res.Damaged) > 0 || res.Bytes != 2*4096+2*8*entrySize {
				t.Errorf("healed %v, want %v; %+v", healed, tt.healed, res)
			}
			for i, e := range m.Events()[before:] { // one after the other
				if want := []pmemtest.Op{pmemtest.OpWrite, pmemtest.OpSync}[i%2]; e.Op != want {
					t.Errorf("event %d is a %v, want a %v", i, e.Op, want)
				}
			}
			if again := poolScrubbed(t, p); len(again.Healed) > 0 {
				t.Errorf("healed again: %+v", again)
			}
			must(t, p.Close())
			p, _ = reopen(t, m.CrashClean())
			if got := p.Identity(); got != want {
				t.Errorf("identity %+v, was %+v", got, want)
			}
		})
	}
}

// An entry of before the last change is whole, and wrong.
func TestScrubFindsAStaleCopy(t *testing.T) {
	t.Parallel()
	m, p, _ := newReplica(t, pmemtest.Options{})
	old := m.Image()
	must(t, p.Delete(id(1)))
	for i := range int64(entrySize) {
		now := m.Image()
		for bit := range uint(8) {
			if (now[dirB+i]^old[dirB+i])>>bit&1 == 1 {
				m.FlipBit(dirB+i, bit)
			}
		}
	}
	res := poolScrubbed(t, p)
	if len(res.Healed) != 1 || res.Healed[0].Part != "directory entry 0, copy B" {
		t.Errorf("%+v", res)
	}
}

func TestPoolScrubEnds(t *testing.T) {
	t.Parallel()
	ours := errors.New("ours")
	_, p, _ := newReplica(t, pmemtest.Options{})
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(ours)
	if _, err := p.Scrub(ctx, unpaced); !errors.Is(err, ours) {
		t.Errorf("with its context: %v", err)
	}
	if _, err := p.Scrub(context.Background(), func(context.Context, int) error { return ours }); !errors.Is(err, ours) {
		t.Errorf("with its pace: %v", err)
	}
	must(t, p.Close())
	if _, err := p.Scrub(context.Background(), unpaced); !errors.Is(err, pmemlog.ErrClosed) {
		t.Errorf("with the pool: %v", err)
	}
}

// A page of the directory that can't be read costs no replica as long as the other
// copy has it.
func TestOpenWithAnUnreadablePage(t *testing.T) {
	t.Parallel()
	for name, off := range map[string]int64{"superblock A": 10, "superblock B": 4096 + 10, "directory A": dirA + 10, "directory B": dirB + 10} {
		m, p, _ := newReplica(t, pmemtest.Options{})
		must(t, p.Close())
		m.FailReads(off, off+1)
		if p, err := pmemlog.Open(m); err != nil || len(p.Replicas()) != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
	m, p, _ := newReplica(t, pmemtest.Options{})
	must(t, p.Close())
	m.FailReads(dirA+10, dirA+11)
	m.FailReads(dirB+10, dirB+11)
	if _, err := pmemlog.Open(m); !errors.Is(err, pmemlog.ErrCorrupt) || !errors.Is(err, pmemlog.ErrUnreadable) {
		t.Errorf("both copies: %v", err)
	}
}

func TestScrubOfFilesOnDisk(t *testing.T) {
	t.Parallel()
	path, p := newFilePool(t, 4<<20)
	w := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(1, 2<<20))), 1)
	for w.room(4000) {
		w.append(4000)
	}
	w.flush()
	res := scrubbed(t, w.s.Replica())
	if res.Damage != nil || res.Records == 0 {
		t.Errorf("%+v", res)
	}
	if res := poolScrubbed(t, p); len(res.Healed)+len(res.Damaged) > 0 {
		t.Errorf("%+v", res)
	}
	must(t, p.Close())
	p = get[*pmemlog.Pool](t)(pmemlog.OpenFilePool(path))
	t.Cleanup(func() { _ = p.Close() })
	again := scrubbed(t, get[*pmemlog.Replica](t)(p.Replica(id(1))))
	if again.Damage != nil || again.Records != res.Records {
		t.Errorf("not fenced: %+v, want %d records", again, res.Records)
	}
	if again.Bytes < w.chain.LSN {
		t.Errorf("%d bytes read of %d", again.Bytes, w.chain.LSN)
	}
}
