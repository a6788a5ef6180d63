package pmemtest

import "bytes"

// pageSize is how many bytes two images share, or don't.
const pageSize = 1024

// zeroes is what a new image consists of. It is read-only.
var zeroes [pageSize]byte //nolint:gochecknoglobals // a constant table

// image is the bytes of a medium, in pages that images share until one of them
// changes theirs. What is shared, pages and tables of pages, never changes, so
// images of media that are used from different goroutines may share it.
type image struct {
	size  int64
	pages []page
	own   bool // no other image has the table
}

type page struct {
	data *[pageSize]byte
	own  bool // no other table has it; says nothing in a shared table
}

func newImage(size int64) image {
	m := image{size: size, pages: make([]page, (size+pageSize-1)/pageSize), own: true}
	for i := range m.pages {
		m.pages[i].data = &zeroes
	}
	return m
}

// fork returns an image of the same bytes. Neither of the two sees what is
// written to the other later.
func (m *image) fork() image {
	m.own = false
	return *m
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
		old := m.pages[off/pageSize].data[off%pageSize:]
		n := min(len(p), len(old))
		if !bytes.Equal(old[:n], p[:n]) {
			copy(m.change(off), p)
		}
		p, off = p[n:], off+int64(n)
	}
}

// take makes [from, to) what it is in another image.
func (m *image) take(o *image, from, to int64) {
	for from < to {
		p := o.pages[from/pageSize].data[from%pageSize:]
		p = p[:min(int64(len(p)), to-from)]
		m.write(p, from)
		from += int64(len(p))
	}
}

// change returns the bytes from off to the end of its page, to be changed.
func (m *image) change(off int64) []byte {
	if !m.own {
		m.pages, m.own = append([]page(nil), m.pages...), true
		for i := range m.pages {
			m.pages[i].own = false
		}
	}
	p := &m.pages[off/pageSize]
	if !p.own {
		own := *p.data
		p.data, p.own = &own, true
	}
	return p.data[off%pageSize:]
}
