// Package placement chooses daemons for the replicas of a log: an index and a
// request in, an ordered list of daemon IDs out, or the rule that stood in the
// way.
//
// # What it promises
//
// No two replicas share a failure domain. Every chosen daemon is up, not
// draining, takes writes, is not excluded, has the asked-for media, transport and
// labels, and has at least the asked-for bytes free. For every replica, a few candidates
// are drawn with a chance that grows with their free bytes, and the least
// filled of them wins, so that concurrent requests do not herd on one daemon
// and the fill evens out; the daemon in first place rotates with the seed. If
// the rules leave enough failure domains, an answer is always found. A request
// beside daemons that hold replicas already keeps out of their failure domains.
//
// The failure domain of a daemon is its label of that name. A daemon without
// the label "host" is its own host, because a host runs one agent; a daemon
// without the label "rack" or "zone" is removed by the rule
// "failure-domain-label" when that domain was asked for, because guessing could
// put two replicas into one rack.
//
// # What it assumes
//
// The index is what its owner last put into it. The answer is advice: the
// transaction that reserves the bytes checks again. The same index history,
// request and seed give the same answer; there is no clock and no I/O.
//
// # Cost
//
// A choice takes time in proportion to replicas times log(daemons). Only when
// the request's own rules remove most of the free bytes, or when it cannot be
// met, every daemon is looked at once.
//
// # Concurrency
//
// Index is safe for concurrent use: any number of Place calls run together,
// Put and Delete exclude them.
//
// # On the wire
//
// Nothing.
package placement
