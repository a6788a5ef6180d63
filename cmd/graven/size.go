package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// size is a flag's value in bytes, written as 4096, 4KiB, 256MiB, 4GiB or 1TiB.
type size int64

// sizeUnits is read-only; the largest comes first.
var sizeUnits = []struct {
	name  string
	bytes int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// String writes the size so that Set reads the same number again.
func (s *size) String() string {
	for _, u := range sizeUnits[:len(sizeUnits)-1] {
		if n := int64(*s); n != 0 && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(*s), 10)
}

// Set reads a size.
func (s *size) Set(text string) error {
	n, err := parseSize(text)
	if err != nil {
		return err
	}
	*s = size(n)
	return nil
}

// Type is what help calls the value.
func (s *size) Type() string { return "SIZE" }

var errSize = errors.New("must be a number of bytes or of KiB, MiB, GiB or TiB, such as 4096, 4KiB or 256MiB")

func parseSize(text string) (int64, error) {
	digits := strings.TrimRight(text, "BiKMGT ")
	unit := strings.TrimSpace(text[len(digits):])
	scale := int64(1)
	if unit != "" {
		scale = 0
		for _, u := range sizeUnits {
			if u.name == unit {
				scale = u.bytes
			}
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || scale == 0 {
		return 0, errSize
	}
	if int64(n) > math.MaxInt64/scale {
		return 0, fmt.Errorf("%s is too large", text)
	}
	return int64(n) * scale, nil
}

// humanSize writes bytes for a person, to one decimal.
func humanSize[T ~int64 | ~uint64 | ~int](n T) string {
	for _, u := range sizeUnits[:len(sizeUnits)-1] {
		if float64(n) >= float64(u.bytes) {
			text := strconv.FormatFloat(float64(n)/float64(u.bytes), 'f', 1, 64)
			return strings.TrimSuffix(text, ".0") + " " + u.name
		}
	}
	return fmt.Sprintf("%d B", n)
}
