package faultproxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Faults are what happens to the bytes of one direction. The zero value passes
// them on unchanged.
type Faults struct {
	// Delay is waited before each piece of a stream is passed on.
	Delay time.Duration

	// Hold stops passing bytes, as a partition does: nothing is lost, and when it
	// is taken back all that was held goes on its way.
	Hold bool

	// CutAfter closes both sides of a connection once that many of its bytes have
	// passed; 0 never does.
	CutAfter int64

	// Flip inverts the lowest bit of the bytes at these offsets.
	Flip []int64
}

// Proxy stands between a client and a server.
type Proxy struct {
	ln net.Listener
	wg sync.WaitGroup

	mu      sync.Mutex
	change  *sync.Cond
	target  string
	to      Faults // from client to server
	from    Faults // from server to client
	refuse  bool
	links   map[*link]struct{}
	opened  int
	closed  bool
	stopped chan struct{}
}

// Start starts a proxy to a target, host:port, that lives until the test ends.
func Start(tb testing.TB, target string) *Proxy {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{ln: ln, target: target, links: map[*link]struct{}{}, stopped: make(chan struct{})}
	p.change = sync.NewCond(&p.mu)
	p.wg.Go(p.accept)
	tb.Cleanup(p.stop)
	return p
}

// Addr returns the address to dial instead of the target's.
func (p *Proxy) Addr() string { return p.ln.Addr().String() }

// Retarget sends new connections to another address, host:port.
func (p *Proxy) Retarget(target string) { p.set(func() { p.target = target }) }

// ToServer sets the faults for what clients send.
func (p *Proxy) ToServer(f Faults) { p.set(func() { p.to = f }) }

// ToClient sets the faults for what the server sends.
func (p *Proxy) ToClient(f Faults) { p.set(func() { p.from = f }) }

// Hold stops or starts passing bytes both ways, and leaves other faults alone.
func (p *Proxy) Hold(on bool) { p.set(func() { p.to.Hold, p.from.Hold = on, on }) }

// Refuse closes new connections at once, or no longer does.
func (p *Proxy) Refuse(on bool) { p.set(func() { p.refuse = on }) }

// Cut closes all connections that are open now.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.close()
	}
}

// Opened returns how many connections have been made through the proxy.
func (p *Proxy) Opened() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.opened
}

func (p *Proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	p.change.Broadcast()
}

func (p *Proxy) stop() {
	p.set(func() {
		p.closed = true
		close(p.stopped)
	})
	_ = p.ln.Close() // it has nothing to lose
	p.Cut()
	p.wg.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.connect(client) })
	}
}

// connect links a client to the target and waits until the link is gone.
func (p *Proxy) connect(client net.Conn) {
	defer client.Close()
	p.mu.Lock()
	target, refuse := p.target, p.refuse || p.closed
	p.mu.Unlock()
	if refuse {
		return
	}
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	l := &link{p: p, client: client, server: server}
	if !p.add(l) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { l.pass(server, client, &p.to) })
	both.Go(func() { l.pass(client, server, &p.from) })
	both.Wait()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

func (p *Proxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.links[l] = struct{}{}
	p.opened++
	return true
}

// link is one connection through the proxy.
type link struct {
	p              *Proxy
	client, server net.Conn
	cut            bool // guarded by p.mu
}

// close ends both sides; p.mu is held.
func (l *link) close() {
	l.cut = true
	_ = l.client.Close() // closing is the purpose, not what it says
	_ = l.server.Close()
	l.p.change.Broadcast()
}

// pass copies one direction until its source ends, which closes the sending
// half of its destination, or the link is cut.
func (l *link) pass(dst, src net.Conn, faults *Faults) {
	buf := make([]byte, 32<<10)
	for at := int64(0); ; {
		n, err := src.Read(buf)
		if n > 0 {
			if !l.forward(dst, buf[:n], at, faults) {
				return
			}
			at += int64(n)
		}
		if err != nil {
			l.finish(dst, err)
			return
		}
	}
}

func (l *link) finish(dst net.Conn, err error) {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	half, ok := dst.(*net.TCPConn)
	if !errors.Is(err, io.EOF) || !ok || half.CloseWrite() != nil {
		l.close()
	}
}

// forward passes on the bytes that stand at an offset of a stream and reports
// whether more may follow.
func (l *link) forward(dst net.Conn, b []byte, at int64, faults *Faults) bool {
	f, ok := l.faults(faults)
	if !ok {
		return false
	}
	for _, off := range f.Flip {
		if at <= off && off < at+int64(len(b)) {
			b[off-at] ^= 1
		}
	}
	cut := f.CutAfter > 0 && at+int64(len(b)) >= f.CutAfter
	if cut {
		b = b[:max(0, f.CutAfter-at)]
	}
	if _, err := dst.Write(b); err != nil || cut {
		l.p.mu.Lock()
		defer l.p.mu.Unlock()
		l.close()
		return false
	}
	return true
}

// faults returns what to do to the next bytes, when they are no longer held and
// their delay is over.
func (l *link) faults(which *Faults) (Faults, bool) {
	p := l.p
	p.mu.Lock()
	delay := which.Delay
	p.mu.Unlock()
	if delay > 0 {
		t := time.NewTimer(delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-p.stopped:
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for which.Hold && !p.closed && !l.cut {
		p.change.Wait()
	}
	return *which, !p.closed && !l.cut
}
