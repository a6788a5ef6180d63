package placement

import (
	"slices"
	"sync"
)

// Index holds the daemons so that a choice need not look at all of them. The
// zero value is not usable; call NewIndex. It is safe for concurrent use.
type Index struct {
	mu      sync.RWMutex
	daemons []Daemon // by slot; an empty ID marks a free slot
	slot    map[string]int
	unused  []int
	media   []mediaIndex // sorted by media
}

type mediaIndex struct {
	media  string
	weight *fenwick // free bytes of the placeable daemons, by slot
}

// NewIndex returns an empty index.
func NewIndex() *Index {
	return &Index{slot: make(map[string]int)}
}

// Len is the number of daemons.
func (x *Index) Len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.slot)
}

// Put adds the daemon or replaces what was known of it. The index keeps the
// daemon's map and slice: the caller must not change them afterwards.
func (x *Index) Put(d Daemon) {
	x.mu.Lock()
	defer x.mu.Unlock()
	s, known := x.slot[d.ID]
	switch {
	case known:
		if old := x.daemons[s]; old.Media != d.Media {
			x.weights(old.Media).set(s, 0)
		}
	case len(x.unused) > 0:
		s = x.unused[len(x.unused)-1]
		x.unused = x.unused[:len(x.unused)-1]
	default:
		s = len(x.daemons)
		x.daemons = append(x.daemons, Daemon{})
	}
	x.slot[d.ID] = s
	x.daemons[s] = d
	x.weights(d.Media).set(s, weight(d))
}

// Delete forgets the daemon; an unknown one is nothing to do.
func (x *Index) Delete(id string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	s, known := x.slot[id]
	if !known {
		return
	}
	x.weights(x.daemons[s].Media).set(s, 0)
	x.daemons[s] = Daemon{}
	delete(x.slot, id)
	x.unused = append(x.unused, s)
}

// weight is the chance of being drawn. Daemons that no request may get weigh
// nothing; the unit of 4 KiB keeps the sum over any number of daemons far from
// overflow.
func weight(d Daemon) uint64 {
	if !d.Up || d.Draining || d.ReadOnly || d.FreeBytes <= 0 {
		return 0
	}
	return uint64(d.FreeBytes)>>12 + 1
}

func (x *Index) weights(media string) *fenwick {
	i, ok := slices.BinarySearchFunc(x.media, media, func(m mediaIndex, name string) int {
		switch {
		case m.media < name:
			return -1
		case m.media > name:
			return 1
		}
		return 0
	})
	if !ok {
		x.media = slices.Insert(x.media, i, mediaIndex{media, new(fenwick)})
	}
	return x.media[i].weight
}

// classes returns the weights a request draws from, and their sum.
func (x *Index) classes(r *Request) (ws []*fenwick, total uint64) {
	for _, m := range x.media {
		if mediaFits(r, m.media) && m.weight.total > 0 {
			ws = append(ws, m.weight)
			total += m.weight.total
		}
	}
	return ws, total
}
