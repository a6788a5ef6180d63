package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog"
)

// scrubbing starts daemons that scrub all the time.
func (f *fleet) scrubbing(ids ...string) {
	f.t.Helper()
	for _, id := range ids {
		o := f.options(id)
		o.ScrubEvery = 20 * time.Millisecond
		f.run(o)
	}
}

// flip turns a bit over on the disk under a replica, at an LSN.
func (f *fleet) flip(r *openapi.Replica, lsn int64) {
	f.t.Helper()
	o := f.opts[r.DaemonID]
	file, err := os.OpenFile(o.poolPath(), os.O_RDWR, 0)
	if err != nil {
		f.t.Fatal(err)
	}
	defer file.Close()
	for _, l := range f.agents[r.DaemonID].pool.Replicas() {
		if l.Replica != id(f.t, r.ReplicaID) {
			continue
		}
		var b [1]byte
		at := l.Offset + format.RingOffset + lsn
		if _, err := file.ReadAt(b[:], at); err != nil {
			f.t.Fatal(err)
		}
		b[0] ^= 4
		if _, err := file.WriteAt(b[:], at); err != nil {
			f.t.Fatal(err)
		}
		return
	}
	f.t.Fatalf("daemon %s has no replica %s", r.DaemonID, r.ReplicaID)
}

// replica is what a daemon has of a log's replica.
func (f *fleet) replica(r *openapi.Replica) *pmemlog.Replica {
	f.t.Helper()
	found, err := f.agents[r.DaemonID].pool.Replica(id(f.t, r.ReplicaID))
	if err != nil {
		f.t.Fatal(err)
	}
	return found
}

// whole checks that a replica has so many good records and no damage.
func (f *fleet) whole(r *openapi.Replica, n uint64) {
	f.t.Helper()
	res, err := f.replica(r).Scrub(context.Background(), func(context.Context, int) error { return nil })
	if err != nil || res.Damage != nil || res.Records != n {
		f.t.Errorf("daemon %s: %+v, %v; want %d records", r.DaemonID, res, err, n)
	}
}

// metric returns a sample of an agent's metrics.
func metric(a *running, name string) float64 {
	a.t.Helper()
	rec := httptest.NewRecorder()
	a.observability().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	_, rest, found := strings.Cut(rec.Body.String(), "\ngraven_agent_"+name+" ")
	if !found {
		a.t.Fatalf("no metric %s", name)
	}
	var v float64
	if _, err := fmt.Sscan(rest, &v); err != nil {
		a.t.Fatal(err)
	}
	return v
}

// A bit that flips under an acknowledged record of a log that is being written is
// found, and the writer repairs the replica at once, from its mirror.
func TestDamageUnderALiveWriterIsRepaired(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.scrubbing("d1", "d2", "d3")
	log := f.createLog("l", 3)
	w := f.client(log, replog.Options{ReplaceAfter: -1})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var written uint64
	appended := func(n int) {
		t.Helper()
		for range n {
			if _, err := w.Append(ctx, format.Record{Payload: []byte(fmt.Sprintf("l record %d", written))}); err != nil {
				t.Fatal(err)
			}
			written++
		}
	}
	appended(records / 2)
	if err := w.Settle(ctx); err != nil {
		t.Fatal(err)
	}
	bad := &f.log(log).Replicas[0]
	hit := f.agents[bad.DaemonID]
	others := map[string]float64{}
	for daemon, a := range f.agents {
		others[daemon] = metric(a, "fences_total")
	}
	for round := range 2 { // it converges, and does so again
		f.flip(bad, int64(format.RecordSize(len("l record 0")))+format.HeaderSize+3) // in the second record
		eventually(t, "the damage is found", func() bool { return metric(hit, "scrub_damage_total") > float64(round) })
		appended(1) // whatever happens to that replica
		eventually(t, "the damage is repaired", func() bool {
			i := f.replica(bad).Info()
			return i.Damage == nil && metric(hit, "fences_total") > others[bad.DaemonID]+float64(round)
		})
		if err := w.Settle(ctx); err != nil {
			t.Fatal(err)
		}
	}
	appended(records - int(written))
	if err := w.Settle(ctx); err != nil {
		t.Fatal(err)
	}
	f.whole(bad, records)
	for daemon, a := range f.agents {
		if n := metric(a, "fences_total") - others[daemon]; daemon != bad.DaemonID && n != 0 {
			t.Errorf("daemon %s was fenced %v times, though its replica was whole", daemon, n)
		}
	}
	if n := metric(hit, "damaged_replicas"); n != 0 {
		t.Errorf("%v replicas are damaged", n)
	}
	f.readsBack(w, "l")
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

// Without a writer damage is reported, and the next open repairs it.
func TestDamageOfAClosedLogIsReportedUntilItIsRepaired(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.scrubbing("d1", "d2", "d3")
	log := f.closedLog("l")
	bad := &log.Replicas[1]
	lsn := int64(format.RecordSize(len("l record 0")))
	f.flip(bad, lsn+format.HeaderSize+3)
	reported := func() *openapi.ReplicaSummary {
		for _, r := range f.log(log).Replicas {
			if r.ReplicaID == bad.ReplicaID && r.Reported != nil {
				return r.Reported
			}
		}
		return &openapi.ReplicaSummary{}
	}
	eventually(t, "the control plane knows of the damage", func() bool { return reported().Damage != "" })
	if r := reported(); !r.Suspect || r.DamageLSN != lsn || r.Damage != format.ErrCRC.Error() {
		t.Errorf("reported %+v, want damage at LSN %d: %v", r, lsn, format.ErrCRC)
	}
	if a := f.alarm(openapi.AlarmReplicaSuspect, bad.DaemonID); !strings.Contains(a, fmt.Sprintf("LSN %d", lsn)) || !strings.Contains(a, "next open") {
		t.Errorf("alarm %q", a)
	}
	w := f.client(log, replog.Options{})
	f.readsBack(w, "l")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := errors.Join(w.Settle(ctx), w.Close()); err != nil { // an open needs two of three, and may end before the third is filled
		t.Fatal(err)
	}
	eventually(t, "the report goes away", func() bool { return !reported().Suspect && reported().Damage == "" })
	f.whole(bad, records)
	if a := f.alarm(openapi.AlarmReplicaSuspect, bad.DaemonID); a != "" {
		t.Errorf("alarm %q", a)
	}
}

// alarm returns what an alarm of a daemon says; empty for none.
func (f *fleet) alarm(kind openapi.AlarmKind, daemon string) string {
	f.t.Helper()
	r, err := f.api.GetStatusWithResponse(context.Background())
	if err != nil || r.JSON200 == nil {
		f.t.Fatal(err)
	}
	for _, a := range r.JSON200.Alarms {
		if a.Kind == kind && a.DaemonID == daemon {
			return a.Detail
		}
	}
	return ""
}

// What the pool itself lost on its medium is healed, and counted.
func TestScrubHealsThePool(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.scrubbing("d1")
	a := f.agents[f.name+"d1"]
	eventually(t, "the start is confirmed, which writes the superblocks", func() bool {
		return a.pool.Identity().Confirmed == a.Incarnation() && metric(a, "scrub_runs_total") > 0
	})
	file, err := os.OpenFile(pathOf(f.opts[a.ID()]), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt([]byte("damage"), 100); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is healed", func() bool { return metric(a, "scrub_healed_total") == 1 })
	runs := metric(a, "scrub_runs_total")
	eventually(t, "another scrub has ended", func() bool { return metric(a, "scrub_runs_total") > runs+1 })
	if n := metric(a, "scrub_healed_total"); n != 1 || metric(a, "scrub_read_bytes_total") == 0 {
		t.Errorf("healed %v times", n)
	}
	if h := a.Health(); h.State != openapi.HealthOK {
		t.Errorf("health %+v", h)
	}
}

// What the kernel knows of the device under the pool is told as a metric.
func TestBadBlocksAreTold(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	o := c.options("d1")
	a := start(t, withRegistry(o))
	var stat unix.Stat_t
	if err := unix.Stat(o.poolPath(), &stat); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	device := filepath.Join(root, "dev", "block", fmt.Sprintf("%d:%d", unix.Major(stat.Dev), unix.Minor(stat.Dev)))
	if err := errors.Join(os.MkdirAll(device, 0o755), os.WriteFile(filepath.Join(device, "badblocks"), []byte("8 1\n64 3\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if n := a.lookAtBadBlocks(root); n != 4*pmemlog.SectorSize {
		t.Errorf("%d bytes", n)
	}
	metric(a, "bad_block_bytes")
}

// Inventories stay small: of many damaged replicas not all are described.
func TestDamageReportIsBounded(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	o := c.options("d1")
	o.ScrubEvery = -1
	a := start(t, withRegistry(o))
	eventually(t, "the pool is bound", func() bool { return !a.pool.Identity().Cluster.IsZero() })
	self := a.pool.Identity()
	file, err := os.OpenFile(o.poolPath(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for range maxDamaged + 3 {
		spec := pmemlog.Spec{Cluster: self.Cluster, Log: newID(), Replica: newID(), Capacity: 4096}
		r, err := a.pool.Create(spec)
		if err != nil {
			t.Fatal(err)
		}
		s := r.Attach(false)
		if _, err := s.Fence(format.Fence{Epoch: 1, Nonce: 1}); err != nil {
			t.Fatal(err)
		}
		ring, chain := make(format.Ring, 4096), format.Chain{}
		ring.Append(&chain, 0, format.Record{Payload: []byte("x")})
		if err := errors.Join(s.Write(0, ring[:chain.LSN]), flushed(s)); err != nil {
			t.Fatal(err)
		}
		for _, l := range a.pool.Replicas() {
			if l.Replica == spec.Replica {
				if _, err := file.WriteAt([]byte{0xff}, l.Offset+format.RingOffset+format.HeaderSize); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	a.scrubs.scrub(context.Background())
	described := 0
	for _, s := range a.replicas() {
		if !s.Suspect {
			t.Errorf("%+v is not suspect", s)
		}
		if s.Damage != "" {
			described++
		}
	}
	if described != maxDamaged {
		t.Errorf("%d are described, want %d", described, maxDamaged)
	}
	if n := metric(a, "damaged_replicas"); n != maxDamaged+3 {
		t.Errorf("%v are damaged", n)
	}
}

func flushed(s *pmemlog.Session) error {
	_, err := s.Flush()
	return err
}

// BenchmarkScrub scrubs a replica at a set pace. bytes/s is what came of it,
// off-pace-% how far that is from what was set; it must be within 10.
func BenchmarkScrub(b *testing.B) {
	for _, pace := range []int64{16 << 20, 64 << 20, 256 << 20} {
		b.Run(fmt.Sprintf("media=volatile/pace=%dMiB", pace>>20), func(b *testing.B) {
			r := fullReplica(b, pace/2)
			s := newScrubber(&Agent{opts: Options{ScrubRate: pace}})
			var read uint64
			b.ReportAllocs()
			for b.Loop() {
				res, err := r.Scrub(context.Background(), s.pace)
				if err != nil || res.Damage != nil {
					b.Fatal(res.Damage, err)
				}
				read += res.Bytes
			}
			rate := float64(read) / b.Elapsed().Seconds()
			off := 100 * (rate/float64(pace) - 1)
			b.SetBytes(int64(read / uint64(b.N)))
			b.ReportMetric(rate, "bytes/s")
			b.ReportMetric(off, "off-pace-%")
			if off < -10 || off > 10 {
				b.Errorf("%.0f bytes a second, %.1f%% off the pace of %d", rate, off, pace)
			}
		})
	}
}

// fullReplica returns a replica with so many bytes of records.
func fullReplica(b *testing.B, n int64) *pmemlog.Replica {
	b.Helper()
	m, err := pmemlog.NewVolatile(n + 4<<20)
	if err != nil {
		b.Fatal(err)
	}
	pool, err := pmemlog.Format(m, pmemlog.FormatOptions{PoolID: newID()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = pool.Close() })
	r, err := pool.Create(pmemlog.Spec{Cluster: newID(), Log: newID(), Replica: newID(), Capacity: uint64(n)})
	if err != nil {
		b.Fatal(err)
	}
	s := r.Attach(false)
	term := format.Fence{Epoch: 2, Nonce: 1}
	if _, err := s.Fence(term); err != nil {
		b.Fatal(err)
	}
	ring, chain, payload := make(format.Ring, n), format.Chain{Epoch: 1}, make([]byte, 64<<10-format.HeaderSize)
	for chain.LSN+uint64(len(payload))+format.HeaderSize <= uint64(n) {
		ring.Append(&chain, 0, format.Record{Payload: payload})
	}
	if err := errors.Join(s.Write(0, ring[:chain.LSN]), flushed(s)); err != nil {
		b.Fatal(err)
	}
	return r
}

func pathOf(o Options) string { return o.poolPath() }
