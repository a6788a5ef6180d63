package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// newBenchServe is a far end of `graven bench fabric`.
func newBenchServe(a *app) *cobra.Command {
	var dir string
	block, ring := size(4<<10), size(64<<20)
	cmd := &cobra.Command{
		Use:    "serve",
		Short:  "Answer one client of `graven bench fabric`",
		Hidden: true,
		Args:   exactly(),
	}
	f := cmd.Flags()
	f.Var(&block, "block", "size of a block")
	f.StringVar(&dir, "dir", "", "`FOLDER` to keep the blocks in, each synced before it is answered (default nowhere)")
	f.Var(&ring, "ring", "size of the file that the blocks go round in")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if block < 1 || block > maxBenchBlock || ring < block {
			return usagef("--block must be 1 byte to 1MiB, and at most --ring")
		}
		s := &blockServer{block: int(block)}
		if dir != "" {
			var err error
			if s.file, err = newBlockFile(dir, int64(ring)/int64(block)*int64(block)); err != nil {
				return err
			}
			defer s.file.close()
		}
		return s.serve(cmd.Context(), a.out)
	}
	return cmd
}

// blockServer answers every block of one connection.
type blockServer struct {
	block int
	file  *blockFile // nil: blocks are received and forgotten
	reply []byte
}

func (s *blockServer) serve(ctx context.Context, out io.Writer) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer ln.Close()
	fmt.Fprintf(out, "listening on %s\n", ln.Addr())
	defer context.AfterFunc(ctx, func() { _ = ln.Close() })()
	conn, err := ln.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if s.file != nil {
		var syncing sync.WaitGroup
		defer syncing.Wait()
		defer s.file.end()
		syncing.Go(func() { s.file.run(func(n int) error { return s.answer(conn, n) }) })
	}
	err = s.receive(conn)
	if ctx.Err() != nil || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// receive takes what has arrived and deals with the whole blocks in it.
func (s *blockServer) receive(conn net.Conn) error {
	buf := make([]byte, max(256<<10, 2*s.block))
	have := 0
	for {
		n, err := conn.Read(buf[have:])
		if err != nil {
			return err
		}
		have += n
		whole := have / s.block
		if whole == 0 {
			continue
		}
		if s.file != nil {
			err = s.file.write(buf[:whole*s.block], whole)
		} else {
			err = s.answer(conn, whole)
		}
		if err != nil {
			return err
		}
		have = copy(buf, buf[whole*s.block:have])
	}
}

func (s *blockServer) answer(conn net.Conn, blocks int) error {
	if n := blocks * fabricReply; n > len(s.reply) {
		s.reply = make([]byte, n)
	}
	_, err := conn.Write(s.reply[:blocks*fabricReply])
	return err
}

// blockFile is a file that blocks go round in, with one sync for all that wait.
type blockFile struct {
	f    *os.File
	size int64
	at   int64

	mu      sync.Mutex
	changed sync.Cond
	waiting int // blocks written and not synced
	ended   bool
	err     error
}

// newBlockFile makes a file that is filled with zeroes, so that a sync later
// writes no more than the blocks.
func newBlockFile(dir string, size int64) (_ *blockFile, err error) {
	f, err := os.CreateTemp(dir, "blocks-")
	if err != nil {
		return nil, err
	}
	b := &blockFile{f: f, size: size}
	b.changed.L = &b.mu
	zeroes := make([]byte, 1<<20)
	for at := int64(0); at < size && err == nil; at += int64(len(zeroes)) {
		_, err = f.WriteAt(zeroes[:min(size-at, int64(len(zeroes)))], at)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// write writes blocks, in two pieces where the file ends.
func (b *blockFile) write(p []byte, blocks int) error {
	for len(p) > 0 {
		n := min(int64(len(p)), b.size-b.at)
		if _, err := b.f.WriteAt(p[:n], b.at); err != nil {
			return err
		}
		b.at, p = (b.at+n)%b.size, p[n:]
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting += blocks
	b.changed.Signal()
	return b.err
}

// run syncs and answers until end is called or something fails.
func (b *blockFile) run(answer func(n int) error) {
	for {
		n := b.take()
		if n == 0 {
			return
		}
		err := unix.Fdatasync(int(b.f.Fd()))
		if err == nil {
			err = answer(n)
		}
		if err != nil {
			b.mu.Lock()
			b.err = err
			b.mu.Unlock()
			return
		}
	}
}

// take returns how many blocks wait for a sync; 0 at the end.
func (b *blockFile) take() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.waiting == 0 && !b.ended {
		b.changed.Wait()
	}
	if b.ended {
		return 0
	}
	n := b.waiting
	b.waiting = 0
	return n
}

func (b *blockFile) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	b.changed.Signal()
}

func (b *blockFile) close() {
	_ = b.f.Close()           // nothing in it is needed
	_ = os.Remove(b.f.Name()) // whoever made the folder removes it, too
}
