// Package grant signs and checks the right to write a log in one epoch.
//
// # What it promises
//
// Verify accepts a token only if it is signed with EdDSA by the key that its
// header names, that key is among the given ones, and the claims are complete
// and well-formed. No other algorithm is ever accepted, whatever the header
// says. A grant has no expiry: it is good until its epoch is superseded, so
// that an outage of the control plane stops no writer and no clock decides
// anything.
//
// # What it assumes
//
// The verifier compares the claims with what it is asked to do: cluster, log,
// epoch, nonce and the replica it serves.
//
// # Concurrency
//
// All functions are safe for concurrent use.
//
// # On the wire
//
// A compact JWT (RFC 7519) with the header {"alg":"EdDSA","kid":…,"typ":"JWT"}
// and the claims cluster, log_id, epoch, nonce, replicas and rights as Claims
// has them. A key ID is the first 16 hexadecimal digits of the SHA-256 of the
// public key. The token is at most MaxTokenBytes long.
package grant
