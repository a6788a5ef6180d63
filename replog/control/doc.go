// Package control lets a log's writer speak to the control plane: it is
// replog.Control over the generated API client.
//
// # What it promises
//
// Refusals that a writer must tell apart come back as replog's errors
// (ErrInUse, ErrSuperseded, ErrAbandoned, core.ErrSetBehind) that wrap the server's
// problem; all others are the problem or the transport's error, and may be tried
// again: what has taken effect already does so no second time.
//
// # What it assumes
//
// A client whose calls end with their context.
//
// # Concurrency
//
// A Client may be used from any number of goroutines.
//
// # On the wire
//
// The contract's open, renew, close, replicas, replacement and events calls of
// one log.
package control
