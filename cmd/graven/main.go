package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Stamped by the linker (see the Makefile) and read-only afterwards.
var (
	version = "unknown"
	commit  = "unknown"
	date    = "unknown"
)

func main() {
	ctx, stop := signals(context.Background())
	code := run(ctx, os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr})
	stop()
	os.Exit(code)
}

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// streams are the standard ones, or a test's.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// run carries out one command line and returns the exit status.
func run(ctx context.Context, args []string, s streams) int {
	a := &app{streams: s}
	root := newRoot(a)
	root.SetArgs(args)
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	report(s.err, cmd.CommandPath(), err)
	return exitStatus(err)
}

// errSignal is the cause of a context that a signal has ended.
var errSignal = errors.New("interrupted")

// signals returns a context that the first SIGINT or SIGTERM ends. A second
// SIGINT ends the process at once; a second SIGTERM changes nothing, because
// agents of `graven dev` get Ctrl-C from the terminal and then SIGTERM from dev.
func signals(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	ch := make(chan os.Signal, 4)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-ch
		cancel(errSignal)
		for s := range ch {
			if s == syscall.SIGINT {
				os.Exit(128 + int(syscall.SIGINT))
			}
		}
	}()
	return ctx, func() { signal.Stop(ch); cancel(nil) }
}
