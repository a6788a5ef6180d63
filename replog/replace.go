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

// followReplacement begins a replacement that the control plane has prepared,
// and takes the outcome of one whose answer was lost. The writer's lock is held.
func (w *Writer) followReplacement(c *core.Core, now *Renewed) {
	l := learnerOf(now.Replicas)
	if r, ok := c.Replacing(); ok && (l == nil || l.ID != r.Learner) {
		in := slices.ContainsFunc(now.Replicas, func(x Replica) bool { return x.ID == r.Learner && x.State == core.Present })
		switch {
		case in && now.SetVersion == c.SetVersion()+1:
			w.promoted(c, r.Learner, now.SetVersion)
		case !in && now.SetVersion == c.SetVersion():
			c.Abandoned(r.Learner)
		}
	}
	if l != nil && now.SetVersion == c.SetVersion() {
		w.learn(c, *l)
	}
}

func (w *Writer) promoted(c *core.Core, learner format.ID, setVersion uint64) {
	w.grant.SetVersion = setVersion
	c.Promoted(learner, setVersion)
	w.opts.Log.Info("replaced a replica", "log", w.grant.Name, "learner", learner, "set_version", setVersion)
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
	case i < len(peers) && peers[i].id == l.ID:
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
		w.event(func(c *core.Core) { w.promoted(c, r.Learner, version) })
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
