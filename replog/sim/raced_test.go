//go:build race

package sim

// raced: the race detector makes the search several times as slow, and has
// nothing to find in one goroutine.
const raced = true
