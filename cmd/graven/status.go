package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gravenio/graven/openapi"
)

func newStatus(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Show the cluster at a glance",
		Example: `  graven status`,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := a.client()
			if err != nil {
				return err
			}
			rsp, err := checked(api.GetStatusWithResponse(cmd.Context()))
			if err != nil {
				return err
			}
			s, err := decoded[openapi.Status](rsp.Body)
			if err != nil {
				return err
			}
			return a.show(rsp.Body, func(t *table) { statusRows(t, &s) })
		},
	}
}

func statusRows(t *table, s *openapi.Status) {
	ready := "ready"
	if !s.Ready {
		ready = "not ready"
	}
	t.row("cluster", s.ClusterID)
	t.row("server", ready+", version "+s.Version)
	t.row("view", fmt.Sprintf("revision %d, at most %.1f s old", s.View.Revision, s.View.LagSeconds))
	t.row("daemons", fmt.Sprintf("%d up, %d down, %d draining", s.Daemons.Up, s.Daemons.Down, s.Daemons.Draining))
	t.row("space", fmt.Sprintf("%s free of %s, %s reserved", humanSize(s.Bytes.Free), humanSize(s.Bytes.Capacity), humanSize(s.Bytes.Reserved)))
	if s.Bytes.Condemned > 0 {
		t.row("to be freed", humanSize(s.Bytes.Condemned)+" of the reserved")
	}
	if s.Bytes.Quarantined > 0 {
		t.row("quarantine", humanSize(s.Bytes.Quarantined))
	}
	t.row("logs", fmt.Sprintf("%d closed, %d open, %d degraded, %d recovering", s.Logs.Closed, s.Logs.Open, s.Logs.Degraded, s.Logs.Recovering))
	t.row("operators", operatorText(&s.Operators))
	if len(s.Alarms) == 0 {
		t.row("alarms", "none")
	}
	for _, al := range s.Alarms {
		t.row("alarm", string(al.Kind)+": "+al.Detail)
	}
}

// operatorText says what the control plane does by itself, and which server decides
// that.
func operatorText(o *openapi.OperatorCounts) string {
	text := fmt.Sprintf("%d running, %d waiting, %d failed", o.Running, o.Planned, o.Failed)
	if o.Paused {
		text += ", paused"
	}
	if o.Leader == "" {
		return text + "; no server leads"
	}
	return text + "; led by " + o.Leader
}
