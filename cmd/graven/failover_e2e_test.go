package main

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"

	"github.com/gravenio/graven/openapi"
)

// Of two API servers over one etcd one is killed: a daemon renews its lease and a
// writer its own at the other, a watch goes on, and commands work.
func TestServerKilled(t *testing.T) {
	skipShort(t)
	c := startDev(t, t.TempDir(), "--daemons", "1", "--ttl", "2s", "--pool-size", smallPool)
	etcd := c.dev.await(t, `(?m)^etcd .* (http://\S+)$`)[1]
	var servers [2]*process
	var urls [2]string
	for i := range servers {
		servers[i] = start(t, nil, "server", "--listen", "127.0.0.1:0", "--ttl", "2s", "--etcd-endpoints", etcd)
		urls[i] = "http://" + servers[i].await(t, `serving the API" address=(\S+)`)[1]
	}
	api := urls[0] + "," + urls[1]
	start(t, nil, "agent", "--id", "d2", "--dir", filepath.Join(t.TempDir(), "d2"), "--listen", "127.0.0.1:0",
		"--api", api, "--ttl", "2s", "--label", "host=d2", "--pool-size", smallPool)
	c.awaitState("d2", openapi.DaemonUp)
	watch := start(t, nil, "watch", "--since", "1", "--api", api) // whenever it begins, it misses nothing
	must(t, "log", "create", "l1", "--replicas", "2", "--ack", "2", "--capacity", smallLog, "--api", api)
	watch.await(t, "log l1 ")
	p, in := feed(t, api, "l1")
	data := randomBytes(9, 200*testBlock)
	pour(t, p, in, data, 0)

	servers[0].signal(t, syscall.SIGKILL)
	servers[0].exit(t)
	for _, route := range []string{"/v1/daemons/{daemon_id}/heartbeat", "/v1/logs/{log}/renew"} {
		eventually(t, func() string { return route + " is not asked of the other server" }, func() bool {
			return answered(t, urls[1], route) > 1
		})
	}
	must(t, "log", "create", "l2", "--replicas", "1", "--ack", "1", "--capacity", smallLog, "--api", api)
	watch.await(t, "log l2 ")
	pour(t, p, in, data, len(data))
	_ = in.Close()
	if status := p.exit(t); status != 0 {
		t.Fatalf("append: exit status %d\n%s", status, p.stderr())
	}
	c.awaitState("d2", openapi.DaemonUp)
}

// answered is how often a server has done what the route is for.
func answered(t *testing.T, api, route string) int {
	t.Helper()
	rsp, err := http.Get(api + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer rsp.Body.Close()
	b, err := io.ReadAll(rsp.Body)
	if err != nil {
		t.Fatal(err)
	}
	re := regexp.MustCompile(fmt.Sprintf(`(?m)^graven_http_requests_total\{method="POST",route="%s",status="200"\} (\d+)$`, regexp.QuoteMeta(route)))
	m := re.FindSubmatch(b)
	if m == nil {
		return 0
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
