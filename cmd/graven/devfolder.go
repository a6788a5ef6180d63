package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// orphanPatience is how long a start waits for the agents of a killed dev to end.
const orphanPatience = 15 * time.Second

// devFolder is the folder of a development cluster, locked.
type devFolder struct {
	path string
	lock *os.File
}

// devRecord is what the folder remembers of its cluster.
type devRecord struct {
	Media string `json:"media"`
}

// openDevFolder makes the folder if need be and locks it. A cluster keeps the
// medium that it was made with; on a volatile one nothing outlives the agents,
// so etcd's records of them are discarded, too.
func openDevFolder(ctx context.Context, path, media string) (*devFolder, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	f := &devFolder{path: path}
	if err := os.MkdirAll(f.logs(), 0o755); err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	if err := f.take(ctx); err != nil {
		return nil, err
	}
	if err := f.claim(media); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

func (f *devFolder) etcd() string { return filepath.Join(f.path, "etcd") }
func (f *devFolder) logs() string { return filepath.Join(f.path, "logs") }

func (f *devFolder) pool(id string) string { return filepath.Join(f.path, id) }

func (f *devFolder) logFile(part string) (*os.File, error) {
	return os.OpenFile(filepath.Join(f.logs(), part+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
}

// take locks the folder. The lock is the agents', too: they inherit it. If dev
// was killed, it waits for them to end.
func (f *devFolder) take(ctx context.Context) error {
	lock, err := os.OpenFile(filepath.Join(f.path, "dev.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, orphanPatience)
	defer cancel()
	for {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		pid := lockHolder(lock)
		switch {
		case !errors.Is(err, unix.EWOULDBLOCK):
			_ = lock.Close()
			return fmt.Errorf("lock %s: %w", lock.Name(), err)
		case ctx.Err() != nil || pid > 0 && running(pid):
			_ = lock.Close()
			return withHint(fmt.Errorf("another graven dev (process %d) runs in %s", pid, f.path),
				"stop it, or give this one another folder with --data and another port with --api")
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	f.lock = lock
	return errors.Join(lock.Truncate(0), writeAt(lock, strconv.Itoa(os.Getpid())))
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// lockHolder returns the process that wrote itself into the lock, or 0.
func lockHolder(lock *os.File) int {
	b := make([]byte, 20)
	n, _ := lock.ReadAt(b, 0)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	return pid
}

// running says whether a process lives; a zombie doesn't.
func running(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	_, state, ok := strings.Cut(string(b), ") ")
	return !ok || !strings.HasPrefix(state, "Z")
}

// claim records the medium, or compares it with the record.
func (f *devFolder) claim(media string) error {
	name := filepath.Join(f.path, "dev.json")
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		b, _ = json.Marshal(devRecord{Media: media})
		return os.WriteFile(name, append(b, '\n'), 0o644)
	}
	var rec devRecord
	if err == nil {
		err = json.Unmarshal(b, &rec)
	}
	switch {
	case err != nil:
		return fmt.Errorf("read %s: %w", name, err)
	case rec.Media != media:
		return withHint(fmt.Errorf("%s holds a cluster on media %s, not %s", f.path, rec.Media, media),
			"say --media %s, or give another folder with --data", rec.Media)
	case media == "volatile":
		return os.RemoveAll(f.etcd())
	}
	return nil
}

func (f *devFolder) close() error { return f.lock.Close() }
