package agent

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gravenio/graven/openapi"
)

func markOf(life, revision int64) openapi.EtcdMark {
	return openapi.EtcdMark{Life: life, Revision: revision, Proof: strings.Repeat("0a", 32)}
}

// A mark is shown to the control plane from the first heartbeat on, never a lower
// one than before, and by the first registration after a restart.
func TestMarkOutlivesARestart(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	o := c.options("d1")
	type shown struct {
		put  bool
		mark openapi.EtcdMark
	}
	var mu sync.Mutex
	var all []shown
	c.gate.onRequest(func(r *http.Request, body []byte) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case r.Method == http.MethodPut:
			all = append(all, shown{true, decode[openapi.RegisterRequest](t, body).EtcdMark})
		case strings.HasSuffix(r.URL.Path, "/heartbeat"):
			all = append(all, shown{false, decode[openapi.HeartbeatRequest](t, body).EtcdMark})
		}
	})
	requests := func() []shown {
		mu.Lock()
		defer mu.Unlock()
		return all
	}
	a := start(t, o)
	a.confirmed()
	eventually(t, "the first mark is on disk", func() bool {
		m := newMarks(time.Now)
		return m.load(o.Dir, a.pool.Identity().Cluster.String()) == nil && m.highest().Revision > 0
	})
	first := a.marks.highest()
	if _, err := c.store.RotateKeys(t.Context()); err != nil { // etcd goes on
		t.Fatal(err)
	}
	eventually(t, "a heartbeat shows a higher one", func() bool {
		got := requests()
		return higher(got[len(got)-1].mark, first)
	})
	a.end()
	told := a.marks.highest()

	before := requests()
	if !before[0].put || before[0].mark != (openapi.EtcdMark{}) {
		t.Errorf("the first registration shows %+v", before[0])
	}
	for i, s := range before[1:] {
		if s.mark.Revision < 1 || higher(before[i].mark, s.mark) {
			t.Errorf("request %d shows %+v, after %+v", i+1, s.mark, before[i].mark)
		}
	}
	o.ID = "" // as the pool is bound
	a = start(t, o)
	eventually(t, "it registers again", func() bool { return len(requests()) > len(before) })
	if got := requests()[len(before)]; !got.put || got.mark != told {
		t.Errorf("after a restart it shows %+v, want %+v", got, told)
	}
	a.confirmed()
}

// What a registration answers is the truth, whatever was believed before. A heartbeat
// may be answered by a server that lags.
func TestWhichMarkIsTaken(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what       string
		has, told  openapi.EtcdMark
		registered bool
		want       openapi.EtcdMark
	}{
		{"the first one", openapi.EtcdMark{}, markOf(0, 1), false, markOf(0, 1)},
		{"higher", markOf(0, 7), markOf(0, 8), false, markOf(0, 8)},
		{"lower", markOf(0, 7), markOf(0, 6), false, markOf(0, 7)},
		{"a later life", markOf(0, 7), markOf(1, 2), false, markOf(1, 2)},
		{"an earlier life", markOf(1, 2), markOf(0, 7), false, markOf(1, 2)},
		{"lower, at a registration", markOf(0, 7), markOf(0, 6), true, markOf(0, 6)},
		{"an earlier life, at a registration", markOf(1, 2), markOf(0, 7), true, markOf(0, 7)},
		{"none", markOf(0, 7), openapi.EtcdMark{}, false, markOf(0, 7)},
		{"none, at a registration", markOf(0, 7), openapi.EtcdMark{}, true, markOf(0, 7)},
	} {
		m := newMarks(time.Now)
		m.newest = c.has
		m.take(c.told, c.registered)
		if got := m.highest(); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.what, got, c.want)
		}
	}
}

// The file is written when a life begins, and else once in a while: not with each
// heartbeat, whether it can be written or not.
func TestMarksAreWrittenSeldom(t *testing.T) {
	t.Parallel()
	now := time.Now()
	m := newMarks(func() time.Time { return now })
	dir := t.TempDir()
	onDisk := func() openapi.EtcdMark {
		t.Helper()
		read := newMarks(time.Now)
		if err := read.load(dir, "c1"); err != nil {
			t.Fatal(err)
		}
		return read.highest()
	}
	step := func(told openapi.EtcdMark, want bool, kept openapi.EtcdMark) {
		t.Helper()
		if got := m.take(told, false); got != want {
			t.Errorf("%+v is to be written: %v, want %v", told, got, want)
		} else if got {
			if err := m.save(dir, "c1"); err != nil {
				t.Fatal(err)
			}
		}
		if got := onDisk(); got != kept {
			t.Errorf("after %+v there is %+v on disk, want %+v", told, got, kept)
		}
	}
	step(markOf(0, 5), true, markOf(0, 5))
	step(markOf(0, 5), false, markOf(0, 5))
	step(markOf(0, 6), false, markOf(0, 5))
	now = now.Add(keepMarkEvery)
	step(markOf(0, 6), false, markOf(0, 5)) // it is no news
	step(markOf(0, 7), true, markOf(0, 7))
	step(markOf(0, 8), false, markOf(0, 7))
	step(markOf(1, 2), true, markOf(1, 2))
	step(markOf(1, 3), false, markOf(1, 2))
	if err := m.save(dir, "c1"); err != nil || onDisk() != markOf(1, 3) { // as at the end
		t.Errorf("%+v, %v", onDisk(), err)
	}
	nowhere := filepath.Join(dir, "nowhere")
	step(markOf(2, 1), true, markOf(2, 1))
	if m.take(markOf(3, 1), false); m.save(nowhere, "c1") == nil {
		t.Error("written into a folder that is not there")
	}
	step(markOf(3, 2), false, markOf(2, 1)) // the disk is given time
	now = now.Add(keepMarkEvery)
	step(markOf(3, 3), true, markOf(3, 3))
	if err := m.save("", "c1"); err != nil {
		t.Errorf("a daemon without a folder: %v", err)
	}
}

func TestMarkOnDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	read := func(cluster string) (openapi.EtcdMark, error) {
		m := newMarks(time.Now)
		err := m.load(dir, cluster)
		return m.highest(), err
	}
	none := openapi.EtcdMark{}
	if m, err := read("c1"); m != none || err != nil {
		t.Errorf("without a file: %+v, %v", m, err)
	}
	m := newMarks(time.Now)
	m.take(markOf(3, 9), true)
	if err := m.save(dir, "c1"); err != nil {
		t.Fatal(err)
	}
	if m, err := read("c1"); m != markOf(3, 9) || err != nil {
		t.Errorf("read back: %+v, %v", m, err)
	}
	if m, err := read("c2"); m != none || err != nil {
		t.Errorf("another cluster's: %+v, %v", m, err)
	}
	file := func(m openapi.EtcdMark) string {
		b, err := json.Marshal(markFile{ClusterID: "c1", Mark: m})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, text := range []string{
		"", "{", `{"version":1}`, `{"version":0,"cluster_id":"c1"}`, strings.Repeat(" ", maxMarkFile+1),
		file(markOf(-1, 1)), file(markOf(maxLife+1, 1)), file(markOf(0, 0)), file(markOf(0, maxRevision+1)), file(openapi.EtcdMark{Revision: 1, Proof: "0a"}),
	} {
		if err := os.WriteFile(filepath.Join(dir, markName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if m, err := read("c1"); m != none || err == nil || !strings.Contains(err.Error(), markName) {
			t.Errorf("%.20q: %+v, %v", text, m, err)
		}
	}
}
