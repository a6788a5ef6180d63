package pmemlog_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"golang.org/x/sys/unix"
)

// sysfs is a tree like /sys for the device that a file lies on: a partition of a
// disk, or a disk.
func sysfs(t *testing.T, file, device string, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	var stat unix.Stat_t
	must(t, unix.Stat(file, &stat))
	for name, text := range files {
		path := filepath.Join(root, "devices", name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(text), 0o600))
	}
	links := filepath.Join(root, "dev", "block")
	must(t, os.MkdirAll(links, 0o755))
	dev := stat.Dev
	must(t, os.Symlink(filepath.Join("..", "..", "devices", device), filepath.Join(links, fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev)))))
	return root
}

func TestBadBlocks(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pool")
	must(t, os.WriteFile(file, nil, 0o600))
	for name, tt := range map[string]struct {
		device string
		files  map[string]string
		want   []pmemlog.BadRange
		fails  bool
	}{
		"none known":      {"pmem0", map[string]string{"pmem0/badblocks": ""}, nil, false},
		"no list":         {"sda", map[string]string{"sda/size": "8"}, nil, false},
		"a disk":          {"pmem0", map[string]string{"pmem0/badblocks": "8 1\n1024 16\n"}, []pmemlog.BadRange{{8, 1}, {1024, 16}}, false},
		"garbage":         {"pmem0", map[string]string{"pmem0/badblocks": "8\n"}, nil, true},
		"not a number":    {"pmem0", map[string]string{"pmem0/badblocks": "8 x\n"}, nil, true},
		"no size to know": {"sda/sda1", map[string]string{"sda/badblocks": "8 1\n", "sda/sda1/partition": "1", "sda/sda1/start": "4"}, nil, true},
		"a partition": {
			"sda/sda2",
			map[string]string{
				"sda/badblocks": "8 1\n98 4\n150 10\n195 10\n200 5\n", "sda/sda2/partition": "2\n", "sda/sda2/start": "100\n", "sda/sda2/size": "100\n",
			},
			[]pmemlog.BadRange{{0, 2}, {50, 10}, {95, 5}},
			false,
		},
		"one with a list of its own": {
			"sda/sda2",
			map[string]string{"sda/badblocks": "8 1\n", "sda/sda2/badblocks": "3 1\n", "sda/sda2/partition": "2\n"},
			[]pmemlog.BadRange{{3, 1}},
			false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := pmemlog.BadBlocks(file, sysfs(t, file, tt.device, tt.files))
			if !slices.Equal(got, tt.want) || (err != nil) != tt.fails {
				t.Errorf("%v, %v; want %v", got, err, tt.want)
			}
		})
	}
	if _, err := pmemlog.BadBlocks(file+"x", t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if got, err := pmemlog.BadBlocks(file, t.TempDir()); got != nil || err != nil {
		t.Errorf("no block device: %v, %v", got, err)
	}
	if _, err := pmemlog.BadBlocks(file, "/sys"); err != nil { // whatever this machine has
		t.Error(err)
	}
}
