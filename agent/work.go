package agent

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/gravenio/graven/rdmaio/tcp"
)

// work is what goes on while an agent runs: the sessions, the chores, the
// recoveries, the scrubs, the lease and the metrics, each in its own goroutine.
type work struct {
	a        *Agent
	listener *tcp.Listener
	http     net.Listener // nil for none

	fatal chan error // the first one ends the agent
	wg    sync.WaitGroup
}

// newWork listens and does nothing else yet.
func (a *Agent) newWork() (*work, error) {
	ln, err := listen("Listen", a.opts.Listen)
	if err != nil {
		return nil, err
	}
	w := &work{a: a, fatal: make(chan error, 1)}
	if w.listener, err = tcp.NewListener(ln, host{a}, a.opts.TCP); err != nil {
		_ = ln.Close() // nothing came of it
		return nil, fmt.Errorf("agent: TCP: %w", err)
	}
	if a.opts.MetricsListen != "" {
		if w.http, err = listenForReaders(a.opts.MetricsListen, a.opts.MetricsTLS); err != nil {
			_ = ln.Close() // nothing came of it
			return nil, err
		}
		a.log.Info("metrics", "addr", w.http.Addr())
	}
	if a.opts.TLS == nil {
		a.log.Warn("writers and readers are served without TLS: they prove nothing, and whoever reaches the address can read", "addr", w.listener.Addr())
	}
	a.mu.Lock()
	a.addr = w.listener.Addr()
	if w.http != nil {
		a.observed = w.http.Addr()
	}
	a.mu.Unlock()
	close(a.listening)
	return w, nil
}

func listen(field, address string) (net.Listener, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%w: %s %s: %w; choose another address, or port 0 for a free one", ErrListen, field, address, err)
	}
	return ln, nil
}

// run goes on until ctx ends or something fails for good, and then leaves.
func (w *work) run(ctx context.Context) error {
	apart := context.WithoutCancel(ctx) // what follows ends in its own order
	serving, stopServing := context.WithCancel(apart)
	defer stopServing()
	telling, stopTelling := context.WithCancel(apart)
	defer stopTelling()

	served := w.start(func() error { return w.listener.Run(serving) })
	chores := w.start(func() error { return w.a.chores.run(serving) })
	recovered := w.start(func() error { return w.a.lane.run(serving) })
	scrubbed := w.start(func() error { return w.a.scrubs.run(serving) })
	told := w.start(func() error { return newLease(w.a).run(telling) })
	if w.http != nil {
		w.start(func() error { return w.a.observe(telling, w.http) })
	}

	var err error
	select {
	case <-ctx.Done():
		w.a.log.Info("leaving")
	case err = <-w.fatal:
	}
	w.a.stopped.Store(true)
	stopServing()
	settled := w.start(func() error {
		<-served
		<-chores
		<-recovered
		<-scrubbed
		w.a.settle()
		return nil
	})
	w.await(settled)
	stopTelling()
	<-told
	w.wg.Wait()
	w.a.keepMark() // of the last heartbeat
	return err
}

// start runs f apart; an error of it ends the agent. The channel is closed when
// f has returned.
func (w *work) start(f func() error) <-chan struct{} {
	done := make(chan struct{})
	w.wg.Go(func() {
		defer close(done)
		if err := f(); err != nil {
			select {
			case w.fatal <- err:
			default: // another one has ended the agent
			}
		}
	})
	return done
}

// await waits until all I/O has ended, but not for ever: the control plane
// shall hear of the end although the medium does not answer, or a recovered log's
// lease can't be given back.
func (w *work) await(settled <-chan struct{}) {
	t := time.NewTimer(w.a.opts.LeaveTimeout)
	defer t.Stop()
	select {
	case <-settled:
	case <-t.C:
		w.a.log.Error("the medium, or the control plane, does not answer; the process ends when what is under way has ended", "waited", w.a.opts.LeaveTimeout)
	}
}

// settle persists all hints. Sessions have ended.
func (a *Agent) settle() {
	for _, h := range a.catalog.all() {
		h.hint.stop()
		h.hint.persist()
	}
}
