package pmemlog_test

import (
	"errors"
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

// A lock can be got around, such as by a device that has a node of its own in a
// container. Who has opened a pool before then notices at the next fence, and at
// whatever else changes the pool, and writes nothing more.
func TestPoolThatAnotherHasTakenIsGivenUp(t *testing.T) {
	t.Parallel()
	for name, try := range map[string]func(p *pmemlog.Pool, r *pmemlog.Replica) error{
		"fence": func(_ *pmemlog.Pool, r *pmemlog.Replica) error {
			_, err := r.Attach(false).Fence(term(2))
			return err
		},
		"confirm": func(p *pmemlog.Pool, _ *pmemlog.Replica) error { return p.ConfirmIncarnation() },
		"create":  func(p *pmemlog.Pool, _ *pmemlog.Replica) error { return create(p, spec(2, ringSize)) },
		"delete":  func(p *pmemlog.Pool, _ *pmemlog.Replica) error { return p.Delete(id(1)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, first, r := newReplica(t, pmemtest.Options{})
			get[uint64](t)(first.NextIncarnation())
			w := openWriter(t, r, 1)
			w.appendNow(100)
			second, again := reopen(t, m)
			must(t, second.ConfirmIncarnation())
			get[uint64](t)(second.NextIncarnation())

			err := try(first, r)
			var taken *pmemlog.TakenError
			if !errors.As(err, &taken) || taken.Found.Incarnation != 2 || taken.Own.Incarnation != 1 {
				t.Fatalf("got %v, want a TakenError of incarnation 2", err)
			}
			checkSays(t, name, err, pmemlog.ErrPoisoned, "stop one of the two")
			if _, err := w.tryAppend(100); !errors.Is(err, pmemlog.ErrPoisoned) {
				t.Errorf("an append afterwards: %v, want ErrPoisoned", err)
			}
			rep := get[format.Report](t)(again.Attach(false).Fence(term(3)))
			if rep.Records != 1 || rep.Fenced != term(3) {
				t.Errorf("the one that has taken it finds %+v", rep)
			}
			must(t, second.ConfirmIncarnation())
		})
	}
}

// A pool that has been made anew below, and one of which both superblocks are as
// new as one's own, but another's.
func TestSuperblocksOfAnother(t *testing.T) {
	t.Parallel()
	for name, other := range map[string]func(m *pmemtest.Medium){
		"made anew": func(m *pmemtest.Medium) {
			must(t, m.WriteAt(make([]byte, 8192), 0))
			o := formatOptions()
			o.PoolID = id(0xb)
			get[*pmemlog.Pool](t)(pmemlog.Format(m, o))
		},
		"newer": func(m *pmemtest.Medium) {
			p, _ := reopen(t, m)
			must(t, p.BindDaemon("other"))
			get[uint64](t)(p.NextIncarnation())
			must(t, p.ConfirmIncarnation())
		},
		"as new": func(m *pmemtest.Medium) {
			p, _ := reopen(t, m)
			must(t, p.BindDaemon("other"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, p, r := newReplica(t, pmemtest.Options{})
			before := make([]byte, 8192)
			must(t, m.ReadAt(before, 0))
			must(t, p.BindDaemon("mine")) // which is what the other knows nothing of
			after := make([]byte, 8192)
			must(t, m.ReadAt(after, 0))
			must(t, m.WriteAt(before, 0))
			other(m)
			var taken *pmemlog.TakenError
			if _, err := r.Attach(false).Fence(term(1)); !errors.As(err, &taken) {
				t.Errorf("a fence: %v, want a TakenError", err)
			}
		})
	}
}

// What a pool changes itself, or a crash has left in one copy, or damage, is not
// taken for another's.
func TestOwnSuperblocksAreNotTakenForAnothers(t *testing.T) {
	t.Parallel()
	m, p, r := newReplica(t, pmemtest.Options{})
	old := make([]byte, 4096)
	must(t, m.ReadAt(old, 0))
	done := make(chan error)
	go func() {
		var err error
		for range 100 {
			_, started := p.NextIncarnation()
			err = errors.Join(err, started, p.ConfirmIncarnation())
		}
		done <- err
	}()
	for n := uint64(1); n <= 200; n++ {
		if _, err := r.Attach(false).Fence(term(n)); err != nil {
			t.Fatalf("a fence beside changes of the pool: %v", err)
		}
	}
	must(t, <-done)
	must(t, m.WriteAt(old, 0))
	get[format.Report](t)(r.Attach(false).Fence(term(300)))
	m.FlipBit(4096+100, 1)
	get[format.Report](t)(r.Attach(false).Fence(term(301)))
	m.FailReads(0, 8192)
	get[format.Report](t)(r.Attach(false).Fence(term(302)))
}
