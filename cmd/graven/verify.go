package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gravenio/graven/replog"
)

func newLogVerify(a *app) *cobra.Command {
	var takeover bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "verify NAME",
		Short: "Check every byte of every replica of a log",
		Long: `Read every byte of every replica of a log, check each record, and compare the
replicas up to the commit LSN. It fails unless all of them agree.

Each replica is reported as it was found. Without a live writer the log is then
fenced and recovered, which repairs what it can, and looked at again. While a
writer is live, the comparison goes up to a commit LSN that the replicas prove;
--takeover fences that writer instead.`,
		Example: `  graven log verify l1
  graven log verify l1 -o json | jq '.replicas[] | {daemon_id, bad}'`,
		Args: exactly("NAME"),
	}
	cmd.Flags().BoolVar(&takeover, "takeover", false, "fence a live writer instead of reading beside it")
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
		daemons, err := a.reach()
		if err != nil {
			return err
		}
		l, err := describeLog(ctx, api, daemons, args[0])
		if err != nil {
			return err
		}
		stop := a.explainWait(ctx, api, args[0])
		rep, err := replog.Verify(ctx, daemons.control(api, "log verify"), l, takeover, daemons.with(replog.Options{}))
		stop()
		if rep == nil {
			return openFailed(ctx, api, args[0], err)
		}
		if !rep.Agree && err == nil {
			err = disagreement(rep)
		}
		return errors.Join(err, a.showValue(rep, func(t *table) { verifyRows(t, rep) }))
	}
	return cmd
}

func disagreement(rep *replog.VerifyReport) error {
	var who []string
	repaired := 0
	for _, r := range rep.Replicas {
		if !r.Agrees {
			who = append(who, r.DaemonID)
		}
		if r.Repaired {
			repaired++
		}
	}
	err := fmt.Errorf("log %s: the replicas on %s do not agree up to LSN %d", rep.Log, strings.Join(who, ", "), rep.CommitLSN)
	if repaired == len(who) {
		return withHint(err, "the recovery has repaired them; verify again to see it")
	}
	return withHint(err, "see the daemons with `graven daemon ls`; an open of the log repairs what differs once they are up")
}

func verifyRows(t *table, rep *replog.VerifyReport) {
	how := "recovered and compared"
	if rep.Live {
		how = "a live writer has it; compared up to what is proven to be committed"
	}
	t.row("log", rep.Log+" ("+rep.LogID+")")
	t.row("epoch", fmt.Sprintf("%d, %s", rep.Epoch, how))
	t.row("commit LSN", rep.CommitLSN)
	_ = t.w.Flush()
	t.row()
	t.row("REPLICA ON", "MEDIA", "EPOCHS", "TRIM", "TAIL", "RECORDS", "EVIDENCE", "VERDICT")
	for _, r := range rep.Replicas {
		if r.Error != "" {
			t.row(r.DaemonID, r.Media, "", "", "", "", "", verdict(&r))
			continue
		}
		t.row(r.DaemonID, r.Media, epochText(r.Epochs), r.TrimLSN, r.TailLSN, r.Records, r.Evidence, verdict(&r))
	}
	_ = t.w.Flush()
	for _, r := range rep.Replicas {
		if r.Error != "" {
			t.row(r.DaemonID + ": " + r.Error)
		}
		for _, b := range r.Bad {
			t.row(fmt.Sprintf("%s: bad from LSN %d to %d: %s", r.DaemonID, b.FromLSN, b.ToLSN, b.Why))
		}
	}
	if rep.Agree {
		t.row(fmt.Sprintf("all %d replicas agree up to LSN %d", len(rep.Replicas), rep.CommitLSN))
	}
}

// verdict is what was found of a replica, and what became of it.
func verdict(r *replog.ReplicaReport) string {
	text := "agrees"
	switch {
	case r.Error != "":
		text = "unreadable"
	case len(r.Bad) > 0:
		text = "damaged"
	case r.Suspect:
		text = "suspect"
	case r.Lag > 0:
		text = humanSize(r.Lag) + " behind"
	case !r.Agrees:
		text = "differs"
	}
	if r.Repaired {
		text += ", repaired"
	}
	return text
}

// epochText lists the newest epochs with the LSN that each began at.
func epochText(epochs []replog.EpochReport) string {
	const most = 3
	var parts []string
	if n := len(epochs) - most; n > 0 {
		parts = append(parts, fmt.Sprintf("(%d older)", n))
		epochs = epochs[n:]
	}
	for _, e := range epochs {
		parts = append(parts, fmt.Sprintf("%d@%d", e.Epoch, e.FirstLSN))
	}
	return strings.Join(parts, " ")
}
