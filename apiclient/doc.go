// Package apiclient asks the API's servers as if they were one.
//
// The servers are equal: all that they know is in etcd. A [Client] stays with
// the one that answered last. When that one fails, the request goes to another,
// if it may be repeated; the one that failed is asked last until its pause is
// over, which is longer after every failure and differs by chance between
// clients.
//
// # What is repeated
//
// A request goes to another server
//
//   - whatever it is, if no byte of it can have left (nothing listens there, the
//     name is unknown, the TLS handshake fails), or if the server does not know
//     who asks (401), which is before it does anything;
//   - otherwise only if two servers may carry it out: any GET, PUT and DELETE, a
//     POST with an Idempotency-Key, and one whose caller says so with
//     [Repeatable].
//
// It does so when there was no answer in time, or one that is only that
// server's: a status of 500 and above, or an error that is no problem+json and so
// comes from something else at that address. What the cluster has decided is the
// answer, and no other server is asked for a better one: every other problem,
// also 409 conflict, where it is for the caller to look again and decide anew.
//
// A DELETE may have been carried out by a server whose answer was lost. The next
// one then finds nothing: to those who asked, 404 means that it is done, and
// [NoteLost] tells them.
//
// Where all servers fail, the answer is the last that one of them gave, or a
// [NoAnswerError] that says for each why there was none.
//
// # Bounds
//
// An attempt ends after [Options.Timeout], or after its share of the time that
// the caller's context has left, so that a server that hangs leaves time for the
// others. Answers are read whole before they are passed on, up to 8 MiB; only a
// stream of events is passed on as it comes, and is ended when it is silent for
// longer than [Options.StreamIdle]. Redirects are not followed.
//
// # Concurrency
//
// A Client is safe for concurrent use; an [Events] belongs to one goroutine.
// Nothing runs when nobody calls. Close gives up idle connections.
package apiclient
