package replog

import (
	"sync"

	"github.com/gravenio/graven/replog/core"
)

// sends are the ranges of the mirror that the core wants sent to one peer. They
// are posted without the writer's lock: while a socket takes bytes, other peers'
// completions are taken in and more records are appended.
type sends struct {
	// Guarded by the writer's lock.
	queue   []span
	posting bool      // somebody posts; two would lose the order
	posted  sync.Cond // posting has become false

	segments [][]byte // scratch of the one who posts
}

type span struct{ from, to uint64 }

// send queues a range; the writer's lock is held, and whoever holds it gives it
// up by unlock.
func (p *peer) send(e *core.Effect) {
	if p.conn != nil && e.Peer.Session == p.session {
		p.sends.queue = append(p.sends.queue, span{e.From, e.To})
		p.w.unsent = true
	}
}

// unlock gives the writer's lock up and posts what was queued under it.
func (w *Writer) unlock() {
	unsent, peers := w.unsent, w.peers
	w.unsent = false
	w.mu.Unlock()
	if unsent {
		for _, p := range peers {
			p.post()
		}
	}
}

// post posts what is queued, unless somebody is at it already, who will find it.
// Nothing of the mirror that is queued is overwritten meanwhile: the peer has not
// acknowledged it.
func (p *peer) post() {
	w, s := p.w, &p.sends
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.posting {
		return
	}
	s.posting = true
	for p.conn != nil && len(s.queue) > 0 {
		next, conn, hangUp := s.queue[0], p.conn, p.hangUp
		s.queue = s.queue[:copy(s.queue, s.queue[1:])]
		w.mu.Unlock()
		s.segments = w.mirror.Segments(s.segments[:0], next.from, next.to)
		err := conn.Post(next.from, s.segments)
		w.mu.Lock()
		if err != nil {
			hangUp(err)
		}
	}
	s.posting = false
	s.posted.Broadcast()
}

// detach forgets the session's connection and returns when nobody posts on it
// any more; the writer's lock is held.
func (p *peer) detach() {
	p.conn, p.sends.queue = nil, p.sends.queue[:0]
	for p.sends.posting {
		p.sends.posted.Wait()
	}
}
