package soak

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/gravenio/graven/internal/fleet"
	"github.com/gravenio/graven/openapi"
)

// host is a place for an agent. When its agent goes for good, another one with
// another ID and an empty folder comes in its place.
type host struct {
	run   *run
	fixed bool // always on the same port
	agent *fleet.Agent
	api   *session
}

// addHost starts an agent on a new host.
func (r *run) addHost(n int) (*host, error) {
	api, err := r.connect(n)
	if err != nil {
		return nil, err
	}
	h := &host{run: r, fixed: n%2 == 0, api: api} // every other one comes back on another port
	return h, h.join()
}

// join starts a daemon that nobody knows yet.
func (h *host) join() error {
	h.run.mu.Lock()
	defer h.run.mu.Unlock()
	id := fmt.Sprintf("d%d", len(h.run.fleet.Agents())+1)
	a, err := h.run.fleet.AddAgent(id, poolBytes, h.fixed, "--ttl", leaseTTL.String(), "--scrub-every", "10s")
	if err != nil {
		return err
	}
	h.agent = a
	return a.Start()
}

// agents are those that have not gone for good.
func (r *run) agents() []*fleet.Agent {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*fleet.Agent
	for _, h := range r.hosts {
		out = append(out, h.agent)
	}
	return out
}

// Times that a person would wait before giving up.
const (
	goneTime  = 15 * time.Second // until a daemon is down
	drainTime = 20 * time.Second // until nothing is on it
)

// lose loses the host's pool, as far as people know: its daemon is given up, and
// refused when it returns.
func (h *host) lose(ctx context.Context, rng *rand.Rand) error {
	if err := h.agent.Kill(); err != nil {
		return err
	}
	h.run.kills.add("host lost", 1)
	if !h.run.sees(ctx, goneTime, h.down) || !h.remove(true) {
		return h.agent.Start()
	}
	if rng.IntN(2) == 0 { // or another one joins first
		if err := h.comeBack(h.agent); err != nil {
			return err
		}
		return h.join()
	}
	gone := h.agent
	if err := h.join(); err != nil {
		return err
	}
	return h.comeBack(gone)
}

// comeBack starts a daemon that was given up. It must end by itself.
func (h *host) comeBack(a *fleet.Agent) error {
	if err := a.Start(); err != nil {
		return err
	}
	a.Expect()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := a.Wait(ctx); err != nil {
		h.run.differ("daemon %s was given up and runs again: %v", a.ID, err)
		return a.Kill()
	}
	log, err := os.ReadFile(a.Log())
	if err != nil {
		return fmt.Errorf("soak: %w", err)
	}
	if !bytes.Contains(log, []byte("daemon-gone")) {
		h.run.differ("daemon %s was given up, and was not told so when it returned; see %s", a.ID, a.Log())
	}
	h.run.done.add("return refused", 1)
	return nil
}

// retire drains the daemon and takes it away in order, if that works.
func (h *host) retire(ctx context.Context) error {
	id := h.agent.ID
	if !h.drain() {
		return nil
	}
	if !h.run.sees(ctx, drainTime, func(b *books) bool { return b.empty(id) }) {
		h.undrain()
		return nil
	}
	h.run.done.add("drained", 1)
	if err := h.agent.Stop(); err != nil {
		return err
	}
	if !h.run.sees(ctx, goneTime, h.down) || !h.remove(false) {
		h.undrain()
		return h.agent.Start()
	}
	return h.join()
}

// down says whether the daemon is registered and has no lease. One that was hurt
// before it could register is neither down nor to be removed.
func (h *host) down(b *books) bool {
	_, known := b.daemons[h.agent.ID]
	_, live := b.live[h.agent.ID]
	return known && !live
}

// remove removes the daemon, and says whether it did.
func (h *host) remove(lost bool) bool {
	what, params := "rm", &openapi.DeleteDaemonParams{}
	if lost {
		what, params.Lost = "rm lost", &lost
	}
	err, repeated := h.api.definite(what, func(ctx context.Context) (openapi.Response, error) {
		return answered(h.api.DeleteDaemonWithResponse(ctx, h.agent.ID, params))
	})
	return err == nil || repeated && openapi.IsProblem(err, openapi.ProblemNotFound)
}

func (h *host) drain() bool {
	err, _ := h.api.definite("drain", func(ctx context.Context) (openapi.Response, error) {
		return answered(h.api.DrainDaemonWithResponse(ctx, h.agent.ID, nil))
	})
	return err == nil
}

func (h *host) undrain() {
	_, _ = h.api.definite("undrain", func(ctx context.Context) (openapi.Response, error) {
		return answered(h.api.UndrainDaemonWithResponse(ctx, h.agent.ID, nil))
	})
}

// sees waits for what the ledger shows, for a time, and says whether it came.
func (r *run) sees(ctx context.Context, most time.Duration, shown func(*books) bool) bool {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	b, _ := r.book.until(ctx, func(b *books) []string {
		if shown(b) {
			return nil
		}
		return []string{"not yet"}
	})
	return b != nil
}
