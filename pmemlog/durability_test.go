package pmemlog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gravenio/graven/pmemlog/persist"
)

// fakeSys lays out what sysfs has for a namespace of a region, as a block device
// and as a device-dax.
func fakeSys(t *testing.T, domain string) string {
	t.Helper()
	root := t.TempDir()
	region := filepath.Join(root, "devices", "LNXSYSTM:00", "ndbus0", "region0")
	block, dax := filepath.Join(region, "namespace0.0", "block", "pmem0"), filepath.Join(region, "dax0.0", "dax", "dax0.0")
	for _, dir := range []string{block, dax, filepath.Join(root, "class", "dax"), filepath.Join(root, "dev", "block"), filepath.Join(root, "dev", "char")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	files := map[string]string{filepath.Join(dax, "size"): "16777216\n"}
	if domain != "" {
		files[filepath.Join(region, "persistence_domain")] = domain + "\n"
	}
	for path, text := range files {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		filepath.Join(root, "dev", "block", "259:0"): block,
		filepath.Join(root, "dev", "char", "252:1"):  dax,
		filepath.Join(dax, "subsystem"):              filepath.Join(root, "class", "dax"),
	} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestPersistenceDomain(t *testing.T) {
	t.Parallel()
	onBlock := unix.Stat_t{Mode: unix.S_IFREG, Dev: unix.Mkdev(259, 0)}
	isDax := unix.Stat_t{Mode: unix.S_IFCHR, Rdev: unix.Mkdev(252, 1)}
	elsewhere := unix.Stat_t{Mode: unix.S_IFREG, Dev: unix.Mkdev(8, 1)}
	for _, domain := range []string{"cpu_cache", "memory_controller", ""} {
		sys := fakeSys(t, domain)
		for _, st := range []unix.Stat_t{onBlock, isDax} {
			if got := persistenceDomain(sys, &st); got != domain {
				t.Errorf("domain %q, want %q", got, domain)
			}
		}
		if got := persistenceDomain(sys, &elsewhere); got != "" {
			t.Errorf("domain of another device is %q", got)
		}
	}
}

func TestDeviceSize(t *testing.T) {
	t.Parallel()
	sys := fakeSys(t, "")
	if n, err := deviceSize(sys, &unix.Stat_t{Rdev: unix.Mkdev(252, 1)}); err != nil || n != 16<<20 {
		t.Errorf("size %d, %v", n, err)
	}
	if _, err := deviceSize(sys, &unix.Stat_t{Rdev: unix.Mkdev(1, 3)}); !errors.Is(err, ErrNoPool) {
		t.Errorf("another character device: %v", err)
	}
	size := filepath.Join(sys, "devices", "LNXSYSTM:00", "ndbus0", "region0", "dax0.0", "dax", "dax0.0", "size")
	if err := os.WriteFile(size, []byte("much"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := deviceSize(sys, &unix.Stat_t{Rdev: unix.Mkdev(252, 1)}); err == nil {
		t.Error("a size that is no number was taken")
	}
}

// Device-dax of memory that is gone at power off looks the same but for where it
// hangs.
func TestNVDIMMIsTold(t *testing.T) {
	t.Parallel()
	sys := fakeSys(t, "")
	volatile := filepath.Join(sys, "devices", "platform", "hmem.0", "dax1.0")
	if err := os.MkdirAll(volatile, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(volatile, filepath.Join(sys, "dev", "char", "252:2")); err != nil {
		t.Fatal(err)
	}
	for minor, want := range map[uint32]bool{1: true, 2: false, 3: false} {
		if got := onNVDIMM(sys, &unix.Stat_t{Mode: unix.S_IFCHR, Rdev: unix.Mkdev(252, minor)}); got != want {
			t.Errorf("252:%d is an NVDIMM's: %v", minor, got)
		}
	}
}

func TestMethodOfDurability(t *testing.T) {
	t.Parallel()
	best, err := persist.Detect()
	if err != nil {
		t.Skip(err)
	}
	for _, tt := range []struct {
		d      Durability
		domain string
		want   persist.Method
	}{
		{DurabilityAuto, "", best},
		{DurabilityAuto, "memory_controller", best},
		{DurabilityAuto, "cpu_cache", persist.Fence},
		{DurabilityFlush, "cpu_cache", best},
		{DurabilityFence, "memory_controller", persist.Fence},
	} {
		t.Run(fmt.Sprint(tt.d, tt.domain), func(t *testing.T) {
			t.Parallel()
			if got, err := tt.d.method(tt.domain); err != nil || got != tt.want {
				t.Errorf("got %s, %v; want %s", got, err, tt.want)
			}
		})
	}
}
