package pmemlog

import (
	"testing"

	"github.com/gravenio/graven/internal/golden"
	"github.com/gravenio/graven/pmemlog/format"
)

func goldenID(first byte) format.ID {
	var id format.ID
	for i := range id {
		id[i] = first + byte(i)
	}
	return id
}

func TestGoldenSuperblock(t *testing.T) {
	t.Parallel()
	want := superblock{
		generation: 0x1817161514131211, kind: KindVolatile, entries: 0x24232221, pool: goldenID(0x30), cluster: goldenID(0x40),
		incarnation: 0x5857565554535251, confirmed: 0x7877767574737271, size: 0x6867666564636261, daemon: "daemon-1",
	}
	got, err := decodeSuperblock(golden.Check(t, "superblock.v1", want.encode()))
	if err != nil || got != want {
		t.Errorf("the file holds %+v, %v; want %+v", got, err, want)
	}
}

func TestGoldenEntries(t *testing.T) {
	t.Parallel()
	const index = 0x0201
	for name, want := range map[string]entry{
		"entry.v1": {
			generation: 0x1817161514131211, used: true, cluster: goldenID(0x20), log: goldenID(0x30), replica: goldenID(0x40),
			offset: 0x5857565554535251, length: 0x6867666564636261, capacity: 0x7877767574737271,
		},
		"entry-unused.v1":  {generation: 1},
		"entry-removed.v1": {generation: 0x1817161514131211, replica: goldenID(0x40)},
	} {
		got, err := decodeEntry(golden.Check(t, name, want.encode(index)), index)
		if err != nil || got != want {
			t.Errorf("%s holds %+v, %v; want %+v", name, got, err, want)
		}
	}
}
