// Package planner decides what the control plane does by itself: a view, limits
// and a monotonic clock in, steps out.
//
// # What it promises
//
// It asks for another replica in the place of one whose daemon has been down for
// longer than the grace time, was given up, takes no writes or drains; or that
// is missing, damaged beyond what its writer repairs, or shares a failure domain
// with another one. It asks for the recovery of a log whose writer has gone and
// whose replicas differ, or of which one is damaged, and for a scrub of each
// daemon's pool every so often.
//
//   - Last copies are never touched: a step is asked for only where the log could
//     be opened without anybody's word for what is lost.
//   - Nothing is begun that could not come to its end: with a writer, an ack quorum
//     of the replicas that there would be must take writes; without one, an ack quorum
//     of those that there are. Whether a writer still waits for its open to end is
//     not known here.
//   - What is not begun is listed with what it waits for: the most urgent step of
//     each log. One that no daemon fits for does not hold up the log's others.
//   - A new replica never shares a failure domain with one that stays. A log is
//     worked on by one operator at a time.
//   - No more is begun than the limits allow, for each daemon and in all; while
//     too many daemons are down, or operators are paused, nothing is. No grace time
//     of a daemon that is down runs while too many are.
//   - Times run from the first sight of a condition, and begin anew when it goes
//     away: a daemon that blips causes nothing. A new Planner has seen nothing
//     yet, so that its election starts every grace time again.
//   - Once nothing else changes and each step is carried out, it comes to rest.
//   - What failed is tried again later and later, what was cancelled after an
//     hour; both without delay when their reason has gone away and come back.
//
// # What it assumes
//
// The view is a consistent one, with daemons and logs in a stable order. Whoever
// carries the steps out compares all they were decided on: the view may be old.
//
// # Concurrency
//
// A Planner is used by one goroutine. It reads no clock and draws from the seed
// that it was made with.
//
// # On the wire
//
// Nothing.
package planner
