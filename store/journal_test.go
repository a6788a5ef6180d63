package store

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// entries are the journal's of one log, in the order of their keys.
func entries(t *testing.T, s *Store, logID string) (kinds []JournalKind, keys []string) {
	t.Helper()
	resp, err := s.client.Get(t.Context(), prefixEvents, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range resp.Kvs {
		rec, err := decode[journalRecord](string(kv.Key), kv.Value)
		if err != nil {
			t.Fatal(err)
		}
		if rec.LogID == logID {
			kinds, keys = append(kinds, rec.Kind), append(keys, string(kv.Key))
		}
	}
	return kinds, keys
}

// Each change of a replacement has one entry, of its own transaction, that is
// on a lease and goes without an event.
func TestTheJournalTellsOfReplacements(t *testing.T) {
	t.Parallel()
	e := own(t, t.TempDir())
	s := startOwn(t, e, Options{JournalTTL: time.Hour})
	p := newPatient(t, s, 2)
	a := open(t, s, p.Name)
	sub, err := s.Events(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	started := p.start(t, p.spare[0])
	if err := s.AbandonReplacement(t.Context(), p.Name, 0); err != nil {
		t.Fatal(err)
	}
	learner := learnerOf(t, p.start(t, p.spare[1])).ReplicaID
	for range 2 {
		if _, err := s.SetReplicas(t.Context(), promoteOf(a, learner)); err != nil {
			t.Fatal(err)
		}
	}
	want := []JournalKind{
		JournalReplacementStarted, JournalReplacementAbandoned, JournalReplacementStarted, JournalReplacementDone,
	}
	kinds, keys := entries(t, s, p.LogID)
	if before := []JournalKind{JournalLogCreated, JournalLogOpened}; !slices.Equal(kinds, append(before, want...)) {
		t.Errorf("journal %v", kinds)
	}
	ids := make([]string, len(keys))
	for i, k := range keys {
		ids[i] = strings.TrimPrefix(k, prefixEvents)
	}
	first := next(t, sub, ids...)
	if j := first.Journal; first.Kind != EventJournal || first.Revision != started.ModRevision || j == nil || j.Kind != want[0] ||
		j.LogName != p.Name || j.Epoch != 1 || j.DaemonID != p.spare[0] || j.ReplicaID != learnerOf(t, started).ReplicaID || j.At.IsZero() {
		t.Errorf("the first event: %+v %+v", first, first.Journal)
	}
	for _, k := range want[1:] {
		if ev := next(t, sub, ids...); ev.Journal == nil || ev.Journal.Kind != k || ev.Deleted {
			t.Errorf("event %+v, want one of kind %s", ev, k)
		}
	}
	// All are on one lease, which lasts as long as the options say.
	resp, err := s.client.Get(t.Context(), prefixEvents, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	lease := entryOf(resp.Kvs[0]).lease
	ttl, err := s.client.TimeToLive(t.Context(), lease, clientv3.WithAttachedKeys())
	if err != nil || len(ttl.Keys) != len(resp.Kvs) || ttl.GrantedTTL != 2*3600 {
		t.Errorf("lease %+v, %v", ttl, err)
	}
	expire(t, s, keys[0])
	if kinds, _ := entries(t, s, p.LogID); len(kinds) != 0 {
		t.Errorf("after the lease: %v", kinds)
	}
	// The lease is gone; the next entry takes another one.
	last := daemon(t, s).DaemonID
	if ev := next(t, sub, append(ids, last)...); ev.ID != last {
		t.Errorf("an entry whose time was over made an event: %+v", ev)
	}
	if _, err := s.StartReplacement(t.Context(), StartReplacementRequest{Log: p.Name, Replica: learner}); err != nil {
		t.Errorf("with a lease that etcd lost: %v", err)
	}
	if _, keys := entries(t, s, p.LogID); len(keys) != 1 {
		t.Errorf("entries on the new lease: %v", keys)
	}
}

// entryID finds the newest entry of a kind about a log or a daemon.
func entryID(t *testing.T, s *Store, kind JournalKind, id string) string {
	t.Helper()
	all, _ := s.view.Journal(JournalFilter{Kinds: []JournalKind{kind}})
	for _, e := range all {
		if e.LogID == id || e.DaemonID == id {
			return e.EntryID
		}
	}
	t.Fatalf("no entry of kind %s about %s", kind, id)
	return ""
}

func TestRecordLogEventGuards(t *testing.T) {
	t.Parallel()
	s := shared.store
	l := makeLog(t, s)
	open(t, s, l.Name)
	a := open(t, s, l.Name, func(r *OpenLogRequest) { r.Takeover = true })
	w := ref(a)
	w.Nonce = a.Nonce
	good := LogEventRequest{
		Writer: w, Kind: JournalDataLossAccepted, Detail: "d", IdempotencyKey: uuid.NewString(),
		GivenUp: []GivenUp{{ReplicaID: l.Replicas[0].ReplicaID, Detail: "silent"}},
	}
	for _, tc := range []struct {
		name string
		edit func(r *LogEventRequest)
		want error
	}{
		{"good", func(*LogEventRequest) {}, nil},
		{"again", func(*LogEventRequest) {}, nil},
		{"the key for another", func(r *LogEventRequest) { r.Detail = "e" }, ErrIdempotencyMismatch},
		{"a bad key", func(r *LogEventRequest) { r.IdempotencyKey = "a/b" }, ErrInvalid},
		{"lower epoch", func(r *LogEventRequest) { r.IdempotencyKey, r.Writer.Epoch = "", 1 }, ErrSuperseded},
		{"higher epoch", func(r *LogEventRequest) { r.IdempotencyKey, r.Writer.Epoch = "", 3 }, ErrEpochAhead},
		{"another nonce", func(r *LogEventRequest) { r.IdempotencyKey, r.Writer.Nonce = "", "0123456789abcdef" }, ErrSuperseded},
		{"no nonce", func(r *LogEventRequest) { r.Writer.Nonce = "" }, ErrInvalid},
		{"another writer", func(r *LogEventRequest) { r.IdempotencyKey, r.Writer.WriterID = "", "w" }, ErrSuperseded},
		{"unknown log", func(r *LogEventRequest) { r.Writer.Log = "nothing" }, ErrNotFound},
		{"a kind that is the store's", func(r *LogEventRequest) { r.Kind = JournalReplacementDone }, ErrInvalid},
		{"no detail", func(r *LogEventRequest) { r.Detail = "" }, ErrInvalid},
		{"too much detail", func(r *LogEventRequest) { r.Detail = strings.Repeat("x", maxDetail+1) }, ErrInvalid},
		{"too many", func(r *LogEventRequest) { r.GivenUp = make([]GivenUp, maxGivenUp+1) }, ErrInvalid},
		{"no replica", func(r *LogEventRequest) { r.GivenUp = []GivenUp{{ReplicaID: "x"}} }, ErrInvalid},
		{"too much about one", func(r *LogEventRequest) {
			r.GivenUp = []GivenUp{{ReplicaID: l.LogID, Detail: strings.Repeat("x", maxGivenUpDetail+1)}}
		}, ErrInvalid},
	} {
		r := good
		tc.edit(&r)
		if err := s.RecordLogEvent(t.Context(), r); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	if kinds, _ := entries(t, s, l.LogID); !slices.Equal(kinds, []JournalKind{JournalLogCreated, JournalLogOpened, JournalLogTakenOver, JournalDataLossAccepted}) {
		t.Errorf("journal %v", kinds)
	}
	if err := s.CloseLog(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	good.IdempotencyKey = ""
	if err := s.RecordLogEvent(t.Context(), good); !errors.Is(err, ErrWriterClosed) {
		t.Errorf("after the close: %v", err)
	}
}

// What another version wrote is not shown, and ends no stream.
func TestForeignEntriesAreNotShown(t *testing.T) {
	t.Parallel()
	s := shared.store
	sub, err := s.Events(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	id := "0-" + uuid.NewString()
	if _, err := s.client.Put(t.Context(), prefixEvents+id, `{"v":2}`); err != nil {
		t.Fatal(err)
	}
	last := daemon(t, s).DaemonID
	if ev := next(t, sub, id, last); ev.ID != last {
		t.Errorf("event %+v", ev)
	}
	if _, err := s.client.Delete(t.Context(), prefixEvents+id); err != nil {
		t.Fatal(err)
	}
}
