package replog

import (
	"math"

	"github.com/gravenio/graven/replog/core"
)

// event runs one event of the core under the lock and carries out its effects.
func (w *Writer) event(f func(c *core.Core)) {
	w.mu.Lock()
	defer w.unlock()
	f(w.core)
	w.dispatch()
	if !w.quorum.since.IsZero() {
		w.lookAtQuorumLocked()
	}
}

// dispatch starts the core's effects in their order. What has to wait for an
// answer goes to the goroutine of its peer; what is to be sent is sent by unlock.
func (w *Writer) dispatch() {
	w.effects = w.core.Effects(w.effects[:0])
	changed := w.settling > 0
	for i := range w.effects {
		e := &w.effects[i]
		switch e.Kind {
		case core.Send:
			w.peers[e.Peer.Index].send(e)
			continue // the hot path wakes nobody who waits for a change
		case core.Committed:
			w.waiting.finish(e.To, nil)
			continue
		case core.Opened:
			w.signalOpened()
		case core.Stopped:
			w.waiting.finish(math.MaxUint64, w.errLocked())
			w.signalOpened()
			w.cancel() // sessions and lease are of no use any more
			w.opts.Log.Info("writer stopped", "log", w.grant.Name, "epoch", w.grant.Term.Epoch, "why", e.Err)
		case core.MakePresent:
			w.wantPresent(w.peers[e.Peer.Index].id)
		case core.Promote:
			wakeUp(w.promote)
		case core.Retired:
			w.retired(w.peers[e.Peer.Index])
		case core.GaveUp:
			w.gaveUp(e.Loss)
		case core.Recovered:
			w.recovered(e.Recovery)
		case core.Cut:
			w.peers[e.Peer.Index].cut(e)
		default:
			w.peers[e.Peer.Index].ask(e)
		}
		changed = true
	}
	if changed {
		w.signalChanged()
	}
}

func (w *Writer) signalOpened() {
	select {
	case <-w.opened:
	default:
		close(w.opened)
	}
}

// signalChanged wakes all who wait for something else than a commit.
func (w *Writer) signalChanged() {
	close(w.changed)
	w.changed = make(chan struct{})
}
