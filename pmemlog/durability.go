package pmemlog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gravenio/graven/pmemlog/persist"
)

// Durability is why stores to a mapping are persistent, and what it takes.
type Durability string

// The ways. All but DurabilityAuto and DurabilityMsync are an operator's word for
// what the system does not vouch for.
const (
	// DurabilityAuto believes the system only: a mapping with MAP_SYNC, which is
	// given on a file system with DAX, or one of a device-dax that belongs to an
	// NVDIMM region. Anything else is ErrNotPersistent.
	DurabilityAuto Durability = "auto"
	// DurabilityFlush says that what the CPU has written back survives, such as
	// memory of which a hypervisor or a battery takes care.
	DurabilityFlush Durability = "flush"
	// DurabilityFence says that the CPU's caches survive, too (eADR).
	DurabilityFence Durability = "fence"
	// DurabilityMsync has the kernel make persistent what was written, page by
	// page, on any file system: slow, and true wherever fsync is.
	DurabilityMsync Durability = "msync"
)

// Durabilities lists the ways, for people.
func Durabilities() []Durability {
	return []Durability{DurabilityAuto, DurabilityFlush, DurabilityFence, DurabilityMsync}
}

// ErrNotPersistent is returned for a mapping whose stores nobody has said are
// persistent.
var ErrNotPersistent = errors.New("pmemlog: stores to this mapping would not be persistent")

// sysRoot is where sysfs is.
const sysRoot = "/sys"

func (d Durability) validate() error {
	if !slices.Contains(Durabilities(), d) {
		return fmt.Errorf("%w: durability is %q, must be one of %v", ErrRange, string(d), Durabilities())
	}
	return nil
}

// method returns the instructions that a way needs. domain is what the platform
// says of where a store is safe.
func (d Durability) method(domain string) (persist.Method, error) {
	if d == DurabilityFence || d == DurabilityAuto && domain == domainCaches {
		return persist.Fence, nil
	}
	m, err := persist.Detect()
	if err != nil {
		return 0, fmt.Errorf("%w; durability %s needs none", err, DurabilityMsync)
	}
	return m, nil
}

// domainCaches is what the kernel calls a power-fail domain that has the CPU's
// caches in it.
const domainCaches = "cpu_cache"

// persistenceDomain returns what the kernel says of the power-fail domain of the
// device that a file lies on, or is: cpu_cache, memory_controller, or nothing
// where it does not know.
func persistenceDomain(sys string, info *unix.Stat_t) string {
	kind, dev := "block", info.Dev
	if info.Mode&unix.S_IFMT == unix.S_IFCHR {
		kind, dev = "char", info.Rdev
	}
	at, err := filepath.EvalSymlinks(filepath.Join(sys, "dev", kind, fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev))))
	if err != nil {
		return ""
	}
	for at != "/" && strings.HasPrefix(at, filepath.Clean(sys)) { // a namespace belongs to a region, which knows
		if b, err := os.ReadFile(filepath.Join(at, "persistence_domain")); err == nil {
			return strings.TrimSpace(string(b))
		}
		at = filepath.Dir(at)
	}
	return ""
}

// deviceSize returns the size of a device-dax: ErrNoPool for any other character
// device.
func deviceSize(sys string, info *unix.Stat_t) (int64, error) {
	at := filepath.Join(sys, "dev", "char", fmt.Sprintf("%d:%d", unix.Major(info.Rdev), unix.Minor(info.Rdev)))
	if class, err := filepath.EvalSymlinks(filepath.Join(at, "subsystem")); err != nil || filepath.Base(class) != "dax" {
		return 0, fmt.Errorf("%w: it is a character device, but no device-dax", ErrNoPool)
	}
	b, err := os.ReadFile(filepath.Join(at, "size"))
	if err != nil {
		return 0, fmt.Errorf("pmemlog: size of the device-dax: %w", err)
	}
	var n int64
	if _, err := fmt.Sscan(string(b), &n); err != nil || n <= 0 {
		return 0, fmt.Errorf("pmemlog: size of the device-dax is %q", strings.TrimSpace(string(b)))
	}
	return n, nil
}

// onNVDIMM says whether a device-dax belongs to a region of persistent memory. One
// of memory that the firmware has set aside, or that hangs on CXL, need not.
func onNVDIMM(sys string, info *unix.Stat_t) bool {
	at, err := filepath.EvalSymlinks(filepath.Join(sys, "dev", "char", fmt.Sprintf("%d:%d", unix.Major(info.Rdev), unix.Minor(info.Rdev))))
	if err != nil {
		return false
	}
	return slices.ContainsFunc(strings.Split(at, "/"), func(part string) bool { return strings.HasPrefix(part, "ndbus") })
}

// fileSystem names the file system that a file lies on, for people.
func fileSystem(fd int) string {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return "a file system"
	}
	names := map[int64]string{
		unix.TMPFS_MAGIC: "tmpfs", unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs",
		unix.BTRFS_SUPER_MAGIC: "btrfs", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs", unix.NFS_SUPER_MAGIC: "nfs",
	}
	if name, ok := names[int64(st.Type)]; ok { //nolint:unconvert // it is 32 bits wide elsewhere
		return name
	}
	return fmt.Sprintf("a file system of type %#x", st.Type)
}
