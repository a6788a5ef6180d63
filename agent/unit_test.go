package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gravenio/graven/grant"
	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
)

// lagging is a replica whose hint lags after each flush that was not asked to carry it.
type lagging struct {
	mu        sync.Mutex
	begun     time.Time
	flushes   int
	hinted    int  // the flush up to which all is hinted
	wanted    bool // of the next flush
	carried   []time.Duration
	persisted []time.Duration
}

func (l *lagging) HintLag() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hinted < l.flushes
}

func (l *lagging) HintNext() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wanted = true
}

func (l *lagging) PersistHint() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hinted = l.flushes
	l.persisted = append(l.persisted, time.Since(l.begun))
	return nil
}

func (l *lagging) asked() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wanted
}

func (l *lagging) times() []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.persisted)
}

func (l *lagging) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wanted {
		l.hinted, l.wanted = l.flushes, false
		l.carried = append(l.carried, time.Since(l.begun))
	}
	l.flushes++
}

// newLagging is such a replica, and its timer.
func newLagging() (*lagging, *hint) {
	r, h := &lagging{begun: time.Now()}, &hint{}
	h.init(nil, slog.New(slog.DiscardHandler))
	h.replica = r
	return r, h
}

// What a flush has acknowledged is hinted within 10 ms: the next flush is asked to
// carry it and, where none comes, it is persisted once, and the timer then rests. The
// clock is simulated.
func TestHintTimer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, h := newLagging()
		at := func(ms int) {
			time.Sleep(time.Duration(ms)*time.Millisecond - time.Since(r.begun))
			synctest.Wait()
		}
		flush := func(ms int) {
			at(ms)
			r.flush()
			h.flushed(uint64(r.flushes), time.Millisecond)
		}
		ms := time.Millisecond
		for n := 0; n <= 16; n += 4 {
			flush(n)
		}
		at(1000)
		if h.armed.Load() {
			t.Error("the timer goes on with nothing to do")
		}
		flush(1000)
		at(2000)
		r.mu.Lock()
		if want := []time.Duration{8 * ms, 12 * ms, 16 * ms, 1000 * ms}; !slices.Equal(r.carried, want) {
			t.Errorf("carried along at %v, want %v", r.carried, want)
		}
		if want := []time.Duration{25 * ms, 1010 * ms}; !slices.Equal(r.persisted, want) {
			t.Errorf("persisted at %v, want %v", r.persisted, want)
		}
		r.mu.Unlock()
		flush(2000)
		h.stop()
		at(3000)
		if len(r.times()) != 2 {
			t.Error("it persists after stop")
		}
	})
}

// Behind a slow flush no beat is waited for, and flushes that have nothing to do don't
// keep the hint from being persisted.
func TestHintTimerOfOddFlushes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, h := newLagging()
		defer h.stop()
		r.flush()
		h.flushed(1, slowFlush-1)
		if r.asked() {
			t.Error("the hint is asked for behind a quick flush already")
		}
		r.flush()
		h.flushed(2, slowFlush)
		if !r.asked() {
			t.Error("the hint is not asked for behind a slow flush")
		}
		for range 20 {
			time.Sleep(time.Millisecond)
			h.flushed(2, 0)
		}
		if got := r.times(); !slices.Equal(got, []time.Duration{10 * time.Millisecond}) {
			t.Errorf("persisted at %v beside flushes that had nothing to do, want once, after 10ms", got)
		}
	})
}

// idle is an agent that has not been run.
func idle(t *testing.T) *Agent {
	t.Helper()
	a, err := New(Options{ID: "d1", Dir: t.TempDir(), PoolSize: poolSize, Endpoints: []string{"http://127.0.0.1:1"}, Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func (c *chores) all() {
	for c.removeNext() {
	}
}

func operator(n string, replica, log format.ID) openapi.Operator {
	return openapi.Operator{OperatorID: n, Kind: openapi.OperatorRemoveReplica, ReplicaID: replica.String(), LogID: log.String()}
}

// An operator may be handed out as often as it likes; each gets its result, and
// the result is kept until a heartbeat has delivered it.
func TestOperatorsMayBeRepeated(t *testing.T) {
	t.Parallel()
	a := idle(t)
	log, replica := newID(), newID()
	if _, err := a.pool.Create(pmemlog.Spec{Cluster: newID(), Log: log, Replica: replica, Capacity: ringSize}); err != nil {
		t.Fatal(err)
	}
	ops := []openapi.Operator{operator("op1", replica, log), operator("op2", newID(), newID())}
	for range 3 {
		a.operators(ops)
		a.chores.all()
	}
	got := a.results.unreported()
	if len(got) != 2 || !got[0].Ok || !got[1].Ok {
		t.Fatalf("results %+v, want two good ones: what is unknown is already gone", got)
	}
	if len(a.pool.Replicas()) != 0 {
		t.Error("the replica is still there")
	}
	select {
	case <-a.news:
	default:
		t.Error("the result waits for the next renewal")
	}
	a.results.reported(got[:1])
	if left := a.results.unreported(); len(left) != 1 || left[0] != got[1] {
		t.Errorf("left are %+v, want %+v", left, got[1])
	}
}

// What names the wrong log, or can't be understood, removes nothing, and its
// failure is reported in its time and not in a hurry: it would come again at
// once.
func TestOperatorsInError(t *testing.T) {
	t.Parallel()
	a := idle(t)
	log, replica := newID(), newID()
	if _, err := a.pool.Create(pmemlog.Spec{Cluster: newID(), Log: log, Replica: replica, Capacity: ringSize}); err != nil {
		t.Fatal(err)
	}
	unknown := operator("op2", replica, log)
	unknown.Kind = "format-disk"
	nonsense := operator("op3", replica, log)
	nonsense.LogID = "x"
	a.operators([]openapi.Operator{operator("op1", replica, newID()), unknown, nonsense})
	a.chores.all()
	for _, r := range a.results.unreported() {
		if r.Ok || r.Error == "" {
			t.Errorf("%+v, want an error", r)
		}
	}
	if len(a.results.unreported()) != 3 || len(a.pool.Replicas()) != 1 {
		t.Errorf("%d results, %d replicas", len(a.results.unreported()), len(a.pool.Replicas()))
	}
	select {
	case <-a.news:
		t.Error("a failure is told at once")
	default:
	}
	if _, err := a.catalog.find(replica); err != nil {
		t.Errorf("the replica is not served any more: %v", err)
	}
}

// A registration's verdicts: remove only what is named for it.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	a := idle(t)
	cluster, log := newID(), newID()
	var ids [3]format.ID
	reg := &openapi.Registration{ClusterID: cluster.String(), Missing: []string{newID().String()}}
	for i, action := range []openapi.ReplicaVerdictAction{openapi.ActionKeep, openapi.ActionRemove, openapi.ActionQuarantine} {
		ids[i] = newID()
		if _, err := a.pool.Create(pmemlog.Spec{Cluster: cluster, Log: log, Replica: ids[i], Capacity: ringSize}); err != nil {
			t.Fatal(err)
		}
		reg.Replicas = append(reg.Replicas, openapi.ReplicaVerdict{ReplicaID: ids[i].String(), LogID: log.String(), Action: action})
	}
	a.chores.registered(cluster, reg)
	if err := a.chores.writeDown(); err != nil {
		t.Fatal(err)
	}
	a.chores.all()
	if _, err := a.catalog.find(ids[0]); err != nil {
		t.Errorf("kept: %v", err)
	}
	if _, err := a.pool.Replica(ids[1]); !errors.Is(err, pmemlog.ErrNotFound) {
		t.Errorf("condemned: %v", err)
	}
	if _, err := a.pool.Replica(ids[2]); err != nil {
		t.Errorf("quarantined: %v", err)
	}
	if _, err := a.catalog.find(ids[2]); !errors.Is(err, rdmaio.ErrUnknownLog) {
		t.Errorf("quarantined and served: %v", err)
	}
	if self := a.pool.Identity(); self.Cluster != cluster || self.Daemon != "d1" {
		t.Errorf("the pool is bound to %+v", self)
	}
}

// Every error of pmemlog has its kind on the wire, and a fence tells its term.
func TestErrorsOnTheWire(t *testing.T) {
	t.Parallel()
	for _, row := range sessionErrors {
		if err := wireError(fmt.Errorf("op: %w", row.from)); !errors.Is(err, row.to) {
			t.Errorf("%v travels as %v, want %v", row.from, err, row.to)
		}
	}
	for _, err := range []error{&pmemlog.PoisonedError{Op: "sync", Err: pmemlog.ErrClosed}, errors.New("read: input/output error")} {
		if got := wireError(err); !errors.Is(got, rdmaio.ErrMedium) {
			t.Errorf("%v travels as %v", err, got)
		}
	}
	promised := format.Fence{Epoch: 7, Nonce: 9}
	var wire *rdmaio.Error
	if err := wireError(&pmemlog.FencedError{Promised: promised}); !errors.As(err, &wire) || wire.Fenced != promised {
		t.Errorf("a fence travels as %+v", wire)
	}
	if wireError(nil) != nil {
		t.Error("nil is an error")
	}
}

// testRing has one key that verifies all, and a retired one.
func testRing(t testing.TB) grant.Ring {
	keys := func(seed byte) grant.Keys {
		key, err := grant.NewKey(bytes.Repeat([]byte{seed}, 32))
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := grant.ParseKeys(map[string]string{key.ID(): key.Public()})
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	return grant.Ring{Keys: keys(1), Retired: keys(2)}
}

func TestKeysOnDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if v, ring, err := loadKeys(dir, "c1"); v != 0 || ring.Keys != nil || err != nil {
		t.Errorf("without a file: %v, %v", ring, err)
	}
	for range 2 {
		if err := saveKeys(dir, "c1", 7, testRing(t)); err != nil {
			t.Fatal(err)
		}
	}
	if v, ring, err := loadKeys(dir, "c1"); err != nil || v != 7 || !reflect.DeepEqual(ring, testRing(t)) {
		t.Errorf("read back version %d, %v, %v", v, ring, err)
	}
	if v, ring, err := loadKeys(dir, "c2"); err != nil || v != 0 || ring.Keys != nil {
		t.Errorf("another cluster's: %v, %v", ring, err)
	}
	old, err := json.Marshal(map[string]any{"version": 0, "cluster_id": "c1", "grant_keys": testRing(t).Keys.Encode()})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, keysName), old, 0o600); err != nil {
		t.Fatal(err)
	}
	if v, ring, err := loadKeys(dir, "c1"); err != nil || v != 0 || len(ring.Keys) != 1 {
		t.Errorf("a file of before there were versions: %d, %v, %v", v, ring, err)
	}
	for _, text := range []string{"", "{", `{"version":1}`, `{"grant_keys":{"x":"AAAA"}}`, strings.Repeat(" ", maxKeysFile+1)} {
		if err := os.WriteFile(filepath.Join(dir, keysName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := loadKeys(dir, "c1"); err == nil || !strings.Contains(err.Error(), keysName) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

func FuzzKeys(f *testing.F) {
	dir := f.TempDir()
	if err := saveKeys(dir, "c1", 7, testRing(f)); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(dir, keysName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`{"grant_keys":{"":""}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, ring, err := decodeKeys(b)
		for _, keys := range []grant.Keys{ring.Keys, ring.Retired} {
			for id, key := range keys {
				if err == nil && (len(key) != 32 || len(id) != 16) {
					t.Errorf("key %q of %d bytes", id, len(key))
				}
			}
		}
	})
}
