package tcp

import (
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gravenio/graven/rdmaio"
)

// tune prepares a socket: no delay for small frames, and probes that find a
// dead peer even while nothing is asked of it. The kernel gives up on bytes
// that were not acknowledged for deadAfter.
func tune(conn net.Conn, deadAfter time.Duration) error {
	tc, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	if err := tc.SetNoDelay(true); err != nil {
		return err
	}
	probes := net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 3 * time.Second, Count: 3}
	if err := tc.SetKeepAliveConfig(probes); err != nil {
		return err
	}
	raw, err := tc.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadAfter.Milliseconds()))
	})
	if err != nil {
		return err
	}
	return set
}

// rawConn returns what direct sending needs, nil where bytes have to pass
// through another layer.
func rawConn(conn net.Conn) syscall.RawConn {
	tc, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tc.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// lost makes an error of the network one of rdmaio's.
func lost(err error) error {
	return fmt.Errorf("%w: %w", rdmaio.ErrLost, err)
}
