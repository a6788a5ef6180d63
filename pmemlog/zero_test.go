package pmemlog_test

import (
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

// A large replica is zeroed for a while. Others that are flushed meanwhile must
// not wait until all of that is on the medium.
func TestCreateSyncsAsItZeroes(t *testing.T) {
	t.Parallel()
	const capacity, atOnce = 100 << 20, 32 << 20
	m := pmemtest.New(capacity+(1<<20), pmemtest.Options{Log: true})
	p := get[*pmemlog.Pool](t)(pmemlog.Format(m, formatOptions()))
	must(t, create(p, spec(1, capacity)))
	unsynced := 0
	for _, e := range m.Events() {
		switch e.Op {
		case pmemtest.OpWrite:
			unsynced += e.Len
		case pmemtest.OpSync:
			unsynced = 0
		}
		if unsynced > atOnce {
			t.Fatalf("%d bytes are waiting for a sync, want %d at most", unsynced, atOnce)
		}
	}
	must(t, p.Close())
}
