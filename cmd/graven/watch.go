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
		Long: `Follow what changes in the cluster and what is written into its journal, from now
on or from a revision, until interrupted. What was before: graven events ls. A broken connection is taken up where it ended. With -o json each
line is one event of the API.`,
		Example: `  graven watch
  graven watch -o json | jq -r 'select(.kind == "daemon") | .daemon.state'`,
		Args: exactly(),
	}
	cmd.Flags().Int64Var(&since, "since", since, "begin behind this `REVISION` instead of now (-1)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := a.dialer()
		if err != nil {
			return err
		}
		w := &watcher{app: a, client: client, api: client.API(), rev: since, shown: map[string]string{}}
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
	shown  map[string]string // the last line for each object that exists
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
	var rev int64 = -1
	saw := func(revision *int64) {
		if revision != nil && (rev < 0 || *revision < rev) {
			rev = *revision
		}
	}
	daemons, err := fetchAll(func(from *string, limit *int32) (openapi.Response, error) {
		rsp, err := w.api.ListDaemonsWithResponse(ctx, &openapi.ListDaemonsParams{Continue: from, Limit: limit})
		if err == nil && rsp.Headers200 != nil {
			saw(&rsp.Headers200.GravenRevision)
		}
		return rsp, err
	})
	if err != nil {
		return err
	}
	logs, err := fetchAll(func(from *string, limit *int32) (openapi.Response, error) {
		return w.api.ListLogsWithResponse(ctx, &openapi.ListLogsParams{Continue: from, Limit: limit})
	})
	if err != nil {
		return err
	}
	ds, err := decoded[openapi.DaemonList](daemons)
	if err != nil {
		return err
	}
	ls, err := decoded[openapi.LogList](logs)
	if err != nil {
		return err
	}
	w.rev = max(w.rev, rev)
	for _, d := range ds.Items {
		if err := w.print(openapi.Event{Revision: w.rev, Kind: openapi.EventDaemon, ID: d.DaemonID, Daemon: &d}); err != nil {
			return err
		}
	}
	for _, l := range ls.Items {
		if err := w.print(openapi.Event{Revision: w.rev, Kind: openapi.EventLog, ID: l.LogID, Log: &l}); err != nil {
			return err
		}
	}
	return nil
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
	if w.shown[key] == text {
		return false
	}
	if w.shown[key] = text; e.Deleted {
		delete(w.shown, key)
	}
	return true
}

func eventText(e *openapi.Event) string {
	switch {
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
	case e.Journal != nil:
		return journalText(e.Journal)
	default:
		return string(e.Kind) + " " + e.ID
	}
}
