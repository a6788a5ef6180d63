package planner

// wantScrubs are the scrubs that are due: those of daemons that are up, and whose
// last one was begun, or that were first seen, long ago.
func (r *round) wantScrubs() []want {
	var ws []want
	begun := make(map[string]int, len(r.all))
	for i := range r.all {
		d := &r.all[i]
		id := string(Scrub) + "-" + d.ID
		begun[id] = 0
		if o := r.ops[id]; o != nil {
			begun[id] = o.Attempts
		}
		if begun[id] > r.scrubs[id] {
			r.sights.forget("scrub/" + d.ID) // it may have ended before it was seen to run
		}
		if w, ok := r.wantScrub(id, d); ok {
			ws = append(ws, w)
		}
	}
	r.scrubs = begun
	return ws
}

func (r *round) wantScrub(id string, d *Daemon) (want, bool) {
	if r.limits.ScrubEvery <= 0 || !d.Up {
		return want{}, false
	}
	waited := r.sights.held("scrub/" + d.ID)
	if waited < r.limits.ScrubEvery || r.resting(id) {
		return want{}, false
	}
	return want{Step: Step{ID: id, Kind: Scrub, Reason: Due, DaemonID: d.ID}, urgent: urgentScrub, waited: waited}, true
}
