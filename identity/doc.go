// Package identity says who a caller is and what he may do.
//
// A Principal is made once, where a connection or a request comes in, and
// travels in the context. Everything below reads it from there and never from a
// header.
//
// # Certificates
//
// A certificate names its principal by subject alternative names of the kind URI,
// graven://ROLE/NAME and graven://group/GROUP. Files are read again at each
// handshake (see TLS). All connections are TLS 1.3, and no session is resumed:
// every one proves itself anew. Authority makes certificates for those who have
// nothing that does.
//
// # Concurrency
//
// Principals are values and are not changed once they are in a context. A TLS
// and what it gave may be used concurrently.
package identity
