// Package golden keeps bytes in files, as hex dumps that a reviewer can read:
// what a format looked like when it was frozen.
//
// # What it promises
//
// [Check] compares bytes with those of a file, shows the first place where they
// differ, and returns the file's, so that a test also decodes what was written
// down then and not only what its encoder writes today. With -update it rewrites
// the file instead. A file of a version that anyone may have on a disk is
// never updated: a later version gets files of its own, and the old ones stay for
// as long as it is read.
//
// A file is what hexdump -C prints: offset, 16 bytes, the same as text; a line
// "*" for lines like the one before; the length at the end.
//
// # What it assumes
//
// The files are in testdata of the package under test, which is where go test
// runs, and hold at most a megabyte.
//
// # Concurrency
//
// Check may be called from any test. It keeps nothing between calls.
package golden
