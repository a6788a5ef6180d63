package store

import (
	"testing"
	"time"
)

// FuzzTables: whatever is in etcd, the view either shows it or refuses it; it
// does not panic, and taking everything out again leaves nothing.
func FuzzTables(f *testing.F) {
	for _, seed := range []struct{ key, value string }{
		{"daemons/d1", `{"v":1,"pool_id":"p","incarnation":1,"capacity_bytes":100,"media":"file"}`},
		{"live/d1", `{"v":1,"incarnation":1,"free_bytes":50,"replicas":[{"replica_id":"r1"}],"missing":["r1"]}`},
		{"space/d1", `{"v":1,"reserved_bytes":9223372036854775807}`},
		{"logs/l1", `{"v":1,"name":"n","replicas":[{"replica_id":"r1","daemon_id":"d1","state":"present"},{"replica_id":"r1","daemon_id":"d2"}]}`},
		{"logs/l2", `{"v":1,"name":"n","replicas":[{"replica_id":"r1","daemon_id":"d1","state":"learner","replaces":"r2"}]}`},
		{"writers/l1", `{"v":1,"writer_id":"w","epoch":1}`},
		{"events/e1", `{"v":1,"kind":"replacement-done"}`},
		{"condemned/d1/r1", `{"v":1,"bytes":-1}`},
		{"condemned/d1", `{"v":1}`},
		{"daemons/", `{"v":2}`},
		{"daemons/d1", `[]`},
		{"", ``},
	} {
		f.Add(seed.key, seed.value)
	}
	f.Fuzz(func(t *testing.T, key, value string) {
		v, now := newView(time.Second), time.Now()
		keys := []string{prefix + key}
		for _, e := range []entry{
			{key: prefix + key, value: []byte(value), mod: 5},
			{key: prefixDaemons + "d1", value: []byte(`{"v":1,"pool_id":"p","capacity_bytes":1}`), mod: 6},
			{key: prefixLive + "d1", value: []byte(`{"v":1}`), mod: 7},
			{key: prefixLogs + "l1", value: []byte(`{"v":1,"name":"n","replicas":[{"replica_id":"r1","daemon_id":"d1","state":"present"}]}`), mod: 8},
			{key: prefix + key, value: []byte(value), mod: 9},
		} {
			if err := v.t.set(e, now); err != nil && e.mod != 5 && e.mod != 9 {
				t.Fatalf("%s: %v", e.key, err)
			}
			keys = append(keys, e.key)
		}
		v.Daemons()
		v.Logs()
		v.Condemned()
		v.t.steps("d1", 0)
		v.t.reconcile("d1", []ReplicaSummary{{ReplicaID: "r1", LogID: "l1"}})
		v.unmarked()
		for _, k := range keys {
			v.t.remove(k, now)
		}
		if n := len(v.t.daemons) + len(v.t.logs) + len(v.t.names) + len(v.t.unmarked) + v.t.index.Len(); n != 0 {
			t.Fatalf("%d rows are left: %+v", n, v.t)
		}
	})
}
