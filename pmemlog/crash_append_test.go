package pmemlog_test

import "testing"

func TestCrashAppend(t *testing.T) {
	crash(t, crashCase{prepare: begins(), operate: steps(appends(1, 500), flushes(1))})
}

func TestCrashAppendAtOnce(t *testing.T) {
	crash(t, crashCase{prepare: begins(), operate: steps(commits(1, 500), commits(1, 100, 100), appends(1, 10), commits(1, 70))})
}

// One record without a hint line takes a way of its own, and one of over 256 bytes
// goes past the cache.
func TestCrashCommitOne(t *testing.T) {
	crash(t, crashCase{prepare: begins(), operate: steps(commits(1, 20), hintless(1, commits(1, 300)), commits(1, 10), hintless(1, commits(1, 30)))})
}

func TestCrashBatch(t *testing.T) {
	crash(t, crashCase{prepare: begins(), operate: steps(appends(1, 100, 300, 1, 64, 200), flushes(1))})
}

func TestCrashSeveralAppendsBetweenFlushes(t *testing.T) {
	crash(t, crashCase{
		prepare: begins(),
		operate: steps(appends(1, 100), appends(1, 300), appends(1, 50, 50), flushes(1), appends(1, 200), appends(1, 10), flushes(1)),
	})
}

// A pad fills the ring up to its end, and the record goes on at the start, over
// what has been trimmed.
func TestCrashAppendAcrossTheEndOfTheRing(t *testing.T) {
	crash(t, crashCase{
		prepare: steps(begins(), appends(1, 900, 900, 900), flushes(1), trims(1, 3)),
		operate: steps(appends(1, 400, 60), flushes(1)),
	})
}

// No byte at or above the persisted trim LSN may be lost to the next lap.
func TestCrashWrapOverTrimmedSpace(t *testing.T) {
	crash(t, crashCase{
		prepare: steps(begins(), appends(1, 900, 900, 900), flushes(1)),
		operate: steps(trims(1, 2), appends(1, 400), trims(1, 3), appends(1, 700), flushes(1), trims(1, 4), appends(1, 800), flushes(1)),
	})
}

func TestCrashTwoReplicasFlushInTurns(t *testing.T) {
	crash(t, crashCase{
		prepare: steps(begins(), creates(2), takesOver(2)),
		operate: steps(appends(1, 300), appends(2, 300), flushes(1), appends(1, 80), flushes(2), flushes(1), flushes(2)),
	})
}

func TestCrashTwoReplicasFlushTogether(t *testing.T) {
	crash(t, crashCase{
		prepare: steps(begins(), creates(2), takesOver(2)),
		operate: together(
			steps(appends(1, 300), flushes(1), appends(1, 80), flushes(1)),
			steps(appends(2, 300), flushes(2), appends(2, 80), flushes(2)),
		),
		racing: true,
	})
}

func TestCrashPersistHint(t *testing.T) {
	crash(t, crashCase{
		prepare: begins(),
		operate: steps(persistsHint(1), appends(1, 100), persistsHint(1), flushes(1), persistsHint(1)),
	})
}

// Each flush carries what the one before it has acknowledged, in the line that
// the newest hint does not stand in.
func TestCrashHintWithTheNextFlush(t *testing.T) {
	crash(t, crashCase{
		prepare: begins(),
		operate: steps(appends(1, 100), flushes(1), appends(1, 200), flushes(1), appends(1, 300), flushes(1)),
	})
}
