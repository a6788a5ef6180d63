// Package lint holds the house rules of this repository that no off-the-shelf
// linter knows: who may import whom, and what our code must not contain.
//
// # What it promises
//
// [Check] reads every Go file of a module and returns one [Finding] for each
// broken rule, ordered by file and line. The rules are:
//
//   - imports: a package imports those of ours that its row of [Table] names,
//     and a package that has no row is a finding of its own;
//   - pure: a pure package touches no network, file, clock, global random
//     source or foreign module (but for what says which instructions the CPU
//     has), and starts no goroutine;
//   - harness: a test harness is imported by tests and other harnesses only;
//   - name: no package is a drawer for odds and ends (util, common, ...);
//   - cgo: C is imported under rdmaio/internal/verbs and nowhere else;
//   - doc: every package has a doc.go with a package comment;
//   - sleep: time.Sleep is for nobody outside tests;
//   - state: a package-level variable holds something that never changes.
//
// Rules that concern outside libraries are depguard's, in .golangci.yml.
//
// # What it assumes
//
// The files parse. It reads syntax, not types, and so needs no build: files of
// every platform and build tag are checked on any machine.
//
// # Concurrency
//
// Check keeps nothing between calls.
package lint
