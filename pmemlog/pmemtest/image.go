package pmemtest

import "bytes"

// pageSize is how many bytes two images share, or don't.
const pageSize = 1024

// zeroes is what a new image consists of. It is read-only.
var zeroes [pageSize]byte //nolint:gochecknoglobals // a constant table

// image is the bytes of a medium, in pages that images share until one of them
// changes theirs. What is shared never changes, so images of media that are used
// from different goroutines may share pages.
type image struct {
	size  int64
	pages []page
}

type page struct {
	data *[pageSize]byte
	own  bool // no other image has it, so it may be changed
}

func newImage(size int64) image {
	m := image{size: size, pages: make([]page, (size+pageSize-1)/pageSize)}
	for i := range m.pages {
		m.pages[i].data = &zeroes
	}
	return m
}

// fork returns an image of the same bytes. Neither of the two sees what is
// written to the other later.
func (m *image) fork() image {
	for i := range m.pages {
		m.pages[i].own = false
	}
	return image{size: m.size, pages: append([]page(nil), m.pages...)}
}

func (m *image) read(p []byte, off int64) {
	for len(p) > 0 {
		n := copy(p, m.pages[off/pageSize].data[off%pageSize:])
		p, off = p[n:], off+int64(n)
	}
}

// write shares on what it would not change.
func (m *image) write(p []byte, off int64) {
	for len(p) > 0 {
		page, at := &m.pages[off/pageSize], off%pageSize
		n := min(len(p), int(pageSize-at))
		if page.own || !bytes.Equal(page.data[at:at+int64(n)], p[:n]) {
			copy(page.change()[at:], p[:n])
		}
		p, off = p[n:], off+int64(n)
	}
}

// flip turns over a bit of the byte at off.
func (m *image) flip(off int64, bit uint) {
	m.pages[off/pageSize].change()[off%pageSize] ^= 1 << bit
}

// change returns the page's bytes, to be changed.
func (p *page) change() *[pageSize]byte {
	if !p.own {
		own := *p.data
		p.data, p.own = &own, true
	}
	return p.data
}
