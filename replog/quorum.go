package replog

import (
	"math"
	"time"
)

// quorumWatch notices that too few replicas have worked for too long. It is
// guarded by the writer's lock.
type quorumWatch struct {
	since   time.Time   // zero while enough work
	timer   *time.Timer // nil until it is needed
	failure error       // what appends fail with; nil while they may wait
}

func (q *quorumWatch) stop() {
	if q.timer != nil {
		q.timer.Stop()
	}
}

// lookAtQuorumLocked is called when a replica is lost, and after each event while
// too few work. The writer's lock is held.
func (w *Writer) lookAtQuorumLocked() {
	q, limit := &w.quorum, w.opts.QuorumTimeout
	switch {
	case limit == 0 || w.closed:
	case !w.core.Stalled():
		if !q.since.IsZero() {
			q.stop()
			q.since, q.failure = time.Time{}, nil
		}
	case q.since.IsZero():
		q.since = time.Now()
		if q.timer == nil {
			q.timer = time.AfterFunc(limit, w.quorumTimedOut)
		} else {
			q.timer.Reset(limit)
		}
	}
}

// quorumTimedOut fails what waits. The records keep their places, and are
// committed once enough replicas are back: the outcome is unknown to those who
// waited, and appends go on by themselves.
func (w *Writer) quorumTimedOut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := &w.quorum
	if w.closed || q.since.IsZero() || !w.core.Stalled() {
		return
	}
	q.failure = &NoQuorumError{After: time.Since(q.since).Round(time.Millisecond), Waiting: w.core.Waiting()}
	w.waiting.finish(math.MaxUint64, q.failure)
	w.signalChanged() // and who waits for space
}
