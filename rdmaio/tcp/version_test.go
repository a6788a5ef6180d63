package tcp

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
)

// ours is what this program speaks.
func ours() span { return span{}.withDefault() }

// speaking returns options of a program that speaks other versions than this
// one, which are laid out alike for want of better ones.
func speaking(lowest, highest uint8) Options {
	o := quiet()
	o.speaks = span{lowest, highest}
	return o
}

// During a rolling upgrade, both ends use the highest version that both speak,
// in all that a session does.
func TestVersionsAreNegotiated(t *testing.T) {
	t.Parallel()
	const n = version
	for name, tt := range map[string]struct {
		near, far span
		want      uint8
	}{
		"both old":               {ours(), ours(), n},
		"the client is upgraded": {span{n, n + 1}, ours(), n},
		"the daemon is upgraded": {ours(), span{n, n + 1}, n},
		"both are upgraded":      {span{n, n + 1}, span{n, n + 1}, n + 1},
		"the old one is dropped": {span{n + 1, n + 1}, span{n, n + 1}, n + 1},
		"two releases apart":     {span{n, n + 1}, span{n + 1, n + 2}, n + 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, cheap := range []bool{true, false} {
				host := newFakeHost(ringSize)
				host.cheap, host.report = cheap, someReport()
				p := dial(t, serve(t, host, speaking(tt.far.lowest, tt.far.highest)), someHello(), speaking(tt.near.lowest, tt.near.highest))
				if p.welcome.Version != uint32(tt.want) || p.out.agreed != tt.want || p.in.agreed != tt.want {
					t.Errorf("version %d was agreed, want %d", p.welcome.Version, tt.want)
				}
				use(t, p, host)
			}
		})
	}
}

// use appends through a session and asks it this and that.
func use(t *testing.T, p *peer, host *fakeHost) {
	t.Helper()
	if _, err := p.Fence(t.Context()); err != nil {
		t.Fatal(err)
	}
	l := newLog(ringSize)
	for i := range 50 {
		lsn, segs := l.add(i * 100)
		if err := p.Post(lsn, segs); err != nil {
			t.Fatal(err)
		}
	}
	p.durable(l.chain.LSN)
	if !bytes.Equal(host.bytes(), l.ring) {
		t.Error("the replica holds other bytes than were posted")
	}
	read := make([]byte, 1000)
	err := errors.Join(p.Read(t.Context(), 64, read), p.Reseal(t.Context(), 3, []format.ID{{1}}))
	if err != nil || !bytes.Equal(read, l.ring[64:1064]) {
		t.Errorf("read and reseal: %v", err)
	}
}

// Without a version in common both ends say so, the daemon's log once, and
// nothing is left of the connection.
func TestNoVersionInCommon(t *testing.T) {
	t.Parallel()
	const n = version
	for name, tt := range map[string]struct {
		near, far span
		detail    string
	}{
		"the client is too new": {span{n + 1, n + 1}, ours(), "protocol versions 2 to 2 are offered, this program speaks version 1; upgrade the older of the two"},
		"the client is too old": {ours(), span{n + 1, n + 2}, "protocol versions 1 to 1 are offered, this program speaks versions 2 to 3; upgrade the older of the two"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var logged lines
			far := speaking(tt.far.lowest, tt.far.highest)
			far.Logger = slog.New(slog.NewTextHandler(&logged, nil))
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			host := newFakeHost(ringSize)
			l := run(t, ln, host, far)
			_, _, err = Dial(t.Context(), l.Addr().String(), someHello(), rdmaio.Events{}, speaking(tt.near.lowest, tt.near.highest))
			if !errors.Is(err, rdmaio.ErrVersion) || !strings.HasSuffix(err.Error(), tt.detail) {
				t.Errorf("Dial: %v, want %v: %s", err, rdmaio.ErrVersion, tt.detail)
			}
			eventually(t, "the connection is closed", func() bool {
				l.mu.Lock()
				defer l.mu.Unlock()
				return len(l.conns) == 0
			})
			want := fmt.Sprintf("%v: %s", rdmaio.ErrVersion, tt.detail)
			if got := logged.all(); len(got) != 1 || !strings.Contains(got[0], "level=WARN") || !strings.Contains(got[0], want) {
				t.Errorf("logged %q, want one warning: %s", got, want)
			}
			if host.greeted() != (rdmaio.Hello{}) {
				t.Error("the host was asked")
			}
		})
	}
}

// A later version may append to the Hello; who doesn't know it reads the rest.
func TestAHelloWithMoreInIt(t *testing.T) {
	t.Parallel()
	host := newFakeHost(ringSize)
	addr := serve(t, host, quiet())
	for highest, want := range map[uint32]kind{version: kindError, version + 1: kindWelcome} {
		body, err := encodeHello(&hello{lowest: version, highest: highest, Hello: someHello()})
		if err != nil {
			t.Fatal(err)
		}
		p := rawDial(t, addr)
		p.send(appendFrame(nil, header{version: version, kind: kindHello}, append(body, "what is new"...)))
		h, answer, err := p.in.next()
		if err != nil || h.kind != want || h.version != version {
			t.Errorf("up to version %d: %v of version %d, %v; want %v", highest, h.kind, h.version, err, want)
		}
		if h.kind == kindError && !errors.Is(decodeError(answer), rdmaio.ErrFrame) {
			t.Errorf("refused with %v", decodeError(answer))
		}
	}
	if got := host.greeted(); got != someHello() {
		t.Errorf("the host was told %+v", got)
	}
}

// A daemon that takes liberties is left.
func TestADaemonThatSaysAnotherVersion(t *testing.T) {
	t.Parallel()
	welcome := func(chosen uint32, later ...byte) []byte {
		b := appendFrame(nil, header{version: version, kind: kindWelcome}, encodeWelcome(&rdmaio.Welcome{Version: chosen}))
		return append(b, later...)
	}
	state := appendFrame(nil, header{version: version + 1, kind: kindBusy}, nil)
	for name, test := range map[string]struct {
		says []byte
		want string
	}{
		"not offered":   {welcome(9), "rdmaio: no common protocol version: the daemon chose protocol version 9, this program offered version 1"},
		"not as agreed": {welcome(version, state...), "rdmaio: no common protocol version: version of a frame is 2, must be 1 as agreed"},
	} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		said := make(chan error, 1)
		go func() { said <- sayOnce(ln, test.says) }()
		ended := make(chan error, 1)
		c, _, err := Dial(t.Context(), ln.Addr().String(), someHello(), rdmaio.Events{Ended: func(err error) { ended <- err }}, quiet())
		if err == nil {
			select {
			case err = <-ended:
			case <-time.After(20 * time.Second):
			}
			_ = c.Close()
		}
		if err == nil || !errors.Is(err, rdmaio.ErrVersion) || !strings.HasSuffix(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
		if err := <-said; err != nil {
			t.Error(err)
		}
	}
}

// sayOnce answers one connection, whatever it says, and waits for its end.
func sayOnce(ln net.Listener, b []byte) error {
	defer ln.Close()
	conn, err := ln.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write(b); err != nil {
		return err
	}
	for buf := make([]byte, 1024); err == nil; {
		_, err = conn.Read(buf)
	}
	return nil
}
