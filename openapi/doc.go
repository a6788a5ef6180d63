// Package openapi is the contract of the control plane and what is generated
// from it: types, the server's interface and the Go client.
//
// # What it promises
//
// openapi.yaml is the source. Everything in the files named *.gen.go follows
// from it by "go generate ./openapi"; a change of the contract that is not
// generated, or an edit of a generated file, shows as a difference afterwards.
// An optional member that may be told apart from its zero value is a pointer or
// documented as such; any other is left out of the JSON when it is zero.
//
// # What it assumes
//
// A server that validates requests against the document, as package server
// does: the generated decoders check no ranges.
//
// # Concurrency
//
// Client and ClientWithResponses may be used concurrently. An EventReader
// belongs to one goroutine.
//
// # On the wire
//
// JSON as the document says, problem+json for errors (see Problem), and
// server-sent events (see EventReader).
package openapi
