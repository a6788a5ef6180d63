package pmemlog

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gravenio/graven/pmemlog/format"
)

// maxLSN keeps sums of LSNs and capacities from overflowing.
const maxLSN = 1 << 62

// Replica is one region of a pool: a log's copy. All methods may be called from
// any goroutine.
//
// Three locks, taken in this order: flush makes one flush follow the other, where
// what is written waits for one; op makes one change follow the other, its check,
// its writes and their sync; mu guards the fields and is never held during I/O, so
// Info and the end of a flush wait for nobody.
//
// On persistent memory a change is persistent by its end, and an append holds mu
// throughout, which is as good as op: of what it costs, half is the wait for the
// memory, which the first locked instruction behind the fence has to take, and each
// further one costs as much as a record's checksum.
type Replica struct {
	pool   *Pool
	entry  entry
	damage error // why the region can't be used; never changes

	flush sync.Mutex   // given up by endTurn
	op    turn         // guarded by mu
	use   sync.RWMutex // shared by Read while it looks at the region; exclusive when that is given up

	hintWanted atomic.Bool // the next flush is to carry the hint along

	awaiting atomic.Int32 // flushes that wait for their turn, or for what they are for
	turned   sync.Cond    // a flush has ended; its lock is mu

	// What follows is written with op and mu held and read with either, but
	// durable and acked: a flush that ends raises them with mu held alone.
	mu     sync.Mutex
	gone   error       // the region is this replica's no longer
	failed error       // a place of the region could not be written; nil again after the next fence
	slot   format.Slot // the header that counts
	slotAt int         // where it stands: 0 or 1

	hint    format.Position // the newest one written, in the header or a line
	lineAt  int             // where the next hint line goes
	lineSeq uint64          // its sequence number
	lineOf  uint64          // the generation of the header that the newest line belongs to; 0 for no line
	line    [format.HintSize]byte
	fed     feed    // of the write that goes on
	header  []byte  // to encode a header in; nil until one is written
	spans   [3]Span // of what is being written: a ring's two ends and a hint line

	tokens uint64 // of the sessions attached so far
	owner  uint64 // of the session that fenced last; 0 for none
	term   format.Fence

	scanned bool
	stop    error        // why the last scan ended where it did
	suspect bool         // the hint lies beyond what is held
	sealed  bool         // the header holds the seal of term
	chain   format.Chain // the tail: what the next write must follow
	durable uint64       // LSN up to which all is persistent
	acked   format.Position
	rewinds uint64 // how often tail and durable have been set anew; a flush that began before does not raise them

	unwritable *Damage   // what failed, until it has been written after all; guarded by mu alone
	damaged    *damaged  // what is known to be wrong with the ring; guarded by mu alone
	scrubbed   time.Time // when a scrub ended last; guarded by mu alone
}

// Info is what a replica says of itself without being fenced.
type Info struct {
	Slot    format.Slot // with the newest hint
	Tail    uint64      // where the next write goes; the trim LSN while Scanned is false
	Durable uint64      // LSN up to which all is persistent
	Scanned bool        // the region has been scanned since the pool was opened
	Stop    error       // why the scan ended at its tail; for people
	Media   Kind
	Failure error // why the replica takes no more writes; nil while it does

	Damage   *Damage   // what is known to be wrong with what it holds; nil for nothing
	Scrubbed time.Time // when the last scrub of it ended; zero for none since the pool was opened
}

// loadReplica reads a region's header. What is wrong with it goes to damage.
func loadReplica(p *Pool, e entry, buf *scratch) *Replica {
	r := &Replica{pool: p, entry: e}
	r.turned.L, r.fed.r = &r.mu, r
	r.op.init(&r.mu)
	if err := r.load(buf.take(format.RingOffset)); err != nil {
		err = r.corrupt(err)
		r.damage, r.gone = err, err
	}
	return r
}

// corrupt says that the replica can't be used; one of another version is not
// corrupt.
func (r *Replica) corrupt(err error) error {
	if errors.Is(err, ErrVersion) {
		return err
	}
	return &CorruptError{Part: fmt.Sprintf("replica %s", r.entry.replica), Offset: r.entry.offset, Err: err}
}

func (r *Replica) load(head []byte) error {
	if err := r.pool.dev.settle(r.entry.offset, int64(len(head))); err != nil {
		return err
	}
	if err := r.pool.dev.readAt(head, r.entry.offset); err != nil {
		return err
	}
	if err := r.loadSlot(head); err != nil {
		return err
	}
	return r.loadHint(head[format.HintOffset:])
}

// loadSlot takes the header slot that counts, if it is this replica's.
func (r *Replica) loadSlot(head []byte) error {
	var err error
	if r.slot, r.slotAt, err = chooseSlot(head); err != nil {
		return err
	}
	if err := r.checkSlot(); err != nil {
		return err
	}
	r.hint = r.slot.Hint
	return nil
}

// chooseSlot returns the header slot that counts and its place.
func chooseSlot(head []byte) (format.Slot, int, error) {
	var best format.Slot
	var errs [2]error
	at := -1
	for i := range errs {
		s, err := format.DecodeSlot(head[i*format.SlotSize : (i+1)*format.SlotSize])
		if errors.Is(err, format.ErrVersion) {
			return format.Slot{}, 0, fmt.Errorf("%w: %w", ErrVersion, err)
		}
		if errs[i] = err; err == nil && (at < 0 || s.Generation > best.Generation) {
			best, at = s, i
		}
	}
	if at < 0 {
		return format.Slot{}, 0, fmt.Errorf("neither header slot can be used (A: %w; B: %w); %s", errs[0], errs[1], deleteReplica)
	}
	return best, at, nil
}

func (r *Replica) checkSlot() error {
	s, e := &r.slot, &r.entry
	if s.Cluster != e.cluster || s.Log != e.log || s.Replica != e.replica || s.Capacity != e.capacity {
		return fmt.Errorf("the header is replica %s of log %s with a ring of %d bytes, the directory says replica %s of log %s with %d; %s", s.Replica, s.Log, s.Capacity, e.replica, e.log, e.capacity, deleteReplica)
	}
	if s.Trim.LSN%format.Align != 0 || s.Trim.LSN > maxLSN {
		return fmt.Errorf("trim LSN %d is no multiple of %d, or beyond %d; %s", s.Trim.LSN, format.Align, uint64(maxLSN), deleteReplica)
	}
	return nil
}

// ID returns the replica's ID.
func (r *Replica) ID() format.ID { return r.entry.replica }

// Log returns the ID of the replica's log.
func (r *Replica) Log() format.ID { return r.entry.log }

// Cluster returns the ID of the replica's cluster.
func (r *Replica) Cluster() format.ID { return r.entry.cluster }

// Capacity returns the size of the ring, in bytes.
func (r *Replica) Capacity() uint64 { return r.entry.capacity }

// MemberBeyond says whether the newest seal names this replica as a member of a
// set of a higher version than the given one, and of which. Who thinks that it is
// no member of the log any more then knows less than the replica does.
func (r *Replica) MemberBeyond(setVersion uint64) (uint64, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	newest, ok := (&format.Report{Seals: r.slot.Seals}).NewestSeal()
	return newest.SetVersion, ok && newest.SetVersion > setVersion && slices.Contains(r.slot.Set, r.entry.replica)
}

// Info returns what the replica says of itself. It never waits for I/O, but on
// persistent memory for an append that is under way.
func (r *Replica) Info() Info {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.info()
}

func (r *Replica) info() Info {
	i := Info{
		Slot: r.slot.Clone(), Tail: r.chain.LSN, Durable: r.durable, Scanned: r.scanned,
		Stop: r.stop, Media: r.pool.dev.medium.Kind(), Failure: r.failure(),
		Damage: r.knownDamage(), Scrubbed: r.scrubbed,
	}
	i.Slot.Hint = r.hint
	if !r.scanned {
		i.Tail, i.Durable = r.slot.Trim.LSN, r.slot.Trim.LSN
	}
	return i
}

func (r *Replica) failure() error {
	return cmp.Or(r.gone, r.failed, r.pool.dev.failure())
}

// giveUp ends all sessions with the given error and returns when nothing of
// them looks at the region any more.
func (r *Replica) giveUp(why error) {
	r.op.Lock()
	defer r.op.Unlock()
	r.use.Lock()
	defer r.use.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone = why
}

// publish changes fields; op is held.
func (r *Replica) publish(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
	r.reviewDamage()
}

// ringOffset returns where in the pool LSN lies.
func (r *Replica) ringOffset(lsn uint64) int64 {
	return r.entry.offset + format.RingOffset + int64(lsn%r.entry.capacity)
}
