package agent

import (
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/gravenio/graven/grant"
	"github.com/gravenio/graven/identity"
	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
	"github.com/gravenio/graven/rdmaio/tcp"
	"github.com/gravenio/graven/replog"
)

// authority gives the agents of a test their certificates.
type authority struct {
	t  *testing.T
	by *identity.Authority
	ca []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	by, files, err := identity.NewAuthority("test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, by, files.Cert}
}

// load makes the files of a party.
func (a *authority) load(role identity.Role, name string) *identity.TLS {
	a.t.Helper()
	own, err := a.by.Issue(identity.Request{Principal: identity.Principal{Name: name, Roles: []identity.Role{role}}})
	if err != nil {
		a.t.Fatal(err)
	}
	dir := a.t.TempDir()
	for file, b := range map[string][]byte{"ca": a.ca, "cert": own.Cert, "key": own.Key} {
		if err := os.WriteFile(filepath.Join(dir, file), b, 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	loaded, err := identity.Load(identity.Files{
		CA: filepath.Join(dir, "ca"), Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key"),
	}, testLogger(a.t))
	if err != nil {
		a.t.Fatal(err)
	}
	return loaded
}

// secure has an agent serve with TLS.
func (a *authority) secure(o *Options) {
	files := a.load(identity.RoleDaemon, o.ID)
	server, err := files.Server(tls.NoClientCert)
	if err != nil {
		a.t.Fatal(err)
	}
	o.TLS, o.DialTLS = server, dialTLS(files)
}

func dialTLS(files *identity.TLS) func(daemon, host string) (*tls.Config, error) {
	return func(daemon, _ string) (*tls.Config, error) { return files.ClientOf(identity.RoleDaemon, daemon), nil }
}

// client is how somebody with a key dials.
func (a *authority) client(key *tcp.Key) tcp.Options {
	return tcp.Options{DialTLS: dialTLS(a.load(identity.RoleClient, "somebody")), Key: key}
}

func newKey(t *testing.T) *tcp.Key {
	t.Helper()
	key, err := tcp.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// openWith opens a log with a key; "" names none.
func (c *cluster) openWith(log *openapi.Log, key string) *openapi.OpenedLog {
	c.t.Helper()
	r, err := c.api.OpenLogWithResponse(c.t.Context(), log.LogID, nil, openapi.OpenLogRequest{
		Writer: openapi.WriterInfo{Host: "test"}, Takeover: true, ClientKey: key,
	})
	if err != nil || r.JSON200 == nil {
		c.t.Fatal(err, string(r.Body))
	}
	return r.JSON200
}

// readGrant is one for a reader.
func (c *cluster) readGrant(log *openapi.Log, key string) string {
	c.t.Helper()
	r, err := c.api.GrantReadWithResponse(c.t.Context(), log.LogID, openapi.ReadGrantRequest{ClientKey: key})
	if err != nil || r.JSON200 == nil {
		c.t.Fatal(err, string(r.Body))
	}
	return r.JSON200.Grant
}

// A writer whose daemons serve with TLS opens, appends, and has a replica
// replaced; a log without a writer is recovered over TLS, too.
func TestWritersOverTLS(t *testing.T) {
	t.Parallel()
	f, ca := newFleet(t), newAuthority(t)
	for _, id := range []string{"d1", "d2", "d3"} {
		o := f.options(id)
		ca.secure(&o)
		f.run(o)
	}
	f.dials = ca.client(newKey(t))
	log := f.closedLog("l")
	f.spare(ca.secure)
	f.replaced(log, f.replace(log))
	f.readsBack(f.client(log, replog.Options{ReplaceAfter: -1}), "l")
	var plain *rdmaio.Error
	_, _, err := dial(f.agents[log.Replicas[0].DaemonID].Addr(), rdmaio.Hello{Capacity: ringSize}, noEvents())
	if !errors.Is(err, rdmaio.ErrTLS) || !errors.As(err, &plain) {
		t.Errorf("without TLS: %v", err)
	}
}

// forger signs what it likes with keys that the agent believes.
type forger struct {
	t             *testing.T
	good, retired grant.Key
	c             grant.Claims
}

func newForger(t *testing.T, a *running, o *openapi.OpenedLog, key string) *forger {
	t.Helper()
	f := &forger{t: t, good: signer(t, 11), retired: signer(t, 12)}
	known := a.trust.keys()
	a.trust.setRing(grant.Ring{Keys: publicOf(t, f.good), Retired: publicOf(t, f.retired)})
	t.Cleanup(func() { a.trust.setRing(known) })
	f.c = grant.Claims{
		Cluster: o.ClusterID, LogID: o.LogID, Epoch: uint64(o.Epoch), Nonce: o.Nonce, Rights: grant.RightWrite, ClientKey: key,
		Period:   a.trust.present(),
		Replicas: []grant.Replica{{ReplicaID: o.Replicas[0].ReplicaID, DaemonID: a.ID(), State: "allocated"}},
	}
	return f
}

func signer(t *testing.T, seed byte) grant.Key {
	t.Helper()
	k, err := grant.NewKey([]byte(strings.Repeat(string(rune(seed)), 32)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func publicOf(t *testing.T, k grant.Key) grant.Keys {
	t.Helper()
	keys, err := grant.ParseKeys(map[string]string{k.ID(): k.Public()})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func (f *forger) sign(k grant.Key, edit func(*grant.Claims)) string {
	f.t.Helper()
	c := f.c
	c.Replicas = append([]grant.Replica(nil), f.c.Replicas...)
	if edit != nil {
		edit(&c)
	}
	token, err := grant.Sign(k, c)
	if err != nil {
		f.t.Fatal(err)
	}
	return token
}

// Each bad grant has an error of its own, and none of them changes anything.
func TestBadGrants(t *testing.T) {
	t.Parallel()
	c, ca := newCluster(t), newAuthority(t)
	o := c.options("d1")
	ca.secure(&o)
	a := start(t, o)
	c.untilState(a.ID(), openapi.DaemonUp)
	key, other := newKey(t), newKey(t)
	opened := c.openWith(c.createLog("l", 1), key.Digest())
	f := newForger(t, a, opened, key.Digest())
	c.cutOff(a)
	a.inPeriod(5)
	f.c.Period = 4 // the oldest that will do
	good := hello(t, opened, 0)
	good.Daemon = a.ID()
	token := f.sign(f.good, nil)
	otherAlg := strings.Join([]string{"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", strings.Split(token, ".")[1], "AAAA"}, ".")

	for _, test := range []struct {
		name  string
		grant string
		key   *tcp.Key
		edit  func(*rdmaio.Hello)
		want  error
	}{
		{"none", "", key, nil, rdmaio.ErrGrantMalformed},
		{"garbled", "x" + token, key, nil, rdmaio.ErrGrantMalformed},
		{"half", token[:len(token)/2], key, nil, rdmaio.ErrGrantMalformed},
		{"another algorithm", otherAlg, key, nil, rdmaio.ErrGrantAlgorithm},
		{"changed", strings.Replace(token, ".", ".e30", 1), key, nil, rdmaio.ErrGrantMalformed},
		{"another signature", token[:len(token)-8] + "AAAAAAAA", key, nil, rdmaio.ErrGrantSignature},
		{"an unknown key", f.sign(signer(t, 13), nil), key, nil, rdmaio.ErrGrantUnknownKey},
		{"a retired key", f.sign(f.retired, nil), key, nil, rdmaio.ErrGrantRetiredKey},
		{"expired", f.sign(f.good, func(c *grant.Claims) { c.Period = 3 }), key, nil, rdmaio.ErrGrantExpired},
		{"another cluster", f.sign(f.good, func(c *grant.Claims) { c.Cluster = newID().String() }), key, nil, rdmaio.ErrGrantCluster},
		{"another log", f.sign(f.good, func(c *grant.Claims) { c.LogID = newID().String() }), key, nil, rdmaio.ErrGrantLog},
		{"another epoch", f.sign(f.good, func(c *grant.Claims) { c.Epoch++ }), key, nil, rdmaio.ErrGrantTerm},
		{"another nonce", f.sign(f.good, func(c *grant.Claims) { c.Nonce = "00ff00ff00ff00ff" }), key, nil, rdmaio.ErrGrantTerm},
		{"another replica", f.sign(f.good, func(c *grant.Claims) { c.Replicas[0].ReplicaID = newID().String() }), key, nil, rdmaio.ErrGrantReplica},
		{"another daemon", f.sign(f.good, func(c *grant.Claims) { c.Replicas[0].DaemonID = "d9" }), key, nil, rdmaio.ErrGrantReplica},
		{"to read only", f.sign(f.good, func(c *grant.Claims) { c.Rights, c.Epoch, c.Nonce = grant.RightRead, 0, "" }), key, nil, rdmaio.ErrGrantRights},
		{"of no key", f.sign(f.good, func(c *grant.Claims) { c.ClientKey = "" }), key, nil, rdmaio.ErrGrantNoKey},
		{"stolen", token, other, nil, rdmaio.ErrGrantClientKey},
		{"a reader without", "", key, func(h *rdmaio.Hello) { h.ReadOnly, h.Create = true, false }, rdmaio.ErrGrantMalformed},
		{"a reader's, stolen", f.sign(f.good, nil), other, func(h *rdmaio.Hello) { h.ReadOnly, h.Create = true, false }, rdmaio.ErrGrantClientKey},
		{"a reader's, expired", f.sign(f.good, func(c *grant.Claims) { c.Period = 3 }), key, func(h *rdmaio.Hello) { h.ReadOnly, h.Create = true, false }, rdmaio.ErrGrantExpired},
	} {
		h := good
		h.Grant = test.grant
		if test.edit != nil {
			test.edit(&h)
		}
		conn, _, err := tcp.Dial(t.Context(), a.Addr().String(), h, noEvents(), ca.client(test.key))
		if err == nil {
			_ = conn.Close()
		}
		if !errors.Is(err, test.want) || !errors.Is(err, rdmaio.ErrGrant) {
			t.Errorf("%s: got %v, want %v", test.name, err, test.want)
		}
	}
	if made := a.pool.Replicas(); len(made) != 0 {
		t.Errorf("%d replicas were made", len(made))
	}
	good.Grant = token
	conn, _, err := tcp.Dial(t.Context(), a.Addr().String(), good, noEvents(), ca.client(key))
	if err != nil {
		t.Fatalf("the good one: %v", err)
	}
	if _, err := conn.Fence(t.Context()); err != nil {
		t.Error(err)
	}
	_ = conn.Close()
	// Known by heart, it still has to be proved.
	if _, _, err := tcp.Dial(t.Context(), a.Addr().String(), good, noEvents(), ca.client(other)); !errors.Is(err, rdmaio.ErrGrantClientKey) {
		t.Errorf("the good one, stolen: %v", err)
	}
}

// A reader gets a grant of its own, which is for the log's present replicas.
func TestReadersOverTLS(t *testing.T) {
	t.Parallel()
	c, ca := newCluster(t), newAuthority(t)
	o := c.options("d1")
	ca.secure(&o)
	a := start(t, o)
	c.untilState(a.ID(), openapi.DaemonUp)
	key := newKey(t)
	log := c.createLog("l", 1)
	h := hello(t, c.openWith(log, key.Digest()), 0)
	h.Daemon = a.ID()
	conn, _, err := tcp.Dial(t.Context(), a.Addr().String(), h, noEvents(), ca.client(key))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	reader := newKey(t)
	h.Term, h.Create, h.ReadOnly, h.Grant = format.Fence{}, false, true, c.readGrant(log, reader.Digest())
	reading, _, err := tcp.Dial(t.Context(), a.Addr().String(), h, noEvents(), ca.client(reader))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reading.Info(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := reading.Fence(t.Context()); !errors.Is(err, rdmaio.ErrReadOnly) {
		t.Errorf("a reader fences: %v", err)
	}
	_ = reading.Close()
}

// A grant that was used may be used again for as long as no higher epoch comes,
// whatever time has passed, though the control plane is away and the agent was
// started anew. One that was not used is too old by then.
func TestExpiryIsForTheFirstFence(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	o := c.options("d1")
	var late time.Duration
	o.now = func() time.Time { return time.Now().Add(late) }
	a := start(t, o)
	c.untilState(a.ID(), openapi.DaemonUp)
	used, unused := c.open(c.createLog("used", 1)), c.open(c.createLog("unused", 1))
	write(t, a.Addr(), hello(t, used, 0), nil).commit("one")
	eventually(t, "the keys are kept", func() bool { return a.trust.keptVersion() > 0 })

	c.cutOff(a)
	a.trust.mu.Lock()
	a.trust.periods.Length = time.Minute
	late = 3 * time.Minute
	a.trust.mu.Unlock()
	refused(t, a, hello(t, unused, 0), rdmaio.ErrGrantExpired)
	write(t, a.Addr(), hello(t, used, 0), nil).commit("two")
	a.end()
	a = start(t, o)
	write(t, a.Addr(), hello(t, used, 0), nil).commit("three")
	refused(t, a, hello(t, unused, 0), rdmaio.ErrBusy) // not registered: older than anything
}

// cutOff takes the control plane away, and returns when no word of it is under
// way any more.
func (c *cluster) cutOff(a *running) {
	c.t.Helper()
	c.gate.shut.Store(true)
	eventually(c.t, "a heartbeat has failed", func() bool {
		var m dto.Metric
		return a.metrics.renewalFailures.Write(&m) == nil && m.GetCounter().GetValue() > 0
	})
}

// inPeriod has the agent believe that this is the period.
func (r *running) inPeriod(n uint64) {
	r.trust.mu.Lock()
	defer r.trust.mu.Unlock()
	r.trust.periods = grant.Periods{Heard: n}
}

func refused(t *testing.T, a *running, h rdmaio.Hello, want error) {
	t.Helper()
	conn, _, err := dial(a.Addr(), h, noEvents())
	if err == nil {
		_ = conn.Close()
	}
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

// An agent whose clock is a day off takes the same grants as any other.
func TestClockSkew(t *testing.T) {
	t.Parallel()
	for name, off := range map[string]time.Duration{"ahead": 24 * time.Hour, "behind": -24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			o := c.options("d1")
			o.now = func() time.Time { return time.Now().Add(off) }
			a := start(t, o)
			c.untilState(a.ID(), openapi.DaemonUp)
			log := c.createLog("l", 1)
			opened := c.open(log)
			write(t, a.Addr(), hello(t, opened, 0), nil).commit("one")
			write(t, a.Addr(), hello(t, opened, 0), nil).commit("two")
			write(t, a.Addr(), hello(t, c.open(log), 0), nil).commit("three")
		})
	}
}

// A key that the control plane publishes is on the agent's disk before it signs,
// and a retired one is good for those who come back only.
func TestKeysRotate(t *testing.T) {
	t.Parallel()
	c := newOwnCluster(t)
	o := c.options("d1")
	a := start(t, o)
	c.untilState(a.ID(), openapi.DaemonUp)
	log, second := c.createLog("l", 1), c.createLog("m", 1)
	old, unused := c.open(log), c.open(second)
	w := write(t, a.Addr(), hello(t, old, 0), nil)
	w.commit("one")
	first := c.keys()
	if len(first.Items) != 1 || first.Items[0].State != openapi.KeySigning {
		t.Fatalf("at first: %+v", first)
	}
	r, err := c.api.RotateKeysWithResponse(t.Context())
	if err != nil || r.JSON200 == nil {
		t.Fatal(err, string(r.Body))
	}
	eventually(t, "the new key signs", func() bool {
		now := c.keys()
		return len(now.Items) == 2 && now.Items[1].State == openapi.KeySigning && now.Items[0].State == openapi.KeyVerifying
	})
	_, kept, err := loadKeys(o.Dir, old.ClusterID)
	if err != nil || len(kept.Keys) != 2 {
		t.Errorf("it signs, and the agent keeps %v, %v", kept, err)
	}
	id := first.Items[0].KeyID
	retired, err := c.api.RetireKeyWithResponse(t.Context(), id)
	if err != nil || retired.JSON200 == nil {
		t.Fatal(err, string(retired.Body))
	}
	eventually(t, "the agent knows the old key as a retired one", func() bool {
		_, ring := a.trust.snapshot()
		return ring.Retired[id] != nil && ring.Keys[id] == nil
	})
	refused(t, a, hello(t, unused, 0), rdmaio.ErrGrantRetiredKey)
	_ = w.Close()
	a.end()
	a = start(t, o) // which no process has told of the term
	w = write(t, a.Addr(), hello(t, old, 0), nil)
	w.commit("two")
	c.untilState(a.ID(), openapi.DaemonUp)
	renewed := c.renewed(unused, unused.Replicas[0].ReplicaID)
	write(t, a.Addr(), hello(t, renewed, 0), nil).commit("one")
}

func (c *cluster) keys() *openapi.KeyRing {
	c.t.Helper()
	r, err := c.api.ListKeysWithResponse(c.t.Context())
	if err != nil || r.JSON200 == nil {
		c.t.Fatal(err, string(r.Body))
	}
	return r.JSON200
}
