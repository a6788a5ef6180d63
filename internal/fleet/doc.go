// Package fleet runs whole clusters out of processes that a test may kill: etcd
// members, API servers and agents, each with a folder of its own.
//
// # What it promises
//
// What is started are the real programs, found as etcd and graven in the PATH (a
// test binary that calls testscript.Main may be both). Each process is a child
// that dies with the program that started it. Its output goes to a file beside
// its folder. [Process.Kill] is SIGKILL, [Process.Stop] asks it to end in order,
// [Process.Pause] is SIGSTOP; all return once it is so. A process that ends
// without having been told to is reported by [Fleet.Died], and what no process
// may ever say by [Fleet.Scandals].
//
// # What it assumes
//
// Linux: a fleet listens on an address of its own in 127.0.0.0/8, on fixed ports,
// so that a process comes back where it was. etcd runs without fsync: processes
// are killed here, machines are not.
//
// # Concurrency
//
// All methods may be called from any goroutine, those of one Process not at once.
//
// # On the wire
//
// Nothing of its own.
package fleet
