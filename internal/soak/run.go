package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/gravenio/graven/internal/fleet"
)

// What the fleet is made of.
const (
	leaseTTL  = 3 * time.Second
	ringBytes = 1 << 20 // the smallest log
	poolBytes = 14 << 20
)

// Options of a soak.
type Options struct {
	// Dir takes everything; it must be there and empty.
	Dir string
	// For is how long the clients work.
	For time.Duration
	// Seed decides what is chosen.
	Seed uint64
	// Clients, Agents and Names are how many there are; 6, 6 and 14 by default. There
	// must be at least 6 agents.
	Clients, Agents, Names int
	// Logf takes a line now and then.
	Logf func(format string, args ...any)
}

func (o Options) withDefaults() Options {
	def := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	def(&o.Clients, 6)
	def(&o.Agents, 6)
	def(&o.Names, 14)
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	return o
}

// Report is what came of it.
type Report struct {
	Seed uint64
	// Differences are empty when all is well.
	Differences []string
	// Figures are for people.
	Figures []string
}

// run is one soak.
type run struct {
	o     Options
	fleet *fleet.Fleet
	book  *ledger
	names names
	hosts []*host

	draining sync.Mutex // one daemon at a time

	done, refusals, unavailable, lost, kills counts

	mu    sync.Mutex // and the hosts' agents
	wrong []string
	all   map[string]*history // of every log that ever was
	here  []*history          // of those that are believed to be there
}

// Run soaks, and returns what it found. The error is for what kept it from
// looking.
func Run(ctx context.Context, o Options) (*Report, error) {
	o = o.withDefaults()
	r := &run{o: o, fleet: fleet.New(o.Dir), all: map[string]*history{}}
	r.names.begun = time.Now()
	err := r.soak(ctx)
	for _, h := range r.hosts {
		h.api.close()
	}
	r.differAll(r.fleet.Died())
	err = errors.Join(err, r.fleet.Close())
	scandals, serr := r.fleet.Scandals()
	r.differAll(scandals)
	return r.report(), errors.Join(err, serr)
}

func (r *run) soak(ctx context.Context) error {
	if err := r.start(ctx); err != nil {
		return err
	}
	etcd, err := r.fleet.Client()
	if err != nil {
		return err
	}
	defer etcd.Close()
	r.book = newLedger(etcd)
	following, stop := context.WithCancel(ctx)
	followed := make(chan struct{})
	go func() { defer close(followed); r.book.follow(following) }()
	defer func() { stop(); <-followed }()

	working, cancel := context.WithTimeout(ctx, r.o.For)
	defer cancel()
	ended := r.hurtAll(working, etcd)
	err = r.work(working)
	err = errors.Join(err, ended())
	if err != nil || ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	r.differAll(r.idle())
	return r.compare(ctx, etcd)
}

func (r *run) start(ctx context.Context) error {
	if err := r.fleet.AddEtcd(3); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := r.fleet.StartEtcd(ctx); err != nil {
		return err
	}
	for range 3 {
		s, err := r.fleet.AddServer("--ttl", leaseTTL.String())
		if err != nil {
			return err
		}
		if err := s.Start(); err != nil {
			return err
		}
	}
	for _, s := range r.fleet.Servers() {
		if err := s.Ready(ctx); err != nil {
			return err
		}
	}
	if err := r.setLimits(); err != nil {
		return err
	}
	for i := range r.o.Agents {
		h, err := r.addHost(i)
		if err != nil {
			return err
		}
		r.hosts = append(r.hosts, h)
	}
	return nil
}

// work runs the clients until ctx ends.
func (r *run) work(ctx context.Context) error {
	var wg sync.WaitGroup
	for n := range r.o.Clients {
		c, err := r.newClient(n)
		if err != nil {
			return err
		}
		wg.Go(func() { c.work(ctx) })
	}
	wg.Go(func() { r.tell(ctx) })
	wg.Wait()
	return nil
}

// tell says now and then how it goes.
func (r *run) tell(ctx context.Context) {
	for wait(ctx, 30*time.Second) == nil {
		_, n := r.book.result()
		r.o.Logf("%d revisions audited; done: %s; killed: %s; differences: %d", n, &r.done, &r.kills, len(r.differences()))
	}
}

// mostDifferences bounds what is kept.
const mostDifferences = 50

// differ notes something that must not be.
func (r *run) differ(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.wrong) < mostDifferences {
		r.wrong = append(r.wrong, text)
		r.o.Logf("DIFFERENCE: %s", text)
	}
}

func (r *run) differences() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.wrong...)
}

// adopt remembers a log that was made.
func (r *run) adopt(id, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all[id] != nil {
		return // the answer came twice
	}
	h := newHistory(id, name)
	r.all[id] = h
	r.here = append(r.here, h)
}

// drop forgets that a log is there.
func (r *run) drop(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, h := range r.here {
		if h.id == id {
			r.here = append(r.here[:i:i], r.here[i+1:]...)
			return
		}
	}
}

// pick is a log that is believed to be there; nil if there is none.
func (r *run) pick(rng *rand.Rand) *history {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.here) == 0 {
		return nil
	}
	return r.here[rng.IntN(len(r.here))]
}

func (r *run) history(id string) *history {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all[id]
}

func (r *run) report() *Report {
	out := &Report{Seed: r.o.Seed, Differences: r.differences()}
	var revisions int64
	if r.book != nil {
		var wrong []string
		wrong, revisions = r.book.result()
		out.Differences = append(out.Differences, wrong...)
	}
	out.Figures = []string{
		fmt.Sprintf("seed %d, %v, %d clients, %d agents, 3 servers, 3 etcd members", r.o.Seed, r.o.For, r.o.Clients, r.o.Agents),
		"done: " + r.done.String(),
		"operators: " + r.operators(),
		"hurt: " + r.kills.String(),
		"refused: " + r.refusals.String(),
		"unavailable (repeated): " + r.unavailable.String(),
		"answer lost (repeated): " + r.lost.String(),
		fmt.Sprintf("revisions of etcd audited: %d; logs made: %d", revisions, len(r.all)),
	}
	return out
}

// operators are what the ledger saw of them.
func (r *run) operators() string {
	if r.book == nil {
		return "none"
	}
	return r.book.operators.String()
}

// String is the report as people read it.
func (r *Report) String() string {
	text := strings.Join(r.Figures, "\n")
	if len(r.Differences) == 0 {
		return text + "\nno differences"
	}
	return fmt.Sprintf("%s\n%d DIFFERENCES (seed %d):\n%s", text, len(r.Differences), r.Seed, strings.Join(r.Differences, "\n"))
}
