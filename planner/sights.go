package planner

// sights remember since when conditions have been seen. Each is asked for in
// every plan while it lasts, and forgotten with the first plan that does not.
type sights struct {
	now  Duration
	last map[string]Duration // since when, as of the plan before
	next map[string]Duration
}

func (s *sights) begin(now Duration) {
	s.now, s.last, s.next = now, s.next, make(map[string]Duration, len(s.next))
}

// forget begins the time of a condition anew, if it is called before held.
func (s *sights) forget(condition string) { delete(s.last, condition) }

// held is for how long the condition has been seen without a break.
func (s *sights) held(condition string) Duration {
	since, known := s.last[condition]
	if again, twice := s.next[condition]; twice {
		since, known = again, true
	}
	if !known {
		since = s.now
	}
	s.next[condition] = since
	return s.now - since
}

// had says whether the condition was seen in the plan before, has whether it is in
// this one.
func (s *sights) had(condition string) bool { _, seen := s.last[condition]; return seen }

func (s *sights) has(condition string) bool { _, seen := s.next[condition]; return seen }
