// Package rdmaio moves a log's bytes into a replica on another host: Write and
// Flush, Read, and a few small messages. Providers: tcp, which is always there;
// verbs comes with its own issue behind the same interfaces.
package rdmaio
