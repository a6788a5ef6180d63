package replog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog/core"
)

func TestAppendAndReadBack(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{file: true})
	w := c.open(OpenRequest{})
	if w.Err() != nil || w.Waiting() != "" || w.Commit() != 0 {
		t.Fatalf("a new log: %v, waits for %q, commit %d", w.Err(), w.Waiting(), w.Commit())
	}
	rec := format.Record{Payload: []byte("first"), Meta: [16]byte{1, 2, 3}}
	lsn, err := w.Append(testContext(t), rec)
	if err != nil || lsn != 0 {
		t.Fatalf("LSN %d, %v", lsn, err)
	}
	copy(rec.Payload, "XXXXX") // it is the caller's again
	_, err = w.Read(0, func(h format.Header, p []byte) error {
		if string(p) != "first" || h.Meta != rec.Meta || h.Epoch != 1 {
			return fmt.Errorf("%q, %+v", p, h)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Trim(w.Commit()); err != nil {
		t.Fatal(err)
	}
	appendRecords(t, w, 0, 60)
	wantRecords(t, w, 0, 60)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	// Restarted daemons find it in their files.
	for _, d := range c.daemons {
		d.stop()
		d.start()
	}
	w = c.open(OpenRequest{})
	wantRecords(t, w, 0, 60)
	if w.Grant().Term.Epoch != 2 {
		t.Fatalf("the second open is in epoch %d", w.Grant().Term.Epoch)
	}
	appendRecords(t, w, 60, 70)
	wantRecords(t, w, 0, 70)
}

func TestManyGoroutinesAppendInOrder(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{capacity: 1 << 20})
	w := c.open(OpenRequest{})
	const writers, each = 16, 40
	lsns := make([][]uint64, writers)
	var wait sync.WaitGroup
	for g := range writers {
		wait.Go(func() {
			for i := range each {
				lsn, err := w.Append(testContext(t), format.Record{Payload: fmt.Appendf(nil, "%d/%d", g, i)})
				if err != nil {
					t.Error(err)
					return
				}
				if w.Commit() <= lsn {
					t.Errorf("record at LSN %d is acknowledged and the commit LSN is %d", lsn, w.Commit())
				}
				lsns[g] = append(lsns[g], lsn)
			}
		})
	}
	wait.Wait()
	got := map[string]uint64{}
	if _, err := w.Read(0, func(h format.Header, p []byte) error { got[string(p)] = h.LSN; return nil }); err != nil {
		t.Fatal(err)
	}
	for g := range writers {
		if !slices.IsSorted(lsns[g]) {
			t.Errorf("goroutine %d got LSNs %v", g, lsns[g])
		}
		for i, lsn := range lsns[g] {
			if got[fmt.Sprintf("%d/%d", g, i)] != lsn {
				t.Fatalf("record %d/%d is not at LSN %d", g, i, lsn)
			}
		}
	}
	if len(got) != writers*each {
		t.Fatalf("%d records", len(got))
	}
}

// TestOneDaemonDies: its death costs nothing, and when it returns, at another
// address, it is brought up to date.
func TestOneDaemonDies(t *testing.T) {
	t.Parallel()
	for _, file := range []bool{false, true} {
		t.Run(fmt.Sprint("file=", file), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, setup{file: file})
			w := c.open(OpenRequest{})
			appendRecords(t, w, 0, 20)
			c.daemons[2].stop()
			appendRecords(t, w, 20, 40)
			eventually(t, "r2 is away", func() bool { return w.Status()[2].Stage == "away" })
			if s := w.Status()[2]; s.Counts || s.Reason == nil {
				t.Fatalf("%+v", s)
			}
			c.daemons[2].start()
			appendRecords(t, w, 40, 50)
			settle(t, w)
			if got := c.daemons[2].replica(c.log.Replicas[2].ID).Info().Durable; got != w.Commit() {
				t.Fatalf("r2 holds %d of %d bytes", got, w.Commit())
			}
			c.daemons[0].stop() // now it is needed
			appendRecords(t, w, 50, 60)
			wantRecords(t, w, 0, 60)
		})
	}
}

// TestTrimmedPastOneThatWasAway: it is reset to the trim LSN.
func TestTrimmedPastOneThatWasAway(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{capacity: 16 << 10})
	w := c.open(OpenRequest{})
	settle(t, w)
	appendRecords(t, w, 0, 5)
	c.daemons[1].stop()
	for i := 5; i < 200; i++ { // the ring comes round several times
		if err := w.Trim(w.Commit()); err != nil {
			t.Fatal(err)
		}
		appendRecords(t, w, i, i+1)
	}
	c.daemons[1].start()
	settle(t, w)
	info := c.daemons[1].replica(c.log.Replicas[1].ID).Info()
	if info.Slot.Trim.LSN == 0 || info.Durable != w.Commit() {
		t.Fatalf("r1 holds [%d, %d), the log is [%d, %d)", info.Slot.Trim.LSN, info.Durable, w.TrimLSN(), w.Commit())
	}
	c.daemons[0].stop()
	appendRecords(t, w, 200, 210)
	wantRecords(t, w, 199, 210)
}

func TestSecondWriterFencesTheFirst(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	first := c.open(OpenRequest{})
	appendRecords(t, first, 0, 10)
	if _, err := Open(testContext(t), c, OpenRequest{Log: "vm-1"}, c.options()); !errors.Is(err, ErrInUse) {
		t.Fatalf("a second open without takeover: %v", err)
	}
	second := c.open(OpenRequest{Takeover: true})
	wantRecords(t, second, 0, 10)
	_, err := first.Append(testContext(t), format.Record{Payload: []byte("late")})
	if !errors.Is(err, ErrFenced) {
		t.Fatalf("append of the fenced writer: %v", err)
	}
	if err := first.Err(); !errors.Is(err, ErrFenced) {
		t.Fatalf("the fenced writer says %v", err)
	}
	if err := first.Settle(testContext(t)); !errors.Is(err, ErrFenced) {
		t.Fatalf("settle of the fenced writer: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatalf("close of the fenced writer: %v", err)
	}
	appendRecords(t, second, 10, 20)
	wantRecords(t, second, 0, 20)
}

// TestLeaseTellsOfTheTakeover: a writer that appends nothing and whose replicas
// say nothing learns it from the control plane.
func TestLeaseTellsOfTheTakeover(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	w := c.open(OpenRequest{})
	c.set(func(c *cluster) { c.state.term.Epoch++ })
	eventually(t, "the lease's word", func() bool { return errors.Is(w.Err(), ErrFenced) })
	renews := c.get(func(c *cluster) int { return c.renews })
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := c.get(func(c *cluster) int { return c.renews }); got > renews+1 {
		t.Fatalf("a writer that is over renewed its lease %d times", got-renews)
	}
}

// TestControlPlaneIsGone: appends go on, and so do reconnects.
func TestControlPlaneIsGone(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{proxied: true})
	w := c.open(OpenRequest{})
	settle(t, w)
	c.set(func(c *cluster) { c.down = true })
	for round := range 5 {
		for _, p := range c.proxies {
			p.Cut()
		}
		appendRecords(t, w, round*5, round*5+5)
	}
	settle(t, w)
	wantRecords(t, w, 0, 25)
	if err := w.Close(); !errors.Is(err, errDown) || !strings.Contains(err.Error(), "give the lease back") {
		t.Fatalf("close: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatalf("close again: %v", err)
	}
}

// TestQuorumLost: appends wait, and go on by themselves.
func TestQuorumLost(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	w := c.open(OpenRequest{})
	settle(t, w)
	appendRecords(t, w, 0, 10)
	c.daemons[1].stop()
	c.daemons[2].stop()
	ticket, err := w.Submit(testContext(t), format.Record{Payload: payload(10)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := ticket.Wait(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "outcome unknown") {
		t.Fatalf("an append that was given up: %v", err)
	}
	eventually(t, "the writer knows what is wrong", func() bool {
		s := w.Waiting()
		return strings.Contains(s, c.log.Replicas[1].ID.String()) && strings.Contains(s, c.log.Replicas[2].ID.String()) &&
			strings.Count(s, "refused") == 2
	})
	select {
	case <-ticket.Done():
		t.Fatalf("acknowledged by one of three: %v", ticket.Err())
	default:
	}
	c.daemons[1].start()
	if err := ticket.Wait(testContext(t)); err != nil {
		t.Fatal(err)
	}
	wantRecords(t, w, 0, 11)
}

// TestOpenSaysWhatItWaitsFor: each replica, and what is wrong with it.
func TestOpenSaysWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	w := c.open(OpenRequest{})
	settle(t, w)
	appendRecords(t, w, 0, 3)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c.daemons[1].stop()
	if err := c.daemons[2].pool.Delete(c.log.Replicas[2].ID); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	_, err := Open(ctx, c, OpenRequest{Log: "vm-1"}, c.options())
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("open: %v", err)
	}
	for _, want := range []string{
		"vm-1", "2 of 3 replicas needed", c.log.Replicas[0].ID.String() + ": answers, holds 1/",
		c.log.Replicas[1].ID.String(), "refused", c.log.Replicas[2].ID.String(), "region can't be found",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing from: %v", want, err)
		}
	}
	// The lease was given back, so nobody has to take it over.
	c.daemons[1].start()
	wantRecords(t, c.open(OpenRequest{}), 0, 3)
}

func TestOpenFails(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	for name, o := range map[string]Options{
		"Window":   {Window: -1},
		"RetryMax": {RetryFirst: time.Second, RetryMax: time.Millisecond},
	} {
		if _, err := Open(testContext(t), c, OpenRequest{}, o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c.set(func(c *cluster) { c.down = true })
	if _, err := Open(testContext(t), c, OpenRequest{Log: "vm-1"}, c.options()); !errors.Is(err, errDown) || !strings.Contains(err.Error(), "open log vm-1") {
		t.Errorf("control plane down: %v", err)
	}
	c.set(func(c *cluster) { c.down, c.log.AckQuorum = false, 1 })
	if _, err := Open(testContext(t), c, OpenRequest{Log: "vm-1"}, c.options()); err == nil || !strings.Contains(err.Error(), "ack quorum 1 of 3") {
		t.Errorf("bad grant: %v", err)
	}
	if c.get(func(c *cluster) int { return map[bool]int{true: 1}[c.state.leased] }) == 1 {
		t.Error("the lease was kept")
	}
}

// TestRestoredControlPlane: epochs are handed out twice.
func TestRestoredControlPlane(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	w := c.open(OpenRequest{})
	settle(t, w)
	appendRecords(t, w, 0, 5)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c.snapshot() // of epoch 1
	for range 4 {
		w = c.open(OpenRequest{Takeover: true})
	}
	settle(t, w)
	appendRecords(t, w, 5, 10) // in epoch 5
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c.restore()
	opens := c.get(func(c *cluster) int { return c.opens })
	w = c.open(OpenRequest{}) // is granted epoch 2, which the replicas refuse
	if got := w.Grant().Term.Epoch; got < 6 {
		t.Fatalf("opened in epoch %d", got)
	}
	if got := c.get(func(c *cluster) int { return c.opens }) - opens; got != 2 {
		t.Errorf("%d calls of Open", got)
	}
	wantRecords(t, w, 0, 10)
	appendRecords(t, w, 10, 12)

	// The very epoch that the replicas have promised, under another nonce.
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c.set(func(c *cluster) { c.state.term.Epoch-- })
	w = c.open(OpenRequest{})
	wantRecords(t, w, 0, 12)
}

// superseding is a control plane that has granted the log to somebody else
// before the one who opens can do anything.
type superseding struct{ *cluster }

func (s superseding) Open(ctx context.Context, r OpenRequest) (Grant, error) {
	g, err := s.cluster.Open(ctx, r)
	s.set(func(c *cluster) { c.state.term.Epoch++; c.nonce++; c.state.term.Nonce = c.nonce })
	return g, err
}

// TestSupersededOpenerGivesUp: it must not fight for a higher epoch.
func TestSupersededOpenerGivesUp(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	w := c.open(OpenRequest{})
	settle(t, w)
	appendRecords(t, w, 0, 3)
	w = c.open(OpenRequest{Takeover: true})
	c.set(func(c *cluster) { c.state.term.Epoch = 0 })
	opens := c.get(func(c *cluster) int { return c.opens })
	got, err := Open(testContext(t), superseding{c}, OpenRequest{Log: "vm-1", Takeover: true}, c.options())
	if !errors.Is(err, ErrFenced) || got != nil {
		t.Fatalf("%v, %v", got, err)
	}
	if got := c.get(func(c *cluster) int { return c.opens }) - opens; got != 1 {
		t.Fatalf("%d calls of Open", got)
	}
	_ = w
}

func TestPresentIsAskedUntilKnown(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	c.lose = 3
	w := c.open(OpenRequest{})
	settle(t, w)
	if got := c.get(func(c *cluster) int { return c.made }); got < 4 {
		t.Fatalf("%d calls, three answers were lost", got)
	}
	for i, s := range c.view().Replicas {
		if s.State != core.Present {
			t.Errorf("replica %d is %v", i, s.State)
		}
	}
}

// TestSupersededBeforePresent: what is not recorded must not count.
func TestSupersededBeforePresent(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	_, err := Open(testContext(t), superseding{c}, OpenRequest{Log: "vm-1"}, c.options())
	if !errors.Is(err, ErrFenced) {
		t.Fatal(err)
	}
}

func TestFullLog(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{capacity: 8 << 10})
	w := c.open(OpenRequest{})
	settle(t, w)
	ctx := testContext(t)
	rec := format.Record{Payload: make([]byte, 1024-64)}
	for range 8 {
		if _, err := w.Append(ctx, rec); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Append(ctx, rec); !errors.Is(err, ErrFull) || w.Free() != 0 {
		t.Fatalf("append to a full log with %d bytes free: %v", w.Free(), err)
	}
	if _, err := w.Append(ctx, format.Record{Payload: make([]byte, w.MaxPayload()+1)}); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("a record that is too large: %v", err)
	}
	for _, lsn := range []uint64{512, 1000, 9 << 10, ^uint64(0)} {
		if err := w.Trim(lsn); !errors.Is(err, core.ErrTrim) || !strings.Contains(err.Error(), fmt.Sprint(lsn)) {
			t.Errorf("trim to LSN %d: %v", lsn, err)
		}
	}
	if err := w.Trim(1024); err != nil {
		t.Fatal(err)
	}
	if err := w.Trim(512); err != nil {
		t.Fatalf("trim to what is trimmed already: %v", err)
	}
	if _, err := w.Append(ctx, rec); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Read(0, nil); err == nil || !strings.Contains(err.Error(), "trimmed to LSN 1024") {
		t.Errorf("read below the trim LSN: %v", err)
	}
	// A full log opens, and is full.
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w = c.open(OpenRequest{})
	if _, err := w.Append(ctx, rec); !errors.Is(err, ErrFull) {
		t.Fatalf("append to a full log: %v", err)
	}
}

func TestReadWhereNoRecordBegins(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{daemons: 1, capacity: 8 << 10})
	w := c.open(OpenRequest{})
	for range 7 {
		if _, err := w.Append(testContext(t), format.Record{Payload: make([]byte, 1024-64)}); err != nil {
			t.Fatal(err)
		}
	}
	fake := make([]byte, 512) // a payload that looks like a record which crosses the end of the ring
	format.EncodeHeader(fake[448:], &format.Header{Kind: format.KindData, LSN: 7<<10 + 512})
	h := make([]byte, 64+2048)
	format.EncodeHeader(h, &format.Header{Kind: format.KindData, LSN: 7<<10 + 512, Length: 2048})
	copy(fake[448:], h[:64])
	if _, err := w.Append(testContext(t), format.Record{Payload: fake}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Append(testContext(t), format.Record{Payload: make([]byte, 384)}); err != nil {
		t.Fatal(err)
	}
	for _, lsn := range []uint64{64, 1, 1023, 7<<10 + 512, 8<<10 - 10} {
		if _, err := w.Read(lsn, func(format.Header, []byte) error { return nil }); err == nil || !strings.Contains(err.Error(), "no record begins there") {
			t.Errorf("read at LSN %d: %v", lsn, err)
		}
	}
	stop := errors.New("enough")
	if at, err := w.Read(1024, func(format.Header, []byte) error { return stop }); !errors.Is(err, stop) || at != 1024 {
		t.Errorf("a reader that stops: %d, %v", at, err)
	}
	if at, err := w.Read(w.Commit(), nil); err != nil || at != w.Commit() {
		t.Errorf("read at the end: %d, %v", at, err)
	}
}

// TestRingWraps: many laps, with records of all sizes.
func TestRingWraps(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{capacity: 8 << 10})
	w := c.open(OpenRequest{}, func(o *Options) { o.WaitForSpace = true })
	var ends []uint64
	first := 0
	for i := range 400 {
		ticket, err := w.Submit(testContext(t), format.Record{Payload: payload(i)})
		if err != nil {
			t.Fatal(err)
		}
		if err := ticket.Wait(testContext(t)); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, ticket.End)
		if w.Free() < 2048 {
			first = i - 2
			if err := w.Trim(ends[first-1]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if w.Tail() < 20*(8<<10) {
		t.Fatalf("only %d laps", w.Tail()/(8<<10))
	}
	wantRecords(t, w, first, 400)
	settle(t, w)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w = c.open(OpenRequest{})
	wantRecords(t, w, first, 400)
}

// TestWaitForSpace: a trim lets the next append in; so does the end of it all,
// with an error.
func TestWaitForSpace(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{capacity: 8 << 10})
	w := c.open(OpenRequest{}, func(o *Options) { o.WaitForSpace = true })
	settle(t, w)
	rec := format.Record{Payload: make([]byte, 1024-64)}
	for range 8 {
		if _, err := w.Append(testContext(t), rec); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, err := w.Append(ctx, rec); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "waiting for space") {
		t.Fatalf("no space: %v", err)
	}
	got := make(chan error, 3)
	for range 3 {
		go func() {
			_, err := w.Append(testContext(t), rec)
			got <- err
		}()
	}
	if err := w.Trim(1024); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	c.open(OpenRequest{Takeover: true})
	for range 2 {
		if err := <-got; !errors.Is(err, ErrFenced) {
			t.Fatalf("waits for space when the writer is fenced: %v", err)
		}
	}
}

func TestCloseWithWaiters(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{capacity: 8 << 10})
	w := c.open(OpenRequest{}, func(o *Options) { o.WaitForSpace = true })
	settle(t, w)
	c.daemons[0].stop()
	c.daemons[1].stop()
	rec := format.Record{Payload: make([]byte, 1024-64)}
	got := make(chan error)
	for range 12 { // 8 fit and wait for a quorum, 4 wait for space
		go func() {
			_, err := w.Append(testContext(t), rec)
			got <- err
		}()
	}
	eventually(t, "a full ring", func() bool { return w.Free() == 0 })
	settled := make(chan error)
	go func() { settled <- w.Settle(testContext(t)) }()
	var closed sync.WaitGroup
	for range 3 {
		closed.Go(func() {
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	for range 12 {
		if err := <-got; !errors.Is(err, ErrClosed) {
			t.Errorf("waited when the writer was closed: %v", err)
		}
	}
	if err := <-settled; !errors.Is(err, ErrClosed) {
		t.Errorf("settle: %v", err)
	}
	closed.Wait()
	for name, err := range map[string]error{"err": w.Err(), "trim": w.Trim(1024), "settle": w.Settle(testContext(t))} {
		if !errors.Is(err, ErrClosed) && name != "trim" || err == nil {
			t.Errorf("%s after close: %v", name, err)
		}
	}
}

// TestCloseRaces: closing while everything else goes on.
func TestCloseRaces(t *testing.T) {
	t.Parallel()
	for range 5 {
		c := newCluster(t, setup{proxied: true})
		w := c.open(OpenRequest{})
		var wait sync.WaitGroup
		for g := range 4 {
			wait.Go(func() {
				for i := 0; ; i++ {
					_, err := w.Append(testContext(t), format.Record{Payload: payload(g)})
					if errors.Is(err, ErrFull) {
						err = w.Trim(w.Commit())
						if errors.Is(err, core.ErrTrim) { // somebody else was faster
							err = nil
						}
					}
					if errors.Is(err, ErrClosed) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					if i%7 == g {
						c.proxies[g%3].Cut()
					}
				}
			})
		}
		eventually(t, "some appends", func() bool { return w.Commit() > 20<<10 })
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		wait.Wait()
	}
}

// TestFailingNetwork: connections are cut in the middle of frames, and bytes
// flip; nothing that was acknowledged is lost or changed.
func TestFailingNetwork(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{proxied: true, capacity: 32 << 10})
	w := c.open(OpenRequest{})
	for i := range 150 {
		p := c.proxies[i%3]
		switch i % 10 {
		case 0:
			p.ToServer(faults(int64(1000+i*13), nil))
		case 3:
			p.ToClient(faults(int64(400+i*7), nil))
		case 6:
			p.ToServer(faults(0, []int64{int64(300 + i*11), int64(2000 + i*17)}))
		case 9:
			p.ToServer(faults(0, nil))
			p.ToClient(faults(0, nil))
		}
		appendRecords(t, w, i, i+1)
		if w.Free() < 8<<10 {
			if err := w.Trim(w.Commit()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, p := range c.proxies {
		p.ToServer(faults(0, nil))
		p.ToClient(faults(0, nil))
	}
	settle(t, w)
	var live [][]byte
	if _, err := w.Read(w.TrimLSN(), func(_ format.Header, p []byte) error { live = append(live, p); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w = c.open(OpenRequest{})
	i := 0
	_, err := w.Read(w.TrimLSN(), func(_ format.Header, p []byte) error {
		if i >= len(live) || !bytes.Equal(p, live[i]) {
			return fmt.Errorf("record %d is another one", i)
		}
		i++
		return nil
	})
	if err != nil || i != len(live) {
		t.Fatalf("%d of %d records: %v", i, len(live), err)
	}
}

// TestBlackhole: a daemon that takes nothing and says nothing holds up nobody,
// not even when the ring comes round to what it was sent.
func TestBlackhole(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{proxied: true, capacity: 16 << 10})
	w := c.open(OpenRequest{})
	settle(t, w)
	appendRecords(t, w, 0, 3)
	c.proxies[1].Hold(true)
	for i := 3; i < 300; i++ {
		appendRecords(t, w, i, i+1)
		if w.Free() < 4<<10 {
			if err := w.Trim(w.Commit()); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.proxies[1].Hold(false)
	settle(t, w)
}
