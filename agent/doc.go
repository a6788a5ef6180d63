// Package agent is the replica daemon: one process that serves the replicas in
// one pool, keeps the control plane told that it lives, and carries out what
// the control plane asks of it.
//
// # What it promises
//
// An agent acknowledges what its pool's medium can no longer lose, and nothing
// else. It serves writers from its first moment on with the grant keys that it
// has on disk; while the control plane is away it goes on serving and goes on
// asking to be registered.
//
// One process serves a pool at a time, under the daemon ID and in the cluster
// that the pool was bound to at its first registration. The incarnation, one
// more for each start, is in the pool before the control plane hears of it. An
// agent that the control plane refuses for good (a newer process of the daemon,
// another pool, an older copy of the pool, a deleted daemon, another cluster)
// stops serving and ends with an error that says what to do.
//
// The lease is renewed by a goroutine that does nothing else and takes no lock
// that is held during I/O, so that a slow medium never looks like a dead host.
// A medium that does not answer shows as degraded, one that failed as
// read-only.
//
// A replica is deleted for one reason only: the control plane says that this
// very replica is condemned. A lost lease deletes nothing. What the control
// plane does not know is kept, counted, logged and served to nobody.
//
// A log without a writer whose replica is to be replaced is recovered by the
// learner's agent: it opens the log as a writer on nobody's behalf, fills the
// learner, has it put into the set and closes. It does so for one log at a time,
// with memory of that log's capacity, up to Options.RecoverBytes. A client that
// opens the log has it at once, and the agent yields without a word: the
// client's writer goes on with the replacement. A recovery that does not come off
// is reported with what it waits for, and tried again after a pause of up to
// a minute.
//
// The pool is read through every Options.ScrubEvery, at Options.ScrubRate, in a lane
// of its own. A replica that is found damaged is reported as suspect, with LSN and
// reason, until it is good again. Its writer's session ends: the writer connects
// again, the fence finds what is lost, and the writer sends that from its
// mirror, which holds all from the trim LSN on. Without a writer the next open
// does the same. In a pool that takes no writes nothing is ended.
//
// With Options.TLS a session must prove the key that its grant names, and a reader
// needs a grant, too: see docs/grants.md. A new grant key is on disk before the
// control plane is told that it is known, and only then does it sign.
//
// # What it assumes
//
// Without Options.TLS a grant's signature is enough to write, whoever shows it,
// and whoever reaches the address can read. The folder of the pool is the agent's
// alone.
//
// # Concurrency
//
// New, then Run once. The accessors and Close may be called from any goroutine.
//
// # On media and on the wire
//
// Options.Dir holds the file pool (see pmemlog) and two more. The file grant-keys.json,
//
//	{"version":0,"cluster_id":"…","keys_version":3,
//	 "grant_keys":{"<key ID>":"<base64>"},"retired_keys":{…}}
//
// with the newest keys that it was told of, and those that are good for
// reconnecting only. A key proves itself by its ID; a
// damaged file costs no more than waiting for the next registration. The file
// etcd-mark.json,
//
//	{"version":0,"cluster_id":"…","etcd_mark":{"life":0,"revision":48213,"proof":"…"}}
//
// with the highest mark that the control plane has given out, as openapi has it, or one
// of up to a minute before. It is shown to every server, which learns by it if etcd
// was set back meanwhile; a damaged file costs that.
//
// Writers speak rdmaio/tcp to the agent, and the agent speaks HTTP to the control plane
// as openapi says.
package agent
