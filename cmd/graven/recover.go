package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/replog"
)

// recoverFlags are the flags of `log recover`.
type recoverFlags struct {
	acceptLoss bool
	yes        bool
	takeover   bool
	timeout    time.Duration
}

func newLogRecover(a *app) *cobra.Command {
	var fl recoverFlags
	cmd := &cobra.Command{
		Use:   "recover NAME",
		Short: "Recover a log, and bring its replicas up to date",
		Long: `Open a log as a writer does, which fences every earlier writer and finds all that
was acknowledged; wait until each replica is up to date or stays away, and until a
replacement that is under way is done; say what there is, and close the log.

A log opens only if fewer replicas than its ack quorum are silent, lost or damaged:
only then do the others hold all that was acknowledged. Where more are lost for
good, --accept-data-loss goes on from the best one that answers. Once every replica
has been tried it says what is given up, and asks for the log's name. What only the
others held is gone then, even when they return; a writer that may still run
elsewhere is cut off from what it acknowledges. The journal keeps a record of it
(see graven watch), and what is lost is replaced on daemons that have room.`,
		Example: `  graven log recover l1
  graven log recover l1 --timeout 30s -o json | jq .commit_lsn
  graven log recover l1 --accept-data-loss     # says what is given up, and asks`,
		Args: exactly("NAME"),
	}
	f := cmd.Flags()
	f.BoolVar(&fl.acceptLoss, "accept-data-loss", false, "if too many replicas are lost, go on without what only they held")
	f.BoolVar(&fl.yes, "yes", false, "don't ask before data is given up")
	f.BoolVar(&fl.takeover, "takeover", false, "fence a live writer of the log and take its place")
	timeoutFlag(f, &fl.timeout)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := fl.check(a); err != nil {
			return err
		}
		return a.recoverLog(cmd.Context(), args[0], fl)
	}
	return cmd
}

func (fl *recoverFlags) check(a *app) error {
	switch {
	case fl.yes && !fl.acceptLoss:
		return usagef("--yes answers what --accept-data-loss asks: nothing else asks anything")
	case fl.acceptLoss && !fl.yes && !isTerminal(a.in):
		return usagef("--accept-data-loss asks for the log's name, and standard input is no terminal: --yes answers in advance")
	}
	return nil
}

// recovery is one run of `log recover`.
type recovery struct {
	*app
	recoverFlags
	api   *openapi.ClientWithResponses
	log   string // its name
	names names
	notes *replicaNotes
}

// How long a log that is open is kept so.
const (
	// recoverBound is for replicas that are being filled. One that needs longer is
	// brought up to date by the next writer.
	recoverBound = time.Minute
	// awayBound is for replicas that are away: a daemon that was started a moment
	// ago has a new address, and a renewal of the lease brings it.
	awayBound = 5 * time.Second
)

func (a *app) recoverLog(ctx context.Context, name string, fl recoverFlags) error {
	ctx, cancel, err := withTimeout(ctx, fl.timeout)
	if err != nil {
		return err
	}
	defer cancel()
	api, err := a.client()
	if err != nil {
		return err
	}
	rsp, err := checked(api.GetLogWithResponse(ctx, name))
	if err != nil {
		return err
	}
	l, err := decoded[openapi.Log](rsp.Body)
	if err != nil {
		return err
	}
	r := &recovery{app: a, recoverFlags: fl, api: api, log: l.Name}
	r.names.addLog(&l)
	r.notes = &replicaNotes{out: a.err, names: &r.names}
	return r.run(ctx)
}

func (r *recovery) run(ctx context.Context) error {
	w, err := r.open(ctx)
	if err != nil {
		return err
	}
	if r.acceptLoss && w.Loss() == nil {
		note(r.err, "nothing had to be given up")
	} else if r.acceptLoss {
		note(r.err, "the loss is recorded in the journal")
	}
	err = r.wait(ctx, w)
	r.names.lookUp(ctx, r.api, r.log)
	result := r.result(w)
	r.notes.mute()
	if cerr := w.Close(); cerr != nil {
		note(r.err, "note: %v; the lease ends by itself", cerr)
	}
	if err != nil {
		err = fmt.Errorf("log %s is recovered up to LSN %d, but %s", r.log, result.CommitLSN, r.names.explain(err.Error()))
	} else if away := result.away(); len(away) > 0 {
		note(r.err, "note: what is on %s takes no part: start the agent again, or have the replica replaced with `graven log replace %s --from %s`",
			listed(away), r.log, away[0])
	}
	return errors.Join(err, r.showValue(result, result.rows))
}

// open waits for replicas, for a person if need be, and for those that take the
// place of what is lost.
func (r *recovery) open(ctx context.Context) (*replog.Writer, error) {
	daemons, err := r.reach()
	if err != nil {
		return nil, err
	}
	stop := r.explainWait(ctx, r.api, r.log)
	defer stop()
	opening, end := context.WithCancelCause(ctx)
	defer end(nil)
	o := daemons.with(replog.Options{Log: slog.New(r.notes)})
	if r.acceptLoss {
		q := &lossQuestion{recovery: r, refuse: end, before: stop}
		o.AcceptLoss = q.ask
	}
	w, err := replog.Open(opening, daemons.control(r.api, "log recover"), replog.OpenRequest{Log: r.log, Takeover: r.takeover}, o)
	stop()
	var refused *refusedLoss
	switch {
	case err == nil:
		return w, nil
	case errors.As(context.Cause(opening), &refused):
		return nil, refused
	}
	r.names.lookUp(ctx, r.api, r.log)
	err = openFailed(ctx, r.api, r.log, err)
	var named *explainedError
	if errors.As(err, &named) && !r.acceptLoss {
		return nil, withHint(named, "start those daemons again; if too many are lost for good, --accept-data-loss goes on from the best replica "+
			"that answers, and what only the others held is gone, even when they return")
	}
	return nil, err
}

// wait returns when there is nothing to wait for any more: no replica is being
// brought up to date or takes another one's place. After a loss that includes
// replicas that are away, until the control plane finds no place for them.
func (r *recovery) wait(ctx context.Context, w *replog.Writer) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	began, said := time.Now(), false
	for {
		why, err := r.unsettled(w, time.Since(began))
		if why == "" || err != nil {
			return err
		}
		if !said && time.Since(began) > silence {
			said = true
			note(r.err, "note: the log is recovered; %s; waiting for that (--timeout bounds it)", r.names.explain(why))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", context.Cause(ctx), why)
		}
	}
}

// unsettled says in words what is to be waited for, after some time, or nothing.
func (r *recovery) unsettled(w *replog.Writer, after time.Duration) (why string, err error) {
	if err := w.Err(); err != nil {
		return "", err
	}
	if c, ok := w.Replacing(); ok {
		return fmt.Sprintf("replica %s is to take the place of replica %s", c.Learner, c.Replaces), nil
	}
	for _, s := range w.Status() {
		switch {
		case !s.Settled && after < recoverBound:
			return fmt.Sprintf("replica %s is %s, %s behind", s.ID, s.Stage, humanSize(s.Lag)), nil
		case s.Stage == stageAway && w.Loss() != nil && !r.notes.refused():
			return fmt.Sprintf("replica %s is to be replaced", s.ID), nil
		case s.Stage == stageAway && after < awayBound:
			return fmt.Sprintf("replica %s is away", s.ID), nil
		}
	}
	return "", nil
}
