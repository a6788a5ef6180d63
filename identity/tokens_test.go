package identity

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func newToken(t *testing.T, name string, expires time.Time) (string, Entry) {
	t.Helper()
	token, e, err := NewToken(Principal{Name: name, Roles: []Role{RoleClient}, Groups: []string{"team"}}, expires)
	if err != nil {
		t.Fatal(err)
	}
	return token, e
}

func loadTokens(t *testing.T, log *slog.Logger, lines ...string) (*Tokens, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens")
	writeFile(t, path, strings.Join(lines, "\n"))
	tokens, err := LoadTokens(path, log)
	if err != nil {
		t.Fatal(err)
	}
	return tokens, path
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	alice, a := newToken(t, "alice", time.Time{})
	old, o := newToken(t, "old", time.Now().Add(-time.Second))
	soon, s := newToken(t, "soon", time.Now().Add(time.Hour))
	foreign, _ := newToken(t, "foreign", time.Time{})
	tokens, _ := loadTokens(t, nil, "# ours", "", a.String(), o.String(), s.String())
	for name, c := range map[string]struct {
		token string
		want  string // name, or nothing
		err   error
	}{
		"good": {alice, "alice", nil}, "not expired yet": {soon, "soon", nil},
		"expired": {old, "", ErrTokenExpired}, "foreign": {foreign, "", ErrTokenInvalid},
		"cut off": {alice[:len(alice)-1], "", ErrTokenInvalid}, "longer": {alice + "A", "", ErrTokenInvalid},
	} {
		p, err := tokens.find(c.token)
		if p.Name != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: got %v, %v; want %q, %v", name, p, err, c.want, c.err)
		}
		if err != nil && strings.Contains(err.Error(), c.token) {
			t.Errorf("%s: the error repeats the token", name)
		}
		if err == nil && (p.Via != ViaToken || !p.Is(RoleClient) || p.Is(RoleAdmin) || p.Groups[0] != "team") {
			t.Errorf("%s: got %+v", name, p)
		}
	}
	if strings.Contains(a.String(), alice) || strings.Contains(a.String(), strings.TrimPrefix(alice, TokenPrefix)) {
		t.Error("the file has the token itself")
	}
}

func TestTokensAreReadAgain(t *testing.T) {
	t.Parallel()
	alice, a := newToken(t, "alice", time.Time{})
	bob, b := newToken(t, "bobby", time.Time{})
	log := &logged{}
	tokens, path := loadTokens(t, slog.New(slog.NewTextHandler(log, nil)), a.String())
	expect := func(when string, aliceIn, bobIn bool) {
		t.Helper()
		for token, want := range map[string]bool{alice: aliceIn, bob: bobIn} {
			if _, err := tokens.find(token); (err == nil) != want {
				t.Errorf("%s: got %v, want let in: %v", when, err, want)
			}
		}
	}
	expect("at first", true, false)
	// As long as before, and within one tick of the file system's clock.
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, b.String())
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	expect("with bob's alone", false, true)
	writeFile(t, path, a.String()+"\nname=x")
	expect("with a line that is wrong", false, true)
	expect("with a line that is wrong, again", false, true)
	if n := log.count("can't be used"); n != 1 {
		t.Errorf("the log says %d times that the file can't be used, want once", n)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	expect("without the file", false, true)
	expect("without the file, again", false, true)
	if n := log.count("can't be read"); n != 1 {
		t.Errorf("the log says %d times that the file can't be read, want once", n)
	}
	writeFile(t, path, a.String()+"\n"+b.String())
	expect("with both", true, true)
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, past, past); err != nil {
		t.Fatal(err)
	}
	expect("long unchanged", true, true)
	writeFile(t, path, "")
	expect("empty", false, false)
}

func TestParseTokensRefuses(t *testing.T) {
	t.Parallel()
	hash := strings.Repeat("ab", 32)
	for _, c := range []struct{ line, want string }{
		{"name=a roles=client", "sha256= is missing"},
		{"roles=client sha256=" + hash, "name= is missing"},
		{"name=a sha256=" + hash, "roles= is missing"},
		{"name=a roles= sha256=" + hash, "must be KEY=VALUE"},
		{"name=a roles=root sha256=" + hash, "is no role"},
		{"name=a,b roles=client sha256=" + hash, "is no name"},
		{"name=a roles=client groups=a,,b sha256=" + hash, "is no name"},
		{"name=a name=b roles=client sha256=" + hash, "comes twice"},
		{"name=a roles=client sha256=abc", "hexadecimal"},
		{"name=a roles=client expires=tomorrow sha256=" + hash, "must be a time"},
		{"name=a roles=client token=x sha256=" + hash, "is no field"},
		{"name=a roles=client sha256=" + hash + "\nname=b roles=client sha256=" + hash, "line 2: this token has a line"},
	} {
		if _, err := ParseTokens([]byte(c.line)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", c.line, err, c.want)
		}
	}
	if _, _, err := NewToken(Principal{Name: "a"}, time.Time{}); err == nil {
		t.Error("a token without a role was made")
	}
}

// What is taken is written as it was read, so that a file can be rewritten.
func FuzzParseTokens(f *testing.F) {
	f.Add([]byte("# x\nname=a roles=client,admin groups=g expires=2027-01-02T15:04:05+01:00 sha256=" + strings.Repeat("ab", 32)))
	f.Add([]byte("name=a roles=client sha256="))
	f.Fuzz(func(t *testing.T, text []byte) {
		entries, err := ParseTokens(text)
		if err != nil {
			return
		}
		var b bytes.Buffer
		for _, e := range entries {
			b.WriteString(e.String() + "\n")
		}
		again, err := ParseTokens(b.Bytes())
		if err != nil || len(again) != len(entries) {
			t.Fatalf("%q was taken and its lines are refused: %v", text, err)
		}
		for i := range again {
			if again[i].String() != entries[i].String() {
				t.Fatalf("%s became %s", &entries[i], &again[i])
			}
		}
	})
}
