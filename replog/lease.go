package replog

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"

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
		}
		w.reportHealth(ctx)
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
		w.followReplacement(c, now)
	})
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
		w.mu.Lock()
		ids := w.present
		w.present = nil
		w.mu.Unlock()
		if len(ids) == 0 {
			continue // the call before has taken them along
		}
		_, err := backoff.Retry(ctx, func() (struct{}, error) {
			call, cancel := context.WithTimeout(ctx, w.opts.DialTimeout)
			defer cancel()
			err := w.control.MakePresent(call, w.Grant(), ids)
			if errors.Is(err, ErrSuperseded) {
				return struct{}{}, backoff.Permanent(err)
			}
			if err != nil {
				w.opts.Log.Debug("record replicas as present", "log", w.Grant().Name, "err", err)
			}
			w.mu.Lock()
			w.refusal = err
			w.mu.Unlock()
			return struct{}{}, err
		}, backoff.WithBackOff(w.opts.pause()), backoff.WithMaxElapsedTime(0), backoff.WithMaxTries(0))
		switch {
		case errors.Is(err, ErrSuperseded):
			w.superseded()
			return
		case err != nil: // ctx has ended
			return
		}
		w.event(func(c *core.Core) {
			for i, p := range w.peers {
				if slices.Contains(ids, p.id) {
					c.MadePresent(i)
				}
			}
		})
	}
}
