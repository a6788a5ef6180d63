// Package rdmaio moves a log's bytes into a replica on another host: Write and
// Flush, Read, and a few small messages. It holds what the providers have in
// common; rdmaio/tcp is the one that is always there, verbs comes behind the
// same interfaces.
//
// # What it promises
//
// A [Session] is a conversation with one replica, in order: what is posted and
// asked takes effect at the far end in the order of the calls. A completion
// ([Events].Flushed) is only given for bytes that the far end's medium can no
// longer lose; that they have arrived is never reported. A session that breaks
// says why once and is then of no more use: its user dials anew, fences, and
// posts again what was not completed. Bytes and their place are the same, so
// posting again changes nothing that was there.
//
// Refusals are errors of this package on both ends, tested with errors.Is.
// [ErrLost] stands for all that a new session may cure.
//
// # Who owns a posted buffer, and until when
//
// [Session].Post takes segments by reference and never copies them. From the
// call on they belong to the session, which may read them from any of its
// goroutines, now or later. They come back to the caller when a completion
// covers them, whichever comes first of that and the return of Close. Until
// then they must not change by a single bit: a replica would be sent something
// that its checksums refuse. That a session has ended, or that Post returned an
// error, gives nothing back; Close does. The slice of slices itself may be used
// again as soon as Post has returned.
//
// Bytes that a [Target] is given in Write belong to its listener again when
// Write returns.
//
// # What it assumes
//
// The bytes are whole records of pmemlog/format, which check themselves. The
// far end checks order, chain, term and bounds; the near end is not believed.
// Whoever posts stays within the ring: what is posted and not completed never
// exceeds its capacity.
//
// # Concurrency
//
// As said at [Session], [Events] and [Target].
//
// # On the wire
//
// The messages are this package's types, the errors are the numbers of [Code];
// how they are framed is the provider's business and documented there.
package rdmaio
