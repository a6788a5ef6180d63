package main

import (
	"fmt"
	"log/slog"
	"os"
	"sync"
)

// auditFile appends records to a file. One that was renamed or removed meanwhile is
// made anew with the next record. It is safe for concurrent use.
type auditFile struct {
	path  string
	spare *slog.Logger // gets what can't be written

	mu sync.Mutex
	f  *os.File
}

// openAudit returns the logger of audit records, and what ends it: nil without a
// file, for the server's own log.
func openAudit(path string, spare *slog.Logger) (*slog.Logger, func(), error) {
	if path == "" {
		return nil, func() {}, nil
	}
	a := &auditFile{path: path, spare: spare}
	if err := a.open(); err != nil {
		return nil, nil, fmt.Errorf("--audit-log: %w", err)
	}
	return slog.New(slog.NewJSONHandler(a, nil)), a.close, nil
}

func (a *auditFile) open() (err error) {
	a.f, err = os.OpenFile(a.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	return err
}

// Write takes one record.
func (a *auditFile) Write(record []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	err := a.follow()
	if err == nil {
		_, err = a.f.Write(record)
	}
	if err != nil {
		a.spare.Error("the audit log can't be written; its record is here", "file", a.path, "error", err, "record", string(record))
	}
	return len(record), nil
}

// follow opens the file again if it is no longer the one of that name.
func (a *auditFile) follow() error {
	if a.f != nil {
		named, err := os.Stat(a.path)
		mine, merr := a.f.Stat()
		if err == nil && merr == nil && os.SameFile(named, mine) {
			return nil
		}
		_ = a.f.Close()
		a.f = nil
	}
	return a.open()
}

func (a *auditFile) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.f != nil {
		_ = a.f.Close()
		a.f = nil
	}
}
