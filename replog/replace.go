package replog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog/core"
)

// followOutcome lets the core know what a renewal says of the set, in case that
// settles a replacement. The writer's lock is held.
func (w *Writer) followOutcome(c *core.Core, now *Renewed) {
	var set []format.ID
	for _, r := range setOf(now.Replicas) {
		set = append(set, r.ID)
	}
	var learner format.ID
	if l := learnerOf(now.Replicas); l != nil {
		learner = l.ID
	}
	c.Shown(now.SetVersion, set, learner)
	w.noteSet(c)
}

// followLearner begins a replacement that the control plane has prepared; the
// writer's lock is held.
func (w *Writer) followLearner(c *core.Core, now *Renewed) {
	if l := learnerOf(now.Replicas); l != nil && now.SetVersion == c.SetVersion() && c.Phase() != core.Over {
		w.learn(c, *l)
	}
}

// noteSet takes the version of the set over from the core.
func (w *Writer) noteSet(c *core.Core) {
	if v := c.SetVersion(); v != w.grant.SetVersion {
		w.grant.SetVersion = v
		w.opts.Log.Info("replaced a replica", "log", w.grant.Name, "set_version", v)
	}
}

// learn opens sessions with a learner, unless it has them already.
func (w *Writer) learn(c *core.Core, l Replica) {
	i, err := c.Replace(core.Replacement{Learner: l.ID, Replaces: l.Replaces})
	if err != nil {
		if !errors.Is(err, core.ErrReplacing) { // one after the other
			w.opts.Log.Warn("the control plane's replacement can't be followed", "log", w.grant.Name, "learner", l.ID, "replaces", l.Replaces, "err", err)
		}
		return
	}
	peers := slices.Clone(w.peers)
	var session uint64
	switch {
	case i < len(peers) && peers[i].id == l.ID && peers[i].life.Err() == nil:
		return
	case i < len(peers): // the place of one that has left
		session = peers[i].session
	default:
		peers = append(peers, nil)
	}
	p := newPeer(w, i, l, session)
	peers[i] = p
	w.peers = peers
	w.running.Go(p.run)
	w.opts.Log.Info("filling a learner", "log", w.grant.Name, "learner", l.ID, "daemon", l.Daemon, "replaces", l.Replaces)
}

// retired ends a peer for good. Until its session is closed it may still read
// the mirror.
func (w *Writer) retired(p *peer) {
	w.leaving = append(w.leaving, p)
	p.retire()
}

// Replacing returns the replacement that is under way.
func (w *Writer) Replacing() (core.Replacement, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.core.Replacing()
}

// AwaitReplaced waits until no replacement is under way.
func (w *Writer) AwaitReplaced(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		if err := w.errLocked(); err != nil {
			return err
		}
		if _, ok := w.core.Replacing(); !ok {
			return nil
		}
		changed := w.changed
		w.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		w.mu.Lock()
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %s", context.Cause(ctx), w.replacingLocked())
		}
	}
}

// replacingLocked says in words how far a replacement has come.
func (w *Writer) replacingLocked() string {
	for _, s := range w.core.Status() {
		if s.State == core.Learner {
			text := fmt.Sprintf("learner %s: %s, %d bytes behind", s.ID, s.Stage, s.Lag)
			if s.Reason != nil {
				text += ": " + s.Reason.Error()
			}
			return text
		}
	}
	return "the outcome of the change is not known yet"
}

// promoteLearners asks the control plane to change the set until it knows the
// outcome. Until then the core counts on both sets.
func (w *Writer) promoteLearners(ctx context.Context) {
	for {
		select {
		case <-w.promote:
		case <-ctx.Done():
			return
		}
		pause := w.opts.pause()
		for ctx.Err() == nil && !w.promoteOnce(ctx) {
			if sleep(ctx, pause) != nil {
				return
			}
		}
	}
}

// promoteOnce reports whether the outcome is known.
func (w *Writer) promoteOnce(ctx context.Context) bool {
	w.mu.Lock()
	r, ok := w.core.Replacing()
	joint := ok && w.core.Joint()
	g := w.grant
	w.mu.Unlock()
	if !joint {
		return true // a renewal has told it
	}
	call, cancel := context.WithTimeout(ctx, w.opts.DialTimeout)
	defer cancel()
	version, err := w.control.Promote(call, g, r.Learner)
	switch {
	case err == nil:
		w.event(func(c *core.Core) {
			c.Promoted(r.Learner, version)
			w.noteSet(c)
		})
	case errors.Is(err, ErrAbandoned):
		w.event(func(c *core.Core) { c.Abandoned(r.Learner) })
	case errors.Is(err, ErrSuperseded):
		w.superseded()
	default:
		w.opts.Log.Debug("change the replica set", "log", g.Name, "learner", r.Learner, "err", err)
		return false
	}
	return true
}

// patience is for something that is tried again for a while.
type patience struct {
	pause *backoff.ExponentialBackOff
	since time.Time // when it was tried first
}

// wait pauses before another attempt, or says that there is none: the time is up,
// or ctx has ended.
func (p *patience) wait(ctx context.Context, most time.Duration) bool {
	if p.since.IsZero() {
		p.since = time.Now()
		p.pause.Reset()
	}
	return time.Since(p.since) < most && sleep(ctx, p.pause) == nil
}

func sleep(ctx context.Context, pause *backoff.ExponentialBackOff) error {
	t := time.NewTimer(pause.NextBackOff())
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
