package replog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog/core"
)

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
	// Two replicas are away and the third has it all: settled, if seen before the end.
	if err := <-settled; err != nil && !errors.Is(err, ErrClosed) {
		t.Errorf("settle: %v", err)
	}
	closed.Wait()
	for name, err := range map[string]error{"err": w.Err(), "trim": w.Trim(1024), "settle": w.Settle(testContext(t))} {
		if !errors.Is(err, ErrClosed) && name != "trim" || err == nil {
			t.Errorf("%s after close: %v", name, err)
		}
	}
}
