package agent

import (
	"crypto/sha256"
	"slices"
	"sync"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
)

// hosted is a replica that is being served.
type hosted struct {
	replica *pmemlog.Replica
	hint    hint

	mu       sync.Mutex
	sessions []*target         // those that may write, in the order of their admission
	term     format.Fence      // the one that was fenced last in this process
	grant    [sha256.Size]byte // digest of its grant
	key      string            // the client's, as its grant names it
}

func newHosted(a *Agent, r *pmemlog.Replica) *hosted {
	h := &hosted{replica: r}
	h.hint.init(r, a.log.With("log", r.Log(), "replica", r.ID()))
	return h
}

// knows says that this very grant was checked before and that its term has been
// fenced: it stays good for reconnecting, whatever becomes of the key.
func (h *hosted) knows(hello *rdmaio.Hello) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.term.Epoch > 0 && h.term == hello.Term && h.grant == sha256.Sum256([]byte(hello.Grant))
}

// clientKey is the key that the grant of the term fenced last names.
func (h *hosted) clientKey() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.key
}

func (h *hosted) fenced(term format.Fence, grant [sha256.Size]byte, key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.term, h.grant, h.key = term, grant, key
}

// admit makes a session. It is one of those that a later fence ends, unless it
// only reads.
func (h *hosted) admit(t *target, readOnly bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t.session = h.replica.Attach(readOnly)
	if !readOnly {
		h.sessions = append(h.sessions, t)
	}
}

func (h *hosted) leave(t *target) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sessions = slices.DeleteFunc(h.sessions, func(s *target) bool { return s == t })
}

// endFenced tells the sessions that have fenced the replica that they are over.
// One that is about to fence it sees for itself what it holds.
func (h *hosted) endFenced(why error) {
	h.mu.Lock()
	sessions := slices.Clone(h.sessions)
	h.mu.Unlock()
	for _, s := range sessions {
		if s.fenced.Load() {
			s.end.tell(why)
		}
	}
}

// endOlder tells the sessions that were admitted before t that they are over,
// all of them if t is nil.
func (h *hosted) endOlder(t *target, why error) {
	h.mu.Lock()
	older := slices.Clone(h.sessions)
	h.mu.Unlock()
	if i := slices.Index(older, t); i >= 0 {
		older = older[:i]
	}
	for _, s := range older {
		s.end.tell(why)
	}
}
