package pmemlog_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
)

// daxEnv names folders on DAX file systems, and device-dax without a pool, for a
// machine that has them, such as a virtual one with an emulated NVDIMM.
const daxEnv = "GRAVEN_DAX"

// TestDAX uses what the system vouches for. What it appended in one run of
// the test on the same path it must find in the next, so that a machine may be
// stopped between them.
func TestDAX(t *testing.T) {
	paths := os.Getenv(daxEnv)
	if paths == "" {
		t.Skipf("no persistent memory here: name folders on DAX file systems, or device-dax, in %s", daxEnv)
	}
	for path := range strings.SplitSeq(paths, ",") {
		t.Run(path, func(t *testing.T) {
			if info := get[os.FileInfo](t)(os.Stat(path)); info.IsDir() {
				path = filepath.Join(path, "pool")
			}
			p, err := pmemlog.OpenPMemPool(path, pmemlog.DurabilityAuto)
			if errors.Is(err, os.ErrNotExist) || errors.Is(err, pmemlog.ErrNoPool) {
				size := int64(64 << 20)
				if strings.HasPrefix(path, "/dev/") {
					size = 0
				}
				p, err = pmemlog.CreatePMemPool(path, fileOptions(size), pmemlog.DurabilityAuto)
			}
			must(t, err)
			defer func() { must(t, p.Close()) }()
			r, err := p.Replica(id(1))
			if errors.Is(err, pmemlog.ErrNotFound) {
				r, err = p.Create(spec(1, 1<<20))
			}
			must(t, err)
			epoch := r.Info().Slot.Fenced.Epoch + 1
			rep := get[format.Report](t)(r.Attach(false).Fence(term(epoch)))
			if rep.Suspect() || rep.Records != 100*(epoch-1) {
				t.Errorf("%d records were appended in the runs before, found is %+v", 100*(epoch-1), rep)
			}
			t.Logf("epoch %d: found %d records, tail %d", epoch, rep.Records, rep.Tail)
			w := openWriter(t, r, epoch)
			for range 100 {
				w.appendNow(1000)
			}
		})
	}
}
