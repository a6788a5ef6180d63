package server

import (
	"context"
	"fmt"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/store"
)

// ListJournal implements openapi.StrictServerInterface.
func (s *Server) ListJournal(_ context.Context, r openapi.ListJournalRequestObject) (openapi.ListJournalResponseObject, error) {
	p := &r.Params
	f := store.JournalFilter{Log: deref(p.Log), Daemon: deref(p.Daemon), From: deref(p.From), To: deref(p.To)}
	for _, k := range p.Kind {
		f.Kinds = append(f.Kinds, store.JournalKind(k))
	}
	all, rev := s.store.View().Journal(f)
	items, next, err := pageBy(all, p.Limit, p.Continue, placeOf, newestFirst)
	if err != nil {
		return nil, err
	}
	body := openapi.JournalList{Items: make([]openapi.JournalEntry, len(items)), Continue: next}
	for i := range items {
		body.Items[i] = *journal(&items[i])
	}
	return openapi.ListJournal200JSONResponse{Body: body, Headers: openapi.ListJournal200ResponseHeaders{GravenRevision: rev}}, nil
}

// placeOf is an entry's place in the journal, the one of the list.
func placeOf(e *store.JournalEntry) string { return fmt.Sprintf("%016x/%s", e.Revision, e.EntryID) }

// newestFirst is the order of the journal's places.
func newestFirst(a, b string) int { return -byKey(a, b) }
