package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestPoolFormatOnADevice: what is on a device is overwritten only when that is
// asked for, and a pool never.
func TestPoolFormatOnADevice(t *testing.T) {
	t.Parallel()
	disk := filepath.Join(t.TempDir(), "disk")
	content := make([]byte, 16<<20)
	copy(content[1080:], "\x53\xef") // the mark of ext4
	if err := os.WriteFile(disk, content, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", disk).Output()
	if err != nil {
		t.Skipf("no loop device can be made here: %v", err)
	}
	dev := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", dev).CombinedOutput(); err != nil {
			t.Errorf("losetup: %v: %s", err, out)
		}
	})
	for _, tt := range []struct {
		args   []string
		status int
		says   []string
	}{
		{nil, exitFailed, []string{"ext4 file system", "--overwrite"}},
		{[]string{"--overwrite"}, exitOK, []string{"16 MiB"}},
		{[]string{"--overwrite"}, exitFailed, []string{"exists already", "is on this medium"}},
	} {
		var said bytes.Buffer
		status := run(t.Context(), append([]string{"pool", "format", dev}, tt.args...), streams{out: &said, err: &said})
		if status != tt.status {
			t.Errorf("pool format %v: exit status %d, want %d", tt.args, status, tt.status)
		}
		for _, want := range tt.says {
			if !strings.Contains(said.String(), want) {
				t.Errorf("pool format %v does not say %q: %s", tt.args, want, said.String())
			}
		}
	}
}
