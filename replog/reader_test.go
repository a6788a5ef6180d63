package replog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
)

// TestReadProvenBesideAWriter: a reader sees a prefix of what is appended, and
// the writer does not notice.
func TestReadProvenBesideAWriter(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{capacity: 1 << 20})
	w := c.open(OpenRequest{})
	settle(t, w)
	const records = 300
	var wait sync.WaitGroup
	wait.Go(func() {
		for i := range records {
			if _, err := w.Append(testContext(t), format.Record{Payload: payload(i)}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	n, lsn := 0, uint64(0)
	for n < records && !t.Failed() {
		got, err := ReadProven(testContext(t), c.view(), lsn, c.options(), func(_ format.Header, p []byte) error {
			if !bytes.Equal(p, payload(n)) {
				return fmt.Errorf("%.20q instead of record %d", p, n)
			}
			n++
			return nil
		})
		if err != nil || got < lsn {
			t.Fatalf("commit LSN %d after %d: %v", got, lsn, err)
		}
		lsn = got
	}
	wait.Wait()
	if w.Err() != nil || lsn > w.Commit() {
		t.Fatalf("read up to %d, the commit LSN is %d; the writer says %v", lsn, w.Commit(), w.Err())
	}
}

// TestReadProvenNeedsAQuorum: one replica alone proves nothing, not even that the
// log is empty.
func TestReadProvenNeedsAQuorum(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	none := func(format.Header, []byte) error { return errors.New("there is something") }
	if _, err := ReadProven(testContext(t), c.view(), 0, c.options(), none); !errors.Is(err, ErrNothingProven) || !strings.Contains(err.Error(), c.log.Replicas[1].ID.String()) {
		t.Fatalf("a log that was never opened: %v", err)
	}
	w := c.open(OpenRequest{})
	settle(t, w)
	if at, err := ReadProven(testContext(t), c.view(), 0, c.options(), none); err != nil || at != 0 {
		t.Fatalf("an empty log: %d, %v", at, err)
	}
	appendRecords(t, w, 0, 5)
	settle(t, w)
	stop := errors.New("enough")
	if _, err := ReadProven(testContext(t), c.view(), 0, c.options(), func(format.Header, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Fatalf("a reader that stops: %v", err)
	}
	c.daemons[0].stop()
	read := 0
	at, err := ReadProven(testContext(t), c.view(), 0, c.options(), func(format.Header, []byte) error { read++; return nil })
	if err != nil || read != 5 || at != w.Commit() {
		t.Fatalf("two of three: %d records up to %d: %v", read, at, err)
	}
	c.daemons[1].stop()
	at, err = ReadProven(testContext(t), c.view(), 0, c.options(), none)
	if !errors.Is(err, ErrNothingProven) || at != 0 {
		t.Fatalf("one of three: commit LSN %d, %v", at, err)
	}
	for _, i := range []int{0, 1} {
		if !strings.Contains(err.Error(), c.log.Replicas[i].ID.String()) {
			t.Errorf("replica %d is missing from: %v", i, err)
		}
	}
}

func TestReadProvenOfATrimmedLog(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	w := c.open(OpenRequest{})
	settle(t, w)
	appendRecords(t, w, 0, 5)
	settle(t, w)
	if err := w.Trim(w.Commit()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all have trimmed", func() bool {
		for _, s := range w.Status() {
			if s.Trimmed != w.Commit() {
				return false
			}
		}
		return true
	})
	none := func(format.Header, []byte) error { return errors.New("there is something") }
	if at, err := ReadProven(testContext(t), c.view(), 0, c.options(), none); err != nil || at != w.Commit() {
		t.Fatalf("all of a log that was trimmed to its end: %d, %v", at, err)
	}
	if _, err := ReadProven(testContext(t), c.view(), 64, c.options(), none); err == nil || !strings.Contains(err.Error(), "is trimmed to LSN") {
		t.Fatalf("below the trim LSN: %v", err)
	}
}

func verify(t *testing.T, c *cluster, takeover bool) *VerifyReport {
	t.Helper()
	rep, err := Verify(testContext(t), c, c.view(), takeover, c.options())
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// closedLog returns a log of n records that no one has open.
func closedLog(t *testing.T, c *cluster, n int) (commit uint64) {
	t.Helper()
	w := c.open(OpenRequest{})
	settle(t, w)
	appendRecords(t, w, 0, n)
	settle(t, w)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.Commit()
}

func TestVerifyCleanAndLive(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	commit := closedLog(t, c, 30)
	rep := verify(t, c, false)
	if !rep.Agree || !rep.Recovered || rep.Live || rep.CommitLSN != commit || rep.Epoch != 2 || rep.Log != "vm-1" {
		t.Fatalf("%+v", rep)
	}
	for i, r := range rep.Replicas {
		if !r.Agrees || r.Records != 30 || r.TailLSN != commit || r.Suspect || r.Lag != 0 || len(r.Bad) != 0 || r.Repaired ||
			r.Error != "" || r.State != "present" || r.Media != "volatile" || len(r.Epochs) != 1 || r.DaemonID != fmt.Sprint("d", i) {
			t.Errorf("replica %d: %+v", i, r)
		}
	}
	w := c.open(OpenRequest{})
	settle(t, w)
	appendRecords(t, w, 30, 35)
	settle(t, w)
	rep = verify(t, c, false)
	if !rep.Agree || !rep.Live || rep.Recovered || rep.CommitLSN != w.Commit() || w.Err() != nil {
		t.Fatalf("beside a writer (%v): %+v", w.Err(), rep)
	}
	rep = verify(t, c, true)
	if !rep.Agree || rep.Live || !rep.Recovered {
		t.Fatalf("taken over: %+v", rep)
	}
	eventually(t, "the writer is fenced", func() bool { return errors.Is(w.Err(), ErrFenced) })
}

// TestVerifyEmpty: a log that nobody has written to holds nothing everywhere.
func TestVerifyEmpty(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	if rep := verify(t, c, false); !rep.Agree || rep.CommitLSN != 0 {
		t.Fatalf("never opened: %+v", rep)
	}
	if rep := verify(t, c, false); !rep.Agree || rep.CommitLSN != 0 {
		t.Fatalf("opened once: %+v", rep)
	}
}

// TestVerifyBringsUpALaggard: that a replica was away is no error.
func TestVerifyBringsUpALaggard(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	closedLog(t, c, 10)
	c.daemons[2].stop()
	w := c.open(OpenRequest{})
	appendRecords(t, w, 10, 20)
	commit := w.Commit()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c.daemons[2].start()
	rep := verify(t, c, false)
	r := rep.Replicas[2]
	if !rep.Agree || r.Agrees || r.Lag == 0 || r.Lag != commit-r.TailLSN || !r.Repaired || len(r.Bad) != 0 {
		t.Fatalf("agree %v, replica 2: %+v", rep.Agree, r)
	}
	if rep = verify(t, c, false); !rep.Agree || !rep.Replicas[2].Agrees {
		t.Fatalf("and again: %+v", rep)
	}
}

// flip inverts a bit in a record of a daemon that is stopped for that.
func (d *daemon) flip(i int) {
	d.t.Helper()
	d.stop()
	at := bytes.Index(d.disk.Bytes(), payload(i))
	if at < 0 {
		d.t.Fatalf("record %d is not on the medium of %s", i, d.name)
	}
	d.disk.Bytes()[at+3] ^= 0x10
	d.start()
}

func TestVerifyFindsAFlippedBit(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	w := c.open(OpenRequest{})
	settle(t, w)
	var lsns []uint64
	for i := range 30 {
		lsn, err := w.Append(testContext(t), format.Record{Payload: payload(i)})
		if err != nil {
			t.Fatal(err)
		}
		lsns = append(lsns, lsn)
	}
	settle(t, w)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c.daemons[1].flip(12)
	rep := verify(t, c, false)
	r := rep.Replicas[1]
	if rep.Agree || r.Agrees || !r.Repaired || len(r.Bad) != 1 || r.Bad[0].FromLSN != lsns[12] || r.Bad[0].ToLSN != lsns[13] || !strings.Contains(r.Bad[0].Why, "checksum") {
		t.Fatalf("agree %v, replica 1: %+v; the flip is in [%d, %d)", rep.Agree, r, lsns[12], lsns[13])
	}
	for _, i := range []int{0, 2} {
		if !rep.Replicas[i].Agrees {
			t.Errorf("replica %d: %+v", i, rep.Replicas[i])
		}
	}
	if rep = verify(t, c, false); !rep.Agree {
		t.Fatalf("after the repair: %+v", rep)
	}
	wantRecords(t, c.open(OpenRequest{}), 0, 30)
}

// TestVerifyFindsAFlipAtTheEnd: the last record is gone on one replica. Its hint
// tells a loss from a lag.
func TestVerifyFindsAFlipAtTheEnd(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	closedLog(t, c, 20)
	w := c.open(OpenRequest{}) // the fence of an open persists the hint
	settle(t, w)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c.daemons[0].flip(19)
	rep := verify(t, c, false)
	r := rep.Replicas[0]
	if rep.Agree || r.Agrees || !r.Suspect || !r.Repaired || len(r.Bad) != 1 {
		t.Fatalf("agree %v, replica 0: %+v", rep.Agree, r)
	}
	wantRecords(t, c.open(OpenRequest{}), 0, 20)
}

// TestVerifyWithoutAReplica: missing, unreachable, and one of another size are
// named; none of them agrees.
func TestVerifyWithoutAReplica(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		harm func(t *testing.T, c *cluster)
		want string
	}{
		"missing": {func(t *testing.T, c *cluster) {
			if err := c.daemons[1].pool.Delete(c.log.Replicas[1].ID); err != nil {
				t.Fatal(err)
			}
		}, "unknown log or replica"},
		"unreachable": {func(_ *testing.T, c *cluster) { c.daemons[1].stop() }, "refused"},
		"another size": {func(t *testing.T, c *cluster) {
			id := c.log.Replicas[1].ID
			if err := c.daemons[1].pool.Delete(id); err != nil {
				t.Fatal(err)
			}
			s := pmemlog.Spec{Cluster: testCluster, Log: testLog, Capacity: 4096}
			for i := range byte(4) { // until the pool has forgotten the removal
				s.Replica = format.ID{0xff, i}
				if _, err := c.daemons[1].pool.Create(s); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.daemons[1].pool.Delete(s.Replica); err != nil {
				t.Fatal(err)
			}
			s.Replica = id
			if _, err := c.daemons[1].pool.Create(s); err != nil {
				t.Fatal(err)
			}
		}, "ring of 4096 bytes, the log one of 65536"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, setup{})
			commit := closedLog(t, c, 10)
			test.harm(t, c)
			rep := verify(t, c, false)
			r := rep.Replicas[1]
			if rep.Agree || r.Agrees || r.Repaired || !strings.Contains(r.Error, test.want) || rep.CommitLSN != commit {
				t.Fatalf("agree %v, commit %d of %d, replica 1: %+v", rep.Agree, rep.CommitLSN, commit, r)
			}
			wantRecords(t, c.open(OpenRequest{}), 0, 10)
		})
	}
}

func TestVerifyIsGivenUp(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	closedLog(t, c, 3)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if rep, err := Verify(ctx, c, c.view(), false, c.options()); err == nil || rep != nil && rep.Agree {
		t.Fatalf("%+v, %v", rep, err)
	}
	if rep := verify(t, c, false); !rep.Agree {
		t.Fatalf("%+v", rep)
	}
}

// TestVerifyProvesNothing: beside a writer that has fenced and not yet recovered,
// there is nothing to compare up to, which is not to agree.
func TestVerifyProvesNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, setup{})
	w := c.open(OpenRequest{})
	settle(t, w)
	appendRecords(t, w, 0, 3)
	s := c.daemons[0].replica(c.log.Replicas[0].ID).Attach(false)
	defer s.Close()
	if _, err := s.Fence(format.Fence{Epoch: 9, Nonce: 9}); err != nil {
		t.Fatal(err)
	}
	rep, err := Verify(testContext(t), c, c.view(), false, c.options())
	if !errors.Is(err, ErrNothingProven) || rep == nil || rep.Agree || !rep.Live || rep.CommitLSN != 0 {
		t.Fatalf("%+v, %v", rep, err)
	}
}
