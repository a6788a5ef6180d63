package replog

import (
	"context"
	"errors"
	"fmt"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog/core"
)

// ErrNothingProven is returned by ReadProven when too few replicas answer to
// prove that anything is committed.
var ErrNothingProven = errors.New("replog: too few replicas answer to prove a commit LSN")

// ReadProven reads a log that another writer has open, without fencing it: the
// data records from lsn on, up to a commit LSN that the replicas prove, which it
// returns. lsn must be a record boundary, or 0 for all that there is; one below
// the trim LSN is an error. The payload is visit's only until it returns.
func ReadProven(ctx context.Context, l Log, lsn uint64, o Options, visit func(h format.Header, payload []byte) error) (uint64, error) {
	o = o.withDefaults()
	views := look(ctx, l, o)
	defer closeAll(views)
	commit, proven := provenCommit(l, views)
	term := newestTerm(views)
	var errs []error
	for _, v := range views {
		if v.err != nil {
			errs = append(errs, fmt.Errorf("replica %s on %s: %w", v.ID, v.Daemon, v.err))
			continue
		}
		if !proven || v.State != core.Present || !v.sealedInto(term) || v.info.Durable < commit {
			continue
		}
		if lsn < v.info.Slot.Trim.LSN && lsn > 0 {
			return 0, fmt.Errorf("read at LSN %d: the log is trimmed to LSN %d", lsn, v.info.Slot.Trim.LSN)
		}
		next, err := v.read(ctx, lsn, commit, visit)
		if err == nil {
			return commit, nil
		}
		errs = append(errs, fmt.Errorf("replica %s on %s: %w", v.ID, v.Daemon, err))
		if errors.Is(err, errVisit) {
			break
		}
		lsn = next // another replica goes on where this one failed
	}
	if !proven {
		errs = append([]error{ErrNothingProven}, errs...)
	}
	return commit, errors.Join(errs...)
}

var errVisit = errors.New("replog: the reader stopped")

// read visits the records in [lsn, commit) and returns the LSN behind the last
// one.
func (v *view) read(ctx context.Context, lsn, commit uint64, visit func(h format.Header, payload []byte) error) (uint64, error) {
	src := v.source(ctx)
	next, done := max(lsn, v.info.Slot.Trim.LSN), errors.New("done")
	_, err := format.Scan(src, v.input(), func(h format.Header, payload []byte) error {
		if h.LSN >= commit {
			return done
		}
		if h.LSN >= lsn && h.Kind == format.KindData {
			if err := visit(h, payload); err != nil {
				return errors.Join(errVisit, err)
			}
		}
		next = max(next, h.End())
		if next >= commit {
			return done
		}
		return nil
	})
	if err != nil && !errors.Is(err, done) {
		return next, err
	}
	if src.err != nil {
		return next, src.err
	}
	if next < commit && commit > lsn {
		return next, fmt.Errorf("its log ends at LSN %d, it said %d", next, v.info.Durable)
	}
	return next, nil
}
