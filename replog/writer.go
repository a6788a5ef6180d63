package replog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog/core"
)

// Writer is the one process that may append to a log in its epoch. It is made
// by [Open] and ends with [Writer.Close].
type Writer struct {
	control Control
	opts    Options
	cancel  context.CancelFunc
	ended   context.Context // of what the writer runs
	running sync.WaitGroup
	opened  chan struct{} // closed when the log is open or the core is over

	mu       sync.Mutex
	grant    Grant   // its SetVersion and Token are the newest
	peers    []*peer // by the core's indices; never changed, but replaced
	leaving  []*peer // of replicas that take no part any more, until their sessions are closed
	core     *core.Core
	mirror   format.Ring
	chain    format.Chain  // behind the last record in the mirror
	waiting  tickets       // appended, not yet committed; in the order of their LSNs
	changed  chan struct{} // closed and made anew at every change but appends and commits
	settling int           // callers of Settle: they want to see those too
	present  []format.ID   // to be recorded by the control plane
	record   chan struct{} // wakes the goroutine that does so
	refusal  error         // of the control plane to do so, so far
	promote  chan struct{} // wakes the goroutine that has a learner promoted
	renewNow chan struct{} // wakes the one that renews
	health   health
	quorum   quorumWatch
	loss     *core.Loss    // what was given up
	recorded chan struct{} // closed once the control plane has a record of that

	recovery     *core.Recovery // what is to be told of the open; nil for nothing
	recoveryTold bool

	effects []core.Effect // scratch
	unsent  bool          // a peer has something to post: see unlock
	closed  bool
}

func start(g Grant, c Control, o Options) (*Writer, error) {
	ctx, cancel := context.WithCancel(context.Background())
	w := &Writer{
		grant: g, control: c, opts: o, cancel: cancel, ended: ctx,
		opened: make(chan struct{}), changed: make(chan struct{}), record: make(chan struct{}, 1),
		promote: make(chan struct{}, 1), renewNow: make(chan struct{}, 1), recorded: make(chan struct{}),
	}
	cfg := core.Config{
		Term: g.Term, AckQuorum: g.AckQuorum, Capacity: g.Capacity, SetVersion: g.SetVersion,
		Window: o.Window, Cut: w.cutAt,
	}
	members := setOf(g.Replicas)
	for _, r := range members {
		cfg.Replicas = append(cfg.Replicas, core.Replica{ID: r.ID, State: r.State})
	}
	if l := learnerOf(g.Replicas); l != nil {
		cfg.Replacing = &core.Replacement{Learner: l.ID, Replaces: l.Replaces}
		members = append(members, *l)
	}
	var err error
	if w.core, err = core.New(cfg); err != nil {
		cancel()
		return nil, err
	}
	w.mirror = make(format.Ring, g.Capacity)
	for i, r := range members {
		w.peers = append(w.peers, newPeer(w, i, r, 0))
	}
	for _, p := range w.peers {
		w.running.Go(p.run)
	}
	w.running.Go(func() { w.renew(ctx) })
	w.running.Go(func() { w.recordPresent(ctx) })
	w.running.Go(func() { w.promoteLearners(ctx) })
	if o.AcceptLoss != nil {
		w.running.Go(func() { w.offerLoss(ctx) })
	}
	return w, nil
}

// setOf returns the replicas of the set, without a learner.
func setOf(rs []Replica) []Replica {
	return slices.DeleteFunc(slices.Clone(rs), func(r Replica) bool { return r.State == core.Learner })
}

// learnerOf returns the learner among the replicas, or nil.
func learnerOf(rs []Replica) *Replica {
	for i := range rs {
		if rs[i].State == core.Learner {
			return &rs[i]
		}
	}
	return nil
}

// Grant returns what the control plane granted: its Replicas at open, its
// SetVersion and Token now.
func (w *Writer) Grant() Grant {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.grant
}

// Commit returns the LSN below which all is committed.
func (w *Writer) Commit() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.core.Commit()
}

// Tail returns the LSN of the next record.
func (w *Writer) Tail() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.core.Tail()
}

// TrimLSN returns the LSN where the log begins.
func (w *Writer) TrimLSN() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.core.TrimPoint().LSN
}

// Free returns how many bytes of the ring are free.
func (w *Writer) Free() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.core.Free()
}

// MaxPayload returns the largest payload of one record, in bytes.
func (w *Writer) MaxPayload() int { return format.MaxRecordPayload(w.grant.Capacity) }

// Err returns why the writer acknowledges nothing any more, or nil. It is
// ErrFenced once another writer has taken over, ErrClosed after Close.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.errLocked()
}

func (w *Writer) errLocked() error {
	if err := w.core.Err(); errors.Is(err, core.ErrClosed) {
		return ErrClosed
	} else if err != nil {
		return err
	}
	return nil
}

// Status returns what is known of each replica.
func (w *Writer) Status() []core.ReplicaStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.core.Status()
}

// Waiting says in words which replicas keep the log from opening or committing,
// and why; it is empty when enough of them work.
func (w *Writer) Waiting() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.core.Waiting()
	if s != "" && w.refusal != nil {
		s += fmt.Sprintf("; the control plane can't record a replica as present: %v", w.refusal)
	}
	return s
}

// Settle waits until every replica either takes part or is away: none is being
// brought up to date any more.
func (w *Writer) Settle(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settling++
	defer func() { w.settling-- }()
	for {
		if err := w.errLocked(); err != nil || w.settledLocked() {
			return err
		}
		changed := w.changed
		w.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		w.mu.Lock()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

func (w *Writer) settledLocked() bool {
	for _, s := range w.core.Status() {
		if !s.Settled {
			return false
		}
	}
	return true
}

// Close stops acknowledging, ends the sessions and gives the lease back.
// Appends that wait get ErrClosed; whether they survive, the next open decides.
// It returns after everything that the writer started has ended, and may be
// called twice.
func (w *Writer) Close() error {
	if !w.stop() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), w.opts.DialTimeout)
	defer cancel()
	telling, told := context.WithTimeout(ctx, w.opts.DialTimeout/2)
	w.tellLastRecovery(telling)
	told()
	if err := w.control.Close(ctx, w.Grant()); err != nil && !errors.Is(err, ErrSuperseded) {
		return fmt.Errorf("close log %s: give the lease back: %w", w.grant.Name, err)
	}
	return nil
}

// stop reports whether it was the first to be called.
func (w *Writer) stop() bool {
	w.mu.Lock()
	first := !w.closed
	w.closed = true
	w.lastRecovery()
	w.core.Close()
	w.dispatch()
	w.unlock()
	w.quorum.stop()
	w.cancel()
	w.running.Wait()
	return first
}
