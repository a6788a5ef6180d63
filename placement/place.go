package placement

import (
	"math/rand/v2"
	"slices"
)

const (
	// candidates are drawn for each replica; the least filled of them wins.
	candidates = 3
	// misses is how many draws in a row may hit daemons that the request's
	// rules exclude before all daemons are looked at instead.
	misses = 64
)

// Place chooses daemons for the request. The error is a *RequestError for a
// request that breaks a rule of its own, or a *NoPlacementError.
func (x *Index) Place(r Request, seed uint64) ([]string, error) {
	r = r.withDefaults()
	if err := r.validate(); err != nil {
		return nil, err
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	p := picker{
		index: x,
		req:   &r,
		rnd:   rand.New(rand.NewPCG(seed, 0x67726176656e)),
		taken: x.taken(&r),
	}
	chosen := make([]string, 0, r.Replicas)
	for range r.Replicas {
		s, ok := p.next()
		if !ok {
			return nil, x.explain(&r)
		}
		d := &x.daemons[s]
		dom, _ := domainOf(d, r.FailureDomain)
		p.taken = append(p.taken, dom)
		chosen = append(chosen, d.ID)
	}
	return rotate(chosen, p.rnd.IntN(len(chosen))), nil
}

// taken are the failure domains of the daemons that the request is beside. One
// that the index does not know, or that has no such domain, takes none: there
// is nothing to compare with. It is not chosen itself either way, for a daemon
// without a domain is not eligible.
func (x *Index) taken(r *Request) []domain {
	taken := make([]domain, 0, r.Replicas+len(r.Beside))
	for _, id := range r.Beside {
		if s, known := x.slot[id]; known {
			if dom, ok := domainOf(&x.daemons[s], r.FailureDomain); ok {
				taken = append(taken, dom)
			}
		}
	}
	return taken
}

// Place is Index.Place over a plain list.
func Place(daemons []Daemon, r Request, seed uint64) ([]string, error) {
	x := NewIndex()
	for _, d := range daemons {
		x.Put(d)
	}
	return x.Place(r, seed)
}

func rotate(ids []string, by int) []string {
	return append(slices.Clone(ids[by:]), ids[:by]...)
}

// picker draws one daemon after the other for one request.
type picker struct {
	index *Index
	req   *Request
	rnd   *rand.Rand
	taken []domain

	// pool is every eligible slot, once drawing has missed too often.
	pool   []int
	pooled bool
}

// next returns the slot of the next chosen daemon.
func (p *picker) next() (int, bool) {
	if !p.pooled {
		if s, ok := p.byDrawing(); ok {
			return s, true
		}
		p.pooled = true
		p.pool = p.index.eligible(p.req)
	}
	return p.fromPool()
}

// byDrawing draws from the index until enough candidates have passed the
// request's rules, and gives up after too many misses in a row.
func (p *picker) byDrawing() (int, bool) {
	ws, total := p.index.classes(p.req)
	if total == 0 {
		return 0, false
	}
	best, found := -1, 0
	for missed := 0; found < candidates; {
		s := draw(ws, p.rnd.Uint64N(total))
		if !p.fits(s) {
			if missed++; missed == misses {
				return 0, false
			}
			continue
		}
		found, missed = found+1, 0
		best = p.lessFilled(best, s)
	}
	return best, true
}

func draw(ws []*fenwick, point uint64) int {
	for _, w := range ws {
		if point < w.total {
			return w.find(point)
		}
		point -= w.total
	}
	panic("placement: point is beyond the total weight")
}

// fromPool draws among all that is eligible.
func (p *picker) fromPool() (int, bool) {
	p.pool = slices.DeleteFunc(p.pool, p.sharesDomain)
	var total uint64
	ends := make([]uint64, len(p.pool))
	for i, s := range p.pool {
		total += weight(p.index.daemons[s])
		ends[i] = total
	}
	if total == 0 {
		return 0, false
	}
	best := -1
	for range candidates {
		point := p.rnd.Uint64N(total)
		i, _ := slices.BinarySearch(ends, point+1)
		best = p.lessFilled(best, p.pool[i])
	}
	return best, true
}

func (p *picker) fits(slot int) bool {
	return removedBy(&p.index.daemons[slot], p.req) == "" && !p.sharesDomain(slot)
}

func (p *picker) sharesDomain(slot int) bool {
	dom, _ := domainOf(&p.index.daemons[slot], p.req.FailureDomain)
	return slices.Contains(p.taken, dom)
}

// lessFilled returns the slot with the smaller share of its capacity in use;
// a is -1 at first and wins ties.
func (p *picker) lessFilled(a, b int) int {
	if a < 0 {
		return b
	}
	if fill(&p.index.daemons[b]) < fill(&p.index.daemons[a]) {
		return b
	}
	return a
}

func fill(d *Daemon) float64 {
	if d.CapacityBytes <= 0 {
		return 1
	}
	return 1 - float64(d.FreeBytes)/float64(d.CapacityBytes)
}
