package pmemlog_test

import "testing"

func TestCrashTrim(t *testing.T) {
	crash(t, crashCase{prepare: begins(), operate: trims(1, 1)})
}

func TestCrashTrimOfEverything(t *testing.T) {
	crash(t, crashCase{
		prepare: steps(begins(), appends(1, 100), flushes(1)),
		operate: steps(trims(1, 3), appends(1, 500), flushes(1)),
	})
}

func TestCrashFence(t *testing.T) {
	crash(t, crashCase{prepare: begins(), operate: fences(1, 1)})
}

// A fence vouches for what an ended session has written, once that is persistent.
func TestCrashFenceOverUnflushed(t *testing.T) {
	crash(t, crashCase{
		prepare: steps(begins(), appends(1, 100, 100), appends(1, 200)),
		operate: fences(1, 3),
	})
}

// With a term that is promised already no header needs to be written before the
// scan, so the scan must see to it by itself.
func TestCrashFenceAgainOverUnflushed(t *testing.T) {
	crash(t, crashCase{
		prepare: steps(begins(), appends(1, 100, 100), appends(1, 200)),
		operate: fences(1, 0),
	})
}

func TestCrashSeal(t *testing.T) {
	crash(t, crashCase{prepare: steps(begins(), fences(1, 1)), operate: steps(seals(1), appends(1, 100), flushes(1))})
}

func TestCrashReseal(t *testing.T) {
	crash(t, crashCase{
		prepare: begins(),
		operate: func(w *world) error { return w.reseal(1, 2, id(1), id(2)) },
	})
}

func TestCrashReset(t *testing.T) {
	crash(t, crashCase{
		prepare: steps(begins(), fences(1, 1)),
		operate: steps(resets(1, 640), seals(1), appends(1, 100), flushes(1)),
	})
}

// To begin anew at the log's own end leaves all its records in the ring.
func TestCrashResetToTheTail(t *testing.T) {
	crash(t, crashCase{
		prepare: steps(begins(), fences(1, 1)),
		operate: steps(resets(1, 0), seals(1), appends(1, 100), flushes(1)),
	})
}

// Slot after slot is written, with hint lines between, none of which may count
// with another header than its own.
func TestCrashHeaderUpdates(t *testing.T) {
	crash(t, crashCase{
		prepare: begins(),
		operate: steps(
			trims(1, 1), appends(1, 100), flushes(1), appends(1, 100), flushes(1),
			func(w *world) error { return w.reseal(1, 2, id(1)) },
			persistsHint(1), takesOver(1), appends(1, 50), flushes(1), trims(1, 3),
		),
	})
}
