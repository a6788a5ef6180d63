// Package pmemtest has a medium that loses power.
//
// # What it promises
//
// A [Medium] behaves like memory until [Medium.Crash] takes its power away: of
// what was written since the last sync, any subset survives, chosen by the
// caller's random numbers, and of bytes that were written several times any of
// the versions. The same seed gives the same loss. Faults can be planned: a
// sync or write that fails, bytes that can't be read, bits that flip, power that
// goes before a given sync.
//
// # What it assumes
//
// Units ([Options.Unit]) survive as the hardware lets them: a 64-byte line of
// memory may tear between its 8-byte words, a 512-byte sector of a file does
// not tear.
//
// # Concurrency
//
// All methods may be called from any goroutine. It starts none, so that a
// simulation in one goroutine runs the same each time.
package pmemtest
