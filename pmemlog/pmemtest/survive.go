package pmemtest

import "math/rand/v2"

// survival is the odds of one crash. Fair odds for each word alone would never
// let a header of thirty words survive whole while the record before it is lost,
// and that is the kind of crash that finds what was written in the wrong order.
// So half of the crashes draw the odds anew for each write: all of it survives,
// nothing, or a part, torn between words or not.
type survival struct {
	rng  *rand.Rand
	fair bool // each version of a unit is as likely as any other
}

func newSurvival(rng *rand.Rand) survival {
	return survival{rng: rng, fair: rng.IntN(2) == 0}
}

// odds are those of one write.
type odds struct {
	of8  int  // of eight grains so many survive; unused when fair
	torn bool // grains are words, where the unit can tear
}

func (s *survival) write() odds {
	if s.fair {
		return odds{torn: true}
	}
	return odds{of8: []int{0, 8, 0, 8, 1, 4, 7}[s.rng.IntN(7)], torn: s.rng.IntN(2) == 0}
}

// survives draws for one grain whether its n-th version beside the synced one
// takes the place of an earlier one. With fair odds each version is as likely in
// the end as the synced one.
func (s *survival) survives(o odds, n int) bool {
	if s.fair {
		return s.rng.IntN(n+1) == 0
	}
	return s.rng.IntN(8) < o.of8
}
