package replog

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/gravenio/graven/pmemlog/format"
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
