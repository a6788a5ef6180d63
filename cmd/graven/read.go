package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog"
	"github.com/gravenio/graven/replog/control"
)

func newLogRead(a *app) *cobra.Command {
	var from uint64
	var takeover bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "read NAME",
		Short: "Write the payloads of a log's records to standard output",
		Long: `Write the payloads of a log's committed records to standard output, one behind
the other and nothing else.

Without a live writer the log is fenced and recovered first, as every open does.
While a writer is live, it is read up to a commit LSN that the replicas prove;
--takeover fences that writer instead.`,
		Example: `  graven log read l1 > FILE
  graven log read l1 --from 1048576 | head -c 4096`,
		Args: exactly("NAME"),
	}
	f := cmd.Flags()
	f.Uint64Var(&from, "from", 0, "first `LSN` to read: where a record begins (default the trim LSN)")
	f.BoolVar(&takeover, "takeover", false, "fence a live writer instead of reading beside it")
	timeoutFlag(f, &timeout)
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
		r := reader{app: a, api: api, from: from, out: bufio.NewWriterSize(a.out, 1<<20)}
		err = r.read(ctx, args[0], takeover)
		return errors.Join(err, r.out.Flush())
	}
	return cmd
}

// reader writes payloads to out.
type reader struct {
	app  *app
	api  *openapi.ClientWithResponses
	from uint64
	out  *bufio.Writer

	daemons *reach
}

func (r *reader) visit(_ format.Header, payload []byte) error {
	_, err := r.out.Write(payload)
	return err
}

func (r *reader) read(ctx context.Context, name string, takeover bool) error {
	var err error
	if r.daemons, err = r.app.reach(); err != nil {
		return err
	}
	stop := r.app.explainWait(ctx, r.api, name)
	w, err := replog.Open(ctx, r.daemons.control(r.api, "log read"), replog.OpenRequest{Log: name, Takeover: takeover}, r.daemons.with(replog.Options{}))
	stop()
	if errors.Is(err, replog.ErrInUse) {
		return r.beside(ctx, name, err)
	}
	if err != nil {
		return openFailed(ctx, r.api, name, err)
	}
	err = r.recovered(ctx, w)
	if cerr := w.Close(); cerr != nil {
		note(r.app.err, "note: %v; the lease ends by itself", cerr)
	}
	return err
}

// recovered reads what this process has just recovered.
func (r *reader) recovered(ctx context.Context, w *replog.Writer) error {
	if end := w.Commit(); r.from > end {
		return beyond(r.from, end)
	}
	from := r.from
	if from == 0 {
		from = w.TrimLSN()
	}
	_, err := w.Read(from, func(h format.Header, payload []byte) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return r.visit(h, payload)
	})
	return err
}

// beside reads a log that another process writes.
func (r *reader) beside(ctx context.Context, name string, inUse error) error {
	l, err := describeLog(ctx, r.api, r.daemons, name)
	if err != nil {
		return err
	}
	commit, err := replog.ReadProven(ctx, l, r.from, r.daemons.with(replog.Options{}), r.visit)
	if err != nil {
		return withHint(fmt.Errorf("%w: %w", inUse, err), "wait until that writer has ended, or fence it with --takeover")
	}
	if r.from > commit {
		return beyond(r.from, commit)
	}
	note(r.app.err, "note: log %s has a live writer: read up to LSN %d, which is proven to be committed; --takeover fences the writer and reads all", name, commit)
	return nil
}

func beyond(from, end uint64) error {
	return fmt.Errorf("--from %d is beyond LSN %d, where the committed log ends", from, end)
}

// describeLog fetches what is needed to reach a log's replicas without opening it.
func describeLog(ctx context.Context, api *openapi.ClientWithResponses, daemons *reach, name string) (replog.Log, error) {
	status, err := checked(api.GetStatusWithResponse(ctx))
	if err != nil {
		return replog.Log{}, err
	}
	log, err := checked(api.GetLogWithResponse(ctx, name))
	if err != nil {
		return replog.Log{}, err
	}
	all, err := fetchAll(func(from *string, limit *int32) (openapi.Response, error) {
		return api.ListDaemonsWithResponse(ctx, &openapi.ListDaemonsParams{Continue: from, Limit: limit})
	})
	if err != nil {
		return replog.Log{}, err
	}
	list, err := decoded[openapi.DaemonList](all)
	if err != nil {
		return replog.Log{}, err
	}
	if status.JSON200 == nil || log.JSON200 == nil {
		return replog.Log{}, errors.New("the API answered without a body")
	}
	l, err := control.LogOf(status.JSON200.ClusterID, log.JSON200, list.Items)
	if err != nil {
		return l, err
	}
	l.Grant, err = daemons.readGrant(ctx, api, name)
	return l, err
}
