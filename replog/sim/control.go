package sim

import (
	"slices"
	"time"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog/core"
)

// member is a replica in the control plane's record: which one, in which pool
// of which daemon.
type member struct {
	id    format.ID
	node  int
	pool  format.ID
	state core.State
	left  uint64 // the version of the set when it was condemned
}

// record is what the control plane keeps of the log. It is what a backup brings
// back.
type record struct {
	term      format.Fence
	version   uint64 // of the set
	set       []member
	learner   *member
	replaces  format.ID
	condemned []member
	seen      map[format.ID]uint64 // the highest incarnation of each pool
}

func (r record) clone() record {
	r.set, r.condemned = slices.Clone(r.set), slices.Clone(r.condemned)
	if r.learner != nil {
		l := *r.learner
		r.learner = &l
	}
	seen := make(map[format.ID]uint64, len(r.seen))
	for k, v := range r.seen {
		seen[k] = v
	}
	r.seen = seen
	return r
}

// makeable says whether a replica may be made anew, empty, as far as the record
// knows.
func (r *record) makeable(id format.ID) bool {
	i := indexOf(r.set, id)
	return i >= 0 && r.set[i].state != core.Present || r.learner != nil && r.learner.id == id
}

func indexOf(ms []member, id format.ID) int {
	return slices.IndexFunc(ms, func(m member) bool { return m.id == id })
}

// control is the control plane: one record that is compared and swapped. Its
// requests are delayed and repeated, its answers get lost, and it can be set
// back to an earlier record.
type control struct {
	w *world
	record
	backups    []record
	seenBefore []record           // what renewals have been answered with
	truth      record             // of the last open or change of the set, whatever the record was set back to
	sets       []record           // version and set of each promotion, whatever the record was set back to
	highest    uint64             // epoch ever handed out
	made       []member           // all replicas so far
	joined     map[format.ID]bool // those that have been in a set
	deaf       bool               // it hears no request of a writer
	mute       bool               // no writer hears its answers
}

func newControl(w *world) control {
	c := control{w: w, record: record{version: 1, seen: map[format.ID]uint64{}}, joined: map[format.ID]bool{}}
	for i := range w.cfg.Replicas {
		m := c.reserve(w.nodes[i])
		c.set, c.joined[m.id] = append(c.set, m), true
	}
	c.truth = c.clone()
	return c
}

// reserve makes a new replica's entry on a daemon.
func (c *control) reserve(n *node) member {
	m := member{id: c.w.id('r', len(c.made)+1), node: n.index, pool: n.poolID, state: core.Allocated}
	c.made = append(c.made, m)
	return m
}

// open hands out the next epoch; whoever has the log open is taken over.
func (c *control) open() format.Fence {
	c.term = format.Fence{Epoch: c.term.Epoch + 1, Nonce: c.w.rng.Uint64()}
	c.highest = max(c.highest, c.term.Epoch)
	return c.term
}

// openAbove is open with the lowest epoch that will do, as a writer asks for it
// that was refused for a higher one.
func (c *control) openAbove(epoch uint64) format.Fence {
	c.term.Epoch = max(c.term.Epoch, epoch)
	return c.open()
}

// outcome is what a request ended with: an event for the core, or nil if
// nothing can be said and it must be asked again.
type outcome func(k *core.Core)

// ask sends a request until its answer has arrived. It may arrive twice, also
// when its sender is long gone, and its answer may be lost after it took effect.
func (c *control) ask(x *writer, do func() outcome) {
	w := c.w
	w.after(w.between(time.Millisecond, 40*time.Millisecond), func() {
		var answer outcome
		if !c.deaf {
			answer = do()
		}
		if w.faults && w.chance(0.05) {
			w.after(w.between(0, 60*time.Millisecond), func() { do() })
		}
		if answer == nil || c.mute || w.faults && w.chance(0.2) {
			if !x.dead {
				c.ask(x, do) // rule: outcome unknown stays joint
			}
			return
		}
		w.after(w.between(0, 20*time.Millisecond), func() { x.event(answer) })
	})
}

// stale compares what every change by a writer is compared with. The outcome is
// final if another writer has the log; a control plane that was set back knows
// nothing of this one.
func (c *control) stale(term format.Fence) (outcome, bool) {
	now := c.term
	switch {
	case now.Epoch > term.Epoch: // rule: control compares the epoch
		return func(k *core.Core) { k.Superseded(now) }, true
	case now.Epoch < term.Epoch:
		return nil, true
	case now.Nonce != term.Nonce: // rule: control compares the nonce
		return nil, true // only the replicas can tell who is the later one
	}
	return nil, false
}

// makePresent records a replica as present.
func (c *control) makePresent(x *writer, index int, id format.ID) {
	term := x.term
	c.ask(x, func() outcome {
		if out, stale := c.stale(term); stale {
			return out
		}
		i := indexOf(c.set, id)
		if i < 0 {
			return nil
		}
		c.set[i].state = core.Present
		return func(k *core.Core) { k.MadePresent(index) }
	})
}

// replace reserves a learner on a daemon; whoever writes finds it.
func (c *control) replace(id format.ID, n *node) {
	if c.learner != nil || indexOf(c.set, id) < 0 {
		return
	}
	l := c.reserve(n)
	l.state = core.Learner
	c.learner, c.replaces = &l, id
	c.w.stats.Replacements++
	c.w.note("replica %v is to be replaced by %v on node %d", id, l.id, n.index)
}

// promote puts the learner in its place.
func (c *control) promote(x *writer, learner format.ID, version uint64) {
	term := x.term
	c.ask(x, func() outcome {
		if out, stale := c.stale(term); stale {
			return out
		}
		promoted := func(k *core.Core) { k.Promoted(learner, version+1) }
		switch {
		case c.version == version+1 && indexOf(c.set, learner) >= 0: // an earlier request of ours has done it
			return promoted
		case c.version != version: // rule: control compares the set version
			return nil
		case c.learner == nil || c.learner.id != learner:
			return func(k *core.Core) { k.Abandoned(learner) }
		}
		i := indexOf(c.set, c.replaces)
		c.condemn(c.set[i])
		c.w.note("epoch %d: %v has replaced %v, set version %d", term.Epoch, learner, c.replaces, version+1)
		c.set[i], c.joined[learner] = *c.learner, true
		c.set[i].state = core.Present
		c.learner, c.version = nil, version+1
		c.w.stats.Promotions++
		c.truth = c.clone()
		c.sets = append(c.sets, record{version: c.version, set: slices.Clone(c.set)})
		return promoted
	})
}

// abandon gives the learner up, as a person may at any time.
func (c *control) abandon() {
	if c.learner == nil {
		return
	}
	c.w.stats.Abandoned++
	c.w.note("learner %v is abandoned", c.learner.id)
	c.condemn(*c.learner)
	c.learner = nil
}

// condemn has a replica's region removed, unless the replica knows better.
func (c *control) condemn(m member) {
	m.left = c.version
	c.condemned = append(c.condemned, m)
}

// renew tells a writer what the record says now.
func (c *control) renew(x *writer) {
	w := c.w
	w.after(w.between(5*time.Millisecond, 50*time.Millisecond), func() {
		if x.dead || x.core.Phase() == core.Over {
			return
		}
		if c.mute || c.deaf {
			c.renew(x)
			return
		}
		if _, stale := c.stale(x.term); !stale && !(w.faults && w.chance(0.1)) {
			now := c.view()
			w.after(w.between(0, 20*time.Millisecond), func() { x.follow(now) })
		} else if c.term.Epoch > x.term.Epoch {
			now := c.term
			w.after(w.between(0, 20*time.Millisecond), func() { x.event(func(k *core.Core) { k.Superseded(now) }) })
		}
		c.renew(x)
	})
}

// view is the record as a server has it that may be behind.
func (c *control) view() *record {
	now := c.clone()
	if c.seenBefore = append(c.seenBefore, now); len(c.seenBefore) > 8 {
		c.seenBefore = c.seenBefore[1:]
	}
	if c.w.faults && c.w.chance(0.2) {
		return &c.seenBefore[c.w.rng.IntN(len(c.seenBefore))]
	}
	return &now
}

// register admits a daemon, or refuses one whose pool was set back: it has
// forgotten what it promised.
func (c *control) register(n *node) {
	boot := n.boot
	c.w.after(c.w.between(0, 30*time.Millisecond), func() {
		if n.up() && n.boot == boot {
			c.admit(n)
		}
	})
}

func (c *control) admit(n *node) {
	if n.incarnation < c.seen[n.poolID] { // rule: a pool that was set back is refused
		c.w.note("node %d is refused: incarnation %d, %d was seen", n.index, n.incarnation, c.seen[n.poolID])
		n.refuse()
		return
	}
	c.seen[n.poolID] = n.incarnation
	if n.powered(n.pool.ConfirmIncarnation) == nil {
		n.registered = true
	}
}

// clean has one condemned replica removed for good.
func (c *control) clean() {
	if len(c.condemned) == 0 {
		return
	}
	m := c.condemned[c.w.rng.IntN(len(c.condemned))]
	n := c.w.nodes[m.node]
	if n.poolID == m.pool {
		// A control plane that was set back may condemn a replica that is in the set
		// and whose seal does not say so yet: that is a loss like others.
		member := indexOf(c.truth.set, m.id) >= 0
		if !n.up() || !n.registered || member && !c.w.damageable(m.id) || !n.remove(m) {
			return
		}
		if member {
			c.w.damaged[m.id] = true
		}
	}
	if i := indexOf(c.condemned, m.id); i >= 0 {
		c.condemned = slices.Delete(c.condemned, i, i+1)
	}
}

// backUp keeps the record as it is now.
func (c *control) backUp() {
	c.backups = append(c.backups, c.clone())
	if len(c.backups) > 3 {
		c.backups = c.backups[1:]
	}
}

// restore sets the control plane back. When it notices that it was (etcd has
// another identity then), the epochs that it hands out begin above all that were
// ever handed out. When it does not, epochs are issued twice.
func (c *control) restore() {
	b := c.backups[c.w.rng.IntN(len(c.backups))]
	noticed := c.w.chance(0.5)
	if !c.restorable(&b, noticed) {
		return
	}
	c.setBack(&b, noticed)
}

func (c *control) setBack(b *record, noticed bool) {
	c.w.stats.Restores++
	c.w.note("etcd is set back to epoch %d, set version %d; noticed: %v", b.term.Epoch, b.version, noticed)
	c.record, c.seenBefore = b.clone(), nil // servers read everything anew
	if !noticed {
		return
	}
	c.term.Epoch = c.highest // rule: a restore raises the epoch
	for i, m := range c.set {
		if !c.w.nodes[m.node].holds(m) {
			c.w.damaged[m.id] = true
		}
		c.set[i].state = core.Present // rule: a record of before a restore is not believed that nothing was promised
	}
}

// restorable says whether what is promised holds after that restore. It does
// not where a replica that has been replaced could answer for a set that it was in
// without naming the one that is, nor where as many as the ack quorum of the old
// set are gone.
func (c *control) restorable(b *record, noticed bool) bool {
	for _, set := range append(c.beyond(b.version), b.set) {
		if c.gone(set) >= c.w.cfg.Ack {
			return false
		}
	}
	for _, n := range c.w.nodes {
		if n.setBack && !n.refused {
			return false // the backup may be as old as the pool
		}
	}
	for _, m := range c.made {
		n := c.w.nodes[m.node]
		if indexOf(c.truth.set, m.id) < 0 && c.joined[m.id] && n.holds(m) && n.told[m.id] < c.truth.version {
			return false
		}
	}
	return noticed || c.unnoticeable(b)
}

// beyond returns the sets of higher versions that there have been: a control
// plane that is set back to a version may take any of them from a seal.
func (c *control) beyond(version uint64) [][]member {
	var out [][]member
	for _, r := range c.sets {
		if r.version > version {
			out = append(out, r.set)
		}
	}
	return out
}

// gone counts the members that are damaged, or whose regions have been removed
// since they were replaced.
func (c *control) gone(set []member) int {
	n := 0
	for _, m := range set {
		if c.w.damaged[m.id] || !c.w.nodes[m.node].holds(m) {
			n++
		}
	}
	return n
}

// unnoticeable says whether a restore that nobody notices does no harm: the set
// and its states are what they were, and no open of the lost future has got no
// further than some seals, which outrank what is yet to come.
func (c *control) unnoticeable(b *record) bool {
	for _, m := range b.set {
		if i := indexOf(c.truth.set, m.id); i < 0 || m.state == core.Allocated {
			return false
		}
	}
	for _, x := range c.w.writers {
		if x.term.Epoch > b.term.Epoch && !c.w.model.open[x.term] && x.mayStillSeal() {
			return false
		}
	}
	for _, n := range c.w.nodes {
		if n.sealedInVain(b.term.Epoch) {
			return false
		}
	}
	return true
}

// adopt takes a newer set from a replica's seal: the control plane has been set
// back.
func (c *control) adopt(version uint64, set []format.ID) {
	if version <= c.version {
		return
	}
	c.w.note("the control plane takes set version %d from a seal", version)
	c.condemned = slices.DeleteFunc(c.condemned, func(m member) bool { return slices.Contains(set, m.id) })
	old := c.set
	c.version, c.set = version, nil
	for _, m := range old {
		if !slices.Contains(set, m.id) {
			c.condemn(m)
		}
	}
	for _, id := range set {
		m := c.made[indexOf(c.made, id)]
		if !c.w.nodes[m.node].holds(m) { // it had been replaced since, and removed
			c.w.damaged[id] = true
		}
		m.state = core.Present
		c.set = append(c.set, m)
	}
	if l := c.learner; l != nil && slices.Contains(set, l.id) {
		c.learner = nil
	}
	if c.learner != nil && indexOf(c.set, c.replaces) < 0 {
		c.abandon()
	}
}
