package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/gravenio/graven/apiclient"
	"github.com/gravenio/graven/openapi"
)

func newWatch(a *app) *cobra.Command {
	since := int64(-1)
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Follow what changes in the cluster",
		Long: `Follow what changes in the cluster, its daemons, logs and operators, and what is
written into its journal, from now on or from a revision, until interrupted. What
was before: graven events ls. A broken connection is taken up where it ended. With
-o json each line is one event of the API.`,
		Example: `  graven watch
  graven watch -o json | jq -r 'select(.kind == "daemon") | .daemon.state'
  graven watch -o json | jq -r 'select(.operator.state == "failed") | .operator.error'`,
		Args: exactly(),
	}
	cmd.Flags().Int64Var(&since, "since", since, "begin behind this `REVISION` instead of now (-1)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := a.dialer()
		if err != nil {
			return err
		}
		w := &watcher{app: a, client: client, api: client.API(), rev: since, shown: map[string]shownLine{}}
		err = w.follow(cmd.Context())
		if cmd.Context().Err() != nil {
			return nil // being interrupted is how a watch ends
		}
		return err
	}
	return cmd
}

// watcher follows the events; rev is the revision that it has seen.
type watcher struct {
	app    *app
	client *apiclient.Client
	api    *openapi.ClientWithResponses
	events *apiclient.Events
	rev    int64
	shown  map[string]shownLine // the last one for each object that exists
}

// shownLine is what was shown of an object. One that is over is an operator that has
// ended: that it is listed no more, hours later, is no news.
type shownLine struct {
	text string
	over bool
}

// follow returns only for an error that trying again does not cure.
func (w *watcher) follow(ctx context.Context) error {
	if w.rev < 0 {
		rsp, err := checked(w.api.GetStatusWithResponse(ctx))
		if err != nil {
			return err
		}
		status, err := decoded[openapi.Status](rsp.Body)
		if err != nil {
			return err
		}
		w.rev = status.View.Revision
	}
	w.events = w.client.Events(w.rev)
	defer w.events.Close()
	w.events.OnBreak = func(err error) { note(w.app.err, "watch: %v; trying again", err) }
	for {
		e, err := w.events.Next(ctx)
		switch {
		case openapi.IsProblem(err, openapi.ProblemEventsGap):
			if err := w.snapshot(ctx); err != nil {
				return err
			}
			w.events.Resume(w.rev)
			continue
		case err != nil:
			return err
		}
		if err := w.print(e); err != nil {
			return err
		}
		w.rev = max(w.rev, w.events.LastEventID())
	}
}

// snapshot prints everything as it is, because the events up to now are gone.
func (w *watcher) snapshot(ctx context.Context) error {
	note(w.app.err, "watch: the events behind revision %d are no longer kept; this is how everything is now", w.rev)
	now, rev, err := w.everything(ctx)
	if err != nil {
		return err
	}
	w.rev = max(w.rev, rev)
	for i := range now {
		now[i].Revision = w.rev
		if err := w.print(now[i]); err != nil {
			return err
		}
	}
	return nil
}

// everything lists what there is as events would, and a revision that none of it is
// older than, or 0.
func (w *watcher) everything(ctx context.Context) (now []openapi.Event, rev int64, err error) {
	saw := func(revision int64) {
		if revision > 0 && (rev == 0 || revision < rev) {
			rev = revision
		}
	}
	daemons, err := allItems[openapi.DaemonList](func(from *string, limit *int32) (openapi.Response, error) {
		rsp, err := w.api.ListDaemonsWithResponse(ctx, &openapi.ListDaemonsParams{Continue: from, Limit: limit})
		if err == nil && rsp.Headers200 != nil {
			saw(rsp.Headers200.GravenRevision)
		}
		return rsp, err
	})
	if err != nil {
		return nil, 0, err
	}
	logs, err := allItems[openapi.LogList](func(from *string, limit *int32) (openapi.Response, error) {
		rsp, err := w.api.ListLogsWithResponse(ctx, &openapi.ListLogsParams{Continue: from, Limit: limit})
		if err == nil && rsp.Headers200 != nil {
			saw(rsp.Headers200.GravenRevision)
		}
		return rsp, err
	})
	if err != nil {
		return nil, 0, err
	}
	operators, err := allItems[openapi.OperatorList](func(from *string, limit *int32) (openapi.Response, error) {
		rsp, err := w.api.ListOperatorsWithResponse(ctx, &openapi.ListOperatorsParams{Continue: from, Limit: limit})
		if err == nil && rsp.Headers200 != nil {
			saw(rsp.Headers200.GravenRevision)
		}
		return rsp, err
	})
	if err != nil {
		return nil, 0, err
	}
	return asEvents(daemons.Items, logs.Items, operators.Items), rev, nil
}

func asEvents(daemons []openapi.Daemon, logs []openapi.Log, operators []openapi.OperatorStatus) []openapi.Event {
	var now []openapi.Event
	for _, d := range daemons {
		now = append(now, openapi.Event{Kind: openapi.EventDaemon, ID: d.DaemonID, Daemon: &d})
	}
	for _, l := range logs {
		now = append(now, openapi.Event{Kind: openapi.EventLog, ID: l.LogID, Log: &l})
	}
	for _, o := range operators {
		now = append(now, openapi.Event{Kind: openapi.EventOperator, ID: o.OperatorID, Operator: &o})
	}
	return now
}

func allItems[T any](page func(from *string, limit *int32) (openapi.Response, error)) (T, error) {
	body, err := fetchAll(page)
	if err != nil {
		var none T
		return none, err
	}
	return decoded[T](body)
}

func (w *watcher) print(e openapi.Event) error {
	if w.app.output == outputJSON {
		return json.NewEncoder(w.app.out).Encode(e)
	}
	text := eventText(&e)
	if !w.isNew(&e, text) {
		return nil // what changed is nothing that the line shows
	}
	at := time.Now()
	if e.Journal != nil {
		at = e.Journal.At // it may be an old one
	}
	_, err := fmt.Fprintf(w.app.out, "%s  %-6d  %s\n", at.UTC().Format("15:04:05Z"), e.Revision, text)
	return err
}

// isNew keeps the line in mind. An entry of the journal comes once; it is not
// kept, or a long watch would keep them all.
func (w *watcher) isNew(e *openapi.Event, text string) bool {
	if e.Kind == openapi.EventJournal {
		return true
	}
	key := string(e.Kind) + "/" + e.ID
	before := w.shown[key]
	if e.Deleted {
		delete(w.shown, key)
		return !before.over
	}
	w.shown[key] = shownLine{text: text, over: e.Operator != nil && operatorEnded(e.Operator)}
	return before.text != text
}

func eventText(e *openapi.Event) string {
	switch {
	case e.Deleted && e.Kind == openapi.EventOperator:
		return "operator " + e.ID + " is listed no more"
	case e.Deleted:
		return string(e.Kind) + " " + e.ID + " deleted"
	case e.Daemon != nil:
		d := e.Daemon
		return fmt.Sprintf("daemon %s %s, %s free, %d replicas", d.DaemonID, d.State, humanSize(d.FreeBytes), d.ReplicaCount)
	case e.Log != nil:
		l := e.Log
		text := "log " + l.Name + " " + string(l.State) + ", epoch " + strconv.FormatInt(l.Epoch, 10) + ", replicas " + replicaText(l.Replicas)
		if l.Writer != nil {
			text += ", writer " + writerText(l.Writer)
		}
		return text
	case e.Operator != nil:
		return operatorLine(e.Operator)
	case e.Journal != nil:
		return journalText(e.Journal)
	default:
		return string(e.Kind) + " " + e.ID
	}
}
