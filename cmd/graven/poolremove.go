package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gravenio/graven/agent"
	"github.com/gravenio/graven/pmemlog"
)

func newPoolRemove(a *app) *cobra.Command {
	var yes bool
	var durability string
	cmd := &cobra.Command{
		Use:   "remove PATH REPLICA",
		Short: "Remove a replica, and all that it holds, from a pool",
		Long: `Remove a replica, and all that it holds, from a pool. It says what is given up and
asks for the replica's ID first.

This is for replicas that the control plane does not know (` + "`graven daemon show`" + `
lists them as quarantined): nothing but a person may remove those. To remove a log
that it knows, use ` + "`graven log rm`" + `; to move a replica, ` + "`graven log replace`" + `.
The pool remembers the ID, so that the replica is never made anew, empty.`,
		Example: `  graven pool remove /var/lib/graven 4f1c0e6a-2b51-4f0e-8a57-0d2f0f6f8b11
  graven pool remove /var/lib/graven 4f1c --yes`,
		Args: exactly("PATH", "REPLICA"),
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "don't ask")
	durabilityFlag(cmd.Flags(), &durability)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !yes && !isTerminal(a.in) {
			return usagef("it asks for the replica's ID, and standard input is no terminal: --yes answers in advance")
		}
		if err := checkPoolMedia(agent.MediaPmem, durability); err != nil {
			return err
		}
		r, kind, err := a.givenUpReplica(cmd.Context(), args[0], args[1])
		if err != nil {
			return err
		}
		if !yes {
			if err := a.agree(cmd.Context(), r); err != nil {
				return err
			}
		}
		path, err := poolPath(args[0])
		if err != nil {
			return err
		}
		p, err := openPool(path, kind, durability)
		if err != nil {
			return err
		}
		return a.removeReplica(path, p, r)
	}
	return cmd
}

// givenUpReplica finds the replica and says what is given up with it. The pool is
// not locked any more when it returns, so a person may take his time.
func (a *app) givenUpReplica(ctx context.Context, path, text string) (pmemlog.Region, pmemlog.Kind, error) {
	var r pmemlog.Region
	var kind pmemlog.Kind
	err := withPool(ctx, path, func(v *poolView) error {
		if v.Refused != nil {
			return withHint(fmt.Errorf("%s: nothing can be removed from it: %w", v.path, v.Refused), "see all that is wrong with `graven pool check %s`", path)
		}
		kind = v.Identity.Kind
		var err error
		if r, err = v.findOne(ctx, text, wanted{}); err != nil {
			return err
		}
		view, err := v.Replica(ctx, r, pmemlog.Visit{})
		if err != nil {
			return err
		}
		note(a.err, "%s", givenUpText(v, &view))
		return nil
	})
	return r, kind, err
}

func givenUpText(v *poolView, view *pmemlog.ReplicaView) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Replica %s of log %s in pool %s:\n", view.Replica, view.Log, v.path)
	switch {
	case view.Scanned:
		fmt.Fprintf(&b, "  it holds %s, LSN %d to %d, the last of epoch %d\n",
			count(view.Scan.Records, "record"), view.Slot.Trim.LSN, view.Scan.Chain.LSN, view.Scan.Last.Epoch)
	default:
		b.WriteString("  what it holds can't be known\n")
	}
	for _, f := range view.Findings {
		if f.Severity == pmemlog.SeverityDamage {
			fmt.Fprintf(&b, "  %s: %s\n", f.Part, f.What)
		}
	}
	b.WriteString("All of this is given up. A log that is not held elsewhere is lost with it.")
	return b.String()
}

func (a *app) agree(ctx context.Context, r pmemlog.Region) error {
	q := question{in: a.in, out: a.err}
	answer, ok := q.ask(ctx, "Type the replica's ID to give this up for good: ")
	switch {
	case !ok:
		return context.Cause(ctx)
	case strings.TrimSpace(answer) != r.Replica.String():
		return fmt.Errorf("the answer is not %s: nothing was removed", r.Replica)
	}
	return nil
}

// poolRemoved is the result of `pool remove`.
type poolRemoved struct {
	Path      string `json:"path"`
	ReplicaID string `json:"replica_id"`
	LogID     string `json:"log_id"`
	Freed     int64  `json:"freed_bytes"`
	Free      int64  `json:"free_bytes"`
}

// removeReplica removes a replica from a pool and closes that.
func (a *app) removeReplica(path string, p *pmemlog.Pool, r pmemlog.Region) error {
	err := p.Delete(r.Replica)
	res := poolRemoved{Path: path, ReplicaID: r.Replica.String(), LogID: r.Log.String(), Freed: r.Bytes, Free: p.Free().Free}
	if err := errors.Join(poolFailed(path, err), p.Close()); err != nil {
		return err
	}
	return a.showValue(res, func(t *table) {
		t.row(fmt.Sprintf("removed replica %s: %s freed, %s are free", res.ReplicaID, humanSize(res.Freed), humanSize(res.Free)))
	})
}
