package pmemlog

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// advise adds to what the system says of a pool's file what to do about it.
func advise(err error) error {
	for _, a := range []struct {
		errno  unix.Errno
		advice string
	}{
		{unix.ENOENT, "name a pool that is there; to make one, make its folder first"},
		{unix.ENOTDIR, "a part of its path is no folder: correct the path"},
		{unix.EISDIR, "it is a folder: name the pool's file in it"},
		{unix.EROFS, "mount its file system for writing, or choose another"},
		{unix.EACCES, "let this user read and write it, and enter the folders of its path"},
		{unix.EPERM, "see that it is neither immutable nor append-only"},
		{unix.ENOSPC, "make room on the file system, or choose another"},
		{unix.EDQUOT, "make room within this user's quota, or have it raised"},
		{unix.EFBIG, "the file system has no files of that size: choose a smaller one"},
		{unix.ENXIO, "it is a device that is not there, a pipe or a socket: name a file or a block device"},
	} {
		if errors.Is(err, a.errno) {
			return fmt.Errorf("%w; %s", err, a.advice)
		}
	}
	return err
}

// full says that a file system, or a user's share of one, has no room.
func full(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// What to do about damage.
const (
	removePool    = "remove the pool and let its replicas be made anew elsewhere"
	deleteReplica = "delete the replica, a new one is filled from the others"
)
