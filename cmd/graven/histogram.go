package main

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets that are 1/32 of their value wide, so
// that quantiles are right within 3% however many are counted.
type histogram struct {
	counts [64 << histogramBits]uint64
	total  uint64
	most   time.Duration // the longest of all, exactly
}

const histogramBits = 5

func (h *histogram) add(d time.Duration) {
	h.counts[bucketOf(uint64(max(d, 0)))]++
	h.total++
	h.most = max(h.most, d)
}

// bucketOf keeps the leading bit's place and the bits that follow it.
func bucketOf(n uint64) int {
	if n < 1<<histogramBits {
		return int(n)
	}
	shift := bits.Len64(n) - 1 - histogramBits
	return shift<<histogramBits + int(n>>shift)
}

// bucketTop is the largest value of a bucket.
func bucketTop(b int) uint64 {
	if b < 1<<histogramBits {
		return uint64(b)
	}
	shift := b>>histogramBits - 1
	lead := uint64(b - shift<<histogramBits)
	return (lead+1)<<shift - 1
}

// quantile returns the duration that a share q (0 to 1) of all are not above;
// 0 when nothing was counted.
func (h *histogram) quantile(q float64) time.Duration {
	want := uint64(q*float64(h.total) + 0.5)
	var seen uint64
	for b, n := range h.counts {
		seen += n
		if n > 0 && seen >= max(want, 1) {
			return min(time.Duration(bucketTop(b)), h.most)
		}
	}
	return 0
}
