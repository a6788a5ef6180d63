package replog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog/core"
)

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
