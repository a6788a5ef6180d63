package store

import (
	"cmp"
	"maps"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// candidate is a server that leads the loops, or waits for it.
type candidate struct {
	name  string
	since int64 // the revision of its key; the oldest leads
}

// Leader names the server that leads the loops, or is "".
func (v *View) Leader() string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	all := slices.Collect(maps.Values(v.t.candidates))
	if len(all) == 0 {
		return ""
	}
	return slices.MinFunc(all, func(a, b candidate) int { return cmp.Compare(a.since, b.since) }).name
}

// term is one server's time as the leader of the loops.
type term struct {
	key string
	rev int64 // that made the key
}

// holds compares that the term has not ended: nothing that the loops write
// outlasts their election. A nil term is nobody's and compares nothing.
func (t *term) holds() []clientv3.Cmp {
	if t == nil {
		return nil
	}
	return []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(t.key), "=", t.rev)}
}
