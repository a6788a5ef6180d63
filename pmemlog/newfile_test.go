package pmemlog

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gravenio/graven/pmemlog/format"
)

// closer calls what is to be checked when it is closed.
type closer func()

func (c closer) Close() error { c(); return nil }

// startNewFile begins a creation at path.
func startNewFile(t *testing.T, path string) *File {
	t.Helper()
	m, err := newFile(path, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// A creation that gives up must not lose its lock while the file has its name:
// another could take the file over, and then lose its name.
func TestFailedCreationRemovesTheNameUnderItsLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pool")
	m := startNewFile(t, path)
	unlocked := false
	err := discard(path, m.f, closer(func() {
		unlocked = true
		if _, err := os.Stat(newName(path)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("as the lock is given up, the name is still there: %v", err)
		}
	}))
	if err != nil || !unlocked {
		t.Errorf("unlocked %v, %v", unlocked, err)
	}
}

// A creation whose file has lost its name, and another's has got it, neither
// removes that nor takes it for its own.
func TestCreationDoesNotTakeAnothersFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pool")
	first := startNewFile(t, path)
	if err := os.Remove(newName(path)); err != nil {
		t.Fatal(err)
	}
	second := startNewFile(t, path)
	p, err := Format(first, FormatOptions{PoolID: format.ID{1}, Size: 1 << 20, Replicas: 16})
	if err != nil {
		t.Fatal(err)
	}
	if err := publish(path, first.f); !errors.Is(err, ErrExists) {
		t.Errorf("a creation published what is another's: %v", err)
	}
	if err := discard(path, first.f, p); err != nil {
		t.Error(err)
	}
	if err := stillNew(path, second.f); err != nil {
		t.Errorf("the other's file has been taken: %v", err)
	}
}

// A pool that has come to lie at the name meanwhile, such as one that a person
// has put back there, is not written over, whenever it came.
func TestPublishReplacesNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pool")
	m := startNewFile(t, path)
	if err := os.WriteFile(path, []byte("a pool with logs in it"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{"before the check": publish(path, m.f), "behind it": rename(path)} {
		if !errors.Is(err, ErrExists) {
			t.Errorf("%s: %v, want ErrExists", name, err)
		}
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "a pool with logs in it" {
		t.Errorf("what lay at the name is now %.20q, %v", b, err)
	}
}

// Options that can't be are refused before anything is written on their word.
func TestNewPMemFileOfBadOptionsIsNotWritten(t *testing.T) {
	t.Parallel()
	m := startNewFile(t, filepath.Join(t.TempDir(), "pool"))
	_, err := mapNew(m, FormatOptions{PoolID: format.ID{1}, Size: 1 << 20, Replicas: -1}, DurabilityFlush)
	if !errors.Is(err, ErrRange) {
		t.Errorf("got %v, want ErrRange", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(m.f.Fd()), &st); err != nil || st.Blocks != 0 {
		t.Errorf("%d blocks of it have been written, %v", st.Blocks, err)
	}
}
