package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gravenio/graven/apiclient"
	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog"
)

// Agent is a replica daemon. Make it with New.
type Agent struct {
	opts    Options
	log     *slog.Logger
	id      string
	pool    *pmemlog.Pool
	watch   *observer
	metrics *metrics
	catalog *catalog
	chores  *chores
	api     *apiclient.Client
	results results
	lane    *lane
	trust   *trust
	marks   *marks
	scrubs  *scrubber
	news    chan struct{} // there is something to tell the control plane soon

	incarnation atomic.Uint64
	stopped     atomic.Bool // sessions are not admitted any more
	listening   chan struct{}

	mu       sync.Mutex // never held during I/O
	addr     net.Addr
	observed net.Addr
	closed   bool
	stop     context.CancelFunc // of Run; nil before
	finished chan struct{}      // closed when Run has ended
}

// New checks the options and opens the pool, or makes it if there is none. It
// listens nowhere and asks nobody yet.
//
// Errors are those of the options; pmemlog's of the pool: ErrLocked for one that
// another process uses, ErrVersion for one of another version, ErrCorrupt for
// one that is truncated or damaged; and ErrOtherDaemon.
func New(opts Options) (*Agent, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	api, err := apiclient.New(opts.Endpoints, opts.API)
	if err != nil {
		return nil, bad("Endpoints", "%v", err)
	}
	a := &Agent{
		opts: opts, api: api, metrics: newMetrics(), news: make(chan struct{}, 1),
		trust: newTrust(opts.now), marks: newMarks(opts.now), listening: make(chan struct{}), finished: make(chan struct{}),
	}
	a.watch = &observer{syncs: a.metrics.syncs, begun: time.Now()}
	a.log = opts.Logger
	if a.pool, err = openPool(&a.opts, a.watch); err != nil {
		return nil, err
	}
	if err := a.init(); err != nil {
		return nil, errors.Join(err, a.pool.Close())
	}
	a.pool.OnFailure(a.poolFailed)
	return a, nil
}

func (a *Agent) init() error {
	var err error
	if a.id, err = daemonID(&a.opts, a.pool); err != nil {
		return err
	}
	a.log = a.opts.Logger.With("daemon", a.id)
	self := a.pool.Identity()
	a.incarnation.Store(self.Incarnation)
	a.catalog, a.chores, a.lane = newCatalog(a), newChores(a), newLane(a)
	a.scrubs = newScrubber(a)
	a.metrics.badBlocks = a.lookAtBadBlocks(sysfs)
	if err = a.trust.load(a.opts.Dir, self.Cluster.String()); err != nil {
		a.log.Warn("grant keys can't be read; writers are served once the agent is registered", "err", err)
	}
	if err = a.marks.load(a.opts.Dir, self.Cluster.String()); err != nil {
		a.log.Warn("how far etcd was can't be read; the daemon can't tell whether it was set back while it was stopped", "err", err)
	}
	for _, bad := range a.pool.Unmended() {
		a.log.Error("a copy of the pool's own structures is bad and can't be written anew; the other one is used, have the replicas replaced elsewhere", "err", &bad)
	}
	for _, l := range a.pool.Replicas() {
		if l.Err != nil {
			a.log.Error("a replica in the pool can't be used; it is kept and served to nobody", "log", l.Log, "replica", l.Replica, "err", l.Err)
		}
	}
	return a.metrics.register(a)
}

// ID returns the daemon's ID.
func (a *Agent) ID() string { return a.id }

// Addr returns where writers are served; nil before Run listens.
func (a *Agent) Addr() net.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.addr
}

// MetricsAddr returns where metrics are served; nil before Run listens, or for
// nowhere.
func (a *Agent) MetricsAddr() net.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.observed
}

// Listening returns a channel that is closed once Addr and
// MetricsAddr are known and served.
func (a *Agent) Listening() <-chan struct{} { return a.listening }

// Incarnation returns the number of this start of the daemon, or that of the
// one before until Run has counted this one.
func (a *Agent) Incarnation() uint64 { return a.incarnation.Load() }

// Health returns what the daemon tells of itself. It never waits for I/O.
func (a *Agent) Health() openapi.Health { return a.health() }

// Run counts the incarnation, listens, serves, registers and renews until ctx
// ends; then it leaves in order: no more sessions, the running ones ended, hints
// persisted, the control plane told, the pool closed. It returns nil then, and
// else why it had to end: ErrListen, ErrRefused, ErrOtherCluster, or the pool's.
// It may be called once; it closes the agent.
func (a *Agent) Run(ctx context.Context) error {
	ctx, err := a.begin(ctx)
	if err != nil {
		return err
	}
	defer close(a.finished)
	err = a.run(ctx)
	return errors.Join(err, a.pool.Close())
}

func (a *Agent) begin(ctx context.Context) (context.Context, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || a.stop != nil {
		return nil, ErrClosed
	}
	ctx, a.stop = context.WithCancel(ctx)
	return ctx, nil
}

func (a *Agent) run(ctx context.Context) error {
	n, err := a.pool.NextIncarnation()
	if err != nil {
		return fmt.Errorf("agent: count the incarnation: %w", err)
	}
	a.incarnation.Store(n)
	w, err := a.newWork()
	if err != nil {
		return err
	}
	self, space := a.pool.Identity(), a.pool.Free()
	a.log.Info("serving", "addr", a.Addr(), "pool", self.Pool, "media", self.Kind, "incarnation", n,
		"replicas", len(a.pool.Replicas()), "free_bytes", space.Free, "capacity_bytes", space.Total)
	return w.run(ctx)
}

// Close ends Run if it runs, waits for its end, and closes the pool. It may be
// called twice.
func (a *Agent) Close() error {
	a.mu.Lock()
	a.closed = true
	stop := a.stop
	a.mu.Unlock()
	if stop != nil {
		stop()
		<-a.finished
	}
	return a.pool.Close()
}

// poolFailed reports that nothing more is written, at once. A medium that fails a
// single place does not come to that, and is not said to have failed.
func (a *Agent) poolFailed(err error) {
	a.log.Error("the pool has failed: nothing more is written to it; see to the cause and start the daemon again", "err", err)
	signal(a.news)
}
