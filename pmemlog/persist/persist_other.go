//go:build !amd64 && !arm64

package persist

func supported(Method) bool { return false }

func lineSize() uintptr { return Line }

func wideStores() bool { return false }

func shortStores(Method) int { return 0 }

func expect([]byte) {}

func aligned([]byte) bool { return true }

func flush(Method, []byte, uintptr) {}

func (c *CPU) stream(dst, src []byte) { copy(dst, src) }

func fence() {}
