package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gravenio/graven/agent"
	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
)

func newPool(a *app) *cobra.Command {
	return group("pool", "Make a pool, and look into one, without any server", `Make a pool, look into one, and take data out of it, without any server.

PATH is the pool's file, a block device, or the folder of an agent (its --dir).
No agent may use the pool meanwhile. All but format and remove only read.`,
		newPoolFormat(a), newPoolInfo(a), newPoolCheck(a), newPoolDump(a), newPoolExport(a), newPoolRemove(a))
}

// poolView is a pool that is looked at.
type poolView struct {
	*pmemlog.Inspection
	path string
	node string // what it lies in
	bare *pmemlog.ReadOnly
}

// viewPool opens a pool to be looked at and looks at superblocks and directory.
func viewPool(ctx context.Context, path string) (*poolView, error) {
	path, err := poolPath(path)
	if err != nil {
		return nil, err
	}
	m, err := pmemlog.OpenReadOnly(path)
	if err != nil {
		return nil, poolFailed(path, err)
	}
	i, err := pmemlog.Inspect(ctx, m)
	if err != nil {
		return nil, errors.Join(poolFailed(path, err), m.Close())
	}
	return &poolView{Inspection: i, path: path, node: m.Node(), bare: m}, nil
}

// usable returns why nothing can be found in the pool.
func (v *poolView) usable() error {
	if v.Known {
		return nil
	}
	return withHint(fmt.Errorf("%s: %w", v.path, v.Refused), "see what is left with `graven pool check %s`", v.path)
}

func (v *poolView) close() { _ = v.bare.Close() }

// withPool looks at the pool at path and hands it to do, unless nothing can be
// found in it.
func withPool(ctx context.Context, path string, do func(v *poolView) error) error {
	v, err := viewPool(ctx, path)
	if err != nil {
		return err
	}
	defer v.close()
	if err := v.usable(); err != nil {
		return err
	}
	return do(v)
}

// openPool opens a pool to change it, on the medium that it was made on.
func openPool(path string, kind pmemlog.Kind, durability string) (*pmemlog.Pool, error) {
	var p *pmemlog.Pool
	var err error
	if kind == pmemlog.KindPmem {
		p, err = pmemlog.OpenPMemPool(path, pmemlog.Durability(durability))
	} else {
		p, err = pmemlog.OpenFilePool(path)
	}
	return p, poolFailed(path, err)
}

// poolPath is the pool that is meant: path, or the one in the agent's folder there.
func poolPath(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return path, poolFailed(path, err)
	}
	if !info.IsDir() {
		return path, nil
	}
	in := filepath.Join(path, agent.PoolFile)
	if _, err := os.Stat(in); !errors.Is(err, fs.ErrNotExist) {
		return in, err
	}
	err = fmt.Errorf("folder %s has no file named %s: it is no agent's, or the agent's pool is elsewhere (its --pool) or in memory", path, agent.PoolFile)
	if deeper, _ := filepath.Glob(filepath.Join(path, "*", agent.PoolFile)); len(deeper) > 0 {
		return "", withHint(err, "name one of %s", strings.Join(deeper, ", "))
	}
	return "", withHint(err, "name the pool's file, or make one with `graven pool format %s`", path)
}

// poolFailed adds to an error of a pool which one it is, and what to do.
func poolFailed(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return withHint(fmt.Errorf("%s: no such file", path), "name a pool's file, or the folder of an agent (its --dir)")
	case errors.Is(err, pmemlog.ErrLocked):
		return withHint(err, "an agent's pool can be looked at when the agent has been stopped; what it says while it runs is in `graven daemon show`, `graven log show` and `graven log verify`")
	case strings.HasPrefix(err.Error(), path+":"):
		return err
	default:
		return fmt.Errorf("%s: %w", path, err)
	}
}

// wanted says how a replica may be named, and where it is looked for.
type wanted struct {
	logs  bool // by the ID of its log, too
	space bool // if the directory has none, in the space that no entry names, too
}

// find returns the replicas that an ID, or the beginning of one, means.
func (v *poolView) find(ctx context.Context, text string, w wanted) ([]pmemlog.Region, error) {
	var found []pmemlog.Region
	add := func(r pmemlog.Region) {
		if begins(r.Replica, text) || w.logs && begins(r.Log, text) {
			found = append(found, r)
		}
	}
	for _, r := range v.Regions {
		add(r)
	}
	if len(found) == 0 && w.space {
		err := v.Forgotten(ctx, func(f pmemlog.Forgotten) {
			if !f.Replica.IsZero() {
				add(f.Region)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	if len(found) > 0 {
		return found, nil
	}
	return nil, v.notFound(text, w.logs)
}

func (v *poolView) notFound(text string, logs bool) error {
	what := "replica"
	if logs {
		what = "replica or log"
	}
	err := fmt.Errorf("%s has no %s %s", v.path, what, text)
	if len(v.Regions) == 0 {
		return withHint(err, "the pool is empty")
	}
	return withHint(err, "it has %s", replicaList(v.Regions))
}

// findOne is find where only one replica will do.
func (v *poolView) findOne(ctx context.Context, text string, w wanted) (pmemlog.Region, error) {
	found, err := v.find(ctx, text, w)
	if err != nil {
		return pmemlog.Region{}, err
	}
	if len(found) > 1 {
		return pmemlog.Region{}, withHint(fmt.Errorf("%s means %d replicas of %s", text, len(found), v.path), "name one of %s", replicaList(found))
	}
	return found[0], nil
}

func begins(id format.ID, text string) bool {
	return strings.HasPrefix(id.String(), strings.ToLower(text))
}

// replicaList names replicas in a sentence, the first of many.
func replicaList(regions []pmemlog.Region) string {
	const most = 8
	var parts []string
	for n, r := range regions {
		if n == most {
			parts = append(parts, fmt.Sprintf("and %d more", len(regions)-most))
			break
		}
		parts = append(parts, fmt.Sprintf("replica %s (of log %s)", r.Replica, r.Log))
	}
	return strings.Join(parts, ", ")
}

// idText is an ID for JSON and for people; empty for none.
func idText(id format.ID) string {
	if id.IsZero() {
		return ""
	}
	return id.String()
}

// nonceText is a nonce as the API writes it.
func nonceText(n uint64) string { return fmt.Sprintf("%016x", n) }

// metaText is a record's metadata; empty where it is zero.
func metaText(meta [format.MetaSize]byte) string {
	if len(bytes.Trim(meta[:], "\x00")) == 0 {
		return ""
	}
	return hex.EncodeToString(meta[:])
}
