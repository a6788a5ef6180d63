package replog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
)

// TestEverythingAtOnce: daemons restart, connections are cut and held, writers
// are taken over, while several goroutines append. What was acknowledged is in
// the log at the end, each goroutine's in its order, and nothing twice.
func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	c := newCluster(t, setup{proxied: true, file: true, capacity: 2 << 20})
	var current atomic.Pointer[Writer]
	current.Store(c.open(OpenRequest{}))
	var acked atomic.Int64
	var over atomic.Bool
	const appenders = 4
	acknowledged := make([][]string, appenders)
	var wait sync.WaitGroup
	for g := range appenders {
		wait.Go(func() {
			for i := 0; !over.Load(); i++ {
				id := fmt.Sprintf("%d:%d", g, i)
				_, err := current.Load().Append(testContext(t), format.Record{Payload: []byte(id)})
				switch {
				case err == nil:
					acknowledged[g] = append(acknowledged[g], id)
					acked.Add(1)
				case !errors.Is(err, ErrFenced): // the next writer takes the next one
					t.Errorf("append %s: %v", id, err)
					return
				}
			}
		})
	}
	held := -1
	for step := range 60 {
		i := rng.IntN(3)
		switch p := c.proxies[i]; rng.IntN(5) {
		case 0, 1:
			p.Cut()
		case 2: // one at a time is held
			if held >= 0 {
				c.proxies[held].Hold(false)
			}
			held = i
			p.Hold(true)
		case 3:
			c.daemons[i].stop()
			c.daemons[i].start()
			p.Retarget(c.daemons[i].address())
			p.Cut()
		case 4:
			current.Store(c.open(OpenRequest{Takeover: true}))
		}
		before := acked.Load()
		eventually(t, fmt.Sprintf("progress after step %d: %s", step, current.Load().Waiting()), func() bool {
			return acked.Load() >= before+10 || t.Failed()
		})
	}
	over.Store(true)
	wait.Wait()
	if held >= 0 {
		c.proxies[held].Hold(false)
	}
	w := c.open(OpenRequest{Takeover: true})
	found := map[string]uint64{}
	_, err := w.Read(0, func(h format.Header, p []byte) error {
		if at, twice := found[string(p)]; twice {
			return fmt.Errorf("record %s is at LSN %d and at %d", p, at, h.LSN)
		}
		found[string(p)] = h.LSN
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, ids := range acknowledged {
		last := uint64(0)
		for i, id := range ids {
			lsn, ok := found[id]
			if !ok || i > 0 && lsn <= last {
				t.Fatalf("acknowledged record %s: found %v at LSN %d, the one before it is at %d", id, ok, lsn, last)
			}
			last = lsn
		}
	}
	settle(t, w)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if rep := verify(t, c, false); !rep.Agree {
		t.Fatalf("%+v", rep)
	}
}

// TestReplicaOfAnotherSize: a daemon whose region is not the log's is no member.
func TestReplicaOfAnotherSize(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	s := pmemlog.Spec{Cluster: testCluster, Log: testLog, Replica: c.log.Replicas[2].ID, Capacity: 4096}
	if _, err := c.daemons[2].pool.Create(s); err != nil {
		t.Fatal(err)
	}
	w := c.open(OpenRequest{})
	appendRecords(t, w, 0, 5)
	eventually(t, "a reason", func() bool {
		r := w.Status()[2].Reason
		return r != nil && strings.Contains(r.Error(), "ring of 4096 bytes, the log one of 65536")
	})
	if s := w.Status()[2]; s.Counts {
		t.Fatalf("%+v", s)
	}
}

// TestReadersOfAWrappedRing: the window begins in the middle of the ring.
func TestReadersOfAWrappedRing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{capacity: 16 << 10})
	w := c.open(OpenRequest{})
	settle(t, w)
	var lsns []uint64
	i := 0
	for ; w.Tail() < 51<<10; i++ {
		lsn, err := w.Append(testContext(t), format.Record{Payload: payload(i)})
		if err != nil {
			t.Fatal(err)
		}
		lsns = append(lsns, lsn)
		if w.Free() < 4<<10 {
			if err := w.Trim(lsns[i-15]); err != nil {
				t.Fatal(err)
			}
		}
	}
	settle(t, w)
	first := 0
	for lsns[first] < w.TrimLSN() {
		first++
	}
	if trim := w.TrimLSN(); trim/(16<<10) == w.Commit()/(16<<10) {
		t.Fatalf("[%d, %d) does not wrap", trim, w.Commit())
	}
	n := first
	at, err := ReadProven(testContext(t), c.view(), w.TrimLSN(), c.options(), func(_ format.Header, p []byte) error {
		if string(p) != string(payload(n)) {
			return fmt.Errorf("%.20q instead of record %d", p, n)
		}
		n++
		return nil
	})
	if err != nil || n != i || at != w.Commit() {
		t.Fatalf("records %d to %d of %d: %v", first, n, i, err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c.daemons[2].flip(i - 3)
	rep := verify(t, c, false)
	if r := rep.Replicas[2]; rep.Agree || len(r.Bad) != 1 || r.Bad[0].FromLSN != lsns[i-3] || !r.Repaired {
		t.Fatalf("%+v", rep.Replicas[2])
	}
	wantRecords(t, c.open(OpenRequest{}), first, i)
}
