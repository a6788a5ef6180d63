package main

import (
	"github.com/spf13/cobra"

	"github.com/gravenio/graven/openapi"
)

func newPlace(a *app) *cobra.Command {
	var r rules
	replicas := int32(3)
	bytes := size(256 << 20)
	cmd := &cobra.Command{
		Use:   "place",
		Short: "Ask where a log would fit; nothing is reserved",
		Example: `  graven place --replicas 3 --size 256MiB
  graven place --replicas 2 --size 1GiB --failure-domain zone --label rack=r1`,
		Args: exactly(),
	}
	f := cmd.Flags()
	f.Int32Var(&replicas, "replicas", replicas, "how many daemons, 1 to 7")
	f.Var(&bytes, "size", "log capacity that each daemon must have room for")
	r.register(f)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := r.check(); err != nil {
			return err
		}
		api, err := a.client()
		if err != nil {
			return err
		}
		rsp, err := checked(api.GetPlacementWithResponse(cmd.Context(), &openapi.GetPlacementParams{
			Replicas:      replicas,
			ReplicaSize:   int64(bytes),
			FailureDomain: optional(openapi.FailureDomain(r.domain)),
			Transport:     optional(openapi.Transport(r.transport)),
			Media:         optional(openapi.Media(r.media)),
			Label:         r.labels,
			Exclude:       r.exclude,
		}))
		if err != nil {
			return r.explain(err)
		}
		p, err := decoded[openapi.Placement](rsp.Body)
		if err != nil {
			return err
		}
		return a.show(rsp.Body, func(t *table) {
			t.row("DAEMON", "MEDIA", "FREE", "LABELS")
			for _, d := range p.Daemons {
				t.row(d.DaemonID, d.Media, humanSize(d.FreeBytes), labelText(d.Labels))
			}
		})
	}
	return cmd
}
