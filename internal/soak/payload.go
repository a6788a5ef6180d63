package soak

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
)

// payload is a record that says which one it is, filled to a size with bytes that
// follow from that.
func payload(key string, size int) []byte {
	head := fmt.Appendf(nil, "%s %08x ", key, crc32.ChecksumIEEE([]byte(key)))
	if pad := size - len(head); pad > 0 {
		head = append(head, bytes.Repeat([]byte(key), pad/len(key)+1)[:pad]...)
	}
	return head
}

var errForeign = errors.New("not a record of this soak")

// keyOf reads a payload and checks every byte.
func keyOf(p []byte) (string, error) {
	key, _, ok := bytes.Cut(p, []byte(" "))
	if !ok || !bytes.Equal(p, payload(string(key), len(p))) {
		return "", fmt.Errorf("%w: %.40q", errForeign, p)
	}
	return string(key), nil
}
