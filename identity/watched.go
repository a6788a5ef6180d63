package identity

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// watched is a file that is read again when it changes. A file that can't be
// read or used changes nothing: what was read last stays, and the log says so
// once. It is safe for concurrent use.
type watched[T any] struct {
	path  string
	log   *slog.Logger
	parse func([]byte) (T, error)

	mu   sync.Mutex
	at   stamp
	seen [sha256.Size]byte
	lost string
	is   T
}

// stamp tells when a file may have changed without reading it.
type stamp struct {
	size  int64
	mtime time.Time
	// fresh says that the file was so young when it was read that another change
	// may have the same time.
	fresh bool
}

// mtimeDoubt is more than any file system's clock for mtime takes to move on.
const mtimeDoubt = 3 * time.Second

func watch[T any](path string, log *slog.Logger, parse func([]byte) (T, error)) (*watched[T], error) {
	w := &watched[T]{path: path, log: log, parse: parse}
	at, b, err := w.read()
	if err != nil {
		return nil, err
	}
	if w.is, err = parse(b); err != nil {
		return nil, fmt.Errorf("identity: %s: %w", path, err)
	}
	w.at, w.seen = at, sha256.Sum256(b)
	return w, nil
}

func (w *watched[T]) read() (stamp, []byte, error) {
	info, err := os.Stat(w.path)
	if err != nil {
		return stamp{}, nil, fmt.Errorf("identity: %w", err)
	}
	b, err := readBounded(w.path)
	return stamp{info.Size(), info.ModTime(), time.Since(info.ModTime()) < mtimeDoubt}, b, err
}

// changed says whether the file has to be read again; it needs mu.
func (w *watched[T]) changed() bool {
	info, err := os.Stat(w.path)
	return err != nil || w.at.fresh || w.lost != "" || info.Size() != w.at.size || !info.ModTime().Equal(w.at.mtime)
}

// current is what the file says, or said when it was last usable.
func (w *watched[T]) current() T {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.changed() {
		return w.is
	}
	at, b, err := w.read()
	if err != nil {
		if text := err.Error(); text != w.lost {
			w.lost = text
			w.log.Error("file can't be read; what was read before stays in use", "file", w.path, "error", err)
		}
		return w.is
	}
	w.lost, w.at = "", at
	sum := sha256.Sum256(b)
	if sum == w.seen {
		return w.is
	}
	w.seen = sum
	is, err := w.parse(b)
	if err != nil {
		w.log.Error("new file can't be used; what was read before stays in use", "file", w.path, "error", err)
		return w.is
	}
	w.is = is
	w.log.Info("file read again", "file", w.path)
	return is
}
