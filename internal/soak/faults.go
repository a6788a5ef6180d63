package soak

import (
	"context"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gravenio/graven/internal/fleet"
)

// chaos hurts processes of one kind, one after the other, until ctx ends; then all
// of them run again.
type chaos struct {
	run   *run
	kind  string
	rng   *rand.Rand
	pick  func(ctx context.Context) *fleet.Process
	hosts []*host       // instead of pick
	most  time.Duration // that one is away
	quiet time.Duration // between two, at most
}

func (r *run) chaos(kind string, n uint64, most, quiet time.Duration, pick func(ctx context.Context, rng *rand.Rand) *fleet.Process) *chaos {
	rng := rand.New(rand.NewPCG(r.o.Seed, 1000+n))
	return &chaos{
		run: r, kind: kind, rng: rng, most: most, quiet: quiet,
		pick: func(ctx context.Context) *fleet.Process { return pick(ctx, rng) },
	}
}

// hostChaos hurts the agents of hosts, and has some go for good.
func (r *run) hostChaos(n uint64, hosts []*host) *chaos {
	c := r.chaos("agent", n, 5*time.Second, 2*time.Second, nil)
	c.hosts = hosts
	return c
}

func (c *chaos) hurt(ctx context.Context) error {
	for wait(ctx, c.upTo(c.quiet)) == nil {
		if c.hosts != nil {
			if err := c.hurtHost(ctx, c.hosts[c.rng.IntN(len(c.hosts))]); err != nil {
				return err
			}
			continue
		}
		p := c.pick(ctx)
		if p == nil {
			continue
		}
		if err := c.once(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (c *chaos) hurtHost(ctx context.Context, h *host) error {
	switch c.rng.IntN(8) {
	case 0:
		return h.lose(ctx, c.rng)
	case 1:
		return h.retire(ctx)
	}
	return c.once(ctx, h.agent.Process)
}

func (c *chaos) upTo(d time.Duration) time.Duration {
	return 50*time.Millisecond + time.Duration(c.rng.Int64N(int64(d)))
}

// once does one thing to a process and undoes it.
func (c *chaos) once(ctx context.Context, p *fleet.Process) error {
	away := c.upTo(c.most)
	switch c.rng.IntN(4) {
	case 0:
		c.run.kills.add(c.kind+" hung", 1)
		if err := p.Pause(); err != nil {
			return err
		}
		_ = wait(ctx, away) // or the end, which resumes it as well
		return p.Resume()
	case 1:
		c.run.kills.add(c.kind+" stopped", 1)
		if err := p.Stop(); err != nil {
			return err
		}
	default:
		c.run.kills.add(c.kind+" killed", 1)
		if err := p.Kill(); err != nil {
			return err
		}
	}
	_ = wait(ctx, away)
	return p.Start()
}

// hurtAll starts the chaos and returns what waits for its end.
func (r *run) hurtAll(ctx context.Context, etcd *clientv3.Client) func() error {
	var servers, members []*fleet.Process
	for _, s := range r.fleet.Servers() {
		servers = append(servers, s.Process)
	}
	for _, m := range r.fleet.Etcd() {
		members = append(members, m.Process)
	}
	one := func(ps []*fleet.Process) func(context.Context, *rand.Rand) *fleet.Process {
		return func(_ context.Context, rng *rand.Rand) *fleet.Process { return ps[rng.IntN(len(ps))] }
	}
	half := len(r.hosts) / 2
	all := []*chaos{
		// Two agents may be away at once, never both from the same half.
		r.hostChaos(1, r.hosts[:half]),
		r.hostChaos(2, r.hosts[half:]),
		r.chaos("server", 3, 4*time.Second, 2*time.Second, one(servers)),
		r.chaos("etcd", 4, 3*time.Second, 4*time.Second, func(ctx context.Context, rng *rand.Rand) *fleet.Process {
			if rng.IntN(2) == 0 {
				return members[rng.IntN(len(members))]
			}
			leader, err := r.fleet.Leader(ctx, etcd)
			if err != nil {
				return nil
			}
			r.kills.add("etcd leader chosen", 1)
			return leader.Process
		}),
	}
	ended := make(chan error, len(all))
	for _, c := range all {
		go func() { ended <- c.hurt(ctx) }()
	}
	return func() error {
		var first error
		for range all {
			if err := <-ended; err != nil && first == nil {
				first = err
			}
		}
		return first
	}
}
