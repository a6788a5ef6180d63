package crc32c_test

import (
	"fmt"
	"hash/crc32"
	"os"
	"regexp"
	"testing"
)

// behind returns x^n modulo the Castagnoli polynomial, bit-reflected.
func behind(n int) uint32 {
	v := uint32(1) << 31
	for range n {
		v = v>>1 ^ crc32.Castagnoli*(v&1)
	}
	return v
}

// TestFoldConstants derives what the assembly folds by.
func TestFoldConstants(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("fold_amd64.s")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range regexp.MustCompile(`DATA \S+, \$(0x[0-9a-f]+)`).FindAllSubmatch(source, -1) {
		got = append(got, string(m[1]))
	}
	var want []string
	for _, bits := range []int{2048, 512, 384, 256, 128} {
		want = append(want, fmt.Sprintf("0x%016x", behind(bits+31)), fmt.Sprintf("0x%016x", behind(bits-33)))
	}
	if len(got) != len(want) {
		t.Fatalf("%d constants, must be %d: %q", len(got), len(want), got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("constant %d is %s, must be %s", i, got[i], want[i])
		}
	}
}
