package pmemlog_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/gravenio/graven/pmemlog/format"
)

// atOnce is the pace of a scrub that nobody else waits for.
func atOnce(context.Context, int) error { return nil }

// scrubsPool mends so many parts of the pool's own structures.
func scrubsPool(healed int) step {
	return func(w *world) error {
		res, err := w.p.Scrub(context.Background(), atOnce)
		if err == nil && len(res.Damaged) > 0 {
			err = res.Damaged[0].Err
		}
		if err == nil && len(res.Healed) != healed {
			err = fmt.Errorf("a scrub healed %v, damaged were %d", res.Healed, healed)
		}
		return err
	}
}

// scrubsReplica mends the header of replica 1. A second scrub finds nothing.
func scrubsReplica(w *world) error {
	r, err := w.p.Replica(id(1))
	if err != nil {
		return err
	}
	for _, clean := range []bool{false, true} {
		res, err := r.Scrub(context.Background(), atOnce)
		if err != nil || res.Header != nil {
			return errors.Join(err, res.Header)
		}
		if clean != (len(res.Healed) == 0) {
			return fmt.Errorf("mended before: %v, healed now: %v", clean, res.Healed)
		}
	}
	return nil
}

// What a scrub says that it has mended is mended for good: a delete begins with
// the other copy.
func TestCrashScrubMendsAnEntry(t *testing.T) {
	crash(t, crashCase{
		prepare: steps(formats(), creates(1), damages(entryB+30)),
		operate: steps(scrubsPool(1), removes(1)),
		recover: steps(opens(), removesOnce(1)),
	})
}

func TestCrashScrubMendsASuperblock(t *testing.T) {
	crash(t, crashCase{
		prepare: steps(begins(), damages(20)),
		operate: steps(scrubsPool(1), (*world).nextIncarnation),
	})
}

// A hint line that is damaged is gone if the power goes before it is mended.
func TestCrashScrubMendsAHint(t *testing.T) {
	const region = ringStart - format.RingOffset
	crash(t, crashCase{
		prepare: steps(begins(), persistsHint(1), damages(region+format.HintOffset+30), func(w *world) error {
			w.book.replicas[1].now().floor = format.Position{}
			return nil
		}),
		operate: scrubsReplica,
	})
}
