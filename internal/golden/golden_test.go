package golden

import (
	"bytes"
	"strings"
	"testing"
)

func TestDumpsAreReadBack(t *testing.T) {
	t.Parallel()
	long := make([]byte, 4096)
	copy(long[1000:], "something|that is not zero")
	ends := bytes.Repeat([]byte{7}, 160)
	for _, want := range [][]byte{nil, {1}, long[:16], long[:17], long[:32], long, long[:4095], ends, ends[:150]} {
		text := dump(want)
		got, err := parse(text)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes became %d, %v:\n%s", len(want), len(got), err, text)
		}
		if lines := strings.Count(text, "\n"); lines > 15 {
			t.Errorf("%d lines for little", lines)
		}
	}
}

func TestDumpsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "x", "00000010", "*\n00000010", "00000000  0\n00000001", "ffffffff", "00000000  00\n*\n00000020"} {
		if b, err := parse(text); err == nil {
			t.Errorf("%q became %x", text, b)
		}
	}
}

func TestDiffer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "", -1}, {"ab", "ab", -1}, {"ab", "ac", 1}, {"ab", "a", 1}, {"", "a", 0}} {
		if got := differ([]byte(tt.a), []byte(tt.b)); got != tt.want {
			t.Errorf("%q and %q: %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("00000000  47 52 56 44  |GRVD|\n00000004\n")
	f.Add(dump(make([]byte, 100)))
	f.Add("00000000  00\n*\n000fffff")
	f.Fuzz(func(t *testing.T, text string) {
		b, err := parse(text)
		if err != nil {
			return
		}
		if again, err := parse(dump(b)); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x became %x, %v", b, again, err)
		}
	})
}
