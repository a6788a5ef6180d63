package replog

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog/core"
)

// renew keeps the writer's lease, and learns where the daemons are now and which
// of them the log is to have. A control plane that can't be reached stops
// nothing: the replicas alone decide who may append.
func (w *Writer) renew(ctx context.Context) {
	g := w.Grant()
	every := g.RenewEvery
	if every <= 0 {
		every = time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-w.renewNow:
		case <-ctx.Done():
			return
		}
		call, cancel := context.WithTimeout(ctx, every)
		now, err := w.control.Renew(call, g)
		cancel()
		switch {
		case errors.Is(err, ErrSuperseded):
			w.superseded()
			return
		case err != nil:
			w.opts.Log.Debug("renew the writer's lease", "log", g.Name, "err", err)
		default:
			w.follow(&now)
			w.reportHealth(ctx, min(every, w.opts.DialTimeout))
		}
	}
}

func (w *Writer) superseded() {
	w.event(func(c *core.Core) { c.Superseded(format.Fence{Epoch: w.grant.Term.Epoch + 1}) })
}

// follow takes over what the control plane says of the replicas.
func (w *Writer) follow(now *Renewed) {
	w.event(func(c *core.Core) {
		if now.Token != "" {
			w.grant.Token = now.Token
		}
		for _, r := range now.Replicas {
			i := slices.IndexFunc(w.peers, func(p *peer) bool { return p.id == r.ID })
			if i >= 0 {
				w.peers[i].move(r.Address)
			}
		}
		w.followOutcome(c, now)
	})
	// What ends is carried out before something begins at the same index.
	w.event(func(c *core.Core) { w.followLearner(c, now) })
}

// wantPresent has the control plane record a replica as present; the writer's
// lock is held.
func (w *Writer) wantPresent(id format.ID) {
	if !slices.Contains(w.present, id) {
		w.present = append(w.present, id)
	}
	wakeUp(w.record)
}

// wakeUp fills a channel that holds one token at most.
func wakeUp(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// recordPresent asks the control plane until it knows the outcome: a replica's
// acknowledgements count only then.
func (w *Writer) recordPresent(ctx context.Context) {
	for {
		select {
		case <-w.record:
		case <-ctx.Done():
			return
		}
		pause := w.opts.pause()
		for {
			ids, g := w.unrecorded()
			if len(ids) == 0 {
				break // a call before has taken them along, or they have left the set
			}
			if w.recordOnce(ctx, ids, g) != nil && sleep(ctx, pause) != nil {
				return
			}
		}
	}
}

// recordOnce asks once, and returns the control plane's refusal.
func (w *Writer) recordOnce(ctx context.Context, ids []format.ID, g Grant) error {
	call, cancel := context.WithTimeout(ctx, w.opts.DialTimeout)
	defer cancel()
	err := w.control.MakePresent(call, g, ids)
	if errors.Is(err, ErrSuperseded) {
		w.superseded()
		return err
	}
	if err != nil {
		w.opts.Log.Debug("record replicas as present", "log", g.Name, "err", err)
	}
	w.event(func(c *core.Core) {
		w.refusal = err
		if err != nil {
			return
		}
		w.present = slices.DeleteFunc(w.present, func(id format.ID) bool { return slices.Contains(ids, id) })
		for i, p := range w.peers {
			if slices.Contains(ids, p.id) {
				c.MadePresent(i)
			}
		}
	})
	return err
}

// unrecorded returns the replicas that are to be recorded as present, and the
// newest grant. Those that are no longer in the set are forgotten.
func (w *Writer) unrecorded() ([]format.ID, Grant) {
	w.mu.Lock()
	defer w.mu.Unlock()
	in := map[format.ID]bool{}
	for _, s := range w.core.Status() {
		in[s.ID] = s.State == core.Allocated
	}
	w.present = slices.DeleteFunc(w.present, func(id format.ID) bool { return !in[id] })
	return slices.Clone(w.present), w.grant
}
