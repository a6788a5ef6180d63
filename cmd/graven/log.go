package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/gravenio/graven/openapi"
)

func newLog(a *app) *cobra.Command {
	return group("log", "Create, fill, read and check replicated logs", "",
		newLogCreate(a), newLogLs(a), newLogShow(a), newLogAppend(a), newLogRead(a), newLogVerify(a), newLogRecover(a), newLogReplace(a), newLogRm(a))
}

func newLogCreate(a *app) *cobra.Command {
	var r rules
	var ack int32
	replicas := int32(3)
	capacity := size(256 << 20)
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Create a log and reserve its space",
		Example: `  graven log create l1 --replicas 3 --ack 2 --capacity 256MiB
  graven log create l2 --replicas 3 --failure-domain zone --exclude d4`,
		Args: exactly("NAME"),
	}
	f := cmd.Flags()
	f.Int32Var(&replicas, "replicas", replicas, "copies of the log, 1 to 7, each on another daemon")
	f.Int32Var(&ack, "ack", 0, "copies that must be persistent before a record is acknowledged: a majority (the default) to all")
	f.Var(&capacity, "capacity", "size of the log's ring, a multiple of 4KiB, 1MiB to 1TiB")
	r.register(f)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := r.check(); err != nil {
			return err
		}
		if cmd.Flags().Changed("ack") && ack < 1 {
			return usagef("--ack is %d: must be at least a majority of the %d replicas", ack, replicas)
		}
		api, err := a.client()
		if err != nil {
			return err
		}
		key := uuid.NewString()
		rsp, err := checked(api.CreateLogWithResponse(cmd.Context(), &openapi.CreateLogParams{IdempotencyKey: &key}, openapi.CreateLogRequest{
			Name: args[0], Replicas: replicas, AckQuorum: ack, CapacityBytes: int64(capacity), Placement: r.placement(),
		}))
		if err != nil {
			return r.explain(err)
		}
		l, err := decoded[openapi.Log](rsp.Body)
		if err != nil {
			return err
		}
		return a.show(rsp.Body, func(t *table) { logDetails(t, &l) })
	}
	return cmd
}

func newLogLs(a *app) *cobra.Command {
	var state, daemon string
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the logs",
		Example: `  graven log ls
  graven log ls --state degraded --daemon d2 -o json`,
		Args: exactly(),
	}
	f := cmd.Flags()
	f.StringVar(&state, "state", "", "only logs in this `STATE`: closed, open, degraded or recovering")
	f.StringVar(&daemon, "daemon", "", "only logs with a replica on this `DAEMON`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := oneOf("state", state, openapi.LogClosed, openapi.LogOpen, openapi.LogDegraded, openapi.LogRecovering); err != nil {
			return err
		}
		api, err := a.client()
		if err != nil {
			return err
		}
		body, err := fetchAll(func(from *string, limit *int32) (openapi.Response, error) {
			return api.ListLogsWithResponse(cmd.Context(), &openapi.ListLogsParams{
				State: optional(openapi.LogState(state)), Daemon: optional(daemon), Limit: limit, Continue: from,
			})
		})
		if err != nil {
			return err
		}
		list, err := decoded[openapi.LogList](body)
		if err != nil {
			return err
		}
		return a.show(body, func(t *table) { logRows(t, list.Items) })
	}
	return cmd
}

func logRows(t *table, logs []openapi.Log) {
	t.row("LOG", "STATE", "CAPACITY", "REPLICAS", "ACK", "EPOCH", "WRITER")
	for _, l := range logs {
		writer := ""
		if l.Writer != nil {
			writer = writerText(l.Writer)
		}
		t.row(l.Name, l.State, humanSize(l.CapacityBytes), replicaText(l.Replicas), l.AckQuorum, l.Epoch, writer)
	}
}

// replicaText names the daemons; one that is not up, lacks its replica or is
// only being filled says so.
func replicaText(replicas []openapi.Replica) string {
	text := ""
	for i, r := range replicas {
		if i > 0 {
			text += ","
		}
		text += r.DaemonID
		switch {
		case r.State == openapi.ReplicaLearner:
			text += "(learner)"
		case r.Missing:
			text += "(missing)"
		case r.DaemonState == openapi.DaemonDown:
			text += "(down)"
		}
	}
	return text
}

// members are the replicas that count: all but a learner.
func members(l *openapi.Log) []openapi.Replica {
	return slices.DeleteFunc(slices.Clone(l.Replicas), func(r openapi.Replica) bool { return r.State == openapi.ReplicaLearner })
}

func newLogShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "show NAME",
		Short:   "Show one log with its replicas",
		Example: `  graven log show l1`,
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := a.client()
			if err != nil {
				return err
			}
			rsp, err := checked(api.GetLogWithResponse(cmd.Context(), args[0]))
			if err != nil {
				return err
			}
			l, err := decoded[openapi.Log](rsp.Body)
			if err != nil {
				return err
			}
			return a.show(rsp.Body, func(t *table) { logDetails(t, &l) })
		},
	}
}

// ownerText is who may use the log.
func ownerText(l *openapi.Log) string {
	if len(l.Groups) == 0 {
		return l.Owner
	}
	return l.Owner + ", and the groups " + strings.Join(l.Groups, ", ")
}

func logDetails(t *table, l *openapi.Log) {
	t.row("log", l.Name)
	t.row("log ID", l.LogID)
	t.row("state", l.State)
	t.row("capacity", humanSize(l.CapacityBytes))
	t.row("acknowledged by", fmt.Sprintf("%d of %d", l.AckQuorum, len(members(l))))
	t.row("epoch", l.Epoch)
	if l.Writer != nil {
		t.row("writer", writerText(l.Writer)+", since "+stamp(l.Writer.Since))
	}
	if l.Owner != "" {
		t.row("owner", ownerText(l))
	}
	t.row("created", stamp(l.CreatedAt))
	_ = t.w.Flush()
	t.row()
	t.row("REPLICA ON", "DAEMON", "STATE", "EPOCH", "TRIM", "DURABLE", "REPORTED")
	for _, r := range l.Replicas {
		state := string(r.State)
		if r.Replaces != "" {
			state += " for " + daemonOf(l, r.Replaces)
		}
		if r.Missing {
			state += ", missing"
		}
		if r.Reported == nil {
			t.row(r.DaemonID, r.DaemonState, state, "", "", "", "")
			continue
		}
		if r.Reported.Suspect {
			state += ", suspect"
		}
		if d := r.Reported.Damage; d != "" {
			state += fmt.Sprintf(": damaged from LSN %d on (%s)", r.Reported.DamageLSN, d)
		}
		reported := ""
		if r.ReportedAt != nil {
			reported = stamp(*r.ReportedAt)
		}
		t.row(r.DaemonID, r.DaemonState, state, r.Reported.Epoch, r.Reported.TrimLSN, r.Reported.DurableLSN, reported)
	}
}

func newLogRm(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "rm NAME",
		Short:   "Delete a log and its data",
		Long:    "Delete a log and its data. There is no way back, and no question is asked.",
		Example: `  graven log rm l1`,
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := a.client()
			if err != nil {
				return err
			}
			if err := removeLog(cmd.Context(), api, args[0]); err != nil {
				return err
			}
			return a.showRemoved("log", args[0])
		},
	}
}

// removeLog deletes the log that has the name now, by its ID: when an answer is
// lost and the call goes to another server, it can't meet a later log of the same
// name, and finding none is success.
func removeLog(ctx context.Context, api *openapi.ClientWithResponses, name string) error {
	rsp, err := checked(api.GetLogWithResponse(ctx, name))
	if err != nil {
		return err
	}
	l, err := decoded[openapi.Log](rsp.Body)
	if err != nil {
		return err
	}
	_, err = checked(api.DeleteLogWithResponse(ctx, l.LogID, nil))
	if openapi.IsProblem(err, openapi.ProblemNotFound) {
		return nil
	}
	return err
}
