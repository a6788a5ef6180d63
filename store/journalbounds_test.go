package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	caller "github.com/gravenio/graven/identity"
)

// journalUntil waits until the view's journal is as wanted.
func journalUntil(t *testing.T, s *Store, f JournalFilter, ok func([]JournalEntry) bool) []JournalEntry {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		all, rev := s.view.Journal(f)
		if ok(all) {
			return all
		}
		if err := s.view.WaitRevision(ctx, rev+1); err != nil {
			t.Fatalf("%d entries: %+v: %v", len(all), all, err)
		}
	}
}

// A busy cluster's entries are trimmed to their bound; what people decided, though
// older, stays.
func TestTheJournalIsBounded(t *testing.T) {
	t.Parallel()
	s := startOwn(t, own(t, t.TempDir()), Options{JournalEntries: 8, RefusalWindow: time.Hour})
	r := daemon(t, s)
	if err := drain(t.Context(), s, r.DaemonID, true, 0); err != nil {
		t.Fatal(err)
	}
	l := makeLog(t, s)
	for range 20 {
		open(t, s, l.Name, func(r *OpenLogRequest) { r.Recovering = true; r.Takeover = true })
		if _, err := s.client.Delete(t.Context(), prefixWriters+l.LogID); err != nil {
			t.Fatal(err)
		}
	}
	kept := journalUntil(t, s, JournalFilter{}, func(es []JournalEntry) bool {
		return len(es) < 12 && es[0].Epoch == 20
	})
	for s.JournalStats().Trimmed == 0 { // it is counted after the view has seen it
		time.Sleep(time.Millisecond)
	}
	if !slices.ContainsFunc(kept, func(e JournalEntry) bool { return e.Kind == JournalDaemonDraining }) {
		t.Errorf("what a person decided was pushed out: %+v", kept)
	}
	if kept[0].Epoch != 20 || kept[0].Kind != JournalLogRecovering {
		t.Errorf("the newest is %+v", kept[0])
	}
	if got := s.view.JournalCounts(); got[JournalLogRecovering] < 8 || got[JournalLogCreated] != 0 {
		t.Errorf("%v: the oldest go first, down to the bound", got)
	}
}

// Bytes are bounded, too.
func TestTheJournalsBytes(t *testing.T) {
	t.Parallel()
	table := journalTable{rows: make(map[string]journalRow)}
	for i := range 10 {
		rec := journalRecord{version: current(), JournalEntry: JournalEntry{Kind: JournalLogOpened, Detail: strings.Repeat("x", 1000)}}
		table.set(fmt.Sprint(i), entry{key: "k", value: []byte(encode(rec))})
	}
	table.set("x", entry{key: "k", value: []byte(`{"v":7}`)})
	if n := len(table.rows); n != 10 {
		t.Errorf("%d rows: what another version wrote is not shown", n)
	}
	if got := table.excess(classRoutine, 100, 3500); !slices.Equal(got, []string{"6", "5", "4", "3", "2", "1", "0"}) {
		t.Errorf("beyond 3500 bytes are %v", got)
	}
	if got := table.excess(classRoutine, 8, 1<<20); !slices.Equal(got, []string{"1", "0"}) {
		t.Errorf("beyond 8 entries are %v", got)
	}
	for i := range 10 {
		table.remove(fmt.Sprint(i))
	}
	if table.sums != [classes]journalSum{} {
		t.Errorf("nothing is left and counts as %+v", table.sums)
	}
}

// Which entries are the oldest is what etcd says: the clocks of the servers that wrote
// them, and so their IDs, may be a day apart.
func TestTheJournalsOrder(t *testing.T) {
	t.Parallel()
	table := journalTable{rows: make(map[string]journalRow)}
	day := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	put := func(id string, at time.Time, mod int64) {
		rec := journalRecord{version: current(), JournalEntry: JournalEntry{Kind: JournalLogOpened, At: at}}
		table.set(id, entry{key: "k", value: []byte(encode(rec)), mod: mod})
	}
	put("2-by-the-one-ahead", day.Add(24*time.Hour), 7)
	put("1-a", day, 8)
	put("1-b", day, 8) // of the same transaction
	var got []string
	for _, row := range table.newest(func(*JournalEntry) bool { return true }) {
		got = append(got, row.entry.EntryID)
	}
	if want := []string{"1-b", "1-a", "2-by-the-one-ahead"}; !slices.Equal(got, want) {
		t.Errorf("the newest first: %v, want %v", got, want)
	}
	if got := table.excess(classRoutine, 2, 1<<20); !slices.Equal(got, []string{"2-by-the-one-ahead"}) {
		t.Errorf("beyond 2 entries are %v", got)
	}
}

// A refused pool is in the journal with who brought it and from where, once,
// however often it comes.
func TestRefusalsAreCoalesced(t *testing.T) {
	t.Parallel()
	s := startOwn(t, own(t, t.TempDir()), Options{RefusalWindow: time.Second})
	r := daemon(t, s)
	ctx := WithOrigin(t.Context(), Origin{Remote: "192.0.2.7:4444", RequestID: "req"})
	ctx = caller.With(ctx, caller.Principal{Name: "admin", Roles: []caller.Role{caller.RoleAdmin}, Via: caller.ViaToken})
	wiped := r
	wiped.PoolID = uuid.NewString()
	for range 50 {
		if _, err := s.Register(ctx, wiped); !errors.Is(err, ErrPoolWiped) {
			t.Fatal(err)
		}
	}
	f := JournalFilter{Daemon: r.DaemonID, Kinds: []JournalKind{JournalDaemonRefused}}
	es := journalUntil(t, s, f, func(es []JournalEntry) bool {
		n := len(es)
		for _, e := range es {
			n += max(e.Count-1, 0)
		}
		return n == 50
	})
	if len(es) > 10 {
		t.Errorf("50 refusals made %d entries", len(es))
	}
	e := es[len(es)-1]
	if e.Who != "admin" || e.Via != "token" || e.From != "192.0.2.7:4444" || e.RequestID != "req" || e.Problem != "pool-wiped" || e.Count != 0 ||
		!strings.Contains(e.Detail, wiped.PoolID) {
		t.Errorf("the first entry: %+v", e)
	}
	if c := s.JournalStats().Coalesced; c < 40 {
		t.Errorf("%d were coalesced", c)
	}
}

// Whatever peers try, what is remembered of them is bounded, and so is what it
// costs the journal.
func TestRefusalsAreBounded(t *testing.T) {
	t.Parallel()
	r, now := newRefusals(time.Minute), time.Now()
	for host := range 200 {
		for d := range 50 {
			r.add(fmt.Sprint("h", host), JournalEntry{DaemonID: fmt.Sprint("d", d), Problem: "pool-wiped"}, now)
		}
	}
	most := (maxRefusedHosts + 1) * (maxRefusedPerHost + 1)
	if n := len(r.open); n > most || len(r.hosts) > maxRefusedHosts+1 {
		t.Errorf("%d refusals of %d hosts are remembered, at most %d", n, len(r.hosts), most)
	}
	first := r.first()
	if len(first) != len(r.open) || len(r.first()) != 0 || r.coalesced != uint64(200*50-len(first)) {
		t.Errorf("%d are written, %d coalesced", len(first), r.coalesced)
	}
	if n := len(r.due(now.Add(59 * time.Second))); n != 0 {
		t.Errorf("%d entries before the window's end", n)
	}
	counted := 0
	for _, e := range r.due(now.Add(time.Minute)) {
		counted += max(e.Count, 1)
	}
	if counted+len(first) != 200*50 {
		t.Errorf("%d of %d refusals are told of", counted+len(first), 200*50)
	}
	r.due(now.Add(2 * time.Minute))
	r.due(now.Add(3 * time.Minute))
	if len(r.open) != 0 || len(r.hosts) != 0 {
		t.Errorf("after quiet windows %d are remembered of %d hosts", len(r.open), len(r.hosts))
	}
}

// Entries about opens say whom they end, and what was asked for; they are found by
// the log's name and by time.
func TestTheJournalTellsOfOpens(t *testing.T) {
	t.Parallel()
	s := shared.store
	l, err := s.CreateLog(t.Context(), on(t, daemons(t, s, 1)...))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		open(t, s, l.Name, func(r *OpenLogRequest) { r.Host, r.Takeover, r.MinEpoch = "h1", true, 9 })
	}
	if _, err := s.client.Delete(t.Context(), prefixWriters+l.LogID); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteLog(t.Context(), l.Name, 0); err != nil {
		t.Fatal(err)
	}
	es, _ := s.view.Journal(JournalFilter{Log: l.LogID})
	if len(es) != 4 {
		t.Fatalf("%d entries: %+v", len(es), es)
	}
	if d := es[1].Detail; !strings.Contains(d, "epoch 10 for an unnamed writer (process 7 on h1); it ends epoch 9 of") {
		t.Errorf("a takeover: %s", d)
	}
	if d := es[2].Detail; !strings.Contains(d, "at least 9 was asked for") {
		t.Errorf("an open with min_epoch: %s", d)
	}
	if es, _ := s.view.Journal(JournalFilter{Log: l.Name, From: es[2].At, To: es[0].At}); len(es) != 2 {
		t.Errorf("between two times, by name: %+v", es)
	}
}
