package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/gravenio/graven/openapi"
)

func newDaemonDrain(a *app) *cobra.Command {
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "drain DAEMON",
		Short: "Give a daemon no new replicas, and move its own to others",
		Long: `Drain a daemon: it gets no new replicas, and those that it has move to other
daemons, a few at a time, while their logs go on. A log's live writer moves its
replica; without one, the new replica's daemon does. It drains until it is
undrained, whether or not anybody waits.

--wait follows until nothing is on it any more, not even bytes to be freed.`,
		Example: `  graven daemon drain d2 --wait
  graven operator ls --daemon d2`,
		Args: exactly("DAEMON"),
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the daemon is empty")
	timeoutFlag(cmd.Flags(), &timeout)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, cancel, err := withTimeout(cmd.Context(), timeout)
		if err != nil {
			return err
		}
		defer cancel()
		api, err := a.client()
		if err != nil {
			return err
		}
		rsp, err := checked(api.DrainDaemonWithResponse(ctx, args[0], nil))
		if err != nil {
			return err
		}
		if wait {
			w := drainWait{waitLine: waitLine{app: a}, api: api, daemon: args[0]}
			return w.run(ctx)
		}
		return a.showDaemon(rsp.Body)
	}
	return cmd
}

func newDaemonUndrain(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "undrain DAEMON",
		Short:   "Let a daemon have replicas again",
		Example: `  graven daemon undrain d2`,
		Args:    exactly("DAEMON"),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := a.client()
			if err != nil {
				return err
			}
			rsp, err := checked(api.UndrainDaemonWithResponse(cmd.Context(), args[0], nil))
			if err != nil {
				return err
			}
			return a.showDaemon(rsp.Body)
		},
	}
}

func (a *app) showDaemon(body []byte) error {
	d, err := decoded[openapi.Daemon](body)
	if err != nil {
		return err
	}
	return a.show(body, func(t *table) { daemonDetails(t, &d) })
}

// undrained is how often a daemon must be seen as not draining to be taken for it.
const undrained = 4

// drainWait follows a daemon until it is empty.
type drainWait struct {
	waitLine
	api    *openapi.ClientWithResponses
	daemon string

	up int // how often in a row it was seen not to drain
}

// run shows the daemon once nothing is reserved on it. Trouble with the API ends
// nothing: the control plane goes on without this command.
func (w *drainWait) run(ctx context.Context) error {
	for {
		rsp, err := checked(w.api.GetDaemonWithResponse(ctx, w.daemon))
		switch {
		case ctx.Err() != nil:
			return w.interrupted(ctx)
		case openapi.IsProblem(err, openapi.ProblemNotFound):
			return w.ended(fmt.Errorf("daemon %s was removed while it drained", w.daemon))
		case err != nil:
			w.progress(fmt.Sprintf("can't see how far it is: %v; trying again", err))
		default:
			if done, err := w.look(ctx, rsp.Body); done || err != nil {
				return err
			}
		}
		select {
		case <-time.After(replacePoll):
		case <-ctx.Done():
			return w.interrupted(ctx)
		}
	}
}

func (w *drainWait) look(ctx context.Context, body []byte) (done bool, err error) {
	d, err := decoded[openapi.Daemon](body)
	switch {
	case err != nil:
		return false, w.ended(err)
	case d.State == openapi.DaemonUp:
		if w.up++; w.up < undrained { // a server may be a moment behind
			return false, nil
		}
		return false, w.ended(fmt.Errorf("daemon %s was undrained", w.daemon))
	case d.ReservedBytes == 0:
		return true, errors.Join(w.ended(nil), w.app.show(body, func(t *table) { daemonDetails(t, &d) }))
	}
	w.up = 0
	w.progress(fmt.Sprintf("%s: %s left; %s", w.daemon, humanSize(d.ReservedBytes), w.operators(ctx)))
	return false, nil
}

// operators says what is being done, and what the rest waits for.
func (w *drainWait) operators(ctx context.Context) string {
	limit := int32(pageSize)
	rsp, err := checked(w.api.ListOperatorsWithResponse(ctx, &openapi.ListOperatorsParams{Daemon: &w.daemon, Limit: &limit}))
	if err != nil || rsp.JSON200 == nil {
		return "its operators can't be seen"
	}
	running, planned, waits := 0, 0, ""
	for _, o := range rsp.JSON200.Items {
		switch o.State {
		case openapi.OperatorRunning:
			running++
		case openapi.OperatorPlanned:
			if planned++; waits == "" && o.WaitsFor != "" {
				waits = ", for " + o.WaitsFor
			}
		}
	}
	return fmt.Sprintf("%d operators run, %d wait%s", running, planned, waits)
}

func (w *drainWait) interrupted(ctx context.Context) error {
	why := "interrupted"
	if cause := context.Cause(ctx); !errors.Is(cause, errSignal) {
		why = cause.Error()
	}
	return w.ended(withHint(fmt.Errorf("%s while waiting; daemon %s goes on draining", why, w.daemon),
		"follow it with `graven operator ls --daemon %s`, stop it with `graven daemon undrain %s`", w.daemon, w.daemon))
}
