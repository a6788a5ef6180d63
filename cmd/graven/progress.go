package main

import (
	"encoding/json"
	"io"
	"os"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// Values of --progress.
const (
	progressAuto = "auto" // a bar on a terminal, else nothing
	progressBar  = "bar"
	progressJSON = "json"
	progressNone = "none"
)

// barDelay is how long something takes before it is worth a bar.
const barDelay = time.Second

// progress shows what a pump has committed while it runs.
type progress struct {
	p     *pump
	out   io.Writer
	total int64 // bytes to come, or -1
	done  chan struct{}
	ended sync.WaitGroup
}

// newProgress begins to show progress on out; stop ends it.
func newProgress(out io.Writer, how string, total int64, p *pump) *progress {
	s := &progress{p: p, out: out, total: total, done: make(chan struct{})}
	if how == progressAuto && isTerminal(out) {
		how = progressBar
	}
	switch how {
	case progressBar:
		s.ended.Go(s.bar)
	case progressJSON:
		s.ended.Go(s.lines)
	}
	return s
}

// isTerminal says whether one of a command's streams is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// stop shows the last state and returns when nothing is written any more.
func (s *progress) stop() {
	close(s.done)
	s.ended.Wait()
}

// progressLine is one line of --progress json.
type progressLine struct {
	Records   int64  `json:"committed_records"`
	Bytes     int64  `json:"committed_bytes"`
	CommitLSN uint64 `json:"commit_lsn"`
}

// lines writes a line each time that more is committed.
func (s *progress) lines() {
	enc := json.NewEncoder(s.out)
	var last progressLine
	write := func() {
		var l progressLine
		l.Records, l.Bytes, l.CommitLSN = s.p.committed()
		if l.Records > last.Records {
			_ = enc.Encode(l) // nobody reads any more: the append goes on
			last = l
		}
	}
	for {
		select {
		case <-s.p.wake:
			write()
		case <-s.done:
			write()
			return
		}
	}
}

// bar draws a bar for what takes longer than barDelay.
func (s *progress) bar() {
	select {
	case <-time.After(barDelay):
	case <-s.done:
		return
	}
	bars := mpb.New(mpb.WithOutput(s.out), mpb.WithWidth(64), mpb.WithAutoRefresh())
	bar := s.add(bars)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for running := true; running; {
		select {
		case <-tick.C:
		case <-s.done:
			running = false
		}
		_, bytes, _ := s.p.committed()
		bar.SetCurrent(bytes)
	}
	_, bytes, _ := s.p.committed()
	if s.total < 0 || bytes == s.total {
		bar.SetTotal(bytes, true)
	} else {
		bar.Abort(false)
	}
	bars.Wait()
}

func (s *progress) add(bars *mpb.Progress) *mpb.Bar {
	began := s.p.started
	speed := decor.NewAverageSpeed(decor.SizeB1024(0), "% .1f", began)
	if s.total < 0 {
		return bars.New(0, mpb.NopStyle(),
			mpb.PrependDecorators(decor.Name("committed "), decor.CurrentKibiByte("% .1f")),
			mpb.AppendDecorators(decor.Name("  "), speed, decor.Name("  in "), decor.NewElapsed(decor.ET_STYLE_GO, began)))
	}
	return bars.AddBar(s.total,
		mpb.PrependDecorators(decor.Name("committed "), decor.CountersKibiByte("% .1f of % .1f")),
		mpb.AppendDecorators(decor.Percentage(decor.WCSyncSpace), decor.Name("  "), speed, decor.Name("  "),
			decor.OnComplete(decor.NewAverageETA(decor.ET_STYLE_GO, began, nil), "done")))
}
