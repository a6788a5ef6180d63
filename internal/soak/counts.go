package soak

import (
	"fmt"
	"strings"
	"sync"
)

// counts are numbers by what they count.
type counts struct {
	mu sync.Mutex
	n  map[string]int64
}

func (c *counts) add(what string, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]int64{}
	}
	c.n[what] += n
}

func (c *counts) of(what string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[what]
}

func (c *counts) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var parts []string
	for _, what := range sorted(c.n) {
		parts = append(parts, fmt.Sprintf("%s %d", what, c.n[what]))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
