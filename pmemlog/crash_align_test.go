package pmemlog_test

import "testing"

// aligned is a replica that a second writer has fenced, with three records.
func aligned() step {
	return steps(begins(), appends(1, 400), flushes(1), persistsHint(1), fences(1, 1))
}

// The tail is cut off, and nothing written in its place.
func TestCrashAlignShorter(t *testing.T) {
	crash(t, crashCase{
		prepare: aligned(),
		operate: steps(aligns(1, 1), seals(1), appends(1, 100), flushes(1)),
	})
}

// What lies behind the boundary is rewritten with the chosen log's records.
func TestCrashAlignAndRewrite(t *testing.T) {
	crash(t, crashCase{
		prepare: aligned(),
		operate: steps(aligns(1, 1), appends(1, 200), appends(1, 300, 60), flushes(1), seals(1), appends(1, 100), flushes(1)),
	})
}

// Nothing is kept.
func TestCrashAlignToTheTrimLSN(t *testing.T) {
	crash(t, crashCase{
		prepare: aligned(),
		operate: steps(aligns(1, 0), appends(1, 100, 300, 400), flushes(1), seals(1)),
	})
}

// A suspect stays one until the seal says that its loss is made good.
func TestCrashAlignOfASuspect(t *testing.T) {
	crash(t, crashCase{
		prepare: steps(begins(), appends(1, 400), flushes(1), persistsHint(1), loses(1, 2), fences(1, 1)),
		operate: steps(aligns(1, 1), appends(1, 300), flushes(1), appends(1, 500), flushes(1), seals(1), appends(1, 100), flushes(1)),
	})
}

func TestCrashFenceOfASuspect(t *testing.T) {
	crash(t, crashCase{
		prepare: steps(begins(), appends(1, 400), flushes(1), persistsHint(1), loses(1, 1)),
		operate: fences(1, 1),
	})
}

func TestCrashResetOfASuspect(t *testing.T) {
	crash(t, crashCase{
		prepare: steps(begins(), appends(1, 400), flushes(1), persistsHint(1), loses(1, 0), fences(1, 1)),
		operate: steps(resets(1, 0), seals(1), appends(1, 100), flushes(1)),
	})
}
