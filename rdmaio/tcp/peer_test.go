package tcp

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gravenio/graven/internal/faultproxy"
	"github.com/gravenio/graven/pmemlog/crc32c"
	"github.com/gravenio/graven/rdmaio"
)

// rawPeer is a client that says what a test wants.
type rawPeer struct {
	t    *testing.T
	conn *net.TCPConn
	in   *reader
}

func rawDial(t *testing.T, addr string) *rawPeer {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &rawPeer{t: t, conn: conn.(*net.TCPConn), in: newReader(conn, server)}
}

func (p *rawPeer) send(b []byte) {
	p.t.Helper()
	if _, err := p.conn.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

func (p *rawPeer) hello() {
	p.t.Helper()
	p.send(helloFrame(p.t, version, version))
	if h, body, err := p.in.next(); err != nil || h.kind != kindWelcome {
		p.t.Fatalf("no Welcome but %v %q, %v", h.kind, body, err)
	}
}

// refused waits for the error that ends the session, and its end.
func (p *rawPeer) refused() error {
	p.t.Helper()
	h, body, err := p.in.next()
	if err != nil || h.kind != kindError || h.id != 0 {
		p.t.Fatalf("no Error but %v, %v", h.kind, err)
	}
	err = decodeError(body)
	if h, _, err := p.in.next(); !errors.Is(err, io.EOF) {
		p.t.Fatalf("after the Error: %v, %v", h.kind, err)
	}
	return err
}

func helloFrame(t *testing.T, lowest, highest uint32) []byte {
	t.Helper()
	body, err := encodeHello(&hello{lowest: lowest, highest: highest, Hello: someHello()})
	if err != nil {
		t.Fatal(err)
	}
	return appendFrame(nil, header{version: version, kind: kindHello}, body)
}

// change returns a frame with one byte of its header set, and a good checksum.
func change(frame []byte, at int, to byte) []byte {
	frame = bytes.Clone(frame)
	frame[at] = to
	h := frame[:headerSize]
	le.PutUint32(h[28:], crc32c.Checksum(h[:28]))
	return frame
}

func bare(h header) []byte {
	b := make([]byte, headerSize)
	h.put(b)
	return b
}

// lines counts what is logged, by level.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSpace(l.b.String()), "\n")
}

func TestPeersThatSayNonsense(t *testing.T) {
	t.Parallel()
	fence := appendFrame(nil, header{version: version, kind: kindFence, id: 1}, nil)
	trim := appendFrame(nil, header{version: version, kind: kindTrim, id: 1}, make([]byte, trimBody))
	torn := bytes.Clone(trim)
	torn[headerSize] ^= 1
	flipped := bytes.Clone(fence)
	flipped[17] ^= 1
	for name, test := range map[string]struct {
		greet bool
		bytes []byte
		want  error
	}{
		"garbage":                   {false, []byte("GET / HTTP/1.1\r\nHost: d1\r\nAccept: */*\r\n\r\n"), rdmaio.ErrFrame},
		"not the magic":             {true, make([]byte, 100), rdmaio.ErrFrame},
		"no Hello":                  {false, fence, rdmaio.ErrFrame},
		"a Write before the Hello":  {false, bare(header{version: version, kind: kindWrite, length: maxWrite}), rdmaio.ErrFrame},
		"a Hello that claims 4 GiB": {false, bare(header{version: version, kind: kindHello, length: 1<<32 - 1}), rdmaio.ErrTooLarge},
		"a Write that claims 4 GiB": {true, bare(header{version: version, kind: kindWrite, id: 1, length: 1<<32 - 1}), rdmaio.ErrTooLarge},
		"a Seal above its bound":    {true, bare(header{version: version, kind: kindSeal, id: 1, length: maxSmall + 1}), rdmaio.ErrTooLarge},
		"only unknown versions":     {false, helloFrame(t, 2, 9), rdmaio.ErrVersion},
		"frame of another version":  {true, change(fence, 4, 2), rdmaio.ErrVersion},
		"unknown type":              {true, change(fence, 5, 99), rdmaio.ErrFrame},
		"a server's frame":          {true, change(fence, 5, byte(kindDone)), rdmaio.ErrFrame},
		"a second Hello":            {true, helloFrame(t, version, version), rdmaio.ErrFrame},
		"unknown flags":             {true, change(fence, 6, 1), rdmaio.ErrFrame},
		"a bit flipped in a header": {true, flipped, rdmaio.ErrFrame},
		"a bit flipped in a body":   {true, torn, rdmaio.ErrFrame},
		"a body that is too short":  {true, appendFrame(nil, header{version: version, kind: kindTrim, id: 1}, []byte{1}), rdmaio.ErrFrame},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var logged lines
			opts := quiet()
			opts.Logger = slog.New(slog.NewTextHandler(&logged, nil))
			host := newFakeHost(ringSize)
			addr := serve(t, host, opts)
			p := rawDial(t, addr)
			closes := 0
			if test.greet {
				p.hello()
				closes = 1
			}
			p.send(test.bytes)
			if err := p.refused(); !errors.Is(err, test.want) {
				t.Errorf("refused with %v, want %v", err, test.want)
			}
			if got := logged.all(); len(got) != 1 || !strings.Contains(got[0], "level=WARN") {
				t.Errorf("logged %q, want one warning", got)
			}
			eventually(t, "the target is closed", func() bool { return host.closed() == closes })
			dial(t, addr, someHello(), quiet())
		})
	}
}

func TestAHelloThatTakesForEver(t *testing.T) {
	t.Parallel()
	opts := quiet()
	opts.HelloTimeout = 50 * time.Millisecond
	p := rawDial(t, serve(t, newFakeHost(ringSize), opts))
	p.send(helloFrame(t, version, version)[:40])
	if _, err := p.conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the connection was not closed: %v", err)
	}
}

func TestAPeerThatClosesItsSendingHalfIsAnswered(t *testing.T) {
	t.Parallel()
	for _, cheap := range []bool{true, false} {
		host := newFakeHost(ringSize)
		host.cheap = cheap
		p := rawDial(t, serve(t, host, quiet()))
		p.hello()
		_, segs := newLog(ringSize).add(1000)
		p.send(append(bare(header{version: version, kind: kindWrite, flags: flagFlush, id: 1, length: uint32(len(segs[0]))}), segs[0]...))
		if err := p.conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if h, _, err := p.in.next(); err != nil || h.kind != kindFlushed || h.arg != uint64(len(segs[0])) || h.id != 1 {
			t.Errorf("cheap %v: no Flushed but %+v, %v", cheap, h, err)
		}
		if _, _, err := p.in.next(); !errors.Is(err, io.EOF) {
			t.Errorf("cheap %v: the server did not close: %v", cheap, err)
		}
		eventually(t, "the target is closed", func() bool { return host.closed() == 1 })
	}
}

// Nothing of a frame that was cut counts, and the target is told of the end.
func TestConnectionsThatAreCut(t *testing.T) {
	t.Parallel()
	hello := int64(len(helloFrame(t, version, version)))
	for _, at := range []int64{hello + 1, hello + headerSize, hello + headerSize + 500} {
		host := newFakeHost(ringSize)
		proxy := faultproxy.Start(t, serve(t, host, quiet()))
		proxy.ToServer(faultproxy.Faults{CutAfter: at})
		p := dial(t, proxy.Addr(), someHello(), quiet())
		lsn, segs := newLog(ringSize).add(1000)
		if err := p.Post(lsn, segs); err != nil && !errors.Is(err, rdmaio.ErrLost) {
			t.Fatal(err)
		}
		if err := p.end(); !errors.Is(err, rdmaio.ErrLost) {
			t.Errorf("cut after %d bytes: the session ended with %v", at, err)
		}
		eventually(t, "the target is closed", func() bool { return host.closed() == 1 })
		if host.tail() != 0 {
			t.Errorf("cut after %d bytes: the replica has bytes up to %d", at, host.tail())
		}
	}
}

// A bit that flips anywhere, in either direction, ends the session and changes
// nothing that the replica holds.
func TestBitsThatFlip(t *testing.T) {
	t.Parallel()
	up := int64(len(helloFrame(t, version, version)))
	down := int64(len(appendFrame(nil, header{version: version}, encodeWelcome(&rdmaio.Welcome{Daemon: "d1", Media: "volatile", FlushMode: "ack"}))))
	flip := func(at int64) faultproxy.Faults { return faultproxy.Faults{Flip: []int64{at}} }
	for name, test := range map[string]struct {
		up, down faultproxy.Faults
		want     error
	}{
		"header of a Write":   {flip(up + 20), faultproxy.Faults{}, rdmaio.ErrFrame},
		"payload of a Write":  {flip(up + headerSize + 90), faultproxy.Faults{}, rdmaio.ErrChain},
		"header of a Flushed": {faultproxy.Faults{}, flip(down + 16), rdmaio.ErrFrame},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := newFakeHost(ringSize)
			proxy := faultproxy.Start(t, serve(t, host, quiet()))
			proxy.ToServer(test.up)
			proxy.ToClient(test.down)
			p := dial(t, proxy.Addr(), someHello(), quiet())
			lsn, segs := newLog(ringSize).add(1000)
			if err := p.Post(lsn, segs); err != nil {
				t.Fatal(err)
			}
			if err := p.end(); !errors.Is(err, test.want) {
				t.Errorf("the session ended with %v, want %v", err, test.want)
			}
			if name != "header of a Flushed" && host.tail() != 0 {
				t.Errorf("the replica took bytes up to %d", host.tail())
			}
			select {
			case at := <-p.flushed:
				t.Errorf("%d was reported durable", at)
			default:
			}
		})
	}
}

func TestNoRoomForMore(t *testing.T) {
	t.Parallel()
	host := newFakeHost(ringSize)
	opts := quiet()
	opts.MaxSessions, opts.MaxHandshakes = 1, 2
	addr := serve(t, host, opts)
	first := dial(t, addr, someHello(), quiet())
	if _, _, err := Dial(t.Context(), addr, someHello(), rdmaio.Events{}, quiet()); !errors.Is(err, rdmaio.ErrBusy) {
		t.Errorf("a session too many: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "there is room again", func() bool {
		c, _, err := Dial(t.Context(), addr, someHello(), rdmaio.Events{}, quiet())
		if err == nil {
			err = c.Close()
		}
		return err == nil
	})
	for range opts.MaxHandshakes {
		rawDial(t, addr).send([]byte{1})
	}
	eventually(t, "handshakes take all the room", func() bool {
		c, _, err := Dial(t.Context(), addr, someHello(), rdmaio.Events{}, quiet())
		if err == nil {
			_ = c.Close()
		}
		return errors.Is(err, rdmaio.ErrBusy)
	})
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for want, opts := range map[string]Options{
		"tcp: DeadAfter is -1ns, it must be at least 1ms": {DeadAfter: -1},
		"tcp: MaxSessions is -5, it must be at least 1":   {MaxSessions: -5},
	} {
		if _, err := NewListener(nil, nil, opts); err == nil || err.Error() != want {
			t.Errorf("NewListener: %v, want %v", err, want)
		}
		if _, _, err := Dial(t.Context(), "127.0.0.1:1", rdmaio.Hello{}, rdmaio.Events{}, opts); err == nil || err.Error() != want {
			t.Errorf("Dial: %v, want %v", err, want)
		}
	}
}
