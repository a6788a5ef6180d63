package sim

import (
	"errors"
	"fmt"
	"slices"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

// The size of the small model.
const (
	smallReplicas = 3
	smallAck      = 2
	smallCapacity = pmemlog.MinCapacity
	smallPool     = 32 << 10 // room for one replica
	smallPayload  = 64       // of a record
)

// survivors says what a crash leaves of the bytes that were not synced.
type survivors uint8

const (
	keepNone   survivors = iota
	keepAll              // as when only the process dies
	keepNewest           // the last write, without those before it
	keepHalf             // the second half of the last write: the last one of two records, or a torn header
	survivorKinds
)

// String names what survives.
func (k survivors) String() string {
	return [...]string{"none", "all", "newest", "half"}[k]
}

// disk is a medium that knows what has not been synced.
type disk struct {
	*pmemtest.Medium
	safe     []byte // what no crash takes
	unsynced []stored
}

type stored struct {
	off  int64
	data []byte
}

func diskOf(image []byte) *disk {
	return &disk{Medium: pmemtest.Of(image, pmemtest.Options{}), safe: image}
}

// WriteAt implements [pmemlog.Medium].
func (d *disk) WriteAt(p []byte, off int64) error {
	if err := d.Medium.WriteAt(p, off); err != nil {
		return err
	}
	d.unsynced = append(d.unsynced, stored{off, slices.Clone(p)})
	return nil
}

// Sync implements [pmemlog.Medium].
func (d *disk) Sync() error {
	if err := d.Medium.Sync(); err != nil {
		return err
	}
	for _, s := range d.unsynced {
		copy(d.safe[s.off:], s.data)
	}
	d.unsynced = nil
	return nil
}

// flip turns a bit over for good.
func (d *disk) flip(off int64, bit uint) {
	d.FlipBit(off, bit)
	d.safe[off] ^= 1 << bit
}

// after returns what is there when the power has gone.
func (d *disk) after(keep survivors) *disk {
	image := slices.Clone(d.safe)
	for i, s := range d.unsynced {
		last := i == len(d.unsynced)-1
		switch {
		case keep == keepAll || keep == keepNewest && last:
			copy(image[s.off:], s.data)
		case keep == keepHalf && last:
			half := len(s.data) / 2
			copy(image[s.off+int64(half):], s.data[half:])
		}
	}
	return diskOf(image)
}

// sessionID names a session of a daemon: whose, and which one of that writer's.
type sessionID struct {
	writer  int
	session uint64
}

// daemon is one daemon of the small model: a pool with one replica, and the
// sessions that have begun since it was started.
type daemon struct {
	index    int
	id       format.ID
	disk     *disk
	pool     *pmemlog.Pool // nil while it is down
	sessions map[sessionID]*pmemlog.Session
	acked    format.Position // the highest that it has acknowledged or vouched for
	damaged  bool            // a bit has flipped, and has not been made good
	again    bool            // it repeats what has been checked
}

// daemonOf returns a daemon that is down, with what is on its medium.
func daemonOf(index int, image []byte) *daemon {
	return &daemon{index: index, id: format.ID{0: 'r', 15: byte(index) + 1}, disk: diskOf(image), sessions: map[sessionID]*pmemlog.Session{}}
}

// newDaemon makes a pool with an empty replica.
func newDaemon(index int) *daemon {
	d := daemonOf(index, make([]byte, smallPool))
	cluster := format.ID{0: 'c'}
	pool, err := pmemlog.Format(d.disk, pmemlog.FormatOptions{PoolID: format.ID{0: 'p', 15: byte(index) + 1}, ClusterID: cluster, Replicas: 1})
	if err == nil {
		_, err = pool.Create(pmemlog.Spec{Cluster: cluster, Log: format.ID{0: 'l'}, Replica: d.id, Capacity: smallCapacity})
	}
	if err != nil {
		panic(fmt.Sprintf("sim: make a pool: %v", err))
	}
	d.pool = pool
	return d
}

// sum digests the daemon and its medium.
func (d *daemon) sum(c counted) sum { return c.sumOf(*d, d.disk.safe, d.disk.unsynced) }

// opKind is a kind of thing that happens at a daemon.
type opKind uint8

const (
	opServe   opKind = iota // carry out a request
	opCut                   // begin to, and lose power before the sync number at
	opCrash                 // lose power between requests
	opStart                 // come back
	opFlip                  // a bit turns over in the record at LSN at
	opPersist               // persist the hint, as after 10 ms of quiet
)

// op is one thing that happens at a daemon.
type op struct {
	kind    opKind
	keep    survivors
	at      uint64
	request int32 // number of the request, of opServe and opCut
}

// reply is what comes of an op.
type reply struct {
	err     error
	report  format.Report // of a fence
	durable uint64        // of a flush
	data    []byte        // of a load

	impossible bool // the op can't take place here
	broken     *Violation
}

func (d *daemon) do(o op, req *request) reply {
	switch o.kind {
	case opServe:
		return d.serve(req)
	case opCut:
		d.disk.CutAtSync(int(o.at))
		d.serve(req)
		if !d.disk.Dead() {
			return reply{impossible: true}
		}
		d.crash(o.keep)
	case opCrash:
		d.crash(o.keep)
	case opStart:
		return d.start()
	case opFlip:
		ring, _ := d.node().noticeable(d.id)
		d.disk.flip(ring+int64(o.at)+format.HeaderSize+6, 3)
		d.damaged = true
	case opPersist:
		if err := d.replica().PersistHint(); err != nil {
			return violated("I6", "daemon %d can't persist its hint: %v", d.index, err)
		}
	}
	return reply{}
}

func violated(invariant, detail string, args ...any) reply {
	return reply{broken: &Violation{Invariant: invariant, Detail: fmt.Sprintf(detail, args...)}}
}

func (d *daemon) crash(keep survivors) {
	d.disk, d.pool = d.disk.after(keep), nil
	clear(d.sessions)
}

func (d *daemon) start() reply {
	pool, err := pmemlog.Open(d.disk)
	if err != nil {
		return violated("I6", "daemon %d: its pool does not open after a crash: %v", d.index, err)
	}
	d.pool = pool
	if _, err := pool.Replica(d.id); err != nil {
		return violated("I6", "daemon %d: its replica can't be used after a crash: %v", d.index, err)
	}
	return reply{}
}

func (d *daemon) replica() *pmemlog.Replica {
	r, err := d.pool.Replica(d.id)
	if err != nil {
		panic(fmt.Sprintf("sim: %v", err)) // start would have said so
	}
	return r
}

// node lends the daemon what is known about the random simulation's.
func (d *daemon) node() *node {
	w := &world{cfg: Config{Capacity: smallCapacity}}
	return &node{w: w, index: d.index, medium: d.disk.Medium, pool: d.pool, acked: map[format.ID]format.Position{d.id: d.acked}}
}

// flippable lists the records in which a bit may flip so that the replica must
// notice it.
func (d *daemon) flippable() []uint64 {
	if d.pool != nil {
		return nil
	}
	_, lsns := d.node().noticeable(d.id)
	return lsns
}

// serve carries out a request. A fence comes with the hello that begins its
// session.
func (d *daemon) serve(req *request) reply {
	id := sessionID{req.writer, req.session}
	if req.kind == askFence {
		delete(d.sessions, sessionID{req.writer, req.session - 2}) // none of its requests is on its way any more
		d.sessions[id] = d.replica().Attach(false)
	}
	s := d.sessions[id]
	switch req.kind {
	case askFence:
		return d.fence(s, req)
	case askLoad:
		data := make([]byte, req.to-req.from)
		err := s.Read(req.from, data)
		return reply{err: err, data: data}
	case askReset:
		return reply{err: s.Reset(req.trim)}
	case askAlign:
		return reply{err: s.Align(req.from)}
	case askWrite:
		return d.write(s, req)
	case askFlush:
		return d.flush(s, req)
	case askSeal:
		return d.seal(s, req)
	}
	panic(fmt.Sprintf("sim: request %+v", *req))
}

func (d *daemon) vouched(p format.Position) { d.acked = d.acked.Max(p) }

// fence checks I6: what a replica says that it holds it would hold after any
// crash.
func (d *daemon) fence(s *pmemlog.Session, req *request) reply {
	rep, err := s.Fence(smallTerm(req.writer))
	if err != nil {
		return reply{err: err}
	}
	d.vouched(rep.Last)
	if !d.damaged && !d.again {
		after, err := d.node().afterCrash(d.id, rep.Fenced)
		if err != nil || rep.Last.After(after.Last) {
			return violated("I6", "replica %d reported %v, after a crash it would hold %v (%v)", d.index, rep.Last, after.Last, err)
		}
	}
	return reply{report: rep}
}

// write checks I5: nothing at or above the persistent trim LSN is overwritten.
func (d *daemon) write(s *pmemlog.Session, req *request) reply {
	err := s.Write(req.from, req.data)
	if trim := d.replica().Info().Slot.Trim.LSN; err == nil && req.to > trim+smallCapacity {
		return violated("I5", "replica %d, trimmed to LSN %d, took [%d, %d)", d.index, trim, req.from, req.to)
	}
	return reply{err: err}
}

// flush checks I6: what a replica acknowledges it would hold after any crash.
// Before it is sealed in, that counts for nothing.
func (d *daemon) flush(s *pmemlog.Session, req *request) reply {
	durable, err := s.Flush()
	if err != nil {
		return reply{err: err}
	}
	slot := d.replica().Info().Slot
	if !slices.ContainsFunc(slot.Seals, func(s format.Seal) bool { return s.Fence() == slot.Fenced }) {
		return reply{durable: durable}
	}
	d.vouched(format.Position{Epoch: smallTerm(req.writer).Epoch, LSN: durable})
	if !d.damaged && !d.again { // a flip takes back what was persistent
		after, err := d.node().afterCrash(d.id, slot.Fenced)
		if err != nil || after.Tail < durable {
			return violated("I6", "replica %d acknowledged LSN %d, after a crash it would hold %d (%v)", d.index, durable, after.Tail, err)
		}
	}
	return reply{durable: durable}
}

func (d *daemon) seal(s *pmemlog.Session, req *request) reply {
	err := s.Seal(*req.seal)
	if err == nil {
		d.vouched(req.seal.Hint)
		d.damaged = false // what it had lost has been made good
	}
	return reply{err: err}
}

// refusal returns the term that a daemon has promised instead.
func (r *reply) refusal() (format.Fence, bool) {
	var fenced *pmemlog.FencedError
	if errors.As(r.err, &fenced) {
		return fenced.Promised, true
	}
	return format.Fence{}, false
}
