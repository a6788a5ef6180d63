package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gravenio/graven/grant"
)

const (
	keysName    = "grant-keys.json"
	keysVersion = 0
	maxKeysFile = 64 << 10 // bytes
)

// keyFile is what the file of grant keys holds.
type keyFile struct {
	Version   int               `json:"version"`
	ClusterID string            `json:"cluster_id"`
	GrantKeys map[string]string `json:"grant_keys"`
}

// decodeKeys reads a file of grant keys. Each key must prove itself by its ID.
func decodeKeys(b []byte) (keyFile, grant.Keys, error) {
	var f keyFile
	if len(b) > maxKeysFile {
		return f, nil, fmt.Errorf("%d bytes, at most %d", len(b), maxKeysFile)
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return f, nil, err
	}
	if f.Version != keysVersion {
		return f, nil, fmt.Errorf("version %d, this program reads version %d", f.Version, keysVersion)
	}
	keys, err := grant.ParseKeys(f.GrantKeys)
	return f, keys, err
}

// loadKeys reads the keys in a folder; none, without an error, if there are
// none for this cluster.
func loadKeys(dir, cluster string) (grant.Keys, error) {
	if dir == "" {
		return nil, nil
	}
	file, err := os.Open(filepath.Join(dir, keysName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxKeysFile+1))
	if err != nil {
		return nil, err
	}
	f, keys, err := decodeKeys(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file.Name(), err)
	}
	if f.ClusterID != cluster {
		return nil, nil
	}
	return keys, nil
}

// saveKeys replaces the keys in a folder, all of them or none.
func saveKeys(dir, cluster string, encoded map[string]string) error {
	if dir == "" {
		return nil
	}
	b, err := json.Marshal(keyFile{Version: keysVersion, ClusterID: cluster, GrantKeys: encoded})
	if err != nil {
		return err
	}
	name := filepath.Join(dir, keysName)
	if old, err := os.ReadFile(name); err == nil && bytes.Equal(old, b) {
		return nil
	}
	if err := writeSynced(name+".new", b); err != nil {
		return err
	}
	if err := os.Rename(name+".new", name); err != nil {
		return err
	}
	return syncDir(dir)
}

func writeSynced(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// setKeys makes keys the ones that grants are checked with. They are not
// written to any more.
func (a *Agent) setKeys(keys grant.Keys) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keys = keys
}

func (a *Agent) grantKeys() grant.Keys {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.keys
}
