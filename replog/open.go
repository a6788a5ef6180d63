package replog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/gravenio/graven/replog/core"
)

// Open takes the log over in a new epoch, recovers it, and returns a writer that
// is ready to append. It waits, as long as ctx allows, for the replicas that it
// needs; the error then names each replica and what is wrong with it.
//
// Replicas may have promised a higher epoch than the control plane remembers,
// when that was restored from a backup; Open then asks for a higher one. They may
// know a newer set, too; Open is then repeated for a few leases, until the control
// plane has heard of that set from their daemons, and of where its members are, and
// else returns core.ErrSetBehind.
func Open(ctx context.Context, c Control, r OpenRequest, o Options) (*Writer, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	a := opening{control: c, request: r, takeover: r.Takeover, every: usualRenewal, behind: patience{pause: o.pause()}, log: o.Log}
	for {
		w, err := openOnce(ctx, c, a.request, o)
		if err == nil {
			return w, nil
		}
		if err := a.after(ctx, w, err); err != nil {
			return nil, err
		}
	}
}

// opening is an Open through all its attempts.
type opening struct {
	control  Control
	request  OpenRequest   // the next one
	takeover bool          // the caller wants the log whoever has it
	every    time.Duration // how often leases are renewed, as far as is known
	behind   patience      // with a set that is behind
	fenced   *Grant        // whose lease the next attempt takes over
	log      *slog.Logger
}

// learnLeases is for how many renewals an open is repeated whose grant names an older
// set than the replicas do. The control plane learns the newer one from the daemons,
// which register again when they next renew their leases; these are some times
// longer than the time between two renewals.
const learnLeases = 9

// usualRenewal is how often leases are renewed where nobody has chosen their length: a
// third of 10 s. Of those of a control plane that grants nothing, no more is known.
const usualRenewal = 10 * time.Second / 3

// maxEpoch is the highest epoch of the control plane's contract: what a JSON
// number holds exactly. A replica that names a higher one is not believed.
const maxEpoch = 1<<53 - 1

// after makes ready for another attempt behind one that failed, or says why there is
// none. w has its grant; nil if there was none.
func (a *opening) after(ctx context.Context, w *Writer, err error) error {
	if w != nil {
		a.every, a.fenced = w.grant.RenewEvery, nil
	}
	var fenced *core.FencedError
	switch {
	case errors.Is(err, core.ErrSetBehind):
		return a.afterSetBehind(ctx, w != nil, err)
	case errors.As(err, &fenced) && a.request.MinEpoch <= fenced.By.Epoch && fenced.By.Epoch < maxEpoch:
		return a.afterFence(ctx, w.grant, fenced, err)
	default:
		return errors.Join(err, a.giveBack(ctx))
	}
}

// afterSetBehind waits for the control plane to learn the newer set. A recovery that was
// granted nothing has nothing to wait for here: it is one of many, and asked for again.
func (a *opening) afterSetBehind(ctx context.Context, granted bool, err error) error {
	cerr := a.giveBack(ctx) // whoever wants the log meanwhile goes first
	if cerr != nil || !granted && a.request.Recovering {
		return errors.Join(err, cerr)
	}
	if a.behind.since.IsZero() {
		a.log.Info("the control plane was set back and does not know the newer replica set yet: asking again", "log", a.request.Log, "error", err)
	}
	if !a.behind.wait(ctx, learnLeases*a.every) {
		return err
	}
	return nil
}

// afterFence asks for a higher epoch than the one that a replica has promised.
func (a *opening) afterFence(ctx context.Context, g Grant, by *core.FencedError, err error) error {
	if _, rerr := a.control.Renew(ctx, g); rerr != nil {
		return fmt.Errorf("open log %s: %w: %w", a.request.Log, err, rerr)
	}
	// The control plane still takes us for the writer: it has forgotten the
	// epoch that the replicas have promised.
	a.request.MinEpoch, a.fenced = by.By.Epoch+1, &g
	if !a.request.Recovering {
		a.request.Takeover = true // of ourselves
		return nil
	}
	if cerr := a.giveBack(ctx); cerr != nil { // whoever wants the log meanwhile goes first
		return fmt.Errorf("open log %s: %w: %w", a.request.Log, err, cerr)
	}
	return nil
}

// giveBack gives the lease back that an attempt that was fenced has left for the next
// one, which then has nothing of ours to take over.
func (a *opening) giveBack(ctx context.Context) error {
	a.request.Takeover = a.takeover
	if a.fenced == nil {
		return nil
	}
	g := *a.fenced
	a.fenced = nil
	return a.control.Close(ctx, g)
}

// openOnce returns a writer with only its grant, and the error, when it fails
// after the control plane has granted it.
func openOnce(ctx context.Context, c Control, r OpenRequest, o Options) (*Writer, error) {
	g, err := c.Open(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("open log %s: %w", r.Log, err)
	}
	w, err := start(g, c, o)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open log %s: %w", r.Log, err), c.Close(ctx, g))
	}
	select {
	case <-w.opened:
		err = w.Err()
	case <-ctx.Done():
		err = fmt.Errorf("open log %s: %w: %s", r.Log, context.Cause(ctx), w.Waiting())
	}
	if err == nil {
		err = w.lossRecorded(ctx)
	}
	if err == nil {
		return w, nil
	}
	var fenced *core.FencedError
	if errors.As(err, &fenced) {
		w.stop()
		return &Writer{grant: g}, err
	}
	return &Writer{grant: g}, errors.Join(err, w.Close())
}
