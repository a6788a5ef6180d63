package store

import (
	"sync"
	"testing"
)

// rewriteCluster changes the recorded identity, as a backup would.
func rewriteCluster(t *testing.T, s *Store, edit func(*clusterRecord)) {
	t.Helper()
	rec := recordedCluster(t, s)
	edit(&rec)
	if _, err := s.client.Put(t.Context(), keyCluster, encode(rec)); err != nil {
		t.Fatal(err)
	}
}

func recordedCluster(t *testing.T, s *Store) clusterRecord {
	t.Helper()
	es, _, err := s.read(t.Context(), keyCluster)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := decode[clusterRecord](es[0].key, es[0].value)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// setBack makes the record that of another etcd, as a backup would, under stores that
// have run through it.
func setBack(t *testing.T, name string, through ...*Store) {
	t.Helper()
	before := make([]identity, len(through))
	for i, s := range through {
		before[i] = *s.known()
		before[i].etcdID++
	}
	rewriteCluster(t, through[0], func(r *clusterRecord) { r.EtcdID = name })
	for i, s := range through {
		s.mu.Lock()
		s.identity = &before[i]
		s.mu.Unlock()
	}
}

// A restored etcd begins a life: whoever sees it first writes it, and no epoch
// of the life before comes again.
func TestARestoredEtcdBeginsALife(t *testing.T) {
	t.Parallel()
	e := own(t, t.TempDir())
	s := startOwn(t, e, Options{})
	l := makeLog(t, s)
	if a := open(t, s, l.Name); a.Epoch != 1 {
		t.Fatalf("epoch %d in the first life", a.Epoch)
	}
	before := recordedCluster(t, s)
	if before.Life != 0 || before.EtcdID != etcdName(s.known().etcdID) || s.known().etcdID == 0 {
		t.Fatalf("the record of the first life: %+v", before)
	}

	// Servers that ran through the restore.
	other := startOwn(t, e, Options{})
	setBack(t, "other", s, other)
	var wg sync.WaitGroup
	for _, st := range []*Store{s, other} {
		wg.Go(func() {
			for range 3 {
				a, err := st.OpenLog(t.Context(), OpenLogRequest{Log: l.Name, Takeover: true})
				if err != nil || a.Epoch < 1<<lifeShift || a.Epoch > 1<<lifeShift+5 {
					t.Errorf("open in the second life: %+v, %v", a, err)
				}
			}
		})
	}
	wg.Wait()
	if got := recordedCluster(t, s); got.Life != 1 || got.EtcdID != before.EtcdID || got.ClusterID != before.ClusterID {
		t.Errorf("the record of the second life: %+v", got)
	}
	if got, _ := s.View().Log(l.Name); got.Epoch != 1<<lifeShift+5 {
		t.Errorf("six opens: epoch %d", got.Epoch)
	}

	// A server that starts after another one.
	rewriteCluster(t, s, func(r *clusterRecord) { r.EtcdID = "another" })
	late := startOwn(t, e, Options{})
	if a := open(t, late, l.Name, func(r *OpenLogRequest) { r.Takeover = true }); a.Epoch != 2<<lifeShift {
		t.Errorf("epoch %d in the third life", a.Epoch)
	}
	if a := open(t, late, l.Name, func(r *OpenLogRequest) { r.Takeover, r.MinEpoch = true, 5<<lifeShift }); a.Epoch != 5<<lifeShift {
		t.Errorf("epoch %d where the replicas knew more", a.Epoch)
	}
	// The first one goes on: the epochs only rise.
	if a := open(t, s, l.Name, func(r *OpenLogRequest) { r.Takeover = true }); a.Epoch != 5<<lifeShift+1 {
		t.Errorf("epoch %d after all that", a.Epoch)
	}
}

// A record from before etcd's ID was kept takes it without a new life.
func TestAnOldIdentityTakesTheID(t *testing.T) {
	t.Parallel()
	e := own(t, t.TempDir())
	s := startOwn(t, e, Options{})
	id := recordedCluster(t, s).EtcdID
	rewriteCluster(t, s, func(r *clusterRecord) { r.EtcdID = "" })
	startOwn(t, e, Options{})
	if got := recordedCluster(t, s); got.EtcdID != id || got.Life != 0 {
		t.Errorf("the record: %+v", got)
	}
}

func TestNoLivesAreLeft(t *testing.T) {
	t.Parallel()
	o := opening{ident: &identity{life: 1 << 13}}
	if _, _, err := o.next(&logEntries{}); err == nil {
		t.Error("an epoch beyond what JSON readers agree on was handed out")
	}
}

// A record that a backup brought back may be older than its replicas' promises:
// it is not believed that one has promised nothing. One made since is.
func TestAllocatedIsNotBelievedOfAnEarlierLife(t *testing.T) {
	t.Parallel()
	s := startOwn(t, own(t, t.TempDir()), Options{})
	old := makeLog(t, s)
	setBack(t, "other", s)
	fresh := makeLog(t, s)
	for _, c := range []struct {
		log  string
		want ReplicaState
	}{{old.Name, ReplicaPresent}, {fresh.Name, ReplicaAllocated}} {
		a := open(t, s, c.log)
		for _, r := range a.Replicas {
			if r.State != c.want {
				t.Errorf("log %s: replica on %s is %s, want %s", c.log, r.DaemonID, r.State, c.want)
			}
		}
	}
	// Of one that was never opened as far as the backup knows, a region may be
	// there all the same: its bytes are free only when its daemon says so.
	unopened := makeLog(t, s)
	setBack(t, "another", s)
	if err := s.DeleteLog(t.Context(), unopened.Name, 0); err != nil {
		t.Fatal(err)
	}
	for _, r := range unopened.Replicas {
		es, _, err := s.read(t.Context(), condemnedKey(r.DaemonID, r.ReplicaID))
		if err != nil || !es[0].exists() {
			t.Errorf("the replica on %s was released unasked: %v", r.DaemonID, err)
		}
	}
}
