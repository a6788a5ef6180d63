package faultproxy

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo starts a server that sends back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(conn, conn) // one at a time is enough here
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-ended
	})
	return ln.Addr().String()
}

func connect(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func send(t *testing.T, conn net.Conn, n int) {
	t.Helper()
	if _, err := conn.Write(bytes.Repeat([]byte{'a'}, n)); err != nil {
		t.Fatal(err)
	}
}

func TestPassesBytesAndHalfCloses(t *testing.T) {
	t.Parallel()
	conn := connect(t, Start(t, echo(t)))
	send(t, conn, 100_000)
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || len(got) != 100_000 {
		t.Fatalf("%d bytes came back, %v", len(got), err)
	}
}

func TestCutsAfterBytes(t *testing.T) {
	t.Parallel()
	p := Start(t, echo(t))
	p.ToClient(Faults{CutAfter: 10})
	conn := connect(t, p)
	send(t, conn, 100)
	if got, _ := io.ReadAll(conn); len(got) > 10 {
		t.Fatalf("%d bytes came through, the cut was to be after 10", len(got))
	}
}

func TestFlipsOneBit(t *testing.T) {
	t.Parallel()
	p := Start(t, echo(t))
	p.ToServer(Faults{Flip: []int64{3}})
	conn := connect(t, p)
	send(t, conn, 6)
	got := make([]byte, 6)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "aaa`aa" {
		t.Fatalf("%q came back, %v", got, err)
	}
}

func TestHoldsAndLetsGo(t *testing.T) {
	t.Parallel()
	p := Start(t, echo(t))
	conn := connect(t, p)
	p.Hold(true)
	send(t, conn, 6)
	got := make([]byte, 6)
	if err := conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(got); err == nil {
		t.Fatalf("%d bytes came through a partition", n)
	}
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	p.Hold(false)
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Fatalf("after the partition: %v", err)
	}
}

func TestCutAndRefuse(t *testing.T) {
	t.Parallel()
	p := Start(t, echo(t))
	conn := connect(t, p)
	send(t, conn, 1)
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	p.Cut()
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Fatalf("%d bytes came through a cut connection", n)
	}
	p.Refuse(true)
	if n, err := connect(t, p).Read(make([]byte, 1)); err == nil {
		t.Fatalf("%d bytes came through a refused connection", n)
	}
	if n := p.Opened(); n != 1 {
		t.Fatalf("%d connections were counted, one was made", n)
	}
}
