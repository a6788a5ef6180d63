package placement

// fenwick is a tree of weights: setting one, and finding the slot in which a
// point of the total lies, take log(slots) steps. Slots never set weigh 0.
type fenwick struct {
	tree  []uint64 // 1-based; tree[i] sums the i&-i slots that end at i
	leaf  []uint64
	total uint64
}

func (f *fenwick) grow(slots int) {
	if slots <= len(f.leaf) {
		return
	}
	n := 16
	for n < slots {
		n *= 2
	}
	leaf := make([]uint64, n)
	copy(leaf, f.leaf)
	f.leaf, f.tree = leaf, make([]uint64, n+1)
	for i, w := range leaf {
		f.tree[i+1] += w
		if up := (i + 1) + (i+1)&-(i+1); up <= n {
			f.tree[up] += f.tree[i+1]
		}
	}
}

func (f *fenwick) set(slot int, weight uint64) {
	f.grow(slot + 1)
	delta := weight - f.leaf[slot] // wraps around for a decrease, and so do the sums
	if delta == 0 {
		return
	}
	f.leaf[slot] = weight
	f.total += delta
	for i := slot + 1; i < len(f.tree); i += i & -i {
		f.tree[i] += delta
	}
}

// find returns the slot that holds point, which must be below total.
func (f *fenwick) find(point uint64) int {
	pos := 0
	for step := len(f.leaf); step > 0; step /= 2 {
		if next := pos + step; next < len(f.tree) && f.tree[next] <= point {
			pos = next
			point -= f.tree[next]
		}
	}
	return pos
}
