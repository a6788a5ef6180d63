package server_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/gravenio/graven/openapi"
)

// A daemon is given a mark by each answer, and shows it; one that nobody has made
// begins nothing, and keeps nobody out.
func TestMarksAreHandedOut(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	r := daemonSpec{id: "d9", n: 9}.request()
	a := c.put("d9", r)
	var reg openapi.Registration
	if err := json.Unmarshal(a.body, &reg); err != nil || a.status != http.StatusOK || reg.EtcdMark.Revision < 1 || len(reg.EtcdMark.Proof) != 64 {
		t.Fatalf("a registration without a mark is answered %d %s", a.status, a.body)
	}
	forged := reg.EtcdMark
	forged.Revision += 1000
	for _, m := range []openapi.EtcdMark{reg.EtcdMark, forged} {
		r.EtcdMark = m
		if a := c.put("d9", r); a.status != http.StatusOK {
			t.Fatalf("a registration with %+v: %d %s", m, a.status, a.body)
		}
		b, err := json.Marshal(openapi.HeartbeatRequest{Incarnation: r.Incarnation, FreeBytes: 1, EtcdMark: m})
		if err != nil {
			t.Fatal(err)
		}
		a := c.do(http.MethodPost, "/v1/daemons/d9/heartbeat", string(b))
		var beat openapi.HeartbeatAnswer
		if err := json.Unmarshal(a.body, &beat); err != nil || a.status != http.StatusOK || beat.EtcdMark.Revision < reg.EtcdMark.Revision {
			t.Fatalf("a heartbeat with %+v: %d %s", m, a.status, a.body)
		}
	}
	if l := get[openapi.JournalList](c, "/v1/journal?kind=etcd-restored"); len(l.Items) != 0 {
		t.Errorf("a new life has begun: %+v", l.Items)
	}
}
