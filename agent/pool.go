package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
)

// PoolFile is the name of the pool in Options.Dir.
const PoolFile = "pool"

// openPool opens the pool that the options name. Only the one in Dir is made if
// there is none: what was named and is missing may be a device that has gone, and
// a file made in its place would lie in the memory that /dev is in, or on the disk
// under a file system that is not mounted. What is there and can't be used is never
// made anew.
func openPool(o *Options, watch *observer) (*pmemlog.Pool, error) {
	if o.Dir != "" {
		if err := os.MkdirAll(o.Dir, 0o700); err != nil {
			return nil, fmt.Errorf("agent: make folder of the pool: %w", err)
		}
	}
	if o.Media == MediaVolatile {
		return makeVolatile(o, watch)
	}
	path := o.poolPath()
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if o.Pool != "" {
			return nil, fmt.Errorf("agent: open pool: %w; see that its device is there and its file system mounted, or make a pool with: %s", err, o.formatCommand())
		}
		if err := makePool(o, path); err != nil {
			return nil, err
		}
	}
	medium, err := openMedium(o, path)
	if err != nil {
		return nil, fmt.Errorf("agent: open pool: %w", err)
	}
	pool, err := pmemlog.Open(watch.watch(o.wrap(medium)))
	if errors.Is(err, pmemlog.ErrNoPool) && o.Pool != "" {
		err = fmt.Errorf("%w; if nothing on it is needed, make a pool with: %s", err, o.formatCommand())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("agent: open pool %s: %w", path, err), medium.Close())
	}
	return pool, nil
}

func (o *Options) poolPath() string {
	if o.Pool != "" {
		return o.Pool
	}
	return filepath.Join(o.Dir, PoolFile)
}

// formatCommand is how a person makes the pool that Pool names.
func (o *Options) formatCommand() string {
	command := fmt.Sprintf("graven pool format %s --media %s", o.Pool, o.Media)
	if o.Media == MediaPmem && o.Durability != pmemlog.DurabilityAuto {
		command += fmt.Sprintf(" --durability %s", o.Durability)
	}
	return command
}

func openMedium(o *Options, path string) (pmemlog.Medium, error) {
	if o.Media != MediaPmem {
		return pmemlog.OpenFile(path)
	}
	m, err := pmemlog.OpenPMem(path, o.Durability)
	if err != nil {
		return nil, err
	}
	o.Logger.Info("mapped the pool", "path", path, "persistent_by", m.How())
	return m, nil
}

// makePool makes a pool of an ID of its own. It is closed again, so that it is
// opened the same way whether it is new or not.
func makePool(o *Options, path string) error {
	made := pmemlog.FormatOptions{PoolID: newID(), Size: o.PoolSize}
	var pool *pmemlog.Pool
	var err error
	if o.Media == MediaPmem {
		pool, err = pmemlog.CreatePMemPool(path, made, o.Durability)
	} else {
		pool, err = pmemlog.CreateFilePool(path, made)
	}
	if err != nil {
		return fmt.Errorf("agent: make pool %s: %w", path, err)
	}
	return pool.Close()
}

func makeVolatile(o *Options, watch *observer) (*pmemlog.Pool, error) {
	m, err := pmemlog.NewVolatile(o.PoolSize)
	if err != nil {
		return nil, fmt.Errorf("agent: make pool: %w", err)
	}
	medium := o.wrap(m)
	pool, err := pmemlog.Format(watch.watch(medium), pmemlog.FormatOptions{PoolID: newID()})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("agent: make pool: %w", err), m.Close())
	}
	return pool, nil
}

func newID() format.ID { return format.ID(uuid.New()) }

// daemonID returns the ID of the daemon that the pool belongs to.
func daemonID(o *Options, pool *pmemlog.Pool) (string, error) {
	bound := pool.Identity().Daemon
	switch {
	case o.ID == "" && bound == "":
		return "", bad("ID", "must be set: the pool belongs to no daemon yet")
	case o.ID == "" || o.ID == bound:
		return bound, nil
	case bound != "":
		return "", fmt.Errorf("%w: %q, not %q; start it under that ID or give this daemon a folder of its own", ErrOtherDaemon, bound, o.ID)
	}
	return o.ID, nil
}
