package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"

	"github.com/gravenio/graven/agent"
)

// fabricReply is how many bytes a process of the bare exchange answers.
const fabricReply = 64

// fabric is the client of the bare exchange: every operation sends a block on
// each connection and is done when enough of them have answered.
type fabric struct {
	conns []net.Conn
	ack   int
	block []byte
	stop  func() bool
	ended sync.WaitGroup
	wake  chan struct{}

	mu      sync.Mutex
	replies []int // of each connection
	done    int   // operations
	counted int   // of them, by await
	err     error
}

// startFabric starts the processes of the bare exchange and connects to them.
func (b *bench) startFabric(ctx context.Context) (_ *subject, err error) {
	f := &fabric{
		ack: b.fl.ack, block: bytes.Repeat([]byte{0xa5}, int(b.fl.block)),
		wake: make(chan struct{}, 1), replies: make([]int, b.fl.replicas),
	}
	s := &subject{name: benchFabric, lane: f, pids: []int{os.Getpid()}}
	var servers []*benchProcess
	s.close = func() {
		f.close()
		stopProcesses(servers)
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	f.stop = context.AfterFunc(ctx, func() { f.fail(context.Cause(ctx)) })
	for range b.fl.replicas {
		p, addr, err := b.startServer(ctx)
		if err != nil {
			return nil, err
		}
		servers = append(servers, p)
		s.pids = append(s.pids, p.process.Pid)
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		f.add(conn)
	}
	return s, nil
}

// startServer starts one process of the bare exchange and returns its address.
func (b *bench) startServer(ctx context.Context) (*benchProcess, string, error) {
	args := []string{"bench", "serve", "--block", strconv.FormatInt(int64(b.fl.block), 10)}
	if b.media == agent.MediaFile {
		args = append(args, "--dir", b.dir, "--ring", strconv.FormatInt(b.fl.ring(), 10))
	}
	p, err := startProcess(ctx, b.self, args)
	if err != nil {
		return nil, "", err
	}
	m, err := p.await(ctx, `^listening on (\S+)$`)
	if err != nil {
		stopProcesses([]*benchProcess{p})
		return nil, "", err
	}
	return p, m[1], nil
}

func (f *fabric) add(conn net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := len(f.conns)
	f.conns = append(f.conns, conn)
	f.ended.Go(func() { f.receive(i, conn) })
}

// receive counts the answers of one connection.
func (f *fabric) receive(i int, conn net.Conn) {
	buf := make([]byte, 64*fabricReply)
	part := 0
	for {
		n, err := conn.Read(buf)
		if err != nil {
			f.fail(fmt.Errorf("bare exchange: %w", err))
			return
		}
		part += n
		if whole := part / fabricReply; whole > 0 {
			part %= fabricReply
			f.count(i, whole)
		}
	}
}

func (f *fabric) count(i, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.replies[i] += n
	var replies [8]int
	sorted := replies[:copy(replies[:], f.replies)]
	slices.Sort(sorted)
	if done := sorted[len(sorted)-f.ack]; done > f.done {
		f.done = done
		f.signal()
	}
}

func (f *fabric) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *fabric) submit(context.Context) error {
	for _, c := range f.conns {
		if _, err := c.Write(f.block); err != nil {
			f.fail(fmt.Errorf("bare exchange: %w", err))
			return f.failure()
		}
	}
	return nil
}

func (f *fabric) await(context.Context) (int, error) {
	for {
		f.mu.Lock()
		n, err := f.done-f.counted, f.err
		f.counted = f.done
		f.mu.Unlock()
		if err != nil || n > 0 {
			return n, err
		}
		<-f.wake
	}
}

func (f *fabric) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// fail ends the exchange; the first reason stands.
func (f *fabric) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
	for _, c := range f.conns {
		_ = c.Close()
	}
	f.signal()
}

func (f *fabric) close() {
	f.stop()
	f.fail(errors.New("bare exchange: closed"))
	f.ended.Wait()
}
