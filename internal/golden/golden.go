package golden

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const (
	perLine = 16
	maxSize = 1 << 20 // bytes that a file may claim
)

// update is read-only: the command line sets it.
var update = flag.Bool("update", false, "rewrite the golden files with what is encoded now")

// Check compares got with testdata/name.golden and returns the file's bytes.
func Check(tb testing.TB, name string, got []byte) []byte {
	tb.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		write(tb, path, got)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		tb.Fatalf("%v; a new format's file is made with -update", err)
	}
	want, err := parse(string(text))
	if err != nil {
		tb.Fatalf("%s: %v", path, err)
	}
	if at := differ(got, want); at >= 0 {
		tb.Errorf("%s: %d bytes are encoded, the file has %d; from byte %d on they are\n%snot\n%s",
			path, len(got), len(want), at, dump(around(got, at)), dump(around(want, at)))
	}
	return want
}

func write(tb testing.TB, path string, b []byte) {
	tb.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(dump(b)), 0o600); err != nil {
		tb.Fatal(err)
	}
}

// differ returns the first place where a and b are not the same, or -1.
func differ(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	if len(a) != len(b) {
		return min(len(a), len(b))
	}
	return -1
}

// around returns a few lines from the one with byte at on.
func around(b []byte, at int) []byte {
	from := min(at/perLine*perLine, len(b))
	return b[from:min(from+4*perLine, len(b))]
}

// dump renders b.
func dump(b []byte) string {
	var out strings.Builder
	var before []byte
	same := false
	for at := 0; at < len(b); at += perLine {
		line := b[at:min(at+perLine, len(b))]
		if bytes.Equal(line, before) {
			if !same {
				out.WriteString("*\n")
			}
			same = true
			continue
		}
		before, same = line, false
		fmt.Fprintf(&out, "%08x  %-*s  |%s|\n", at, 3*perLine-1, fmt.Sprintf("% x", line), printable(line))
	}
	fmt.Fprintf(&out, "%08x\n", len(b))
	return out.String()
}

func printable(b []byte) string {
	out := bytes.Clone(b)
	for i, c := range out {
		if c < ' ' || c > '~' || c == '|' {
			out[i] = '.'
		}
	}
	return string(out)
}

// parse reads what dump rendered.
func parse(text string) ([]byte, error) {
	var out []byte
	same := false
	for n, line := range strings.Split(strings.TrimSpace(text), "\n") {
		if line == "*" {
			same = true
			continue
		}
		at, b, err := parseLine(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
		if same && len(out) >= perLine {
			for len(out) < at {
				out = append(out, out[len(out)-perLine:]...)
			}
		}
		if len(out) != at {
			return nil, fmt.Errorf("line %d: offset %#x, but %#x bytes stand before it", n+1, at, len(out))
		}
		out, same = append(out, b...), false
	}
	return out, nil
}

// parseLine takes a line's offset and bytes; the text behind them is for people.
func parseLine(line string) (int, []byte, error) {
	line, _, _ = strings.Cut(line, "|")
	offset, rest, _ := strings.Cut(line, " ")
	at, err := strconv.ParseUint(offset, 16, 32)
	if err != nil || at > maxSize {
		return 0, nil, fmt.Errorf("offset %q, must be hex and at most %#x", offset, maxSize)
	}
	b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(rest), " ", ""))
	return int(at), b, err
}
