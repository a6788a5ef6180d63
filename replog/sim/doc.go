// Package sim runs whole replicated logs on one virtual clock under a seed, and
// checks after every step that nothing which was promised is broken.
//
// # What it promises
//
// The decisions are the product's own: [core.Core] in every writer, pmemlog's
// pool, replicas and scan on every daemon. Only what lies between is simulated:
// the medium (which loses any subset of what was not synced, torn or not, when
// the power goes), the sessions (ordered, delayed, broken with requests still on
// their way or cut short), the control plane (which hands out epochs, changes
// the replica set by compare-and-swap, hears requests twice, loses answers after
// they took effect, and can be set back to a backup), and the clock. A seed
// replays exactly.
//
// # What goes wrong
//
// Writers die, sleep past their end, and open the log several at a time. Daemons
// crash inside any operation; pools are wiped, set back or lose a region; bits
// flip. Replicas are replaced while all of this goes on, and replacements are
// abandoned. All of it within what is promised: in no set are as many replicas
// lost or damaged as the ack quorum.
//
// # What it checks
//
// The invariants by which docs/replog.md calls them: I1 durability, I2
// agreement, I3 order, I4 fencing, I5 space, I6 honesty; and liveness: when the
// faults have stopped, an open succeeds and appends go through.
//
// # All of a small model
//
// Beside the random worlds, an explorer goes through all that can happen to two
// writers and three replicas up to a depth: no clock, no chance, each message
// arriving whenever it does. It runs the same core and pools, each step of each
// part once, and looks up what it has seen before.
//
// # How it is known to be strong enough
//
// The mutation tests weaken one rule of the product at a time, by patching its
// source, and expect a violation under seeds under which the true rule passes,
// and in the exhaustive search.
//
// # Concurrency
//
// A world is run by one goroutine; several worlds may run at once.
package sim
