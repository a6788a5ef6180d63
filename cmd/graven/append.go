package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/replog"
)

// Bounds of `log append`.
const (
	maxDepth = 65536
	// settleBound is how long an append that is done waits for replicas that
	// are behind, so that a healthy log is left with all copies complete.
	settleBound = time.Second
	// defaultReplaceAfter is for machines that are restarted, which takes minutes.
	defaultReplaceAfter = 10 * time.Minute
)

// appendFlags are the flags of `log append`.
type appendFlags struct {
	block    size
	depth    int
	timeout  time.Duration
	progress string
	trim     bool
	takeover bool

	quorumTimeout time.Duration
	replaceAfter  time.Duration
}

func newLogAppend(a *app) *cobra.Command {
	fl := appendFlags{block: 4 << 10, replaceAfter: defaultReplaceAfter}
	cmd := &cobra.Command{
		Use:   "append NAME [FILE|-]",
		Short: "Append a file or standard input to a log",
		Long: `Append a file or standard input to a log, cut into records of --block bytes; the
last one may be shorter. Up to --depth records are under way at a time. It
succeeds when every record is committed; when it is interrupted, or --timeout
ends it, it reports the part that is committed.

A replica that is away is done without while enough are left, and is replaced by
one on another daemon after --replace-after. Once too few are left nothing is
committed until some return, or --quorum-timeout fails the append. To open the log
takes replicas, too; --timeout bounds that and all that follows.

The latencies in the summary are those of all committed records, from submit to
commit; max is the longest one.`,
		Example: `  graven log append l1 FILE
  tar c . | graven log append l1 --block 64KiB --progress json
  graven log append l1 --trim FILE     # FILE may be larger than the log
  graven log append l1 --quorum-timeout 5s --replace-after 1m FILE`,
		Args: exactly("NAME", "[FILE]"),
	}
	f := cmd.Flags()
	f.Var(&fl.block, "block", "payload of a record")
	f.IntVar(&fl.depth, "depth", 32, "most records under way at a time")
	timeoutFlag(f, &fl.timeout)
	f.StringVar(&fl.progress, "progress", progressAuto, "`HOW` to show progress on stderr: auto, bar, json or none")
	f.BoolVar(&fl.trim, "trim", false, "trim what is committed when the log gets full, the oldest first")
	f.BoolVar(&fl.takeover, "takeover", false, "fence a live writer of the log and take its place")
	f.DurationVar(&fl.quorumTimeout, "quorum-timeout", 0, "fail when too few replicas have worked for this time, such as 5s; 0 waits for them")
	f.DurationVar(&fl.replaceAfter, "replace-after", fl.replaceAfter, "replace a replica that has been away, or far behind, for this time; 0 or less never does")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := fl.check(); err != nil {
			return err
		}
		in, total, err := a.input(args[1:])
		if err != nil {
			return err
		}
		defer in.Close()
		return a.appendLog(cmd.Context(), args[0], fl, in, total)
	}
	return cmd
}

func (fl *appendFlags) check() error {
	switch {
	case fl.block < 1:
		return usagef("--block must be at least 1 byte")
	case fl.depth < 1 || fl.depth > maxDepth:
		return usagef("--depth is %d: must be 1 to %d", fl.depth, maxDepth)
	case fl.quorumTimeout < 0:
		return usagef("--quorum-timeout is %v: must not be negative", fl.quorumTimeout)
	}
	return oneOf("progress", fl.progress, progressAuto, progressBar, progressJSON, progressNone)
}

func (fl *appendFlags) options() replog.Options {
	o := replog.Options{WaitForSpace: fl.trim, QuorumTimeout: fl.quorumTimeout, ReplaceAfter: fl.replaceAfter}
	if o.ReplaceAfter <= 0 {
		o.ReplaceAfter = -1 // there, 0 is the default
	}
	return o
}

// input opens the file, or standard input for none and "-". total is its size,
// or -1 where that is not known.
func (a *app) input(args []string) (in io.ReadCloser, total int64, err error) {
	if len(args) == 0 || args[0] == "-" {
		return io.NopCloser(a.in), -1, nil
	}
	f, err := os.Open(args[0])
	if err != nil {
		return nil, 0, fmt.Errorf("read the input: %w", err)
	}
	st, err := f.Stat()
	switch {
	case err != nil:
		_ = f.Close()
		return nil, 0, fmt.Errorf("read the input: %w", err)
	case st.IsDir():
		_ = f.Close()
		return nil, 0, usagef("%s is a folder: name a file", args[0])
	case st.Mode().IsRegular():
		return f, st.Size(), nil
	}
	return f, -1, nil
}

func (a *app) appendLog(ctx context.Context, name string, fl appendFlags, in io.Reader, total int64) error {
	ctx, cancel, err := withTimeout(ctx, fl.timeout)
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
	stop := a.explainWait(ctx, api, name)
	w, err := replog.Open(ctx, daemons.control(api, "log append"), replog.OpenRequest{Log: name, Takeover: fl.takeover}, daemons.with(fl.options()))
	stop()
	if err != nil {
		err = openFailed(ctx, api, name, err)
		if ctx.Err() != nil { // there is a committed part to report, if an empty one
			none := appendSummary{Log: name}
			err = errors.Join(err, a.showValue(none, none.rows))
		}
		return err
	}
	if most := w.MaxPayload(); int64(fl.block) > int64(most) {
		_ = w.Close() // nothing was written
		return usagef("--block is %s: a log of %s takes at most %s", humanSize(fl.block), humanSize(w.Grant().Capacity), humanSize(most))
	}
	p := newPump(w, fl.depth, int(fl.block), fl.trim)
	show := newProgress(a.err, fl.progress, total, p)
	err = p.run(ctx, in)
	show.stop()
	if err == nil {
		settle(ctx, w)
	}
	sum := p.summary(w.Grant().Name, err == nil)
	if why := w.Waiting(); err != nil && ctx.Err() != nil && why != "" {
		err = fmt.Errorf("%w: %s", err, why)
	}
	if cerr := w.Close(); cerr != nil {
		note(a.err, "note: %v; the lease ends by itself", cerr)
	}
	err, _ = onDaemons(ctx, api, w.Grant(), err)
	return errors.Join(appendFailed(name, err, &sum), a.showValue(sum, sum.rows))
}

func settle(ctx context.Context, w *replog.Writer) {
	ctx, cancel := context.WithTimeout(ctx, settleBound)
	defer cancel()
	_ = w.Settle(ctx) // a replica that needs longer is brought up to date at the next open
}

// appendFailed says what an append's failure means to the one who asked for it.
func appendFailed(name string, err error, s *appendSummary) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, replog.ErrFull):
		return withHint(fmt.Errorf("log %s is full after %d records: %w", name, s.Records, err),
			"append with --trim to let go of the oldest records, or create a larger log")
	case errors.Is(err, replog.ErrFenced), errors.Is(err, replog.ErrSuperseded):
		return withHint(fmt.Errorf("another writer took log %s over: %w", name, err),
			"what is reported as committed is in the log; read on from there before appending the rest")
	case errors.Is(err, replog.ErrNoQuorum):
		return withHint(fmt.Errorf("append to %s stopped after %d committed records: %w", name, s.Records, err),
			"start those daemons again, then see with `graven log recover %s` what is there: all that is reported as committed, and maybe "+
				"some of what was under way; if they are lost for good, see `graven log recover --help`", name)
	default:
		return fmt.Errorf("append to %s stopped after %d committed records: %w", name, s.Records, err)
	}
}

// openFailed adds what to do when a log can't be opened, and the daemons of the
// replicas that are the reason.
func openFailed(ctx context.Context, api *openapi.ClientWithResponses, log string, err error) error {
	if errors.Is(err, replog.ErrInUse) {
		return withHint(err, "wait until that writer has ended (the lease of one that crashed expires), or fence it with --takeover")
	}
	err, named := onDaemons(ctx, api, replog.Grant{Name: log}, err)
	if !named {
		return err
	}
	return withHint(err, "start those daemons again; if they are lost for good, see `graven log recover --help`")
}
