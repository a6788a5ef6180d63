package pmemlog_test

import (
	"errors"
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

// Who asks is told of a failure once, whether it comes later or has come, and not
// of the end.
func TestOnFailure(t *testing.T) {
	t.Parallel()
	m, p, r := newReplica(t, pmemtest.Options{})
	var told []error
	tell := func(err error) { told = append(told, err) }
	p.OnFailure(tell)
	m.FailNextSync(pmemtest.ErrInjected)
	for range 2 {
		if _, err := r.Attach(false).Fence(term(1)); !errors.Is(err, pmemlog.ErrPoisoned) {
			t.Fatalf("a sync that fails: %v", err)
		}
	}
	if len(told) != 1 || !errors.Is(told[0], pmemtest.ErrInjected) || !errors.Is(told[0], pmemlog.ErrPoisoned) {
		t.Errorf("told %v", told)
	}
	p.OnFailure(tell)
	if len(told) != 2 {
		t.Errorf("of a failure that was there already: told %v", told)
	}
	must(t, p.Close())

	_, p, _ = newReplica(t, pmemtest.Options{})
	p.OnFailure(func(err error) { t.Errorf("of the end: told %v", err) })
	must(t, p.Close())
	p.OnFailure(func(err error) { t.Errorf("behind the end: told %v", err) })
}
