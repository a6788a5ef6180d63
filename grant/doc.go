// Package grant signs and checks the right to write a log in one epoch, or to
// read its replicas.
//
// # What it promises
//
// Verify accepts a token only if it is signed with EdDSA by the key that its
// header names, that key is among the given ones, and the claims are complete
// and well-formed. No other algorithm is ever accepted, whatever the header
// says.
//
// A grant is no bearer token where connections prove keys: it names the client's
// key, and the verifier compares. Its age is counted in the control plane's
// periods, of which the verifier hears; no wall clock is looked at (Periods,
// CheckFresh). Age, and the retirement of the signing key (Ring), limit the first
// fence of a term only: one that was fenced is good until its epoch is
// superseded, so that an outage of the control plane stops no writer.
//
// # What it assumes
//
// The verifier compares the claims with what it is asked to do: cluster, log,
// epoch, nonce, the replica it serves, and the client's key. It knows which terms
// have been fenced.
//
// # Concurrency
//
// All functions are safe for concurrent use. Keys and Rings must not be changed
// while they are in use.
//
// # On the wire
//
// A compact JWT (RFC 7519) with the header {"alg":"EdDSA","kid":…,"typ":"JWT"}
// and the claims cluster, log_id, epoch, nonce, replicas, rights, period and
// client_key as Claims has them; a grant to read has no epoch and nonce. A key ID is
// the first 16 hexadecimal digits of the SHA-256 of the public key; a client key is
// all 64 of the SHA-256 of a SubjectPublicKeyInfo. The token is at most
// MaxTokenBytes long.
package grant
