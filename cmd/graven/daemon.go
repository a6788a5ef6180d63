package main

import (
	"context"
	"net"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gravenio/graven/openapi"
)

func newDaemon(a *app) *cobra.Command {
	return group("daemon", "Show, drain and remove replica daemons", "",
		newDaemonLs(a), newDaemonShow(a), newDaemonDrain(a), newDaemonUndrain(a), newDaemonRm(a))
}

func newDaemonLs(a *app) *cobra.Command {
	var state, media, transport string
	var labels []string
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the daemons",
		Example: `  graven daemon ls
  graven daemon ls --state down -o json`,
		Args: exactly(),
	}
	f := cmd.Flags()
	f.StringVar(&state, "state", "", "only daemons in this `STATE`: up, down or draining")
	f.StringVar(&media, "media", "", "only daemons on this `MEDIUM`: pmem, file or volatile")
	f.StringVar(&transport, "transport", "", "only daemons that offer this `TRANSPORT`: tcp or verbs")
	f.StringArrayVar(&labels, "label", nil, "only daemons with this label, `KEY=VALUE`; may be repeated, all must match")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := oneOf("state", state, openapi.DaemonUp, openapi.DaemonDown, openapi.DaemonDraining); err != nil {
			return err
		}
		if err := checkMedia(media); err != nil {
			return err
		}
		if err := checkTransport(transport); err != nil {
			return err
		}
		api, err := a.client()
		if err != nil {
			return err
		}
		body, err := fetchAll(func(from *string, limit *int32) (openapi.Response, error) {
			return api.ListDaemonsWithResponse(cmd.Context(), &openapi.ListDaemonsParams{
				State:     optional(openapi.DaemonState(state)),
				Media:     optional(openapi.Media(media)),
				Transport: optional(openapi.Transport(transport)),
				Label:     labels,
				Limit:     limit,
				Continue:  from,
			})
		})
		if err != nil {
			return err
		}
		list, err := decoded[openapi.DaemonList](body)
		if err != nil {
			return err
		}
		return a.show(body, func(t *table) { daemonRows(t, list.Items) })
	}
	return cmd
}

func daemonRows(t *table, daemons []openapi.Daemon) {
	t.row("DAEMON", "STATE", "MEDIA", "CAPACITY", "FREE", "REPLICAS", "ADDRESS", "LABELS")
	for _, d := range daemons {
		t.row(d.DaemonID, d.State, d.Media, humanSize(d.CapacityBytes), humanSize(d.FreeBytes), replicaCount(&d),
			daemonAddress(&d), labelText(d.Labels))
	}
}

// replicaCount is what the daemon reports, which one that is down does not: it
// has not lost its replicas.
func replicaCount(d *openapi.Daemon) string {
	if d.State == openapi.DaemonDown {
		return "-"
	}
	return strconv.Itoa(d.ReplicaCount)
}

func daemonAddress(d *openapi.Daemon) string {
	if d.TCPAddr == "" {
		return ""
	}
	return net.JoinHostPort(d.TCPAddr, strconv.Itoa(int(d.TCPPort)))
}

func newDaemonShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "show DAEMON",
		Short:   "Show one daemon",
		Example: `  graven daemon show d1`,
		Args:    exactly("DAEMON"),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := a.client()
			if err != nil {
				return err
			}
			rsp, err := checked(api.GetDaemonWithResponse(cmd.Context(), args[0]))
			if err != nil {
				return err
			}
			d, err := decoded[openapi.Daemon](rsp.Body)
			if err != nil {
				return err
			}
			return a.show(rsp.Body, func(t *table) { daemonDetails(t, &d) })
		},
	}
}

func daemonDetails(t *table, d *openapi.Daemon) {
	t.row("daemon", d.DaemonID)
	t.row("state", d.State)
	if d.DownSince != nil {
		t.row("down since", stamp(*d.DownSince))
	}
	t.row("last seen", stamp(d.LastSeen))
	t.row("health", strings.TrimSpace(string(d.Health.State)+" "+d.Health.Reason))
	t.row("address", daemonAddress(d))
	t.row("pool", d.PoolID)
	t.row("media", d.Media)
	t.row("capacity", humanSize(d.CapacityBytes))
	t.row("free", humanSize(d.FreeBytes))
	t.row("reserved", humanSize(d.ReservedBytes))
	t.row("replicas", replicaCount(d))
	if len(d.Missing) > 0 {
		t.row("missing replicas", d.Missing)
	}
	if len(d.Quarantined) > 0 {
		t.row("quarantined", humanSize(d.QuarantinedBytes), d.Quarantined)
	}
	t.row("labels", labelText(d.Labels))
	t.row("incarnation", d.Incarnation)
	t.row("lease", strconv.FormatInt(d.LeaseTTLSeconds, 10)+"s")
	t.row("registered", stamp(d.RegisteredAt))
	t.row("version", d.Version)
}

func newDaemonRm(a *app) *cobra.Command {
	var lost bool
	cmd := &cobra.Command{
		Use:   "rm DAEMON",
		Short: "Remove a daemon that is down and holds nothing",
		Long: `Remove a daemon: drain it, stop its agent once it is empty, then remove it.

--lost gives up one whose host will never return. Its replicas count as unknown
until other daemons have taken their place, which is begun at once. It is refused
while a log could not be opened without it. Should the host return after all, its
agent is told to stop, and what its pool holds stays there.`,
		Example: `  graven daemon rm d4
  graven daemon rm d4 --lost     # its host will never return`,
		Args: exactly("DAEMON"),
	}
	cmd.Flags().BoolVar(&lost, "lost", false, "its host will never return: give up its replicas; their logs degrade")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		api, err := a.client()
		if err != nil {
			return err
		}
		err = remove(cmd.Context(), func(ctx context.Context) (*openapi.DeleteDaemonResponse, error) {
			return api.DeleteDaemonWithResponse(ctx, args[0], &openapi.DeleteDaemonParams{Lost: optional(lost)})
		})
		switch {
		case openapi.IsProblem(err, openapi.ProblemDaemonInUse) && !lost:
			return withHint(err, "empty it with `graven daemon drain %s --wait`, then stop its agent", args[0])
		case err != nil:
			return err
		}
		return a.showRemoved("daemon_id", args[0])
	}
	return cmd
}

// showRemoved reports a removal; the API answers it without a body.
func (a *app) showRemoved(key, id string) error {
	return a.showValue(map[string]any{key: id, "removed": true}, func(t *table) { t.row("removed", id) })
}
