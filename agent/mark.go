package agent

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/gravenio/graven/openapi"
)

// Servers that were started after etcd was set back have heard nothing of what it
// has lost. The daemon has: it keeps the highest mark that it was given, and shows
// it whenever it speaks to one.

const (
	markName    = "etcd-mark.json"
	markFormat  = 0
	maxMarkFile = 4 << 10 // bytes

	// keepMarkEvery is how often a higher mark of the same life is written down. One
	// that is some time old proves as much about a copy that is older.
	keepMarkEvery = time.Minute
)

// markFile is what the file of the mark holds.
type markFile struct {
	Version   int              `json:"version"`
	ClusterID string           `json:"cluster_id"`
	Mark      openapi.EtcdMark `json:"etcd_mark"`
}

// marks hold the highest mark of the daemon's cluster. The lock is never held during
// I/O.
type marks struct {
	now func() time.Time

	mu     sync.Mutex
	newest openapi.EtcdMark // zero for none
	kept   openapi.EtcdMark // what is on disk
	tried  openapi.EtcdMark // what was to be written last, and
	at     time.Time        // when
}

func newMarks(now func() time.Time) *marks { return &marks{now: now} }

// load takes what is in the folder for this cluster.
func (m *marks) load(dir, cluster string) error {
	if dir == "" {
		return nil
	}
	b, err := readBounded(dir, markName, maxMarkFile)
	if b == nil || err != nil {
		return err
	}
	f, err := decodeMark(b)
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(dir, markName), err)
	}
	if f.ClusterID != cluster {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.newest, m.kept, m.tried, m.at = f.Mark, f.Mark, f.Mark, m.now()
	return nil
}

func decodeMark(b []byte) (f markFile, err error) {
	if len(b) > maxMarkFile {
		return f, fmt.Errorf("%d bytes, at most %d", len(b), maxMarkFile)
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return f, err
	}
	if f.Version != markFormat {
		return f, fmt.Errorf("version %d, this program reads version %d", f.Version, markFormat)
	}
	if m := f.Mark; m.Life < 0 || m.Life > maxLife || m.Revision < 1 || m.Revision > maxRevision || !proofPattern.MatchString(m.Proof) {
		return f, fmt.Errorf("%+v is no mark", m)
	}
	return f, nil
}

// What the contract has a mark be: with another one the daemon would not be let in.
const (
	maxLife     = 8191
	maxRevision = 1<<53 - 1
)

var proofPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// take takes a mark that was answered, and reports whether it is to be written down
// now. What a registration answers stands in the place of any other: the server has
// seen that one, and looked at etcd. A heartbeat may be answered by a server that
// has heard less.
func (m *marks) take(told openapi.EtcdMark, registered bool) (keep bool) {
	if told.Revision < 1 {
		return false // the server is of before there were marks, or has heard nothing yet
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !registered && !higher(told, m.newest) {
		return false
	}
	m.newest = told
	news := m.tried.Revision == 0 || told.Life != m.tried.Life
	return told != m.kept && (news || m.now().Sub(m.at) >= keepMarkEvery)
}

func higher(a, b openapi.EtcdMark) bool {
	return a.Life > b.Life || a.Life == b.Life && a.Revision > b.Revision
}

// highest is what the control plane is shown.
func (m *marks) highest() openapi.EtcdMark {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.newest
}

// save writes the mark down, unless that is done. If it can't be, it is tried again
// when the next one is due.
func (m *marks) save(dir, cluster string) error {
	m.mu.Lock()
	mark, done := m.newest, m.newest == m.kept
	m.tried, m.at = m.newest, m.now()
	m.mu.Unlock()
	if dir == "" || done {
		return nil
	}
	b, err := json.Marshal(markFile{Version: markFormat, ClusterID: cluster, Mark: mark})
	if err != nil {
		return err
	}
	if err := replaceFile(dir, markName, b); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept = mark
	return nil
}

// keepMark writes the mark down for the next start.
func (a *Agent) keepMark() {
	cluster := a.pool.Identity().Cluster
	if cluster.IsZero() {
		return // the pool could not be bound
	}
	if err := a.marks.save(a.opts.Dir, cluster.String()); err != nil {
		a.log.Warn("how far etcd was could not be written down; after a restart the daemon can't tell whether it was set back", "err", err)
	}
}
