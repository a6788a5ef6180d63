package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gravenio/graven/pmemlog"
)

func newPoolCheck(a *app) *cobra.Command {
	var replica string
	cmd := &cobra.Command{
		Use:   "check PATH",
		Short: "Read all of a pool and say what is wrong with it",
		Long: `Read both copies of a pool's superblock and directory, the headers and all
records of its replicas, and the space that no replica has, and say what is found:

  damage  something is lost or can't be used
  heals   a copy or a line that is written anew in the course of things
  note    worth knowing; nothing is wrong

Exit status 0 if nothing is damaged, else 1. Nothing is changed. A replica can only
be compared with the log's others by ` + "`graven log verify`" + `, with the agents running.`,
		Example: `  graven pool check /var/lib/graven
  graven pool check ./graven-data/d1 -o json | jq '.findings[] | select(.severity == "damage")'`,
		Args: exactly("PATH"),
	}
	cmd.Flags().StringVar(&replica, "replica", "", "of the replicas, check only this `ID`, or the beginning of one")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		v, err := viewPool(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		defer v.close()
		c := &poolChecker{app: a, v: v}
		c.result.Path, c.result.Findings = v.path, []poolFinding{}
		if err := c.run(cmd.Context(), replica); err != nil {
			return err
		}
		return c.finish()
	}
	return cmd
}

// poolCheck is the result of `pool check`.
type poolCheck struct {
	Path     string        `json:"path"`
	PoolID   string        `json:"pool_id"` // empty if it can't be known
	Verdict  string        `json:"verdict"` // sound or damaged
	Damage   int           `json:"damage"`  // findings of each severity
	Heals    int           `json:"heals"`
	Notes    int           `json:"notes"`
	Replicas int           `json:"replicas"` // that were looked at
	Records  uint64        `json:"records"`  // valid ones in them
	Findings []poolFinding `json:"findings"`
}

// poolFinding is something that a check has found.
type poolFinding struct {
	Severity  string `json:"severity"` // damage, heals or note
	Part      string `json:"part"`
	Offset    int64  `json:"offset_bytes"` // of the part in the pool
	ReplicaID string `json:"replica_id,omitempty"`
	What      string `json:"what"`
	Advice    string `json:"advice,omitempty"`
}

// Verdicts of a check.
const (
	poolSound   = "sound"
	verdictFail = "damaged"
)

// poolChecker is one run of `pool check`. Findings are printed as they come: all
// of a large pool takes long.
type poolChecker struct {
	*app
	v      *poolView
	result poolCheck
}

func (c *poolChecker) run(ctx context.Context, replica string) error {
	regions := c.v.Regions
	if replica != "" {
		r, err := c.v.findOne(ctx, replica, wanted{})
		if err != nil {
			return err
		}
		regions = []pmemlog.Region{r}
	}
	if c.v.Known {
		c.result.PoolID = c.v.Identity.Pool.String()
	}
	for _, f := range c.v.Findings {
		c.found(f)
	}
	for _, r := range regions {
		view, err := c.v.Replica(ctx, r, pmemlog.Visit{})
		if err != nil {
			return err
		}
		c.result.Replicas++
		c.result.Records += view.Scan.Records
		for _, f := range view.Findings {
			c.found(f)
		}
	}
	if replica != "" {
		return nil
	}
	return c.v.Forgotten(ctx, func(f pmemlog.Forgotten) { c.found(f.Finding) })
}

func (c *poolChecker) found(f pmemlog.Finding) {
	switch f.Severity {
	case pmemlog.SeverityDamage:
		c.result.Damage++
	case pmemlog.SeverityHeals:
		c.result.Heals++
	default:
		c.result.Notes++
	}
	c.result.Findings = append(c.result.Findings, poolFinding{
		Severity: f.Severity.String(), Part: f.Part, Offset: f.Offset, ReplicaID: idText(f.Replica), What: f.What, Advice: f.Advice,
	})
	if c.output == outputTable {
		fmt.Fprint(c.out, findingText(&f))
	}
}

// findingText is a finding in two lines, or one without advice.
func findingText(f *pmemlog.Finding) string {
	place := fmt.Sprintf("%s at byte %d", f.Part, f.Offset)
	if !f.Replica.IsZero() && !strings.Contains(f.What, f.Replica.String()) {
		place = fmt.Sprintf("replica %s: %s", f.Replica, place)
	}
	text := fmt.Sprintf("%-7s %s: %s\n", f.Severity, place, f.What)
	if f.Advice != "" {
		text += fmt.Sprintf("%-7s do: %s\n", "", f.Advice)
	}
	return text
}

// finish says the verdict, and makes it the exit status.
func (c *poolChecker) finish() error {
	r := &c.result
	counts := fmt.Sprintf("damage %d, heals %d, notes %d; read %s with %s",
		r.Damage, r.Heals, r.Notes, count(uint64(r.Replicas), "replica"), count(r.Records, "record"))
	var err error
	r.Verdict = poolSound
	if r.Damage > 0 {
		r.Verdict = verdictFail
		err = fmt.Errorf("pool %s is damaged: %s", r.Path, counts)
	}
	if c.output == outputJSON {
		if shown := c.showValue(r, nil); shown != nil {
			return shown
		}
	} else if err == nil {
		fmt.Fprintf(c.out, "pool %s is sound: %s\n", r.Path, counts)
	}
	return err
}

// count is a number of things in words.
func count(n uint64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
