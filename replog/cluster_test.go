package replog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gravenio/graven/internal/faultproxy"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
	"github.com/gravenio/graven/replog/core"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Read-only.
var (
	testCluster = format.ID{0xc1}
	testLog     = format.ID{0x10}
	errDown     = errors.New("control plane is down")
)

// setup is what a test wants of its cluster; the zero value is three daemons
// with volatile pools and a ring of 64 KiB.
type setup struct {
	daemons  int
	spares   int // daemons without a replica at first
	quorum   int
	capacity uint64
	file     bool // pools in files
	proxied  bool // the writer reaches the daemons through cluster.proxies
}

// cluster is a log's daemons, and a control plane in memory that knows them.
type cluster struct {
	t       *testing.T
	daemons []*daemon
	proxies []*faultproxy.Proxy
	log     Log

	mu     sync.Mutex
	state  state
	backup state
	nonce  uint64
	down   bool
	lose   int // answers to MakePresent and Renew that get lost
	opens  int
	onOpen func(r OpenRequest) error // what an open is refused with, if that is not nil; the cluster is locked
	renews int
	made   int         // calls of MakePresent
	deaf   bool        // Renew is not answered
	refuse bool        // Promote fails, and nobody knows why
	asked  []format.ID // replicas that a writer wanted replaced
	given  []format.ID // learners that a writer gave up
	losses []core.Loss
	learns *state // the set that it takes from seals when it is asked again

	recoveries  []core.Recovery
	recoveryErr error // what RecordRecovery answers
	recoveryHit bool  // though it has been recorded
	hangs       int   // calls of RecordRecovery that are not answered
}

// state is what the control plane would get back from a backup.
type state struct {
	term    format.Fence
	leased  bool
	closed  bool // the epoch ended by a close
	version uint64
	set     []Replica
	learner *Replica
}

func (s state) clone() state {
	s.set = slices.Clone(s.set)
	return s
}

func newCluster(t *testing.T, s setup) *cluster {
	t.Helper()
	if s.daemons == 0 {
		s.daemons = 3
	}
	if s.quorum == 0 {
		s.quorum = s.daemons/2 + 1
	}
	if s.capacity == 0 {
		s.capacity = 64 << 10
	}
	c := &cluster{t: t, log: Log{Cluster: testCluster, ID: testLog, Name: "vm-1", Capacity: s.capacity, AckQuorum: s.quorum}}
	c.state.version = 1
	for i := range s.daemons + s.spares {
		d := startDaemon(t, i, s.file)
		c.daemons = append(c.daemons, d)
		if s.proxied {
			c.proxies = append(c.proxies, faultproxy.Start(t, d.address()))
		}
		if i < s.daemons {
			c.log.Replicas = append(c.log.Replicas, Replica{ID: format.ID{0xe0, byte(i)}, Daemon: d.name})
		}
	}
	c.state.set = slices.Clone(c.log.Replicas)
	return c
}

// replicas returns the set, and the learner, with their present addresses; mu is
// held.
func (c *cluster) replicas() []Replica {
	out := slices.Clone(c.state.set)
	if l := c.state.learner; l != nil {
		out = append(out, *l)
	}
	for i := range out {
		at := slices.IndexFunc(c.daemons, func(d *daemon) bool { return d.name == out[i].Daemon })
		out[i].Address = c.daemons[at].address()
		if c.proxies != nil {
			out[i].Address = c.proxies[at].Addr()
		}
	}
	return out
}

// view is the log as a reader is told of it.
func (c *cluster) view() Log {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.log
	l.Replicas = setOf(c.replicas())
	return l
}

func (c *cluster) set(f func(c *cluster)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c)
}

func (c *cluster) get(f func(c *cluster) int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return f(c)
}

// snapshot takes a backup, and restore goes back to it. Nonces don't repeat.
func (c *cluster) snapshot() {
	c.set(func(c *cluster) { c.backup = c.state.clone() })
}

func (c *cluster) restore() {
	c.set(func(c *cluster) { c.state = c.backup.clone() })
}

// Open implements Control.
func (c *cluster) Open(_ context.Context, r OpenRequest) (Grant, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opens++
	if c.down {
		return Grant{}, errDown
	}
	if c.onOpen != nil {
		if err := c.onOpen(r); err != nil {
			return Grant{}, err
		}
	}
	if c.learns != nil && c.opens == 2 { // what daemons have told it meanwhile
		c.state.version, c.state.set, c.state.learner = c.learns.version, c.learns.set, nil
	}
	if c.state.leased && !r.Takeover {
		return Grant{}, fmt.Errorf("%w: epoch %d", ErrInUse, c.state.term.Epoch)
	}
	c.nonce++
	c.state.term = format.Fence{Epoch: max(c.state.term.Epoch+1, r.MinEpoch), Nonce: c.nonce}
	afterClose := c.state.closed
	c.state.leased, c.state.closed = true, false
	return Grant{
		Cluster: testCluster, Log: testLog, Name: c.log.Name, Term: c.state.term, SetVersion: c.state.version,
		AckQuorum: c.log.AckQuorum, Capacity: c.log.Capacity, Replicas: c.replicas(),
		Writer: fmt.Sprint("w", c.nonce), RenewEvery: 50 * time.Millisecond,
		AfterClose: afterClose,
	}, nil
}

// current says whether the grant is that of the present writer; mu is held.
func (c *cluster) current(g Grant) error {
	switch {
	case c.down:
		return errDown
	case g.Term != c.state.term:
		return fmt.Errorf("%w in epoch %d", ErrSuperseded, c.state.term.Epoch)
	}
	return nil
}

// lost says that an answer never came; mu is held.
func (c *cluster) lost() error {
	if c.lose == 0 {
		return nil
	}
	c.lose--
	return errors.New("the answer was lost")
}

// Renew implements Control.
func (c *cluster) Renew(_ context.Context, g Grant) (Renewed, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.renews++
	if c.deaf {
		return Renewed{}, errDown
	}
	if err := c.current(g); err != nil {
		return Renewed{}, err
	}
	return Renewed{SetVersion: c.state.version, Replicas: c.replicas()}, nil
}

// Close implements Control.
func (c *cluster) Close(_ context.Context, g Grant) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.current(g); err != nil {
		return err
	}
	c.state.leased, c.state.closed = false, true
	return nil
}

// MakePresent implements Control.
func (c *cluster) MakePresent(_ context.Context, g Grant, ids []format.ID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made++
	if err := c.current(g); err != nil {
		return err
	}
	if len(ids) == 0 { // as the server does
		return errors.New("replicas: must be 1 to 7")
	}
	for i, r := range c.state.set {
		if slices.Contains(ids, r.ID) {
			c.state.set[i].State = core.Present
		}
	}
	return c.lost()
}

// Replace implements Control. A test decides what comes of it.
func (c *cluster) Replace(_ context.Context, g Grant, replica format.ID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.current(g); err != nil {
		return err
	}
	c.asked = append(c.asked, replica)
	return nil
}

// replace has a replica's place taken by a new one on another daemon.
func (c *cluster) replace(replica format.ID, daemon int) format.ID {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := format.ID{0xe1, byte(daemon), replica[1]}
	c.state.learner = &Replica{ID: id, Daemon: c.daemons[daemon].name, State: core.Learner, Replaces: replica}
	return id
}

// Promote implements Control.
func (c *cluster) Promote(_ context.Context, g Grant, learner format.ID) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.current(g); err != nil {
		return 0, err
	}
	if c.refuse {
		return 0, errors.New("no answer")
	}
	in := slices.ContainsFunc(c.state.set, func(r Replica) bool { return r.ID == learner })
	switch l := c.state.learner; {
	case in && c.state.version == g.SetVersion+1:
		return c.state.version, c.lost()
	case c.state.version != g.SetVersion:
		return 0, fmt.Errorf("set version %d, not %d", c.state.version, g.SetVersion)
	case l == nil || l.ID != learner:
		return 0, ErrAbandoned
	default:
		i := slices.IndexFunc(c.state.set, func(r Replica) bool { return r.ID == l.Replaces })
		c.state.set = slices.Clone(c.state.set)
		c.state.set[i] = Replica{ID: l.ID, Daemon: l.Daemon, State: core.Present}
		c.state.learner = nil
		c.state.version++
	}
	return c.state.version, c.lost()
}

// Abandon implements Control.
func (c *cluster) Abandon(_ context.Context, g Grant, learner format.ID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.current(g); err != nil {
		return err
	}
	if slices.ContainsFunc(c.state.set, func(r Replica) bool { return r.ID == learner }) {
		return errors.New("it has been promoted")
	}
	if l := c.state.learner; l != nil && l.ID == learner {
		c.state.learner = nil
	}
	c.given = append(c.given, learner)
	return c.lost()
}

// RecordLoss implements Control.
func (c *cluster) RecordLoss(_ context.Context, g Grant, l core.Loss) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.current(g); err != nil {
		return err
	}
	c.losses = append(c.losses, l)
	return c.lost()
}

// RecordRecovery implements Control.
func (c *cluster) RecordRecovery(ctx context.Context, g Grant, r core.Recovery) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hangs > 0 {
		c.hangs--
		c.mu.Unlock()
		<-ctx.Done()
		c.mu.Lock()
		return ctx.Err()
	}
	if err := c.current(g); err != nil {
		return err
	}
	if c.recoveryErr == nil || c.recoveryHit {
		c.recoveries = append(c.recoveries, r)
	}
	return c.recoveryErr
}

// options are those of the tests: quick, and with every session audited.
func (c *cluster) options() Options {
	return Options{Dial: c.audited(DialTCP(testTCP())), RetryFirst: 2 * time.Millisecond, RetryMax: 20 * time.Millisecond, DialTimeout: 5 * time.Second}
}

func (c *cluster) open(r OpenRequest, change ...func(*Options)) *Writer {
	c.t.Helper()
	o := c.options()
	for _, f := range change {
		f(&o)
	}
	r.Log = c.log.Name
	w, err := Open(testContext(c.t), c, r, o)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = w.Close() }) // the tests that mean it check it
	return w
}

// testContext ends when the test has hung for too long.
func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls for what no event announces.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute for: %s", what)
		}
	}
}

// payload is one that says which it is; sizes vary.
func payload(i int) []byte {
	head := fmt.Appendf(nil, "record %d;", i)
	return append(head, bytes.Repeat([]byte{byte(i)}, i*37%700)...)
}

func appendRecords(t *testing.T, w *Writer, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if _, err := w.Append(testContext(t), format.Record{Payload: payload(i)}); err != nil {
			t.Fatalf("append %d: %v", i, err)
		}
	}
}

// wantRecords reads the log back and wants payload(from) to payload(to-1).
func wantRecords(t *testing.T, w *Writer, from, to int) {
	t.Helper()
	i := from
	end, err := w.Read(w.TrimLSN(), func(_ format.Header, p []byte) error {
		if !bytes.Equal(p, payload(i)) {
			return fmt.Errorf("%.20q instead of record %d", p, i)
		}
		i++
		return nil
	})
	if err != nil || i != to || end != w.Commit() {
		t.Fatalf("read records %d to %d, want up to %d; end %d, commit %d: %v", from, i, to, end, w.Commit(), err)
	}
}

// settle waits until all replicas take part, and no less.
func settle(t *testing.T, w *Writer) {
	t.Helper()
	eventually(t, "all replicas take part", func() bool {
		if err := w.Settle(testContext(t)); err != nil {
			t.Fatal(err)
		}
		for _, s := range w.Status() {
			if !s.Counts || s.Lag > 0 {
				return false
			}
		}
		return true
	})
}

// audited wraps sessions so that a segment which changes while it belongs to
// the session fails the test: see rdmaio, who owns a posted buffer.
func (c *cluster) audited(dial Dialer) Dialer {
	return func(ctx context.Context, address string, h rdmaio.Hello, ev rdmaio.Events) (rdmaio.Session, rdmaio.Welcome, error) {
		a := &audit{t: c.t}
		flushed := ev.Flushed
		ev.Flushed = func(durable uint64) {
			a.back(durable)
			flushed(durable)
		}
		s, w, err := dial(ctx, address, h, ev)
		if err != nil {
			return nil, w, err
		}
		a.Session = s
		return a, w, nil
	}
}

type audit struct {
	rdmaio.Session
	t *testing.T

	mu     sync.Mutex
	posted []posted
	closed bool
}

type posted struct {
	lsn, end uint64
	segs     [][]byte
	sum      uint32
}

func (p *posted) checksum() uint32 {
	h := crc32.NewIEEE()
	for _, s := range p.segs {
		_, _ = h.Write(s) // never fails
	}
	return h.Sum32()
}

// Post implements rdmaio.Session.
func (a *audit) Post(lsn uint64, segs [][]byte) error {
	a.mu.Lock()
	if a.closed {
		a.t.Errorf("post at LSN %d to a session that is closed", lsn)
	}
	p := posted{lsn: lsn, end: lsn, segs: slices.Clone(segs)}
	for _, s := range segs {
		p.end += uint64(len(s))
	}
	p.sum = p.checksum()
	a.posted = append(a.posted, p)
	a.mu.Unlock()
	return a.Session.Post(lsn, segs)
}

func (a *audit) back(durable uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.posted) > 0 && a.posted[0].end <= durable {
		a.check(&a.posted[0])
		a.posted = a.posted[1:]
	}
}

func (a *audit) check(p *posted) {
	if p.checksum() != p.sum {
		a.t.Errorf("what was posted at [%d, %d) has changed while the session may read it", p.lsn, p.end)
	}
}

// Close implements rdmaio.Session.
func (a *audit) Close() error {
	a.mu.Lock()
	a.closed = true
	for i := range a.posted {
		a.check(&a.posted[i])
	}
	a.mu.Unlock()
	return a.Session.Close()
}

func faults(cut int64, flip []int64) faultproxy.Faults {
	return faultproxy.Faults{CutAfter: cut, Flip: flip}
}
