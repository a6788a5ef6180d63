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
	keysFormat  = 0
	maxKeysFile = 64 << 10 // bytes
)

// keyFile is what the file of grant keys holds.
type keyFile struct {
	Version     int               `json:"version"`
	ClusterID   string            `json:"cluster_id"`
	KeysVersion uint64            `json:"keys_version,omitempty"` // 0 in a file of before there were several
	GrantKeys   map[string]string `json:"grant_keys"`
	Retired     map[string]string `json:"retired_keys,omitempty"`
}

// decodeKeys reads a file of grant keys. Each key must prove itself by its ID.
func decodeKeys(b []byte) (keyFile, grant.Ring, error) {
	var f keyFile
	if len(b) > maxKeysFile {
		return f, grant.Ring{}, fmt.Errorf("%d bytes, at most %d", len(b), maxKeysFile)
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return f, grant.Ring{}, err
	}
	if f.Version != keysFormat {
		return f, grant.Ring{}, fmt.Errorf("version %d, this program reads version %d", f.Version, keysFormat)
	}
	keys, err := grant.ParseKeys(f.GrantKeys)
	if err != nil {
		return f, grant.Ring{}, err
	}
	retired, err := grant.ParseKeys(f.Retired)
	return f, grant.Ring{Keys: keys, Retired: retired}, err
}

// loadKeys reads the keys in a folder and their version; none, without an error, if
// there are none for this cluster.
func loadKeys(dir, cluster string) (uint64, grant.Ring, error) {
	var none grant.Ring
	if dir == "" {
		return 0, none, nil
	}
	b, err := readBounded(dir, keysName, maxKeysFile)
	if b == nil || err != nil {
		return 0, none, err
	}
	f, ring, err := decodeKeys(b)
	if err != nil {
		return 0, none, fmt.Errorf("%s: %w", filepath.Join(dir, keysName), err)
	}
	if f.ClusterID != cluster {
		return 0, none, nil
	}
	return f.KeysVersion, ring, nil
}

// saveKeys replaces the keys in a folder, all of them or none.
func saveKeys(dir, cluster string, keysVersion uint64, ring grant.Ring) error {
	if dir == "" {
		return nil
	}
	b, err := json.Marshal(keyFile{
		Version: keysFormat, ClusterID: cluster, KeysVersion: keysVersion, GrantKeys: ring.Keys.Encode(), Retired: ring.Retired.Encode(),
	})
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(filepath.Join(dir, keysName)); err == nil && bytes.Equal(old, b) {
		return nil
	}
	return replaceFile(dir, keysName, b)
}

// replaceFile has a file in a folder hold b, all of it or what it held before.
func replaceFile(dir, name string, b []byte) error {
	path := filepath.Join(dir, name)
	if err := writeSynced(path+".new", b); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDir(dir)
}

// readBounded reads a file in a folder that is to hold at most that many bytes; nil
// if there is none. What is longer is cut off behind one more.
func readBounded(dir, name string, most int64) ([]byte, error) {
	file, err := os.Open(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, most+1))
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
