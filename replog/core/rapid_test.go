package core

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/gravenio/graven/pmemlog/format"
)

// TestAnyEvents feeds a core with events in any order, of any session, with
// reports of any content, and holds what comes out against what no order of
// events may change.
func TestAnyEvents(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := newAnything(t)
		t.Repeat(map[string]func(*rapid.T){
			"":           m.check,
			"connect":    m.connect,
			"disconnect": func(t *rapid.T) { m.c.Disconnected(m.peer(t), errors.New("cut")) },
			"report":     func(t *rapid.T) { m.c.Reported(m.peer(t), m.report(t)) },
			"loaded":     m.loaded,
			"loadfailed": func(t *rapid.T) { m.c.LoadFailed(m.peer(t), errors.New("others")) },
			"prepared":   func(t *rapid.T) { m.c.Prepared(m.peer(t)) },
			"sealed":     func(t *rapid.T) { m.c.Sealed(m.peer(t)) },
			"present":    func(t *rapid.T) { m.c.MadePresent(m.peer(t).Index) },
			"flushed":    func(t *rapid.T) { m.c.Flushed(m.peer(t), m.lsn(t)) },
			"flushAll":   m.flushAll,
			"replace":    m.replace,
			"promoted":   func(t *rapid.T) { m.c.Promoted(m.learner(t), m.c.SetVersion()+1) },
			"abandoned":  func(t *rapid.T) { m.c.Abandoned(m.learner(t)) },
			"resealed":   func(t *rapid.T) { m.c.Resealed(m.peer(t), m.c.SetVersion()) },
			"recorded":   func(*rapid.T) { m.c.LossRecorded() },
			"acceptLoss": func(t *rapid.T) { m.acceptLoss(t) },
			"trimmed":    func(t *rapid.T) { m.c.Trimmed(m.peer(t), m.c.replicas[m.peer(t).Index].trimmed) },
			"append":     m.append,
			"trim":       m.trim,
			"answer":     m.answer,
			"over":       m.over,
		})
	})
}

type anything struct {
	c        *Core
	asked    []Effect // questions of the core that were not answered
	next     map[Peer]uint64
	unacked  map[Peer]int
	commit   uint64
	tail     uint64
	opened   bool
	stopped  bool
	told     bool // what was recovered
	learners byte
	sessions [16]uint64
}

func newAnything(t *rapid.T) *anything {
	n := rapid.IntRange(1, 5).Draw(t, "replicas")
	cfg := Config{
		Term: format.Fence{Epoch: 3, Nonce: 3}, Capacity: 1024, SetVersion: 1, Cut: everywhere, MaxBatch: 256,
		AckQuorum: rapid.IntRange(n/2+1, n).Draw(t, "quorum"), Window: rapid.IntRange(1, 3).Draw(t, "window"),
	}
	for i := range n {
		cfg.Replicas = append(cfg.Replicas, Replica{ID: format.ID{byte(i + 1)}, State: State(rapid.IntRange(0, 1).Draw(t, "state"))})
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &anything{c: c, next: map[Peer]uint64{}, unacked: map[Peer]int{}}
}

func (m *anything) index(t *rapid.T) int {
	return rapid.IntRange(0, len(m.c.replicas)-1).Draw(t, "replica")
}

// peer is mostly the newest session of a replica.
func (m *anything) peer(t *rapid.T) Peer {
	i := m.index(t)
	s := m.sessions[i]
	if rapid.IntRange(0, 5).Draw(t, "old") == 0 && s > 0 {
		s--
	}
	return Peer{i, s}
}

func (m *anything) lsn(t *rapid.T) uint64 {
	return uint64(rapid.IntRange(0, 40).Draw(t, "lsn")) * 64
}

func (m *anything) connect(t *rapid.T) {
	i := m.index(t)
	m.sessions[i]++
	m.c.Connected(Peer{i, m.sessions[i]})
}

func (m *anything) report(t *rapid.T) format.Report {
	r := format.Report{Trim: format.TrimPoint{LSN: m.lsn(t)}, Tail: m.lsn(t)}
	if rapid.Bool().Draw(t, "empty") {
		r.Trim.LSN = 0
	}
	r.Last = format.Position{LSN: r.Tail}
	first, garbage := r.Trim.LSN, rapid.IntRange(0, 9).Draw(t, "garbage") == 0
	for e := range uint64(rapid.IntRange(1, 4).Draw(t, "pairs")) {
		p := format.Pair{Fence: format.Fence{Epoch: e, Nonce: e}, First: first, Known: rapid.IntRange(0, 4).Draw(t, "known") > 0}
		r.Pairs = append(r.Pairs, p)
		r.Seals = append(r.Seals, format.Seal{Epoch: e, Nonce: e, T: first, SetVersion: 1})
		r.Last.Epoch = e
		first += uint64(rapid.IntRange(0, 4).Draw(t, "stretch")) * 64
		if first > r.Tail && !garbage {
			break
		}
	}
	if m.c.seal.Epoch > 0 && first <= m.c.seal.T && m.c.seal.T <= r.Tail && rapid.Bool().Draw(t, "holds the seal") {
		r.Seals = append(r.Seals, m.c.seal)
		r.Pairs = append(r.Pairs, format.Pair{Fence: m.c.seal.Fence(), First: m.c.seal.T, Known: true})
	}
	if rapid.IntRange(0, 5).Draw(t, "suspect") == 0 {
		r.Evidence = format.Position{Epoch: r.Last.Epoch, LSN: r.Tail + 64}
	}
	return r
}

func (m *anything) loaded(t *rapid.T) {
	p := m.peer(t)
	r := &m.c.replicas[p.Index]
	m.c.Loaded(p, format.ScanResult{Chain: format.Chain{LSN: r.report.Tail}, Pairs: r.report.Pairs})
}

// replace begins a replacement, mostly with a new learner.
func (m *anything) replace(t *rapid.T) {
	r := Replacement{Learner: format.ID{100 + m.learners}, Replaces: m.c.replicas[m.index(t)].ID}
	if rapid.IntRange(0, 3).Draw(t, "new") > 0 {
		m.learners++
		r.Learner = format.ID{100 + m.learners}
	}
	_, under := m.c.Replacing()
	i, err := m.c.Replace(r)
	if now, ok := m.c.Replacing(); err == nil && (!ok || now != r || m.c.replicas[i].voter || m.c.replicas[i].sealed && !under) {
		t.Fatalf("replace %+v: %d, and %+v is under way", r, i, now)
	}
	if len(m.c.replicas) > format.MaxReplicas+3 {
		t.Fatalf("%d places", len(m.c.replicas))
	}
}

func (m *anything) learner(t *rapid.T) format.ID {
	if r, ok := m.c.Replacing(); ok && rapid.IntRange(0, 3).Draw(t, "other") > 0 {
		return r.Learner
	}
	return format.ID{100}
}

func (m *anything) acceptLoss(t *rapid.T) {
	if rapid.IntRange(0, 5).Draw(t, "accept") == 0 {
		if l, ok := m.c.Loss(); ok {
			m.c.AcceptLoss(l)
		}
	}
}

// flushAll acknowledges what a replica was sent.
func (m *anything) flushAll(t *rapid.T) {
	i := m.index(t)
	r := &m.c.replicas[i]
	m.c.Flushed(r.peer, r.sent)
	m.unacked[r.peer] = 0
}

func (m *anything) append(t *rapid.T) {
	n := uint64(rapid.IntRange(1, 8).Draw(t, "records")) * 64
	err := m.c.Admit(n)
	if (err == nil) != (m.c.Phase() == Open && n <= m.c.Free()) {
		t.Fatalf("%v, %d bytes are free, append %d: %v", m.c.Phase(), m.c.Free(), n, err)
	}
	if err != nil {
		return
	}
	end := m.c.Tail() + n
	for i := range m.c.replicas {
		r := &m.c.replicas[i]
		if r.stage > reported && end > m.c.cfg.Capacity && r.needs() < end-m.c.cfg.Capacity {
			t.Fatalf("replica %d still needs LSN %d, and is overwritten up to %d", i, r.needs(), end-m.c.cfg.Capacity)
		}
	}
	m.effects(t)
	m.c.Appended(end)
}

func (m *anything) trim(t *rapid.T) {
	to, from, commit := m.lsn(t), m.c.TrimPoint().LSN, m.c.Commit()
	err := m.c.Trim(format.TrimPoint{LSN: to})
	if (err == nil) != (m.c.Phase() == Open && to >= from && to <= commit) {
		t.Fatalf("%v, trim from %d to %d with commit %d: %v", m.c.Phase(), from, to, commit, err)
	}
}

// answer gives the core the answer to its oldest question, so that it gets
// somewhere.
func (m *anything) answer(t *rapid.T) {
	if len(m.asked) == 0 {
		return
	}
	e := m.asked[0]
	m.asked = m.asked[1:]
	switch e.Kind {
	case Fence:
		m.c.Reported(e.Peer, m.report(t))
	case Load:
		r := &m.c.replicas[e.Peer.Index]
		m.c.Loaded(e.Peer, format.ScanResult{Chain: format.Chain{LSN: r.report.Tail}, Pairs: r.report.Pairs})
	case Reset, Align:
		m.c.Prepared(e.Peer)
	case Trim:
		m.c.Trimmed(e.Peer, e.Trim.LSN)
	case Seal:
		m.c.Sealed(e.Peer)
	case MakePresent:
		m.c.MadePresent(e.Peer.Index)
	case Reseal:
		m.c.Resealed(e.Peer, e.SetVersion)
	case Promote:
		if r, ok := m.c.Replacing(); ok {
			m.c.Promoted(r.Learner, e.SetVersion+1)
		}
	case Send:
		m.c.Flushed(e.Peer, e.To)
		m.unacked[e.Peer] = len(m.c.replicas[e.Peer.Index].pending)
	}
}

func (m *anything) over(t *rapid.T) {
	switch rapid.IntRange(0, 60).Draw(t, "over") {
	case 0:
		m.c.Close()
	case 1:
		m.c.Superseded(format.Fence{Epoch: 4})
	case 2:
		m.c.Fenced(m.peer(t), format.Fence{Epoch: 4})
	}
}

func (m *anything) check(t *rapid.T) {
	m.effects(t)
	c := m.c
	if c.Commit() < m.commit || c.Commit() > c.Tail() || m.opened && c.Tail() < m.tail || c.TrimPoint().LSN > c.Tail() {
		t.Fatalf("trim %d, commit %d after %d, tail %d after %d", c.TrimPoint().LSN, c.Commit(), m.commit, c.Tail(), m.tail)
	}
	if c.Tail()-c.TrimPoint().LSN > c.cfg.Capacity {
		t.Fatalf("the log holds [%d, %d) in %d bytes", c.TrimPoint().LSN, c.Tail(), c.cfg.Capacity)
	}
	m.commit, m.tail = c.Commit(), c.Tail()
	_ = c.Waiting()
	for _, s := range c.Status() {
		if s.Counts && c.Phase() != Over && s.Durable > c.Tail() {
			t.Fatalf("%+v holds more than the log, which ends at %d", s, c.Tail())
		}
	}
}

func (m *anything) effects(t *rapid.T) {
	committed := m.commit
	for _, e := range m.c.Effects(nil) {
		if m.stopped {
			t.Fatalf("an effect after the end: %+v", e)
		}
		switch e.Kind {
		case Opened:
			if m.opened {
				t.Fatal("opened twice")
			}
			m.opened, committed = true, e.To
		case Committed:
			if !m.opened || e.To <= committed || e.To > m.c.Tail() {
				t.Fatalf("committed %d after %d, opened %v, tail %d", e.To, committed, m.opened, m.c.Tail())
			}
			committed = e.To
		case Stopped:
			m.stopped = true
			if e.Err == nil || m.c.Err() == nil {
				t.Fatal("stopped for no reason")
			}
		case Send:
			m.send(t, e)
			m.asked = append(m.asked, e)
		case Promote:
			m.promote(t, e)
			m.asked = append(m.asked, e)
		case Retired:
			m.retired(t, e)
		case GaveUp:
			if e.Loss == nil || len(e.Loss.Unknown) < m.c.cfg.AckQuorum {
				t.Fatalf("gave up %+v", e.Loss)
			}
		case Recovered:
			m.recovered(t, e.Recovery)
		case Cut:
			if m.c.replicas[e.Peer.Index].stage != away {
				t.Fatalf("%v is cut and %s", e.Peer, stageNames[m.c.replicas[e.Peer.Index].stage])
			}
		default:
			m.asked = append(m.asked, e)
		}
	}
}

// promote checks that the set is changed only for a learner that has what is
// committed, and that the set keeps its size.
func (m *anything) promote(t *rapid.T, e Effect) {
	r := &m.c.replicas[e.Peer.Index]
	if m.c.change == nil || e.Peer.Index != m.c.change.to || r.voter {
		t.Fatalf("%v is to be promoted, the change is %+v", e.Peer, m.c.change)
	}
	voters := 0
	for i := range m.c.replicas {
		if m.c.replicas[i].voter {
			voters++
		}
	}
	if voters != len(m.c.cfg.Replicas) {
		t.Fatalf("the set has %d members, at first it had %d", voters, len(m.c.cfg.Replicas))
	}
}

// recovered comes once, of replicas that have been sealed in.
func (m *anything) recovered(t *rapid.T, r *Recovery) {
	if m.told || !m.opened || r == nil || len(r.Repaired) == 0 || len(r.Repaired)+len(r.Away) > len(m.c.replicas) {
		t.Fatalf("recovered %+v, told before %v, opened %v", r, m.told, m.opened)
	}
	m.told = true
	for _, x := range r.Repaired {
		if x.From >= r.T && !x.Diverged && !x.Damaged {
			t.Fatalf("repaired where nothing was to be repaired: %+v", r)
		}
	}
}

func (m *anything) retired(t *rapid.T, e Effect) {
	if r := &m.c.replicas[e.Peer.Index]; r.voter || r.stage != away {
		t.Fatalf("%v has retired: voter %v, %s", e.Peer, r.voter, stageNames[r.stage])
	}
}

// send checks that the sends of one session are contiguous, within the window
// and within the log.
func (m *anything) send(t *rapid.T, e Effect) {
	r := &m.c.replicas[e.Peer.Index]
	if next, ok := m.next[e.Peer]; ok && next != e.From || e.To <= e.From || e.To > m.c.Tail() {
		t.Fatalf("send [%d, %d) to %v after one up to %d; the tail is %d", e.From, e.To, e.Peer, m.next[e.Peer], m.c.Tail())
	}
	if r.peer == e.Peer && r.stage == member && e.To > r.trimmed+m.c.cfg.Capacity {
		t.Fatalf("send up to %d to a replica whose trim LSN is %d", e.To, r.trimmed)
	}
	if len(r.pending) > m.c.cfg.Window {
		t.Fatalf("%d sends to %v are under way, the window is %d", len(r.pending), e.Peer, m.c.cfg.Window)
	}
	m.next[e.Peer] = e.To
}
