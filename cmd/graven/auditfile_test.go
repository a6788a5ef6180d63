package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The audit log is appended to, follows a rename, and loses no record when it
// can't be written.
func TestAuditFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.log")
	writeFile(t, path, "before\n")
	var spare bytes.Buffer
	log, end, err := openAudit(path, slog.New(slog.NewTextHandler(&spare, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	log.Info("audit", "n", 1)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	log.Info("audit", "n", 2)
	text := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if old := text(path + ".1"); !strings.HasPrefix(old, "before\n{") || strings.Contains(old, `"n":2`) {
		t.Errorf("the old file: %s", old)
	}
	if now := text(path); !strings.Contains(now, `"msg":"audit","n":2`) || strings.Contains(now, `"n":1`) {
		t.Errorf("the new file: %s", now)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	log.Info("audit", "n", 3)
	if !strings.Contains(spare.String(), `\"n\":3`) {
		t.Errorf("a record that can't be written: %s", spare.String())
	}
	if _, _, err := openAudit(filepath.Join(dir, "no", "such"), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "--audit-log") {
		t.Errorf("a folder that is not there: %v", err)
	}
}

func TestPastTime(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]string{
		"90m": "2026-05-01T10:30:00Z", "0s": "2026-05-01T12:00:00Z", "2026-04-30T12:00:00+02:00": "2026-04-30T10:00:00Z",
		"-1h": "", "yesterday": "", "2026-04-30": "",
	} {
		at, err := pastTime(in, now)
		if (err == nil) != (want != "") || err == nil && at.Format(time.RFC3339) != want {
			t.Errorf("%q: %v, %v; want %s", in, at, err, want)
		}
	}
}
