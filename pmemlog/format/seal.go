package format

import (
	"cmp"
	"slices"
)

// Limits of what a header slot remembers.
const (
	MaxSeals    = 32 // the newest ones are kept
	MaxReplicas = 7  // in a log's replica set
)

// Seal says that an epoch began at T: the records before T are those that the
// opener of the epoch found and vouched for.
type Seal struct {
	Epoch      uint64
	Nonce      uint64
	T          uint64 // LSN where the epoch began
	Prev       uint32 // CRC of the record before T
	SetVersion uint64 // of the replica set that the opener was granted
}

// Fence returns the seal's term.
func (s Seal) Fence() Fence { return Fence{Epoch: s.Epoch, Nonce: s.Nonce} }

// AddSeal returns the seals with s added: one per T, the newest MaxSeals of
// them, in the order of T. The given slice is not changed.
func AddSeal(seals []Seal, s Seal) []Seal {
	out := make([]Seal, 0, len(seals)+1)
	for _, o := range seals {
		if o.T != s.T {
			out = append(out, o)
		}
	}
	out = append(out, s)
	SortSeals(out)
	if len(out) > MaxSeals {
		out = out[len(out)-MaxSeals:]
	}
	return out
}

// SortSeals orders seals by T, then by epoch.
func SortSeals(seals []Seal) {
	slices.SortFunc(seals, func(a, b Seal) int {
		return cmp.Or(cmp.Compare(a.T, b.T), cmp.Compare(a.Epoch, b.Epoch))
	})
}

// Pair is a stretch of a log that one writer's term wrote or vouched for: from
// First up to the next pair's First, or the tail. Two replicas that hold the
// same LSN in the same epoch under the same nonce hold the same bytes up to it.
// Known is false where the seal that carried the nonce has been forgotten; such
// a pair agrees with nothing.
type Pair struct {
	Fence
	First uint64
	Known bool
}

// Agreement returns the highest LSN up to which two logs hold the same bytes by
// their pairs, and false when no pair proves anything. The pairs are in the
// order of First; tails are the LSNs where the logs end.
func Agreement(a []Pair, aTail uint64, b []Pair, bTail uint64) (uint64, bool) {
	var at uint64
	found := false
	for i, p := range a {
		for j, q := range b {
			if !p.Known || !q.Known || p.Fence != q.Fence { // rule: nonce
				continue
			}
			end := min(pairEnd(a, i, aTail), pairEnd(b, j, bTail))
			if end < max(p.First, q.First) {
				continue
			}
			at, found = max(at, end), true
		}
	}
	return at, found
}

func pairEnd(pairs []Pair, i int, tail uint64) uint64 {
	if i+1 < len(pairs) {
		return pairs[i+1].First
	}
	return tail
}
