// Package web is the status page, embedded.
//
// # What it promises
//
// One page that shows what the API says and nothing else: daemons and logs with
// their states, what a person should look at, and whether what is shown is
// still true. It loads nothing from elsewhere, so it works without a network
// beyond the server, and every text that came from outside is shown as text.
//
// # What it assumes
//
// The API is served at the same origin, as package server does.
//
// # Concurrency
//
// The handler keeps no state.
//
// # On the wire
//
// The page at /, its files at /ui/, with a content security policy that allows
// nothing but them and the API.
package web
