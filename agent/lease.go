package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"

	"github.com/gravenio/graven/apiclient"
	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog/format"
)

const (
	registerTimeout = 10 * time.Second // for one endpoint
	firstRetry      = 100 * time.Millisecond
	slowestRetry    = 5 * time.Second
	leastRenewal    = 50 * time.Millisecond // whatever a server asks for
	assumedTTL      = 10 * time.Second      // where none was asked for
	reportFor       = time.Minute           // a change is told again: servers write some down only every 30 s
	addressPatience = 5 * time.Second       // beyond the lease of whoever had the address before
)

// lease keeps the control plane told that the daemon lives. All of it runs in
// one goroutine, which does no I/O but HTTP and takes no lock that is held
// during any.
type lease struct {
	a   *Agent
	api *apiclient.Client

	every    time.Duration // between renewals
	pause    *backoff.ExponentialBackOff
	asked    bool                     // a registration was sent; it may have been taken though no answer came
	serving  bool                     // registered once
	silent   bool                     // the control plane's silence has been logged
	reported []openapi.ReplicaSummary // what it was told last; nil for nothing
	changed  time.Time                // when something else was to be told last
}

func newLease(a *Agent) *lease {
	return &lease{a: a, api: a.api, every: assumedTTL / 3, pause: &backoff.ExponentialBackOff{
		InitialInterval: firstRetry, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: slowestRetry,
	}}
}

// errExpired says that the lease is gone; it is handled here.
var errExpired = errors.New("agent: lease has expired")

// run registers and renews until ctx ends, and then says that the daemon leaves.
// The error is a refusal that asking again won't change.
func (l *lease) run(ctx context.Context) error {
	defer l.api.Close()
	for {
		err := l.register(ctx)
		if err == nil {
			l.a.metrics.lease.Store(true)
			err = l.renew(ctx)
			l.a.metrics.lease.Store(false)
		}
		switch {
		case errors.Is(err, errExpired):
			l.a.log.Warn("lease has expired, registering again", "err", err)
		case ctx.Err() != nil:
			l.leave(ctx)
			return nil
		default:
			return err
		}
	}
}

// register asks until there is an answer.
func (l *lease) register(ctx context.Context) error {
	l.pause.Reset()
	begun := time.Now()
	for {
		reg, err := l.tryRegister(ctx)
		if err == nil {
			return l.accept(reg)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		l.a.metrics.registerFailures.Inc()
		refusal := final(err, l.serving)
		switch {
		case errors.Is(err, ErrOtherCluster):
			return err
		case openapi.IsProblem(err, openapi.ProblemAddressInUse) && time.Since(begun) < l.patience():
			// Whoever had the address before may be dead, with some lease left.
		case openapi.IsProblem(err, openapi.ProblemPoolCloned) && time.Since(begun) < l.patience():
			// So may an earlier start that was killed after it had registered and before
			// that was persistent here: this one has its number, and another address.
		case refusal != nil:
			return refusal
		}
		l.away("register", err)
		if err := sleep(ctx, l.pause.NextBackOff(), nil); err != nil {
			return err
		}
	}
}

// patience is for how long an address that is in use is waited for.
func (l *lease) patience() time.Duration {
	if l.a.opts.LeaseTTL > 0 {
		return l.a.opts.LeaseTTL + addressPatience
	}
	return assumedTTL + addressPatience
}

func (l *lease) tryRegister(ctx context.Context) (*openapi.Registration, error) {
	if err := l.checkCluster(ctx); err != nil {
		return nil, err
	}
	body := l.a.registration()
	l.asked = true
	r, err := ask(ctx, registerTimeout, func(ctx context.Context) (*openapi.RegisterDaemonResponse, error) {
		return l.api.API().RegisterDaemonWithResponse(ctx, l.a.id, body)
	})
	if err != nil {
		return nil, fmt.Errorf("register: %w", err)
	}
	if r.JSON200 == nil {
		return nil, fmt.Errorf("register: %s answered %s without a registration", l.api.URL(), r.Status())
	}
	l.reported = body.Replicas
	return r.JSON200, nil
}

// checkCluster asks whose API this is before the daemon leaves a trace in
// a cluster that its pool does not belong to.
func (l *lease) checkCluster(ctx context.Context) error {
	mine := l.a.pool.Identity().Cluster
	if mine.IsZero() {
		return nil
	}
	r, err := ask(ctx, registerTimeout, func(ctx context.Context) (*openapi.GetStatusResponse, error) {
		return l.api.API().GetStatusWithResponse(ctx)
	})
	switch {
	case err != nil:
		return fmt.Errorf("ask for the cluster: %w", err)
	case r.JSON200 == nil || r.JSON200.ClusterID == "":
		return errors.New("ask for the cluster: the server does not know it yet")
	case r.JSON200.ClusterID != mine.String():
		return l.otherCluster(mine, r.JSON200.ClusterID)
	}
	return nil
}

func (l *lease) otherCluster(mine format.ID, theirs string) error {
	return fmt.Errorf("%w: %s, and %s is the API of cluster %s; point the agent at its own cluster, or give it an empty folder",
		ErrOtherCluster, mine, l.api.URL(), theirs)
}

// accept takes a registration as the truth. What has to be written down is left
// to the chores.
func (l *lease) accept(reg *openapi.Registration) error {
	cluster, err := uuid.Parse(reg.ClusterID)
	if err != nil {
		return fmt.Errorf("register: cluster_id %q is no UUID: %w", reg.ClusterID, err)
	}
	if mine := l.a.pool.Identity().Cluster; !mine.IsZero() && mine != format.ID(cluster) {
		return l.otherCluster(mine, reg.ClusterID)
	}
	if _, err := l.a.trust.follow(&reg.Grants, true); err != nil {
		return fmt.Errorf("register: grants: %w", err)
	}
	l.schedule(reg.RenewEverySeconds)
	l.pause.Reset()
	l.serving, l.silent = true, false
	l.a.log.Info("registered", "cluster", reg.ClusterID, "incarnation", l.a.Incarnation(),
		"lease_ttl_seconds", reg.LeaseTTLSeconds, "renew_every", l.every, "api", l.api.URL())
	l.a.chores.registered(format.ID(cluster), reg)
	return nil
}

func (l *lease) schedule(seconds float64) {
	l.every = max(time.Duration(seconds*float64(time.Second)), leastRenewal)
	l.pause.MaxInterval = min(l.every, slowestRetry)
}

// renew sends heartbeats until the lease is lost, the daemon is refused, or ctx
// ends.
func (l *lease) renew(ctx context.Context) error {
	next := l.every
	for {
		if err := sleep(ctx, next, l.a.news); err != nil {
			return err
		}
		begun := time.Now()
		err := l.heartbeat(ctx)
		refusal := final(err, l.serving)
		switch {
		case err == nil:
			next = max(l.every-time.Since(begun), 0)
			continue
		case ctx.Err() != nil:
			continue
		case again(err):
			return fmt.Errorf("%w: %w", errExpired, err)
		case refusal != nil:
			return refusal
		}
		l.a.metrics.renewalFailures.Inc()
		l.away("renew the lease", err)
		next = l.pause.NextBackOff()
	}
}

func (l *lease) heartbeat(ctx context.Context) error {
	body := l.a.heartbeat()
	reported := body.Replicas
	if !slices.Equal(l.reported, reported) {
		l.changed = time.Now()
	}
	if time.Since(l.changed) > reportFor {
		body.Replicas = nil // as before
	}
	r, err := l.post(ctx, body, l.every)
	if err != nil {
		return err
	}
	l.a.metrics.renewals.Inc()
	l.reported = reported
	l.schedule(r.RenewEverySeconds)
	l.pause.Reset()
	if l.silent {
		l.silent = false
		l.a.log.Info("the control plane answers again")
	}
	l.a.results.reported(body.Results)
	l.a.operators(r.Operators)
	keep, err := l.a.trust.follow(&r.Grants, false)
	if err != nil {
		l.a.log.Error("what the control plane says of grants can't be read; what is known goes on", "err", err)
	}
	l.a.chores.keep(keep, l.a.marks.take(r.EtcdMark, false))
	return nil
}

func (l *lease) post(ctx context.Context, body openapi.HeartbeatRequest, timeout time.Duration) (*openapi.HeartbeatAnswer, error) {
	r, err := ask(ctx, timeout, func(ctx context.Context) (*openapi.HeartbeatDaemonResponse, error) {
		return l.api.API().HeartbeatDaemonWithResponse(ctx, l.a.id, body)
	})
	if err != nil {
		return nil, fmt.Errorf("heartbeat: %w", err)
	}
	if r.JSON200 == nil {
		return nil, fmt.Errorf("heartbeat: %s answered %s without an answer", l.api.URL(), r.Status())
	}
	return r.JSON200, nil
}

// leave says the last words: it gives the lease up, if there may be one and the
// control plane can be told in time.
func (l *lease) leave(ctx context.Context) {
	if !l.asked {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.a.opts.LeaveTimeout)
	defer cancel()
	body := l.a.heartbeat()
	body.Leaving = true
	if _, err := l.post(ctx, body, l.a.opts.LeaveTimeout); err != nil && !again(err) {
		l.a.log.Warn("could not tell the control plane that the daemon leaves; its lease will expire", "err", err)
	}
}

// away logs once that the control plane can't be reached, or refuses for now.
func (l *lease) away(op string, err error) {
	what := "no answer from the control plane"
	var problem *openapi.ProblemError
	if errors.As(err, &problem) {
		what = "the control plane refuses for now"
	}
	if l.silent {
		l.a.log.Debug(what, "op", op, "err", err)
		return
	}
	l.silent = true
	l.a.log.Warn(what+"; replicas are served meanwhile, and it is asked again", "op", op, "err", err)
}

// sleep waits for a time or for news, nil for none; the error is the context's.
func sleep(ctx context.Context, d time.Duration, news <-chan struct{}) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-news:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
