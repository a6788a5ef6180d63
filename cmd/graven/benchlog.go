package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/gravenio/graven/agent"
	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog"
)

// logLane appends to a log and trims behind itself, so that the ring never fills.
type logLane struct {
	w       *replog.Writer
	payload []byte
	tickets []*replog.Ticket // under way, the oldest first
	end     uint64           // LSN below which all is committed
	trimmed uint64
	step    uint64 // bytes between two trims
}

func (l *logLane) submit(ctx context.Context) error {
	t, err := l.w.Submit(ctx, format.Record{Payload: l.payload})
	if err == nil {
		l.tickets = append(l.tickets, t)
	}
	return err
}

func (l *logLane) await(ctx context.Context) (int, error) {
	if err := l.tickets[0].Wait(ctx); err != nil {
		return 0, err
	}
	n := 1
	for n < len(l.tickets) && finished(l.tickets[n]) {
		n++
	}
	l.end = l.tickets[n-1].End
	l.tickets = l.tickets[:copy(l.tickets, l.tickets[n:])]
	if l.end-l.trimmed < l.step {
		return n, nil
	}
	l.trimmed = l.end
	return n, l.w.Trim(l.end)
}

func finished(t *replog.Ticket) bool {
	select {
	case <-t.Done():
		return t.Err() == nil // await returns the error when it is the oldest
	default:
		return false
	}
}

// startLog opens a log of a cluster of the medium.
func (b *bench) startLog(ctx context.Context) (_ *subject, err error) {
	s := &subject{name: benchLog}
	var closers []func()
	s.close = func() {
		for i := len(closers) - 1; i >= 0; i-- {
			closers[i]()
		}
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	endpoints := b.endpoints
	if !b.fl.running {
		c, err := b.startCluster(ctx)
		if err != nil {
			return nil, err
		}
		closers = append(closers, func() { stopProcesses([]*benchProcess{c.dev}) })
		endpoints = c.api
		s.pids = append(c.agents, os.Getpid())
	}
	to := &app{credentials: b.credentials, endpoints: endpoints}
	api, err := to.client()
	if err != nil {
		return nil, err
	}
	daemons, err := to.reach()
	if err != nil {
		return nil, err
	}
	name, err := b.createLog(ctx, api)
	if err != nil {
		return nil, err
	}
	if b.fl.running {
		closers = append(closers, func() { b.removeLog(ctx, api, name) })
	}
	w, err := replog.Open(ctx, daemons.control(api, "bench log"), replog.OpenRequest{Log: name}, daemons.with(replog.Options{WaitForSpace: true}))
	if err != nil {
		return nil, err
	}
	closers = append(closers, func() { b.closeWriter(w) })
	if err := w.Settle(ctx); err != nil {
		return nil, err
	}
	s.lane = &logLane{
		w: w, payload: bytes.Repeat([]byte{0xa5}, int(b.fl.block)),
		trimmed: w.TrimLSN(), step: w.Grant().Capacity / 8,
	}
	return s, nil
}

func (b *bench) createLog(ctx context.Context, api *openapi.ClientWithResponses) (string, error) {
	name := fmt.Sprintf("bench-%d", os.Getpid())
	media := openapi.Media(b.media)
	_, err := checked(api.CreateLogWithResponse(ctx, &openapi.CreateLogParams{}, openapi.CreateLogRequest{
		Name: name, Replicas: int32(b.fl.replicas), AckQuorum: int32(b.fl.ack), CapacityBytes: b.fl.ring(),
		Placement: (&rules{media: string(media)}).placement(),
	}))
	return name, err
}

// removeLog deletes the log of a cluster that goes on, also after an interrupt.
func (b *bench) removeLog(ctx context.Context, api *openapi.ClientWithResponses, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := removeLog(ctx, api, name); err != nil {
		note(b.err, "note: log %s is still there: %v", name, err)
	}
}

func (b *bench) closeWriter(w *replog.Writer) {
	if err := w.Close(); err != nil {
		note(b.err, "note: %v; the lease ends by itself", err)
	}
}

// benchCluster is a cluster of a benchmark's own.
type benchCluster struct {
	dev    *benchProcess
	api    string
	agents []int // their process IDs
}

// startCluster runs `graven dev` and reads from its output what is where.
func (b *bench) startCluster(ctx context.Context) (*benchCluster, error) {
	pool := size(b.fl.ring() + 64<<20)
	args := []string{
		"dev", "--data", filepath.Join(b.dir, "cluster"), "--api", "127.0.0.1:0",
		"--daemons", strconv.Itoa(b.fl.replicas), "--media", b.media, "--pool-size", pool.String(),
	}
	if b.media == agent.MediaPmem {
		args = append(args, "--durability", b.fl.why)
	}
	dev, err := startProcess(ctx, b.self, args)
	if err != nil {
		return nil, err
	}
	c := &benchCluster{dev: dev}
	for c.api == "" {
		m, err := dev.await(ctx, `^(?:d\d+ +pid (\d+) |ready (\S+))`)
		if err != nil {
			stopProcesses([]*benchProcess{dev})
			return nil, err
		}
		if c.api = m[2]; c.api == "" {
			pid, err := strconv.Atoi(m[1])
			if err != nil {
				stopProcesses([]*benchProcess{dev})
				return nil, fmt.Errorf("process ID of an agent: %w", err)
			}
			c.agents = append(c.agents, pid)
		}
	}
	return c, nil
}
