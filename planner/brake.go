package planner

import "fmt"

// Brake says why nothing may be begun, or "". Many daemons that go down at once
// are the network's trouble, or etcd's, and moving their data would be another.
// They come back one after the other, so the grace time of those that are still
// down begins when the brake is off again. A daemon that is down and holds nothing
// is no sign of that.
func Brake(daemons []Daemon, l Limits) string {
	down, all := 0, 0
	for i := range daemons {
		switch d := &daemons[i]; {
		case d.Up:
			all++
		case d.Holds:
			down, all = down+1, all+1
		}
	}
	if down <= max(1, all*l.MaxDownPercent/100) {
		return ""
	}
	return fmt.Sprintf("%d of %d daemons are down, and more than %d%% may not be", down, all, l.MaxDownPercent)
}
