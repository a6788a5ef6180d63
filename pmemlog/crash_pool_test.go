package pmemlog_test

import (
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
)

// Where the parts of a pool of formatOptions lie.
const (
	superblockB = 4096
	entryA      = 8192
	entryB      = 12288
)

// Format leaves a pool, or room for one.
func TestCrashFormat(t *testing.T) {
	crash(t, crashCase{
		prepare: nothing(),
		operate: formats(),
		recover: steps(opens(), (*world).nextIncarnation, (*world).confirm, createsOnce(1), takesOver(1)),
	})
}

// Open mends the copy of an entry that is damaged; the next write to the entry
// begins with the other one.
func TestCrashOpenMendsTheSecondCopy(t *testing.T) {
	crash(t, crashCase{
		prepare: steps(formats(), creates(1), damages(entryB+30)),
		operate: opens(),
		recover: steps(opens(), removesOnce(1)),
	})
}

func TestCrashOpenMendsTheFirstCopy(t *testing.T) {
	crash(t, crashCase{
		prepare: steps(formats(), creates(1), damages(entryA+30)),
		operate: opens(),
		recover: steps(opens(), removesOnce(1)),
	})
}

// A damaged superblock is replaced by the next change, which must not touch the
// good one before.
func TestCrashOpenOnOneSuperblock(t *testing.T) {
	crash(t, crashCase{
		prepare: steps(begins(), damages(superblockB+20)),
		operate: steps(opens(), (*world).nextIncarnation),
	})
}

func TestCrashCreate(t *testing.T) {
	crash(t, crashCase{prepare: begins(), operate: creates(2)})
}

// The next process deletes at once what it may have had to mend.
func TestCrashCreateThenDelete(t *testing.T) {
	crash(t, crashCase{
		prepare: formats(),
		operate: steps(creates(1), removes(1)),
		recover: steps(opens(), removesOnce(1)),
	})
}

func TestCrashCreateWhileAnotherIsWritten(t *testing.T) {
	crash(t, crashCase{
		prepare: begins(),
		operate: steps(appends(1, 200), creates(2), appends(1, 100), flushes(1), takesOver(2)),
	})
}

func TestCrashDelete(t *testing.T) {
	crash(t, crashCase{
		prepare: steps(begins(), creates(2), takesOver(2), appends(2, 100), flushes(2)),
		operate: removes(1),
	})
}

// The records of the replica that was there must not pass for the new one's.
func TestCrashDeleteThenCreateInTheSameSpace(t *testing.T) {
	crash(t, crashCase{
		prepare: steps(begins(), appends(1, 500, 500), flushes(1)),
		operate: steps(removes(1), creates(2), takesOver(2), appends(2, 100), flushes(2)),
	})
}

// With no entry left the tombstone that was there longest makes room.
func TestCrashCreateOnATombstone(t *testing.T) {
	crash(t, crashCase{
		prepare: steps(with(func(o *pmemlog.FormatOptions) { o.Replicas = 1 }), begins(), removes(1)),
		operate: steps(forgets(1), creates(2), takesOver(2), appends(2, 100), flushes(2)),
	})
}

func TestCrashNextIncarnation(t *testing.T) {
	crash(t, crashCase{prepare: begins(), operate: (*world).nextIncarnation})
}

func TestCrashConfirm(t *testing.T) {
	crash(t, crashCase{
		prepare: steps(begins(), (*world).nextIncarnation),
		operate: steps((*world).confirm, (*world).nextIncarnation),
	})
}

func TestCrashBindCluster(t *testing.T) {
	crash(t, crashCase{
		prepare: steps(with(func(o *pmemlog.FormatOptions) { o.ClusterID = format.ID{} }), begins()),
		operate: (*world).bindCluster,
	})
}

func TestCrashBindDaemon(t *testing.T) {
	crash(t, crashCase{prepare: begins(), operate: (*world).bindDaemon})
}
