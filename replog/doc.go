// Package replog is the replicated log: a single writer that keeps its records
// on several daemons, and readers that check them.
//
// # What it promises
//
// [Writer.Append] returns nil when an ack quorum of replicas has made the record
// persistent. From then on every later open finds it, as docs/replog.md of the
// project argues, whatever crashes, as long as fewer replicas than the ack
// quorum are lost or damaged at any open. Records are read back in the order of
// their LSNs, without holes. A writer that another one has fenced acknowledges
// nothing any more.
//
// # What it assumes
//
// Sessions that keep rdmaio's word: in order, and complete only what is
// persistent. A control plane that hands out each (epoch, nonce) once; it is
// asked at open, for the lease and for changes of the replica set, never to
// append, so its outage stops no open writer.
//
// # Concurrency
//
// A Writer may be used from any number of goroutines. Its decisions are
// [core.Core]'s, made under one lock; records that gather while a flush is under
// way leave together in the next send (group commit without timers).
//
// # On the wire
//
// What rdmaio moves: the mirror's bytes, unchanged, at the same LSN everywhere.
// The mirror is a ring of the log's capacity in memory: send buffer, resend
// buffer and read cache at once.
package replog
