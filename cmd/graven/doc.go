// Command graven is the whole of Graven in one binary: the API server, the
// replica daemon, a cluster on one machine for trying it out, the client
// commands, and those that look into a pool without any of these.
//
// # What it promises
//
// Exit status 0 means that everything asked for was done, 1 that it was not (the
// message on stderr says why and what to do next), 2 that the command line is
// wrong. Standard output carries the result and nothing else: with -o json the
// API's own body.
//
// # What it assumes
//
// Nothing but its arguments, GRAVEN_* variables and a config file, in that order
// of precedence. Only this package knows about signals, the environment and
// os.Exit; everything else is told through options.
//
// # Concurrency
//
// A process runs one command. The first SIGINT or SIGTERM ends it in order, a
// second SIGINT at once.
//
// # On the medium
//
// `graven dev` keeps a folder: etcd/, one pool folder for each agent (d1/, d2/,
// ...), the log files logs/, and dev.lock, which it and its agents hold while any
// of them lives.
package main
