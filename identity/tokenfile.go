package identity

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// AddToken appends an entry to a file of tokens, which is made for its owner's
// eyes only if there is none. A file that is wrong already is left alone.
func AddToken(path string, e Entry) error {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("identity: %w", err)
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	return replaceTokens(path, append(text, e.String()+"\n"...))
}

// RemoveTokens takes all entries of that name out of a file of tokens, and says
// how many there were. What else is in the file stays.
func RemoveTokens(path, name string) (int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("identity: %w", err)
	}
	if _, err := ParseTokens(text); err != nil {
		return 0, fmt.Errorf("identity: %s: %w", path, err)
	}
	var kept bytes.Buffer
	n := 0
	for line := range strings.Lines(string(text)) {
		if e, err := parseEntry(strings.TrimSpace(line)); err == nil && e.Principal.Name == name {
			n++
			continue
		}
		kept.WriteString(line)
	}
	if n == 0 {
		return 0, nil
	}
	return n, replaceTokens(path, kept.Bytes())
}

func replaceTokens(path string, text []byte) error {
	if _, err := ParseTokens(text); err != nil {
		return fmt.Errorf("identity: %s: %w", path, err)
	}
	return ReplaceFile(path, text)
}

// ReplaceFile writes a file that only its owner may read, all at once: whoever
// reads it finds the old or the new one, also after a crash. A file that is there
// keeps its mode.
func ReplaceFile(path string, b []byte) (err error) {
	mode := fs.FileMode(0o600)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // nobody needs it
			err = fmt.Errorf("identity: write %s: %w", path, err)
		}
	}()
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
