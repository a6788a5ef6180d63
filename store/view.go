package store

import (
	"context"
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/gravenio/graven/placement"
)

// View is the in-memory picture of what etcd holds, fed by Store.Run from one
// snapshot and then a watch. What it returns are copies. It is never empty
// after it was filled once; while it cannot follow etcd it shows the last
// picture and its Lag grows.
type View struct {
	maxLag time.Duration
	nudge  chan struct{} // has room for one: somebody waits for a revision
	grown  chan struct{} // has room for one: the journal is beyond its bounds
	bounds func(journalClass) (entries, bytes int)

	mu       sync.RWMutex
	t        *tables
	revision int64
	filled   bool
	caughtUp time.Time     // when revision was last known to be etcd's newest
	advanced chan struct{} // closed and replaced whenever revision grows
	trouble  error         // why the view cannot follow, for people
	wanted   int64         // the highest revision that somebody has waited for
	past     bool          // it shows an etcd that is no more
	ended    chan struct{} // closed and replaced when etcd is found to be no more
}

func newView(maxLag time.Duration) *View {
	return &View{
		maxLag:   maxLag,
		nudge:    make(chan struct{}, 1),
		grown:    make(chan struct{}, 1),
		t:        newTables(),
		advanced: make(chan struct{}),
		ended:    make(chan struct{}),
	}
}

// Revision is the etcd revision that the view shows.
func (v *View) Revision() int64 {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.revision
}

// Lag is how long ago the view was last known to show etcd's newest revision.
// It is about a second when all is well, because that is how often it is
// checked.
func (v *View) Lag() time.Duration {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.lag()
}

func (v *View) lag() time.Duration {
	if v.caughtUp.IsZero() {
		return time.Duration(1<<63 - 1)
	}
	return time.Since(v.caughtUp)
}

func (v *View) fresh() error {
	v.mu.RLock()
	defer v.mu.RUnlock()
	switch lag := v.lag(); {
	case !v.filled && v.trouble != nil:
		return fmt.Errorf("%w: the view has not been filled yet: %w", ErrUnavailable, v.trouble)
	case !v.filled:
		return fmt.Errorf("%w: the view has not been filled yet", ErrUnavailable)
	case lag > v.maxLag && v.trouble != nil:
		return fmt.Errorf("%w: the view is %v old: %w", ErrUnavailable, lag.Round(time.Millisecond), v.trouble)
	case lag > v.maxLag:
		return fmt.Errorf("%w: the view is %v old", ErrUnavailable, lag.Round(time.Millisecond))
	}
	return nil
}

// WaitRevision blocks until the view shows rev or a later revision. If ctx
// ends first, the error wraps ErrUnavailable.
func (v *View) WaitRevision(ctx context.Context, rev int64) error {
	for {
		advanced := v.want(rev)
		if advanced == nil {
			return nil
		}
		select {
		case v.nudge <- struct{}{}:
		default:
		}
		select {
		case <-advanced:
		case <-ctx.Done():
			return fmt.Errorf("%w: the view did not reach revision %d: %w", ErrUnavailable, rev, context.Cause(ctx))
		}
	}
}

// want returns nil if the view shows rev, else what is closed when it has
// advanced.
func (v *View) want(rev int64) <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.filled && !v.past && v.revision >= rev {
		return nil
	}
	v.wanted = max(v.wanted, rev)
	return v.advanced
}

// outdate says that what the view shows, and what is being read or watched, is of
// an etcd that is no more. It goes on showing that, and reaches no revision before
// it is built anew.
func (v *View) outdate() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.past = true
	close(v.ended)
	v.ended = make(chan struct{})
}

// end returns what is closed when the present etcd is found to be no more.
func (v *View) end() <-chan struct{} {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.ended
}

func (v *View) behind() bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.revision < v.wanted
}

// Daemons returns all daemons, sorted by ID, and the revision.
func (v *View) Daemons() ([]Daemon, int64) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	ds := make([]Daemon, 0, len(v.t.daemons))
	for id, d := range v.t.daemons {
		if d.known() {
			ds = append(ds, v.t.daemon(id, d))
		}
	}
	sort.Slice(ds, func(i, j int) bool { return ds[i].DaemonID < ds[j].DaemonID })
	return ds, v.revision
}

// Daemon returns one daemon, and false if there is none of this ID.
func (v *View) Daemon(id string) (Daemon, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if d := v.t.daemons[id]; d != nil && d.known() {
		return v.t.daemon(id, d), true
	}
	return Daemon{}, false
}

// Logs returns all logs, sorted by name, and the revision.
func (v *View) Logs() ([]Log, int64) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	ls := make([]Log, 0, len(v.t.logs))
	for id, l := range v.t.logs {
		ls = append(ls, v.t.log(id, l))
	}
	sort.Slice(ls, func(i, j int) bool { return ls[i].Name < ls[j].Name })
	return ls, v.revision
}

// Log returns the log of this ID or name, and false if there is none.
func (v *View) Log(idOrName string) (Log, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	id := v.t.idOf(idOrName)
	if l := v.t.logs[id]; l != nil {
		return v.t.log(id, l), true
	}
	return Log{}, false
}

// Condemned returns what daemons have still to remove, sorted by daemon and
// replica.
func (v *View) Condemned() []Condemned {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var cs []Condemned
	for id, d := range v.t.daemons {
		for rid, c := range d.condemned {
			cs = append(cs, Condemned{DaemonID: id, ReplicaID: rid, LogID: c.LogID, Bytes: c.Bytes, Since: c.Since})
		}
	}
	sort.Slice(cs, func(i, j int) bool {
		if cs[i].DaemonID != cs[j].DaemonID {
			return cs[i].DaemonID < cs[j].DaemonID
		}
		return cs[i].ReplicaID < cs[j].ReplicaID
	})
	return cs
}

// Place asks placement over the live daemons. The answer is advice, with the
// revision it is of; CreateLog checks again. Errors are placement's.
func (v *View) Place(r placement.Request, seed uint64) ([]string, int64, error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	ids, err := v.t.index.Place(r, seed)
	return ids, v.revision, err
}

// CheckPlacement says whether placement could choose this daemon. Errors are
// placement's.
func (v *View) CheckPlacement(r placement.Request, daemonID string) error {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.t.index.Check(r, daemonID)
}

// advance sets a later revision; the caller holds mu.
func (v *View) advance(rev int64) {
	if rev <= v.revision {
		return
	}
	v.revision = rev
	close(v.advanced)
	v.advanced = make(chan struct{})
}

// noteTrouble keeps the reason for which the view cannot follow; nil clears it.
func (v *View) noteTrouble(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.trouble = err
}

// noteCurrent records that rev was etcd's newest revision at the time then.
func (v *View) noteCurrent(rev int64, then time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.filled || v.past || v.revision < rev {
		return false
	}
	if then.After(v.caughtUp) {
		v.caughtUp = then
	}
	return true
}

// heard records that a daemon has renewed its lease here.
func (v *View) heard(daemonID string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if d := v.t.daemons[daemonID]; d != nil {
		d.heard = time.Now()
	}
}
