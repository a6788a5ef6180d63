package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckExposed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		address           string
		secured, insecure bool
		ok                bool
	}{
		{"127.0.0.1:7070", false, false, true},
		{"127.8.9.1:0", false, false, true},
		{"[::1]:7070", false, false, true},
		{"localhost:7070", false, false, true},
		{"0.0.0.0:7070", false, false, false},
		{":7070", false, false, false},
		{"[::]:7070", false, false, false},
		{"10.0.0.1:7070", false, false, false},
		{"graven.example:7070", false, false, false},
		{"localhost.example:7070", false, false, false},
		{"10.0.0.1:7070", true, false, true},
		{"10.0.0.1:7070", false, true, true},
		{"10.0.0.1", false, true, false},
	} {
		err := checkExposed("--listen", c.address, c.secured, c.insecure)
		var usage *usageError
		if (err == nil) != c.ok || (err != nil && (!errors.As(err, &usage) || !strings.Contains(err.Error(), "--listen"))) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestTokenIsReadEachTime(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	a := &app{credentials: credentials{tokenFile: path}}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one\n")
	o, err := a.apiOptions([]string{"http://127.0.0.1:1"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"one", "two"} {
		write(want + "\n")
		if got, err := o.Token(); got != want || err != nil {
			t.Errorf("got %q, %v; want %s", got, err, want)
		}
	}
	for _, bad := range []string{"", "\n", "two words", "a\nb"} {
		write(bad)
		if got, err := o.Token(); err == nil {
			t.Errorf("%q was taken as %q", bad, got)
		}
	}
	write("one")
	for _, endpoint := range []string{"http://10.0.0.1:7070", "http://graven.example"} {
		if _, err := a.apiOptions([]string{"https://10.0.0.2", endpoint}, nil); err == nil || !strings.Contains(err.Error(), endpoint) {
			t.Errorf("%s: %v, want a refusal", endpoint, err)
		}
	}
	if _, err := a.apiOptions([]string{"https://10.0.0.1:7070", "http://localhost:1"}, nil); err != nil {
		t.Errorf("https and loopback: %v", err)
	}
}
