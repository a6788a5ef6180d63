// Package soak proves the control plane's accounting: many clients work on a
// cluster of real processes while these are killed, hung and started again, while
// hosts are drained, lost for good and replaced by others, and while the planner
// acts on all that. In the end everything is compared, exactly.
//
// # What it promises
//
// [Run] makes a fleet of etcd members, API servers and agents, and lets clients
// create, delete, open, take over, append, trim, read, replace, abandon, drain,
// pause and cancel for a time. What it checks:
//
//   - At every single revision of etcd: the bytes reserved on each daemon are
//     those of the replicas in the logs' records and of the condemned ones, names
//     and logs belong to each other, no replica is in two places, no epoch falls,
//     each learner has an operator that runs and the other way round, planned ones
//     keep to their limits, and only replicas of daemons that were given up are on
//     none (see ledger).
//   - Every log's records: each acknowledged one, and each that was read once, is
//     read again by every later open, in its place, and nothing else is (see
//     history).
//   - The names: creates, deletes and opens are linearizable (porcupine).
//   - At rest: the sums of every server's API, the replicas that are recorded and
//     the regions in the pools, byte for byte; nothing condemned, no learner, no
//     writer, no operator, no lease without a key.
//   - A daemon that was given up is refused when it returns.
//   - All that the soak is about has happened, as far as the time allows: a run in
//     which nothing was drained, lost or killed proves nothing (see floor).
//   - No process ends by itself, races, panics or answers 500.
//
// Whatever does not hold is a line in [Report.Differences]; the seed repeats the
// choices, if not the timing.
//
// # What it assumes
//
// That the programs graven and etcd are in the PATH (see fleet). It waits for
// conditions; the only times are those of the chaos itself and a patience for
// what has to happen.
//
// # Concurrency
//
// Run may be called at once for different folders.
//
// # On the wire and in etcd
//
// It reads what store/doc.go says is in etcd, with types of its own: a mistake in
// store's would not show by them.
package soak
