package soak

import (
	"context"
	"time"

	"github.com/gravenio/graven/openapi"
)

// limits have the planner act within the time that a process is away.
func limits() openapi.OperatorLimits {
	return openapi.OperatorLimits{
		GraceSeconds: 2, TimeoutSeconds: 20, PerDaemon: 3, Cluster: 8, MaxDownPercent: 50, ScrubEverySeconds: 15,
	}
}

// setLimits is the first thing that anybody asks for.
func (r *run) setLimits() error {
	api, err := r.connect(0)
	if err != nil {
		return err
	}
	defer api.close()
	err, _ = api.definite("limits", func(ctx context.Context) (openapi.Response, error) {
		return answered(api.SetOperatorLimitsWithResponse(ctx, nil, limits()))
	})
	return err
}

// pause has nothing begun for a moment.
func (c *client) pause(ctx context.Context) {
	c.api.pause()
	_ = wait(ctx, time.Duration(c.rng.IntN(1000))*time.Millisecond)
	_, _ = c.api.definite("resume", func(ctx context.Context) (openapi.Response, error) {
		return answered(c.api.ResumeOperatorsWithResponse(ctx))
	})
}

func (s *session) pause() {
	_, _ = s.definite("pause", func(ctx context.Context) (openapi.Response, error) {
		return answered(s.PauseOperatorsWithResponse(ctx))
	})
}

// cancel ends one of the operators that have not ended.
func (c *client) cancel() {
	var items []openapi.OperatorStatus
	err, _ := c.api.definite("list operators", func(ctx context.Context) (openapi.Response, error) {
		rsp, err := c.api.ListOperatorsWithResponse(ctx, nil)
		if err == nil && rsp.JSON200 != nil {
			items = rsp.JSON200.Items
		}
		return answered(rsp, err)
	})
	if err != nil {
		return
	}
	var open []string
	for _, o := range items {
		// A removal can't be cancelled.
		if o.Kind != openapi.PurposeRemoveReplica && (o.State == openapi.OperatorPlanned || o.State == openapi.OperatorRunning) {
			open = append(open, o.OperatorID)
		}
	}
	if len(open) == 0 {
		return
	}
	id := open[c.rng.IntN(len(open))]
	_, _ = c.api.definite("cancel", func(ctx context.Context) (openapi.Response, error) {
		return answered(c.api.CancelOperatorWithResponse(ctx, id))
	})
}

// drain has a daemon emptied for a while.
func (c *client) drain(ctx context.Context) {
	if !c.run.draining.TryLock() { // the others would have no room
		return
	}
	defer c.run.draining.Unlock()
	agents := c.run.agents()
	h := host{run: c.run, agent: agents[c.rng.IntN(len(agents))], api: c.api}
	if !h.drain() {
		return
	}
	if c.run.sees(ctx, drainTime, func(b *books) bool { return b.empty(h.agent.ID) }) {
		c.run.done.add("drained", 1)
	}
	h.undrain()
}

// quiet has the control plane begin nothing more by itself, so that what is
// written down anywhere can be compared.
func (r *run) quiet(c *client) {
	c.api.pause()
	for _, a := range r.agents() {
		h := host{run: r, agent: a, api: c.api}
		h.undrain()
	}
}

// heal asks for another replica in the place of each that was given up. Most have
// one: the planner leaves alone what somebody cancelled.
func (c *client) heal(b *books) {
	for _, id := range sorted(b.logs) {
		for _, rep := range b.logs[id].Replicas {
			if b.gone[rep.Daemon].Lost {
				c.replaceOn(id, rep.Daemon)
				break
			}
		}
	}
}
