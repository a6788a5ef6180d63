package agent

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gravenio/graven/identity"
	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog"
)

// A lock, a size, a version, a flipped bit: what is wrong with a pool is said,
// and nothing is made anew in its place.
func TestPoolsThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	o := Options{ID: "d1", Dir: t.TempDir(), PoolSize: poolSize, Endpoints: []string{"http://127.0.0.1:1"}, Logger: testLogger(t)}
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	var locked *pmemlog.LockedError
	if _, err := New(withRegistry(o)); !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Errorf("a second agent on the folder got %v, want the first one's PID", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}

	path := filepath.Join(o.Dir, PoolFile)
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		edit func(b []byte) []byte
		want error
	}{
		{"truncated", func(b []byte) []byte { return b[:len(b)/2] }, pmemlog.ErrCorrupt},
		{"empty", func([]byte) []byte { return nil }, pmemlog.ErrNoPool},
		{"zeroed", func(b []byte) []byte { clear(b); return b }, pmemlog.ErrNoPool},
		{"flipped in both superblocks", func(b []byte) []byte { b[50] ^= 1; b[4096+50] ^= 1; return b }, pmemlog.ErrCorrupt},
		{"newer", func(b []byte) []byte {
			for _, at := range []int{0, 4096} {
				b[at+8] = 200
				binary.LittleEndian.PutUint32(b[at+4092:], castagnoli(b[at:at+4092]))
			}
			return b
		}, pmemlog.ErrVersion},
	} {
		broken := test.edit(slices.Clone(sound))
		if err := os.WriteFile(path, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		if a, err := New(o); !errors.Is(err, test.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want %v and the file's name", test.name, err, test.want)
			if err == nil {
				_ = a.Close()
			}
		}
		if now, err := os.ReadFile(path); err != nil || !slices.Equal(now, broken) {
			t.Errorf("%s: the file was changed (%v)", test.name, err)
		}
	}
	one := slices.Clone(sound)
	one[50] ^= 1 // one copy stands
	if err := os.WriteFile(path, one, 0o600); err != nil {
		t.Fatal(err)
	}
	a, err = New(o)
	if err != nil {
		t.Fatalf("with one good superblock: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	o.ID = "d2"
	if err := bindDaemon(path, "d1"); err != nil {
		t.Fatal(err)
	}
	if _, err := New(o); !errors.Is(err, ErrOtherDaemon) {
		t.Errorf("another daemon's pool: %v", err)
	}
}

// A pool that was named and is missing may be a device that has gone. A file made in
// its place would lie in the memory of /dev, or under a mount point.
func TestMissingPoolIsNotMadeWhereOneWasNamed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ media, command string }{
		{MediaFile, "graven pool format %s --media file"},
		{MediaPmem, "graven pool format %s --media pmem --durability flush"},
	} {
		o := Options{
			ID: "d1", Dir: t.TempDir(), Pool: filepath.Join(t.TempDir(), "nvme9n1"), PoolSize: poolSize,
			Media: tt.media, Endpoints: []string{"http://127.0.0.1:1"}, Logger: testLogger(t),
		}
		if tt.media == MediaPmem {
			o.Durability = pmemlog.DurabilityFlush
		}
		a, err := New(withRegistry(o))
		if err == nil {
			_ = a.Close()
		}
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), fmt.Sprintf(tt.command, o.Pool)) {
			t.Errorf("%s: got %v, want that it is missing, and how to make one", tt.media, err)
		}
		if left, err := os.ReadDir(filepath.Dir(o.Pool)); err != nil || len(left) != 0 {
			t.Errorf("%s: left behind: %v, %v", tt.media, left, err)
		}
		makeNamed(t, o)
		if a, err = New(withRegistry(o)); err != nil {
			t.Errorf("%s: once it has been made: %v", tt.media, err)
		} else if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
}

// makeNamed makes the pool that Options.Pool names, as `graven pool format` does.
func makeNamed(t *testing.T, o Options) {
	t.Helper()
	if err := makePool(&o, o.Pool); err != nil {
		t.Fatal(err)
	}
}

func bindDaemon(path, daemon string) error {
	pool, err := pmemlog.OpenFilePool(path)
	if err != nil {
		return err
	}
	return errors.Join(pool.BindDaemon(daemon), pool.Close())
}

func TestOccupiedPort(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, field := range []string{"Listen", "MetricsListen"} {
		o := Options{ID: "d1", Dir: t.TempDir(), PoolSize: poolSize, Endpoints: []string{"http://127.0.0.1:1"}, Logger: testLogger(t)}
		if field == "Listen" {
			o.Listen = ln.Addr().String()
		} else {
			o.MetricsListen = ln.Addr().String()
		}
		a, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		err = a.Run(t.Context())
		if !errors.Is(err, ErrListen) || !strings.Contains(err.Error(), field) || !strings.Contains(err.Error(), ln.Addr().String()) {
			t.Errorf("%s: %v", field, err)
		}
		if err := a.Run(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: a second Run: %v", field, err)
		}
	}
}

// Served with TLS, metrics are for those whose certificate an authority made.
func TestMetricsWithTLS(t *testing.T) {
	t.Parallel()
	c, ca := newCluster(t), newAuthority(t)
	own := ca.load(identity.RoleDaemon, "d1")
	o := c.options("d1")
	o.MetricsListen = "127.0.0.1:0"
	var err error
	if o.MetricsTLS, err = own.Server(tls.RequireAndVerifyClientCert); err != nil {
		t.Fatal(err)
	}
	o.CertificateExpires = func() time.Time { return own.Expiry().At }
	a := start(t, o)
	get := func(client *identity.TLS) (string, error) {
		tr := &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
			return tls.Dial("tcp", a.MetricsAddr().String(), client.ClientOf(identity.RoleDaemon, "d1"))
		}}
		defer tr.CloseIdleConnections()
		res, err := (&http.Client{Transport: tr}).Get("https://d1/metrics")
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		return string(text), err
	}
	text, err := get(ca.load(identity.RoleViewer, "prometheus"))
	if err != nil {
		t.Errorf("with a certificate: %v", err)
	}
	line := "graven_agent_certificate_expires_timestamp_seconds " + strconv.FormatFloat(float64(own.Expiry().At.Unix()), 'g', -1, 64)
	if !strings.Contains(text, line) {
		t.Errorf("metrics lack %s", line)
	}
	nobody, err := identity.LoadClient(identity.Files{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	config := ca.load(identity.RoleViewer, "x").ClientOf(identity.RoleDaemon, "d1")
	config.GetClientCertificate = nobody.Client("").GetClientCertificate
	conn, err := tls.Dial("tcp", a.MetricsAddr().String(), config)
	if err == nil {
		defer conn.Close()
		_, err = conn.Read(make([]byte, 1)) // A client of TLS 1.3 learns only here that it was refused.
	}
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("with one that nobody made: %v", err)
	}
}

// Who reads metrics slowly, asks by a foreign name, or takes all connections, is
// bounded.
func TestMetricsReadersAreBounded(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	o := c.options("d1")
	o.MetricsListen = "127.0.0.1:0"
	at := start(t, o).MetricsAddr().String()
	ask := func(host string) net.Conn {
		conn, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: %s\r\n\r\n", host)
		return conn
	}
	status := func(conn net.Conn) int {
		rsp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return 0
		}
		_ = rsp.Body.Close()
		return rsp.StatusCode
	}
	for host, want := range map[string]int{at: 200, "localhost": 200, "[::1]:9": 200, "evil.example": 403, "10.0.0.1": 403, "127.0.0.1.evil.example": 403} {
		conn := ask(host)
		if got := status(conn); got != want {
			t.Errorf("Host %s: status %d, want %d", host, got, want)
		}
		_ = conn.Close()
	}
	var all []net.Conn
	for range maxReaders {
		conn := ask("localhost")
		if got := status(conn); got != http.StatusOK {
			t.Fatalf("connection %d: status %d", len(all)+1, got)
		}
		all = append(all, conn)
	}
	late := ask("localhost")
	if err := late.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := late.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one more than %d connections is served: %v", maxReaders, err)
	}
	_ = all[0].Close()
	if err := late.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if got := status(late); got != http.StatusOK {
		t.Errorf("once another has gone: status %d", got)
	}
}

func TestMetricsAndHealth(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	o := c.options("d1")
	o.MetricsListen = "127.0.0.1:0"
	a := start(t, o)
	c.untilState(a.ID(), openapi.DaemonUp)
	w := write(t, a.Addr(), hello(t, c.open(c.createLog("l", 1)), 0), nil)
	w.commit("x")
	get := func(path string) (int, string) {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+a.MetricsAddr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Close = true
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(b)
	}
	if code, body := get("/healthz"); code != http.StatusOK || !strings.HasPrefix(body, "ok") {
		t.Errorf("/healthz: %d %q", code, body)
	}
	_, body := get("/metrics")
	for _, line := range []string{
		"graven_agent_sessions 1", "graven_agent_written_bytes_total 128", "graven_agent_flushes_total 1",
		"graven_agent_fences_total 1", "graven_agent_replicas 1", "graven_agent_lease 1", "graven_agent_read_only 0",
		"graven_agent_sync_seconds_count",
	} {
		if !strings.Contains(body, "\n"+line) {
			t.Errorf("/metrics lacks %q", line)
		}
	}
	if t.Failed() {
		t.Log(body)
	}
}
