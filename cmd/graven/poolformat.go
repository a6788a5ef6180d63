package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/gravenio/graven/agent"
	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
)

// poolFormatFlags are the flags of `pool format`.
type poolFormatFlags struct {
	size                       size
	replicas                   int
	media, durability, cluster string
	overwrite                  bool
}

func newPoolFormat(a *app) *cobra.Command {
	fl := poolFormatFlags{size: agent.DefaultPoolSize}
	cmd := &cobra.Command{
		Use:   "format PATH",
		Short: "Make an empty pool",
		Long: `Make an empty pool in a new file, or on a device. In a folder it gets the name
under which an agent whose --dir is that folder looks for it. A pool is never
overwritten, and a file neither; a device that holds something else only with
--overwrite.

An agent makes the pool in its --dir by itself at its first start; making it
before lets you choose how many replicas it has entries for, and fix the cluster
that it is for. A pool that is elsewhere (its --pool) must be made before.
The file is sparse until replicas are made in it.`,
		Example: `  graven pool format /var/lib/graven --size 64GiB
  graven pool format ./d4/pool --size 1GiB --replicas 64
  graven pool format /mnt/pmem0/graven --size 64GiB --media pmem`,
		Args: exactly("PATH"),
	}
	f := cmd.Flags()
	f.Var(&fl.size, "size", "size of the pool; on a device all of it, unless told otherwise")
	f.IntVar(&fl.replicas, "replicas", pmemlog.DefaultReplicas, fmt.Sprintf("entries of the directory, 1 to %d: so many replicas fit at most", pmemlog.MaxReplicas))
	f.StringVar(&fl.media, "media", agent.MediaFile, "`MEDIUM` that the pool lies on: file, or pmem (persistent memory)")
	durabilityFlag(f, &fl.durability)
	f.StringVar(&fl.cluster, "cluster", "", "`UUID` of the only cluster that may use it (default the first that does)")
	f.BoolVar(&fl.overwrite, "overwrite", false, "make the pool on a device that holds something else, which is lost")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o, err := fl.options(args[0], cmd.Flags().Changed("size"))
		if err != nil {
			return err
		}
		if err := o.make(); err != nil {
			return err
		}
		return withPool(cmd.Context(), o.path, func(v *poolView) error {
			info := v.info()
			return a.showValue(info, info.identityRows)
		})
	}
	return cmd
}

// newPoolOptions is what flags and argument of `pool format` say.
type newPoolOptions struct {
	path       string
	media      string
	durability pmemlog.Durability
	pmemlog.FormatOptions
}

func (fl *poolFormatFlags) options(path string, sized bool) (*newPoolOptions, error) {
	if err := oneOf("media", fl.media, agent.MediaFile, agent.MediaPmem); err != nil {
		return nil, err
	}
	if err := checkPoolMedia(fl.media, fl.durability); err != nil {
		return nil, err
	}
	if fl.replicas < 1 || fl.replicas > pmemlog.MaxReplicas {
		return nil, usagef("--replicas is %d: must be 1 to %d", fl.replicas, pmemlog.MaxReplicas)
	}
	o := &newPoolOptions{path: path, media: fl.media, durability: pmemlog.Durability(fl.durability)}
	o.PoolID, o.Size, o.Replicas, o.Overwrite = format.ID(uuid.New()), int64(fl.size), fl.replicas, fl.overwrite
	if fl.cluster != "" {
		id, err := uuid.Parse(fl.cluster)
		if err != nil || id == uuid.Nil {
			return nil, usagef("--cluster is %q: must be the UUID of a cluster, which `graven status` shows", fl.cluster)
		}
		o.ClusterID = format.ID(id)
	}
	info, err := os.Stat(path)
	switch {
	case err != nil: // it is new
	case info.IsDir():
		o.path = filepath.Join(path, agent.PoolFile)
	case info.Mode()&fs.ModeDevice != 0 && !sized:
		o.Size = 0
	}
	return o, nil
}

// make makes the pool and closes it again.
func (o *newPoolOptions) make() error {
	var p *pmemlog.Pool
	var err error
	if o.media == agent.MediaPmem {
		p, err = pmemlog.CreatePMemPool(o.path, o.FormatOptions, o.durability)
	} else {
		p, err = pmemlog.CreateFilePool(o.path, o.FormatOptions)
	}
	switch {
	case errors.Is(err, pmemlog.ErrRange):
		return usagef("%s", err)
	case errors.Is(err, fs.ErrNotExist):
		return withHint(fmt.Errorf("folder %s does not exist", filepath.Dir(o.path)), "make it first; who runs the agent must be able to write to it")
	case errors.Is(err, pmemlog.ErrForeign):
		return withHint(poolFailed(o.path, err), "--overwrite makes the pool all the same")
	case err != nil:
		return poolFailed(o.path, err)
	}
	return p.Close()
}
