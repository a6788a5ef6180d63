package pmemlog

import (
	"cmp"
	"fmt"
	"slices"
)

// extent is a range of a pool, in bytes.
type extent struct{ offset, length int64 }

func (e extent) end() int64 { return e.offset + e.length }

// taken returns the regions in the order of their offsets, and what can't be
// written. Which space is free is nowhere stored: it is what no entry of the
// directory covers.
func (dir *directory) taken() []extent {
	var out []extent
	for _, e := range dir.entries {
		if e.used {
			out = append(out, extent{e.offset, e.length})
		}
	}
	out = append(out, dir.bad...)
	slices.SortFunc(out, func(a, b extent) int { return cmp.Compare(a.offset, b.offset) })
	return out
}

// free returns the gaps between the regions from start to end, in whole pages.
func (dir *directory) free(start, end int64) []extent {
	var out []extent
	end &^= pageSize - 1
	for _, t := range append(dir.taken(), extent{end, 0}) {
		if t.offset > start {
			out = append(out, extent{start, t.offset - start})
		}
		start = max(start, t.end())
	}
	return out
}

// space returns the room that the regions leave from start to end.
func (dir *directory) space(start, end int64) Space {
	space := Space{Total: end&^(pageSize-1) - start}
	for i := range dir.entries {
		if !dir.entries[i].used {
			space.Entries++
		}
	}
	for _, gap := range dir.free(start, end) {
		space.Free += gap.length
		space.Largest = max(space.Largest, gap.length)
	}
	return space
}

// overlap refuses a directory in which two entries claim the same bytes.
func (dir *directory) overlap() error {
	taken := dir.taken()
	for i := 1; i < len(taken); i++ {
		if a, b := taken[i-1], taken[i]; a.end() > b.offset {
			return &CorruptError{Part: "directory", Offset: directoryOffset, Err: fmt.Errorf("regions [%d, %d) and [%d, %d) overlap; %s", a.offset, a.end(), b.offset, b.end(), removePool)}
		}
	}
	return nil
}

// allocate returns the first gap of at least n bytes.
func (dir *directory) allocate(start, end, n int64) (int64, bool) {
	for _, gap := range dir.free(start, end) {
		if gap.length >= n {
			return gap.offset, true
		}
	}
	return 0, false
}
