// Package pmemtest has a medium that loses power.
//
// # What it promises
//
// A [Medium] behaves like memory until [Medium.Crash] takes its power away: of
// what was written since the last sync, any subset survives, chosen by the
// caller's random numbers, and of bytes that were written several times any of
// the versions. The same seed gives the same loss. Half of the losses give each
// version the same odds, the others draw odds for each write, so that whole
// writes survive without what was written before them. Faults can be planned: a
// sync or write that fails, a sync that lies, bytes that can't be read, bits that
// flip, power that goes before a given sync or event. The death of the process
// alone leaves all that it wrote, not persistent yet.
//
// A medium of persistent memory is the product's own, [pmemlog.PMem], on a
// simulated cache. There a fence is what a sync is elsewhere, and counted as one;
// it completes what its own process has flushed or streamed, and nothing else.
//
// # What it assumes
//
// Units ([Options.Unit]) survive as the hardware lets them: a 64-byte line of
// memory may tear between its 8-byte words, a 512-byte sector of a file does
// not tear. What a sync has lied about is gone for good, even where a later write
// shares its sector: real disks may keep more.
//
// # Concurrency
//
// All methods may be called from any goroutine. It starts none, so that a
// simulation in one goroutine runs the same each time.
package pmemtest
