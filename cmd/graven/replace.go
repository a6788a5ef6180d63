package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/gravenio/graven/openapi"
)

// replaceFlags are the flags of `log replace`.
type replaceFlags struct {
	from, to string
	noWait   bool
	abandon  bool
}

func newLogReplace(a *app) *cobra.Command {
	var fl replaceFlags
	cmd := &cobra.Command{
		Use:   "replace NAME --from DAEMON",
		Short: "Replace one replica of a log by one on another daemon",
		Long: `Replace the replica on --from by one on another daemon, chosen by the rules that
the log was created with, or --to. The new replica is filled while the log goes
on, and counts for nothing until it has taken the old one's place. The log's live
writer does that; while it has none, the new replica's own daemon does.

It waits until that is done, and fails if it was given up. Interrupting it stops
only the waiting. --abandon gives a replacement up: the old replica stays.`,
		Example: `  graven log replace l1 --from d2
  graven log replace l1 --from d2 --to d5 --no-wait
  graven log replace l1 --abandon`,
		Args: exactly("NAME"),
	}
	f := cmd.Flags()
	f.StringVar(&fl.from, "from", "", "the `DAEMON` whose replica is to go")
	f.StringVar(&fl.to, "to", "", "the `DAEMON` for the new replica (default: one is chosen)")
	f.BoolVar(&fl.noWait, "no-wait", false, "start it and return")
	f.BoolVar(&fl.abandon, "abandon", false, "give up the replacement that is under way")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := fl.check(); err != nil {
			return err
		}
		api, err := a.client()
		if err != nil {
			return err
		}
		if fl.abandon {
			return a.abandonReplacement(cmd.Context(), api, args[0])
		}
		return a.replace(cmd.Context(), api, args[0], fl)
	}
	return cmd
}

func (fl *replaceFlags) check() error {
	switch {
	case fl.abandon && (fl.from != "" || fl.to != "" || fl.noWait):
		return usagef("--abandon takes no other flag: a log has one replacement at most")
	case fl.abandon:
		return nil
	case fl.from == "":
		return usagef("--from is missing: name the daemon whose replica is to go, or --abandon a replacement")
	case fl.from == fl.to:
		return usagef("--to is %s, as --from: name another daemon, or none", fl.to)
	}
	return nil
}

func (a *app) abandonReplacement(ctx context.Context, api *openapi.ClientWithResponses, log string) error {
	err := remove(ctx, func(ctx context.Context) (*openapi.AbandonReplacementResponse, error) {
		return api.AbandonReplacementWithResponse(ctx, log, nil)
	})
	if err != nil {
		return err
	}
	return a.showValue(map[string]any{"log": log, "abandoned": true}, func(t *table) { t.row("abandoned", "the replacement of log "+log) })
}

func (a *app) replace(ctx context.Context, api *openapi.ClientWithResponses, log string, fl replaceFlags) error {
	key := uuid.NewString()
	rsp, err := checked(api.StartReplacementWithResponse(ctx, log, &openapi.StartReplacementParams{IdempotencyKey: &key},
		openapi.StartReplacementRequest{Replica: fl.from, To: fl.to}))
	if openapi.IsProblem(err, openapi.ProblemNoPlacement) {
		return withHint(err, "start a daemon that shares no failure domain with the replicas that stay; see `graven daemon ls`")
	}
	if err != nil {
		return err
	}
	l, err := decoded[openapi.Log](rsp.Body)
	if err != nil {
		return err
	}
	learner := learnerOf(&l)
	if learner == nil {
		return withHint(fmt.Errorf("the replacement in log %s has ended meanwhile", log), "see `graven log show %s`", log)
	}
	note(a.err, "%s", startedText(&l, learner))
	if fl.noWait {
		return a.show(rsp.Body, func(t *table) { logDetails(t, &l) })
	}
	w := replaceWait{waitLine: waitLine{app: a}, api: api, log: log, from: fl.from, learner: *learner}
	return w.run(ctx)
}

func learnerOf(l *openapi.Log) *openapi.Replica {
	i := slices.IndexFunc(l.Replicas, func(r openapi.Replica) bool { return r.State == openapi.ReplicaLearner })
	if i < 0 {
		return nil
	}
	return &l.Replicas[i]
}

func startedText(l *openapi.Log, learner *openapi.Replica) string {
	return fmt.Sprintf("log %s: a replica on %s is to take the place of the one on %s; %s",
		l.Name, learner.DaemonID, daemonOf(l, learner.Replaces), carrier(l, learner))
}

// carrier says what fills the learner.
func carrier(l *openapi.Log, learner *openapi.Replica) string {
	switch {
	case l.Writer != nil && !l.Writer.Recovering:
		return "the log's writer fills it: " + writerText(l.Writer)
	case learner.DaemonState == openapi.DaemonDown:
		return "the log has no writer, and " + learner.DaemonID + " is down: nothing fills it until one of them is back"
	case l.Writer != nil:
		return "the log has no writer; an agent is filling it: " + writerText(l.Writer)
	}
	return "the log has no writer, so the agent of " + learner.DaemonID + " fills it"
}

// daemonOf names the daemon of a replica, or the replica if it is not there.
func daemonOf(l *openapi.Log, replicaID string) string {
	for _, r := range l.Replicas {
		if r.ReplicaID == replicaID {
			return r.DaemonID
		}
	}
	return replicaID
}

// replacePoll is the time between two looks at the log.
const replacePoll = 500 * time.Millisecond
