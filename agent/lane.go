package agent

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/gravenio/graven/apiclient"
	"github.com/gravenio/graven/pmemlog/format"
)

// Bounds of the lane.
const (
	maxWaiting  = 64               // recoveries; more are asked for again
	maxRests    = 1024             // logs whose last recovery is remembered
	firstRest   = time.Second      // after a recovery that has not come off
	longestRest = time.Minute      // after several
	doneRest    = 30 * time.Second // after one that has: a server may not have seen it yet
)

// lane carries out recoveries, one at a time, so that they take the memory of
// one mirror and no more than their share of medium and network.
type lane struct {
	a    *Agent
	api  *apiclient.Client
	wake chan struct{} // somebody waits

	mu      sync.Mutex
	running format.ID // the log; zero for none
	waiting []step
	rests   map[format.ID]*rest // by learner: it is in one replacement only
}

// rest is for how long a recovery is not begun again, though it is asked for.
type rest struct {
	until  time.Time
	pauses *backoff.ExponentialBackOff
}

func newLane(a *Agent) *lane {
	return &lane{a: a, api: a.api.Apart(), wake: make(chan struct{}, 1), rests: map[format.ID]*rest{}}
}

// asked takes the recoveries that the control plane asks for now; those that it
// asks for no more leave the queue. It never waits.
func (l *lane) asked(now []step) {
	l.mu.Lock()
	defer l.mu.Unlock()
	same := func(s step) func(step) bool {
		return func(o step) bool { return o.log == s.log && o.replica == s.replica }
	}
	l.waiting = slices.DeleteFunc(l.waiting, func(s step) bool { return !slices.ContainsFunc(now, same(s)) })
	for _, s := range now {
		r := l.rests[s.replica]
		if s.log == l.running || slices.ContainsFunc(l.waiting, same(s)) || r != nil && time.Now().Before(r.until) {
			continue
		}
		if len(l.waiting) == maxWaiting {
			break
		}
		l.waiting = append(l.waiting, s)
	}
	if len(l.waiting) > 0 {
		signal(l.wake)
	}
}

// run carries out what is asked for until ctx ends.
func (l *lane) run(ctx context.Context) error {
	for {
		select {
		case <-l.wake:
		case <-ctx.Done():
			return nil
		}
		for ctx.Err() == nil {
			s, ok := l.next()
			if !ok {
				break
			}
			err := l.carryOut(ctx, &s)
			l.finished(&s, err)
		}
	}
}

func (l *lane) next() (step, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		return step{}, false
	}
	s := l.waiting[0]
	l.waiting = slices.Delete(l.waiting, 0, 1)
	l.running = s.log
	return s, true
}

// finished gives the log its rest.
func (l *lane) finished(s *step, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running = format.ID{}
	r := l.rests[s.replica]
	if r == nil {
		l.forget()
		r = &rest{pauses: &backoff.ExponentialBackOff{
			InitialInterval: firstRest, RandomizationFactor: 0.3, Multiplier: 2, MaxInterval: longestRest,
		}}
		l.rests[s.replica] = r
	}
	if err == nil {
		r.until = time.Now().Add(doneRest)
		return
	}
	r.until = time.Now().Add(r.pauses.NextBackOff())
}

// forget makes room for one more rest.
func (l *lane) forget() {
	if len(l.rests) < maxRests {
		return
	}
	var first format.ID // the one that is over first
	for id, r := range l.rests {
		if f := l.rests[first]; f == nil || r.until.Before(f.until) {
			first = id
		}
	}
	delete(l.rests, first)
}

// busy says whether a recovery is under way.
func (l *lane) busy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.running.IsZero()
}
