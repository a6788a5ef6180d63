// Package faultproxy is a TCP proxy for tests that does to connections what
// networks do: delay, cut, stop passing bytes, flip bits.
//
// # What it promises
//
// A [Proxy] passes bytes between those who connect to [Proxy.Addr] and its
// target, each way under the [Faults] set for it. Faults are counted in bytes
// from the start of each connection, not in time, so a test that cuts or flips
// does so at the same byte in every run. When the test ends, all connections
// are closed and all goroutines have ended.
//
// # What it assumes
//
// Everything is on the loopback interface.
//
// # Concurrency
//
// All methods may be called from any goroutine. New faults are in force from
// the next bytes on, for connections that are already there as well.
//
// # On the wire
//
// Nothing of its own.
package faultproxy
