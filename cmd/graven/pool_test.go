package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
)

// twoReplicas makes a pool in a folder of its own, with two replicas of one log.
func twoReplicas(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	p, err := pmemlog.CreateFilePool(filepath.Join(dir, "pool"), pmemlog.FormatOptions{PoolID: format.ID{1}, Size: 1 << 20, Replicas: 4})
	if err != nil {
		t.Fatal(err)
	}
	for b := byte(0xa1); b <= 0xa2; b++ {
		if _, err := p.Create(pmemlog.Spec{Cluster: format.ID{2}, Log: format.ID{3}, Replica: format.ID{b}, Capacity: 4096}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestPoolExportOfAnAmbiguousLog(t *testing.T) {
	t.Parallel()
	dir := twoReplicas(t)
	for _, text := range []string{format.ID{3}.String(), "A"} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), []string{"pool", "export", dir, text}, streams{in: strings.NewReader(""), out: &out, err: &errs}); code != exitFailed {
			t.Errorf("%s: status %d", text, code)
		}
		if got := errs.String(); out.Len() > 0 || !strings.Contains(got, "means 2 replicas of") || !strings.Contains(got, format.ID{0xa2}.String()) {
			t.Errorf("%s: %s%s", text, out.String(), got)
		}
	}
	var errs bytes.Buffer
	if code := run(t.Context(), []string{"pool", "export", dir, "a1"}, streams{in: strings.NewReader(""), out: io.Discard, err: &errs}); code != exitOK {
		t.Errorf("the beginning of one ID: status %d: %s", code, errs.String())
	}
}

func TestPoolRemoveAsks(t *testing.T) {
	t.Parallel()
	r := pmemlog.Region{Replica: format.ID{0xa1}}
	for answer, agreed := range map[string]bool{
		r.Replica.String() + "\n": true, "a1\n": false, "yes\n": false, "\n": false, "": false,
	} {
		var errs bytes.Buffer
		a := &app{streams: streams{in: strings.NewReader(answer), err: &errs}}
		if err := a.agree(t.Context(), r); (err == nil) != agreed {
			t.Errorf("answer %q: %v", answer, err)
		}
		if !strings.Contains(errs.String(), "Type the replica's ID") {
			t.Errorf("asked %q", errs.String())
		}
	}
	in, typing := io.Pipe()
	defer typing.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errSignal)
	if err := (&app{streams: streams{in: in, err: io.Discard}}).agree(ctx, r); !errors.Is(err, errSignal) {
		t.Errorf("interrupted: %v", err)
	}
}

// TestPoolRemoveFromPersistentMemory: the pool is opened on the medium that it was
// made on.
func TestPoolRemoveFromPersistentMemory(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pool")
	p, err := pmemlog.CreatePMemPool(path, pmemlog.FormatOptions{PoolID: format.ID{1}, Size: 1 << 20, Replicas: 4}, pmemlog.DurabilityMsync)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Create(pmemlog.Spec{Cluster: format.ID{2}, Log: format.ID{3}, Replica: format.ID{0xa1}, Capacity: 4096}); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	args := []string{"pool", "remove", path, "a1", "--yes", "--durability", "msync"}
	if code := run(t.Context(), args, streams{in: strings.NewReader(""), out: &out, err: &errs}); code != exitOK || !strings.Contains(out.String(), "removed replica a1") {
		t.Errorf("status %d: %s%s", code, out.String(), errs.String())
	}
}

func TestWriteNewLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "out")
	full := errors.New("disk is full")
	if err := writeNew(path, func(w io.Writer) error {
		_, _ = io.WriteString(w, "half")
		return full
	}); !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}
