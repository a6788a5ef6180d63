package pmemtest

// pageSize is how many bytes two images share, or don't.
const pageSize = 4096

// image is the bytes of a medium, in pages that images share until one of them
// writes. What is shared never changes, so images of media that are used from
// different goroutines may share pages.
type image struct {
	size  int64
	pages []page
}

type page struct {
	data *[pageSize]byte // nil for zeroes
	own  bool            // no other image has it, so it may be written
}

func newImage(size int64) image {
	return image{size: size, pages: make([]page, (size+pageSize-1)/pageSize)}
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
		at := int(off % pageSize)
		n := min(len(p), pageSize-at)
		if data := m.pages[off/pageSize].data; data != nil {
			copy(p[:n], data[at:])
		} else {
			clear(p[:n])
		}
		p, off = p[n:], off+int64(n)
	}
}

func (m *image) write(p []byte, off int64) {
	for len(p) > 0 {
		n := copy(m.writable(off), p)
		p, off = p[n:], off+int64(n)
	}
}

// writable returns the bytes from off to the end of its page, to be changed.
func (m *image) writable(off int64) []byte {
	p := &m.pages[off/pageSize]
	if !p.own {
		own := new([pageSize]byte)
		if p.data != nil {
			*own = *p.data
		}
		p.data, p.own = own, true
	}
	return p.data[off%pageSize:]
}
