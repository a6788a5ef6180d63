package main

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/gravenio/graven/openapi"
)

func newOperator(a *app) *cobra.Command {
	return group("operator", "Show and stop what the control plane does by itself", "",
		newOperatorLs(a), newOperatorShow(a), newOperatorCancel(a),
		newOperatorPause(a), newOperatorResume(a), newOperatorLimits(a))
}

func newOperatorLs(a *app) *cobra.Command {
	var state, kind, daemon, log string
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the operators: what waits, what runs, and what has ended lately",
		Example: `  graven operator ls
  graven operator ls --state failed
  graven operator ls --daemon d2`,
		Args: exactly(),
	}
	f := cmd.Flags()
	f.StringVar(&state, "state", "", "only operators in this `STATE`: planned, running, done, failed or cancelled")
	f.StringVar(&kind, "kind", "", "only operators of this `KIND`: replace, drain, recover, remove-replica or scrub")
	f.StringVar(&daemon, "daemon", "", "only operators that this `DAEMON` takes part in")
	f.StringVar(&log, "log", "", "only operators of this log, by its `NAME` or ID")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := oneOf("state", state, openapi.OperatorPlanned, openapi.OperatorRunning, openapi.OperatorDone, openapi.OperatorFailed, openapi.OperatorCancelled); err != nil {
			return err
		}
		if err := oneOf("kind", kind, openapi.PurposeReplace, openapi.PurposeDrain, openapi.PurposeRecover, openapi.PurposeRemoveReplica, openapi.PurposeScrub); err != nil {
			return err
		}
		api, err := a.client()
		if err != nil {
			return err
		}
		body, err := fetchAll(func(from *string, limit *int32) (openapi.Response, error) {
			return api.ListOperatorsWithResponse(cmd.Context(), &openapi.ListOperatorsParams{
				State: optional(openapi.OperatorState(state)), Kind: optional(openapi.OperatorPurpose(kind)),
				Daemon: optional(daemon), Log: optional(log), Limit: limit, Continue: from,
			})
		})
		if err != nil {
			return err
		}
		list, err := decoded[openapi.OperatorList](body)
		if err != nil {
			return err
		}
		return a.show(body, func(t *table) { operatorRows(t, list.Items) })
	}
	return cmd
}

func operatorRows(t *table, ops []openapi.OperatorStatus) {
	t.row("OPERATOR", "STATE", "REASON", "LOG", "DAEMON", "TO", "TRIES", "NOTE")
	for _, o := range ops {
		t.row(o.OperatorID, o.State, o.Reason, cmp.Or(o.LogName, o.LogID), o.DaemonID, o.To, o.Attempts, operatorNote(&o))
	}
}

// operatorNote says what a person would ask next.
func operatorNote(o *openapi.OperatorStatus) string {
	switch {
	case o.State == openapi.OperatorPlanned && o.WaitsFor != "":
		return "waits for " + o.WaitsFor
	case o.State == openapi.OperatorDone:
		return ""
	}
	return o.Error
}

// operatorLine is an operator in a line.
func operatorLine(o *openapi.OperatorStatus) string {
	text := fmt.Sprintf("operator %s %s (%s)", o.OperatorID, o.State, o.Reason)
	for _, f := range [][2]string{{" of log ", cmp.Or(o.LogName, o.LogID)}, {" on ", o.DaemonID}, {" to ", o.To}, {": ", operatorNote(o)}} {
		if f[1] != "" {
			text += f[0] + f[1]
		}
	}
	return text
}

func operatorEnded(o *openapi.OperatorStatus) bool {
	return o.State != openapi.OperatorPlanned && o.State != openapi.OperatorRunning
}

func newOperatorShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "show OPERATOR",
		Short:   "Show one operator",
		Example: `  graven operator show scrub-d1`,
		Args:    exactly("OPERATOR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := a.client()
			if err != nil {
				return err
			}
			rsp, err := checked(api.GetOperatorWithResponse(cmd.Context(), args[0]))
			if err != nil {
				return operatorHint(err)
			}
			o, err := decoded[openapi.OperatorStatus](rsp.Body)
			if err != nil {
				return err
			}
			return a.show(rsp.Body, func(t *table) { operatorDetails(t, &o) })
		},
	}
}

func operatorDetails(t *table, o *openapi.OperatorStatus) {
	t.row("operator", o.OperatorID)
	t.row("kind", o.Kind)
	t.row("state", o.State)
	t.row("reason", o.Reason)
	for _, f := range [][2]string{
		{"log", o.LogName},
		{"log ID", o.LogID},
		{"replica", o.ReplicaID},
		{"daemon", o.DaemonID},
		{"new replica", o.LearnerID},
		{"to", o.To},
		{"waits for", o.WaitsFor},
		{"error", o.Error},
	} {
		if f[1] != "" {
			t.row(f[0], f[1])
		}
	}
	t.row("tries", o.Attempts)
	t.row("created", stamp(o.CreatedAt))
	if !o.StartedAt.IsZero() {
		t.row("started", stamp(o.StartedAt))
	}
	if !o.EndedAt.IsZero() {
		t.row("ended", stamp(o.EndedAt))
	}
}

// operatorHint says where to look when an operator is not what was thought of it.
func operatorHint(err error) error {
	switch {
	case openapi.IsProblem(err, openapi.ProblemNotFound):
		return withHint(err, "see what there is with `graven operator ls`; what ended hours ago is listed no more")
	case openapi.IsProblem(err, openapi.ProblemConflict):
		return withHint(err, "see how it stands with `graven operator ls`")
	}
	return err
}

func newOperatorCancel(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "cancel OPERATOR",
		Short: "Cancel an operator that waits or runs",
		Long: `Cancel an operator. A replacement's new replica is given up, unless it has taken
its place already; the old one stays. The same operator is not planned again for
an hour: undrain a daemon, or pause the operators, to stop it for longer.`,
		Example: `  graven operator cancel drain-5d3c2f4e-8f5a-4b7e-9a55-0d7f5b0c9a11`,
		Args:    exactly("OPERATOR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := a.client()
			if err != nil {
				return err
			}
			if _, err := checked(api.CancelOperatorWithResponse(cmd.Context(), args[0])); err != nil {
				return operatorHint(err)
			}
			return a.showValue(map[string]any{"operator_id": args[0], "cancelled": true}, func(t *table) { t.row("cancelled", args[0]) })
		},
	}
}

func newOperatorPause(a *app) *cobra.Command {
	return newOperatorSwitch(a, "pause", "Begin no more operators", `Begin no more operators, until they are resumed. What runs goes on; cancel it if it
must not. Condemned replicas are still removed, and replacements that a person or
a writer asks for are made.`,
		func(ctx context.Context, api *openapi.ClientWithResponses) (openapi.Response, error) {
			return api.PauseOperatorsWithResponse(ctx)
		})
}

func newOperatorResume(a *app) *cobra.Command {
	return newOperatorSwitch(a, "resume", "Begin operators again", "",
		func(ctx context.Context, api *openapi.ClientWithResponses) (openapi.Response, error) {
			return api.ResumeOperatorsWithResponse(ctx)
		})
}

func newOperatorSwitch(a *app, use, short, long string, call func(context.Context, *openapi.ClientWithResponses) (openapi.Response, error)) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long,
		Example: "  graven operator " + use,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := a.client()
			if err != nil {
				return err
			}
			rsp, err := checked(call(cmd.Context(), api))
			if err != nil {
				return err
			}
			return a.showOperatorSettings(rsp.GetBody())
		},
	}
}

// limitFlags are the limits that a command line names.
type limitFlags struct {
	set                         *pflag.FlagSet
	grace, stuck, scrub         time.Duration
	perDaemon, cluster, maxDown int32
}

func newOperatorLimits(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "limits",
		Short: "Show or change the limits by which operators are begun",
		Long: `Show the limits, or change those that are named. They hold for the whole cluster
at once, and touch nothing that runs.`,
		Example: `  graven operator limits
  graven operator limits --grace 5m --per-daemon 4`,
		Args: exactly(),
	}
	f := limitFlags{set: cmd.Flags()}
	f.set.DurationVar(&f.grace, "grace", 0, "for how long a daemon must be down, or a replica unfit, before it is replaced")
	f.set.DurationVar(&f.stuck, "stuck-after", 0, "for how long an operator may make no progress before it is given up; a scrub is when the next one is due, too")
	f.set.Int32Var(&f.perDaemon, "per-daemon", 0, "how many operators a daemon takes part in at a time")
	f.set.Int32Var(&f.cluster, "cluster", 0, "how many operators run at a time")
	f.set.Int32Var(&f.maxDown, "max-down", 0, "the `PERCENT` of daemons that may be down before nothing is begun any more")
	f.set.DurationVar(&f.scrub, "scrub-every", 0, "how often each daemon is asked to scrub its pool; 0 for never")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := f.check(); err != nil {
			return err
		}
		api, err := a.client()
		if err != nil {
			return err
		}
		rsp, err := checked(api.GetOperatorSettingsWithResponse(cmd.Context()))
		if err != nil {
			return err
		}
		now, err := decoded[openapi.OperatorSettings](rsp.Body)
		if err != nil {
			return err
		}
		if !f.named() {
			return a.showOperatorSettings(rsp.Body)
		}
		set, err := checked(api.SetOperatorLimitsWithResponse(cmd.Context(), unchangedSince(rsp), f.apply(now.Limits)))
		if openapi.IsProblem(err, openapi.ProblemPreconditionFailed) {
			return withHint(err, "somebody else has changed the settings meanwhile: look at them with `graven operator limits`, and repeat the command")
		}
		if err != nil {
			return err
		}
		return a.showOperatorSettings(set.Body)
	}
	return cmd
}

// unchangedSince has the limits changed only if they are still those that were
// read: what is not named is sent, too.
func unchangedSince(rsp *openapi.GetOperatorSettingsResponse) *openapi.SetOperatorLimitsParams {
	if rsp.Headers200 == nil {
		return nil
	}
	return &openapi.SetOperatorLimitsParams{IfMatch: &rsp.Headers200.ETag}
}

// check refuses times that the API can't be told, before anything is asked of it.
func (f *limitFlags) check() error {
	for _, d := range []struct {
		flag  string
		value time.Duration
		least time.Duration
	}{{"grace", f.grace, time.Second}, {"stuck-after", f.stuck, time.Second}, {"scrub-every", f.scrub, 0}} {
		if f.set.Changed(d.flag) && (d.value < d.least || d.value%time.Second != 0) {
			return usagef("--%s is %v: must be whole seconds, at least %d, such as 90s or 10m", d.flag, d.value, int(d.least.Seconds()))
		}
	}
	return nil
}

// named says whether any limit is.
func (f *limitFlags) named() bool {
	for flag := range f.setters(nil) {
		if f.set.Changed(flag) {
			return true
		}
	}
	return false
}

// apply changes the limits that are named.
func (f *limitFlags) apply(l openapi.OperatorLimits) openapi.OperatorLimits {
	for flag, set := range f.setters(&l) {
		if f.set.Changed(flag) {
			set()
		}
	}
	return l
}

func (f *limitFlags) setters(l *openapi.OperatorLimits) map[string]func() {
	return map[string]func(){
		"grace":       func() { l.GraceSeconds = int64(f.grace / time.Second) },
		"stuck-after": func() { l.TimeoutSeconds = int64(f.stuck / time.Second) },
		"per-daemon":  func() { l.PerDaemon = f.perDaemon },
		"cluster":     func() { l.Cluster = f.cluster },
		"max-down":    func() { l.MaxDownPercent = f.maxDown },
		"scrub-every": func() { l.ScrubEverySeconds = int64(f.scrub / time.Second) },
	}
}

func (a *app) showOperatorSettings(body []byte) error {
	s, err := decoded[openapi.OperatorSettings](body)
	if err != nil {
		return err
	}
	return a.show(body, func(t *table) {
		t.row("paused", s.Paused)
		t.row("grace", everySeconds(s.Limits.GraceSeconds))
		t.row("stuck after", everySeconds(s.Limits.TimeoutSeconds))
		t.row("per daemon", s.Limits.PerDaemon)
		t.row("cluster", s.Limits.Cluster)
		t.row("max down", strconv.Itoa(int(s.Limits.MaxDownPercent))+"%")
		t.row("scrub every", everySeconds(s.Limits.ScrubEverySeconds))
	})
}

func everySeconds(n int64) string {
	if n == 0 {
		return "never"
	}
	return (time.Duration(n) * time.Second).String()
}
