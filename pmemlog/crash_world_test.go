package pmemlog_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

// world is a process that has a pool, and the book of what the pool promised.
// Each method carries out one operation and books it: before it begins as being
// promised, and when it has returned as promised.
type world struct {
	m        *pmemtest.Medium
	p        *pmemlog.Pool
	opts     pmemlog.FormatOptions
	sessions map[byte]*pmemlog.Session
	book     book
}

func newWorld(m *pmemtest.Medium) *world {
	return &world{m: m, opts: formatOptions(), book: book{replicas: map[byte]*replicaBook{}}}
}

// next is the process that comes after this one, on what it has left.
func (w *world) next(m *pmemtest.Medium) *world {
	return &world{m: m, opts: w.opts, book: w.book.clone()}
}

// medium is what the pool is told to live on: of persistent memory, all that the
// product has of it.
func (w *world) medium() pmemlog.Medium {
	if p := w.m.PMem(); p != nil {
		return p
	}
	return w.m
}

func (w *world) format() error {
	p, err := pmemlog.Format(w.medium(), w.opts)
	if err != nil {
		return err
	}
	w.p, w.sessions, w.book.formatted = p, map[byte]*pmemlog.Session{}, true
	w.book.identity = []pmemlog.Identity{p.Identity()}
	return nil
}

// open opens the pool and compares it with the book. What it finds is promised
// from then on.
func (w *world) open() error {
	w.p = nil
	p, err := pmemlog.Open(w.medium())
	if errors.Is(err, pmemtest.ErrPowerless) {
		return err
	}
	if errors.Is(err, pmemlog.ErrNoPool) && !w.book.formatted { // nothing half-made may stand in the way
		return w.format()
	}
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	w.p, w.sessions, w.book.formatted = p, map[byte]*pmemlog.Session{}, true
	if err := w.settleIdentity(); err != nil {
		return err
	}
	return w.settleReplicas()
}

func (w *world) settleIdentity() error {
	is := w.p.Identity()
	if w.book.identity == nil {
		w.book.identity = []pmemlog.Identity{is}
	}
	if !slices.Contains(w.book.identity, is) {
		return fmt.Errorf("identity %+v is none of those promised: %+v", is, w.book.identity)
	}
	w.book.identity = []pmemlog.Identity{is}
	return nil
}

func (w *world) settleReplicas() error {
	listed := map[byte]pmemlog.Listed{}
	for _, l := range w.p.Replicas() {
		listed[l.Replica[0]] = l
	}
	for _, b := range slices.Sorted(maps.Keys(w.book.replicas)) {
		l, is := listed[b]
		if err := w.settlePresence(b, is); err != nil {
			return err
		}
		delete(listed, b)
		if !is {
			continue
		}
		r, err := w.p.Replica(id(b))
		if err != nil {
			return err
		}
		if l.Capacity != w.book.replicas[b].capacity {
			return fmt.Errorf("replica %d has a ring of %d bytes, was made with %d", b, l.Capacity, w.book.replicas[b].capacity)
		}
		if err := w.book.replicas[b].settle(r.Info().Slot); err != nil {
			return fmt.Errorf("replica %d: %w", b, err)
		}
	}
	if len(listed) > 0 {
		return fmt.Errorf("replicas that nobody made: %+v", listed)
	}
	return nil
}

func (w *world) settlePresence(b byte, is bool) error {
	r := w.book.replicas[b]
	was := r.presence
	switch {
	case is && (was == coming || was == present || was == going):
		r.presence = present
		return nil
	case !is && (was == absent || was == coming):
		r.presence = absent
		return nil
	case !is && was == forgetting:
		return nil
	case !is && (was == going || was == gone):
		r.presence = gone
		if _, err := w.p.Create(spec(b, r.capacity)); !errors.Is(err, pmemlog.ErrRemoved) {
			return fmt.Errorf("replica %d was removed; to make it anew: %w", b, err)
		}
		return nil
	default:
		return fmt.Errorf("replica %d is in the pool: %v, the book says %d", b, is, was)
	}
}

func (w *world) create(b byte, capacity uint64) error {
	r := &replicaBook{capacity: capacity, presence: coming, states: []state{{logs: []history{emptyHistory(format.TrimPoint{})}}}}
	w.book.replicas[b] = r
	if _, err := w.p.Create(spec(b, capacity)); err != nil {
		return err
	}
	r.presence = present
	return nil
}

func (w *world) remove(b byte) error {
	w.book.replicas[b].presence = going
	if err := w.p.Delete(id(b)); err != nil {
		return err
	}
	w.book.replicas[b].presence = gone
	return nil
}

// identify changes what the pool says of itself.
func (w *world) identify(change func(*pmemlog.Identity), do func() error) error {
	next := w.book.identity[0]
	change(&next)
	w.book.identity = append(w.book.identity, next)
	if err := do(); err != nil {
		return err
	}
	w.book.identity = []pmemlog.Identity{next}
	return nil
}

func (w *world) bindCluster() error {
	return w.identify(func(i *pmemlog.Identity) { i.Cluster = id(0xc) }, func() error { return w.p.BindCluster(id(0xc)) })
}

func (w *world) bindDaemon() error {
	return w.identify(func(i *pmemlog.Identity) { i.Daemon = "daemon" }, func() error { return w.p.BindDaemon("daemon") })
}

func (w *world) nextIncarnation() error {
	return w.identify(func(i *pmemlog.Identity) { i.Incarnation = i.Confirmed + 1 }, func() error {
		_, err := w.p.NextIncarnation()
		return err
	})
}

func (w *world) confirm() error {
	return w.identify(func(i *pmemlog.Identity) { i.Confirmed = i.Incarnation }, w.p.ConfirmIncarnation)
}

// goOn is what most processes do: open the pool, take each replica over, write
// on, and begin an incarnation.
func (w *world) goOn() error {
	if err := w.open(); err != nil {
		return err
	}
	for _, b := range w.present() {
		if err := w.writeOn(b); err != nil {
			return fmt.Errorf("replica %d: %w", b, err)
		}
	}
	return w.nextIncarnation()
}

// present returns the replicas that are in the pool, in the order of their IDs.
func (w *world) present() []byte {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(w.book.replicas)), func(b byte) bool { return w.book.replicas[b].presence != present })
}

// writeOn takes a replica over and appends to it.
func (w *world) writeOn(b byte) error {
	if err := w.takeOver(b); err != nil {
		return err
	}
	const payload = 90
	if now := w.book.replicas[b].now(); !w.room(b, payload) {
		if err := w.trim(b, now.log().end().LSN); err != nil {
			return err
		}
	}
	return steps(appends(b, payload), flushes(b))(w)
}

// brokenOff returns nil if an operation failed as it should: because the power is
// gone, or because a sync failed and the pool is poisoned, so that it
// acknowledges nothing from then on.
func (w *world) brokenOff(err error) error {
	switch {
	case w.m.Dead() && errors.Is(err, pmemtest.ErrPowerless):
		return nil
	case !errors.Is(err, pmemtest.ErrInjected):
		return err
	case w.p == nil: // Open or Format has failed
		return nil
	}
	if err := w.p.Failure(); !errors.Is(err, pmemlog.ErrPoisoned) {
		return fmt.Errorf("a sync failed, the pool is not poisoned: %w", err)
	}
	_, made := w.p.Create(spec(0xee, ringSize))
	errs := []error{made}
	for _, s := range w.sessions {
		_, flushed := s.Flush()
		errs = append(errs, flushed, s.Replica().PersistHint())
	}
	if slices.Contains(errs, nil) {
		return errors.New("a poisoned pool acknowledged something")
	}
	return nil
}
