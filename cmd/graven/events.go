package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/gravenio/graven/openapi"
)

func newEvents(a *app) *cobra.Command {
	return group("events", "Look at what has happened",
		`Look at the journal: who was given which epoch, what was taken over, replaced,
drained, deleted or refused, by whom and from where. Entries are kept for a week;
what comes next is shown by graven watch.`,
		newEventsLs(a))
}

// eventsFlags say which entries are wanted.
type eventsFlags struct {
	since       string
	kinds       []string
	log, daemon string
}

func newEventsLs(a *app) *cobra.Command {
	var fl eventsFlags
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the journal, the oldest entry first",
		Long: `List the journal, the oldest entry first. Without --since it goes back as far as
entries are kept. With -o json it is the API's list, the newest first.`,
		Example: `  graven events ls --since 24h
  graven events ls --log vm-1 --kind log-opened,log-taken-over
  graven events ls --since 2026-05-01T00:00:00Z --kind daemon-refused`,
		Args: exactly(),
	}
	f := cmd.Flags()
	f.StringVar(&fl.since, "since", "", "only entries of this `TIME` or later: RFC 3339, or how long ago, such as 90m or 24h")
	f.StringSliceVar(&fl.kinds, "kind", nil, "only these `KINDS`, separated by commas")
	f.StringVar(&fl.log, "log", "", "only entries about this `LOG`, by name or ID, also a deleted one")
	f.StringVar(&fl.daemon, "daemon", "", "only entries about this `DAEMON`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		params, err := fl.params(time.Now())
		if err != nil {
			return err
		}
		api, err := a.client()
		if err != nil {
			return err
		}
		return a.listEvents(cmd.Context(), api, params)
	}
	return cmd
}

func (fl *eventsFlags) params(now time.Time) (openapi.ListJournalParams, error) {
	p := openapi.ListJournalParams{Log: optional(fl.log), Daemon: optional(fl.daemon)}
	for _, k := range fl.kinds {
		kind := openapi.JournalKind(k)
		if !kind.Valid() {
			return p, usagef("--kind has %q, which is none; the contract lists them: `graven events ls --help` has examples", k)
		}
		p.Kind = append(p.Kind, kind)
	}
	if fl.since == "" {
		return p, nil
	}
	from, err := pastTime(fl.since, now)
	p.From = &from
	return p, err
}

// pastTime reads a point in time, or how long ago it was.
func pastTime(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d).UTC(), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, usagef("--since is %q: must be a time such as 2026-05-01T12:00:00Z, or how long ago, such as 90m", text)
	}
	return at.UTC(), nil
}

func (a *app) listEvents(ctx context.Context, api *openapi.ClientWithResponses, p openapi.ListJournalParams) error {
	body, err := fetchAll(func(from *string, limit *int32) (openapi.Response, error) {
		p.Continue, p.Limit = from, limit
		return api.ListJournalWithResponse(ctx, &p)
	})
	if err != nil {
		return err
	}
	list, err := decoded[openapi.JournalList](body)
	if err != nil {
		return err
	}
	return a.show(body, func(t *table) {
		t.row("TIME", "KIND", "ABOUT", "WHAT")
		for _, e := range slices.Backward(list.Items) {
			t.row(stamp(e.At), e.Kind, journalSubject(&e), journalDetail(&e))
		}
	})
}
