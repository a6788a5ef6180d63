package tcp

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gravenio/graven/internal/faultproxy"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
)

// Once Close has returned, the segments are the caller's again: what is written
// into them can't reach the replica any more, even by a socket that was full.
func TestSegmentsAreFreeAfterClose(t *testing.T) {
	t.Parallel()
	host := newFakeHost(ringSize)
	proxy := faultproxy.Start(t, serve(t, host, quiet()))
	p := dial(t, proxy.Addr(), someHello(), quiet())
	proxy.Hold(true)
	l := newLog(ringSize)
	for l.chain.LSN < ringSize-200_000 {
		lsn, segs := l.add(100_000)
		if err := p.Post(lsn, segs); err != nil {
			t.Fatal(err)
		}
	}
	good := bytes.Clone(l.ring)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range l.ring {
		l.ring[i] ^= 0xff
	}
	proxy.Hold(false)
	eventually(t, "the target is closed", func() bool { return host.closed() == 1 })
	if tail := host.tail(); !bytes.Equal(host.bytes()[:tail], good[:tail]) {
		t.Errorf("the replica holds bytes up to %d that were written after Close", tail)
	}
	select {
	case err := <-p.ended:
		t.Errorf("after Close, the end was reported: %v", err)
	default:
	}
}

// tardyConn holds on to what it writes for a while after it was closed.
type tardyConn struct {
	net.Conn
	closed  chan struct{}
	once    sync.Once
	entered chan struct{}
	inside  atomic.Int32
}

func (c *tardyConn) Write([]byte) (int, error) {
	c.inside.Add(1)
	defer c.inside.Add(-1)
	close(c.entered)
	<-c.closed
	for began := time.Now(); time.Since(began) < 20*time.Millisecond; {
		runtime.Gosched()
	}
	return 0, net.ErrClosed
}

func (c *tardyConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func TestCloseWaitsForTheSender(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	defer far.Close()
	conn := &tardyConn{Conn: near, closed: make(chan struct{}), entered: make(chan struct{})}
	h := someHello()
	c := begin(conn, newReader(conn, server), &h, rdmaio.Events{}, quiet().withDefaults())
	lsn, segs := newLog(ringSize).add(100_000) // too much for the sender's own buffer
	if err := c.Post(lsn, segs); err != nil {
		t.Fatal(err)
	}
	<-conn.entered
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if conn.inside.Load() != 0 {
		t.Error("Close returned while the sender still had segments in its hands")
	}
}

// What the socket does not take at once waits in few large frames, bounded by
// the ring, and arrives when the peer reads again.
func TestASlowPeer(t *testing.T) {
	t.Parallel()
	host := newFakeHost(ringSize)
	proxy := faultproxy.Start(t, serve(t, host, quiet()))
	p := dial(t, proxy.Addr(), someHello(), quiet())
	proxy.Hold(true)
	l := newLog(ringSize)
	for l.chain.LSN < ringSize-64 {
		lsn, segs := l.add(1000)
		if err := p.Post(lsn, segs); err != nil {
			t.Fatal(err)
		}
		if l.chain.LSN+1088 > ringSize {
			break
		}
	}
	p.out.mu.Lock()
	frames, waiting := len(p.out.queue), p.out.waiting
	p.out.mu.Unlock()
	if waiting == 0 || frames > ringSize/maxBatch+2 {
		t.Errorf("%d bytes wait in %d frames", waiting, frames)
	}
	for err := error(nil); !errors.Is(err, rdmaio.ErrRange); {
		if err = p.Post(l.chain.LSN, [][]byte{l.ring[:maxBatch/2]}); err != nil && !errors.Is(err, rdmaio.ErrRange) {
			t.Fatal(err)
		}
	}
	proxy.Hold(false)
	if err := p.end(); !errors.Is(err, rdmaio.ErrChain) && !errors.Is(err, rdmaio.ErrRange) {
		t.Errorf("more was posted than fits, and the session ended with %v", err)
	}
	if !bytes.Equal(host.bytes(), l.ring) {
		t.Error("the replica holds other bytes than were posted")
	}
}

func TestADeadPeerIsNoticed(t *testing.T) {
	t.Parallel()
	opts := quiet()
	opts.DeadAfter = 500 * time.Millisecond
	for name, owe := range map[string]func(p *peer) error{
		"a flush": func(p *peer) error {
			lsn, segs := newLog(ringSize).add(100)
			return p.Post(lsn, segs)
		},
		"an answer": func(p *peer) error {
			if _, err := p.Info(context.Background()); !errors.Is(err, rdmaio.ErrLost) {
				return err
			}
			return nil
		},
	} {
		proxy := faultproxy.Start(t, serve(t, newFakeHost(ringSize), quiet()))
		p := dial(t, proxy.Addr(), someHello(), opts)
		proxy.Hold(true)
		if err := owe(p); err != nil {
			t.Fatal(err)
		}
		if err := p.end(); !errors.Is(err, rdmaio.ErrLost) {
			t.Errorf("%s is owed: the session ended with %v", name, err)
		}
	}
}

// A daemon that takes longer than DeadAfter but says that it is busy is no dead one.
func TestABusyPeerIsWaitedFor(t *testing.T) {
	t.Parallel()
	host := newFakeHost(ringSize)
	host.cheap, host.gate = false, make(chan struct{})
	far, near := quiet(), quiet()
	far.BusyEvery, near.DeadAfter = 10*time.Millisecond, time.Second
	p := dial(t, serve(t, host, far), someHello(), near)
	l := newLog(ringSize)
	lsn, segs := l.add(100)
	if err := p.Post(lsn, segs); err != nil {
		t.Fatal(err)
	}
	began, late := time.Now(), 3*near.DeadAfter/2
	eventually(t, "DeadAfter has passed", func() bool { return time.Since(began) > late })
	close(host.gate)
	p.durable(l.chain.LSN)
}

func TestCloseMayRaceWithEverything(t *testing.T) {
	t.Parallel()
	const small = 1 << 20
	for range 20 {
		host := newFakeHost(small)
		host.cheap = false
		p := dial(t, serve(t, host, quiet()), someHello(), quiet())
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for buf := make([]byte, maxBytes+100); ; {
					_, err := p.Info(t.Context())
					if err == nil {
						err = p.Read(t.Context(), 0, buf)
					}
					if err != nil {
						if !errors.Is(err, rdmaio.ErrClosed) {
							t.Errorf("ended with %v, want %v", err, rdmaio.ErrClosed)
						}
						return
					}
				}
			})
		}
		l := newLog(small)
		var posted error
		wg.Go(func() {
			for posted == nil && l.chain.LSN+1088 <= small {
				lsn, segs := l.add(1000)
				posted = p.Post(lsn, segs)
			}
		})
		p.durable(64)
		for range 2 {
			wg.Go(func() { _ = p.Close() })
		}
		wg.Wait()
		if posted != nil && !errors.Is(posted, rdmaio.ErrClosed) {
			t.Errorf("Post ended with %v, want %v", posted, rdmaio.ErrClosed)
		}
		clear(l.ring)
		select {
		case err := <-p.ended:
			t.Errorf("after Close, the end was reported: %v", err)
		default:
		}
	}
}

func TestAListenerThatEndsClosesItsSessions(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := newFakeHost(ringSize)
	l, err := NewListener(ln, host, quiet())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	p := dial(t, l.Addr().String(), someHello(), quiet())
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if host.closed() != 1 {
		t.Errorf("when Run returned, the target had been closed %d times", host.closed())
	}
	if err := p.end(); !errors.Is(err, rdmaio.ErrLost) {
		t.Errorf("the session ended with %v", err)
	}
	if _, _, err := Dial(t.Context(), l.Addr().String(), someHello(), rdmaio.Events{}, quiet()); !errors.Is(err, rdmaio.ErrLost) {
		t.Errorf("Dial to nobody: %v", err)
	}
}

func TestUnderTLS(t *testing.T) {
	t.Parallel()
	far, near := quiet(), quiet()
	far.TLS, near.TLS = certificates(t)
	host := newFakeHost(ringSize)
	addr := serve(t, host, far)
	p := dial(t, addr, someHello(), near)
	l := newLog(ringSize)
	for i := range 50 {
		lsn, segs := l.add(i * 3000)
		if err := p.Post(lsn, segs); err != nil {
			t.Fatal(err)
		}
	}
	p.durable(l.chain.LSN)
	if !bytes.Equal(host.bytes(), l.ring) {
		t.Error("the replica holds other bytes than were posted")
	}
	host.set("trim", rdmaio.ErrSessionEnded)
	if err := p.Trim(t.Context(), format.TrimPoint{}); !errors.Is(err, rdmaio.ErrSessionEnded) {
		t.Errorf("Trim: %v", err)
	}
}

// certificates makes a server's configuration and that of a client who trusts it.
func certificates(t testing.TB) (far, near *tls.Config) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "d1"},
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	far = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}}, MinVersion: tls.VersionTLS13}
	return far, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS13}
}
