package sim

import "time"

// event is something that will take place.
type event struct {
	at  time.Duration
	seq uint64 // events of one instant take place in the order in which they were planned
	do  func()
}

func (e *event) before(o *event) bool {
	return e.at < o.at || e.at == o.at && e.seq < o.seq
}

// agenda is a binary heap of what will take place, the next event first. It is
// container/heap without its interface, which would allocate twice for each
// event.
type agenda []event

func (a *agenda) push(e event) {
	h := append(*a, e)
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !e.before(&h[up]) {
			break
		}
		h[i] = h[up]
		i = up
	}
	h[i] = e
	*a = h
}

func (a *agenda) pop() event {
	h := *a
	first := h[0]
	n := len(h) - 1
	last := h[n]
	h[n] = event{} // let go of what it holds
	h = h[:n]
	if n > 0 {
		i := 0
		for {
			down := 2*i + 1
			if down >= n {
				break
			}
			if right := down + 1; right < n && h[right].before(&h[down]) {
				down = right
			}
			if last.before(&h[down]) {
				break
			}
			h[i] = h[down]
			i = down
		}
		h[i] = last
	}
	*a = h
	return first
}
