// Package core decides for a replicated log with one writer: whom to fence,
// which replica to go on from, what to rewrite, what to send, what is committed.
//
// # What it promises
//
// Events go in as method calls, effects come out of [Core.Effects]; between them
// there is no I/O, no clock, no goroutine and no randomness, so the same events
// give the same effects. The same type runs in the writer and in the simulation.
// The order of the effects is part of the rule: they are to be started in that
// order, and those for one session carried out in that order.
//
// The life of a core:
//
//	Recovering  every replica is fenced to the writer's term as it connects; when
//	            fewer than the ack quorum of replicas are unknown, the one with
//	            the highest last position is chosen
//	Loading     its bytes from the trim LSN to its tail T come into the mirror
//	Aligning    the others are made to agree up to T, then sealed in
//	Open        an ack quorum has the seal: all below T is committed, appends go on
//	Over        fenced, closed, or stopped by an error
//
// A replica that connects later, or again, goes the same way from fence to seal,
// with the mirror as its source. So does a learner, which is to take the place of
// another one:
//
//	learning    it is filled, and counts for nothing
//	joint       the control plane has been asked to change the set, and the answer
//	            is not known: a record needs an ack quorum of both sets
//	switched    the set is changed: the new one alone counts as soon as an ack
//	            quorum of it names it in its seals
//
// # What it assumes
//
// The driver owns the mirror, a ring of the log's capacity in memory, the
// sessions and the control plane. It numbers the sessions of a replica upwards;
// events of an older session are ignored. A replica answers a fence only with
// what is persistent, and a completion only for what is.
//
// # Concurrency
//
// None: a Core belongs to one goroutine, or to the lock of its driver.
//
// # Where the rules come from
//
// It is Raft's log matching with the election taken out (a compare-and-swap in
// the control plane) and the followers made passive memory; a seal does for an
// opener what Raft's no-op entry of a new term does (Ongaro and Ousterhout, 2014,
// figure 8), without taking room in the ring. Lines marked "rule:" are each
// needed: the mutation tests in replog/sim weaken them one by one.
package core
