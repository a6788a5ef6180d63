// Package server answers the control plane's HTTP API as openapi/openapi.yaml
// describes it.
//
// # What it promises
//
// It keeps no state of its own: any number of servers may run over one etcd,
// and any of them may end at any time. A request that breaks the contract is
// refused before a handler sees it, with every field and the rule that it
// breaks. Every error is a problem+json with a type from the contract; one that
// nobody foresaw is a 500 that shows the request ID and nothing else. Contention
// is never a 5xx. Reads are answered from the store's view and name its
// revision; what a daemon or writer is told about its own fate (404, 409, 410)
// comes from etcd.
//
// # What it assumes
//
// A store whose Run is running beside it. Without Options.Identities, that only
// those who may do everything can reach it.
//
// # Who may do what
//
// Exactly the roles in an operation's x-roles may call it; a contract in which
// one says nothing is not served. Who calls is found out anew for each request,
// and for an event stream at each of its comments, by the connection's
// certificate or a token. The store decides whose a log or a daemon is. What a
// foreign web page makes a browser send is refused, with or without identities.
//
// # Concurrency
//
// A Server and its Handler may be used concurrently; Run is called once.
//
// # On the wire
//
// JSON over HTTP/1.1, server-sent events on /v1/events, Prometheus' text format
// on /metrics.
package server
