package apiclient

import (
	"cmp"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Pauses of a server that fails.
const (
	firstPause   = 500 * time.Millisecond
	longestPause = 30 * time.Second
)

// servers remembers which of them works.
type servers struct {
	mu      sync.Mutex
	list    []server
	current int // answered last
}

type server struct {
	url   *url.URL
	pause *backoff.ExponentialBackOff
	until time.Time // it is asked last until then; zero for a server that works
}

func newServers(urls []*url.URL) *servers {
	s := &servers{}
	for _, u := range urls {
		b := &backoff.ExponentialBackOff{InitialInterval: firstPause, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: longestPause}
		b.Reset()
		s.list = append(s.list, server{url: u, pause: b})
	}
	return s
}

// order says in which order to ask: from the one that answered last, round; those
// that failed a short time ago at the end, the one whose pause ends first before the
// others.
func (s *servers) order(now time.Time) []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.list)
	out := make([]int, n)
	for i := range out {
		out[i] = (s.current + i) % n
	}
	rest := func(i int) time.Duration { return max(s.list[i].until.Sub(now), 0) }
	slices.SortStableFunc(out, func(a, b int) int { return cmp.Compare(rest(a), rest(b)) })
	return out
}

func (s *servers) url(i int) *url.URL { return s.list[i].url }

// answered makes the server the one that is asked first.
func (s *servers) answered(i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = i
	s.list[i].until = time.Time{}
	s.list[i].pause.Reset()
}

// failed sets the server aside for a while. Calls that failed together count
// once.
func (s *servers) failed(i int, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := &s.list[i]; !now.Before(f.until) {
		f.until = now.Add(f.pause.NextBackOff())
	}
}
