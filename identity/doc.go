// Package identity says who a caller is and what he may do.
//
// A Principal is made once, where a connection or a request comes in, and
// travels in the context. Everything below reads it from there and never from a
// header.
//
// # Concurrency
//
// Principals are values and are not changed once they are in a context.
package identity
