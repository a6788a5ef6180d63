package identity

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTokenFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tokens")
	_, a := newToken(t, "alice", time.Time{})
	_, b := newToken(t, "bob", time.Time{})
	for _, e := range []Entry{a, b} {
		if err := AddToken(path, e); err != nil {
			t.Fatal(err)
		}
	}
	if err := AddToken(path, a); err == nil {
		t.Error("the same entry was added twice")
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	writeFile(t, path, "# mine\n"+a.String()+"\n"+b.String()) // no newline at the end
	if n, err := RemoveTokens(path, "nobody"); n != 0 || err != nil {
		t.Errorf("nobody's: %d, %v", n, err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if n, err := RemoveTokens(path, "alice"); n != 1 || err != nil {
		t.Errorf("alice's: %d, %v", n, err)
	}
	if err := AddToken(path, a); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if want := "# mine\n" + b.String() + "\n" + a.String() + "\n"; err != nil || string(text) != want {
		t.Errorf("the file has %q, %v; want %q", text, err, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v; want the 0640 that it had", info.Mode(), err)
	}
	writeFile(t, path, "wrong")
	if err := AddToken(path, b); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("into a file that is wrong: %v", err)
	}
	if _, err := RemoveTokens(path, "bob"); err == nil {
		t.Error("out of a file that is wrong: no error")
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".new-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
